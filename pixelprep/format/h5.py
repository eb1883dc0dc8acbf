"""Open HDF5 files by h5py, with every installed filter; import it only then."""

import os
from contextlib import suppress
from typing import Any  # Any: h5py has no types

# What h5py raises for a file that libhdf5 cannot read, or whose content it does not expect.
ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError)


def type_of(dtype: str) -> Any:
    """Return the NumPy type that h5py stores as this type of a layout: text is UTF-8."""
    import h5py
    import numpy as np

    return h5py.string_dtype("utf-8", int(dtype[2:])) if dtype[1] == "S" else np.dtype(dtype)


def library_version() -> str:
    import h5py

    return str(h5py.version.hdf5_version)


def open_read(path: str | os.PathLike[str]) -> Any:
    """Open a file for reading, for a ``with`` statement."""
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers its filters, in every process
    return h5py.File(path, "r")
