"""h5py, loaded when a file is first opened: with all filters that are installed, and its errors."""

import os
from contextlib import suppress
from typing import Any

# What h5py raises where libhdf5 cannot read a file, or finds in it what it does not expect.
ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError)


def open_read(path: str | os.PathLike[str]) -> Any:
    """The file, to be read; use it with ``with``.

    Raises
    ------
    ERRORS
        When libhdf5 cannot read it.
    """
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers its filters, in every process
    return h5py.File(path, "r")
