"""Open HDF5 files by h5py, with every installed filter; import it only then."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO  # Any: h5py has no types

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


@contextmanager
def open_read(path: str | os.PathLike[str], fd: int | None = None) -> Iterator[Any]:
    """Open a file for reading, by its descriptor if it is open already.

    Python reads it: libhdf5 itself would lock it, which not every file system can, and would refuse
    a file that this process has open with another way to lock.
    """
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers its filters, in every process
    with (
        open(path if fd is None else fd, "rb", closefd=fd is None) as stream,
        _opened(os.fsencode(path), stream) as file,
    ):
        yield file


def _opened(name: bytes, stream: BinaryIO) -> Any:
    import h5py

    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, stream)
    return h5py.File(h5py.h5f.open(name, h5py.h5f.ACC_RDONLY, access))
