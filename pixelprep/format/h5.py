"""Open HDF5 files by h5py, with every installed filter; import it only then."""

import os
from contextlib import suppress
from typing import Any  # Any: h5py has no types

# What h5py raises for a file that libhdf5 cannot read, or whose content it does not expect.
ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError)


def open_read(path: str | os.PathLike[str]) -> Any:
    """Open a file for reading, for a ``with`` statement."""
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers its filters, in every process
    return h5py.File(path, "r")
