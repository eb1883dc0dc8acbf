"""Arrays of HDF5 files that others wrote: looked at before they are read, read row by row.

All of it belongs into a process of its own (`isolated`).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixelprep.errors import SourceError
from pixelprep.store import chunks, h5

LARGEST_CHUNK = 64 << 20  # bytes; of larger ones no more than the dataset has

ERRORS = (*h5.ERRORS, MemoryError)  # of files that promise more than there is


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, for `dataset`.

    Raises
    ------
    SourceError
        When libhdf5 cannot read it.
    """
    try:
        file = h5.opened(path)
    except ERRORS as error:
        raise _unreadable(path, error) from error
    yield file  # and left to the end of the process: of a damaged one, closing can fail


def _unreadable(path: Path | str, error: Exception) -> SourceError:
    return SourceError(f"{path}: not a readable HDF5 file: {error}", "get it again")


def dataset(file: Any, key: str) -> Any | None:
    """The dataset under this key; None where there is none.

    Raises
    ------
    SourceError
        When the way to it leads over links, its data lies in other files, it is packed in ways
        that are not known here, or it promises more than its file can hold.
    """
    try:
        found = _followed(file, key)
        if found is not None:
            _check(file, key, found)
    except ERRORS as error:
        raise _unreadable(file.filename, error) from error
    return found


def _followed(file: Any, key: str) -> Any | None:
    import h5py

    here = file
    for name in (name for name in key.split("/") if name not in ("", ".")):
        if not isinstance(here, h5py.Group) or name not in here:
            return None
        if not isinstance(here.get(name, getlink=True), h5py.HardLink):
            raise SourceError(f"{file.filename}: {key} is a link", "give the place it leads to")
        here = here[name]
    return here if isinstance(here, h5py.Dataset) else None


def _check(file: Any, key: str, found: Any) -> None:
    path = file.filename
    if found.external or found.is_virtual:
        raise SourceError(f"{path}: {key} lies in other files", "copy it into one file")
    try:
        kind = found.dtype
    except TypeError as error:  # NumPy has no such type
        raise SourceError(f"{path}: {key}: expected numbers: {error}") from error
    if kind.hasobject or kind.kind not in "uif":
        raise SourceError(f"{path}: {key} is {kind}: expected numbers")
    # Counted before libhdf5 counts, which takes it a while for chunks that are not there.
    size = file.id.get_filesize()
    if found.shape is None or _promised(found) > size:
        raise SourceError(f"{path}: {key} promises more than the file holds: {size:,} bytes")
    if found.chunks is None:
        held = found.id.get_storage_size()
        if found.nbytes > held:
            raise SourceError(f"{path}: {key} promises more than the file holds: {held:,} bytes")
        return
    chunk = math.prod(found.chunks) * kind.itemsize
    if chunk > max(found.nbytes, LARGEST_CHUNK):
        raise SourceError(f"{path}: {key} has chunks of {chunk:,} bytes, more than all of it")
    if found.id.get_num_chunks() < _chunk_count(found):
        raise SourceError(f"{path}: {key} promises more than the file holds: chunks are missing")


def checked(found: Any) -> Iterator[None]:
    """Refuse a dataset whose chunks do not unpack to what they should; yields signs of life.

    Raises
    ------
    SourceError
        When one does not.
    """
    if found.chunks is None:
        return
    path = found.file.filename
    try:
        yield from chunks.check(found)
    except ValueError as error:
        where = f"{path}: {found.name.lstrip('/')}"
        raise SourceError(f"{where}: {error}", "get it again, or write it anew") from error
    except ERRORS as error:
        raise _unreadable(path, error) from error


def _chunk_count(found: Any) -> int:
    """How many chunks the whole of a dataset has."""
    return math.prod(
        -(-side // chunk) for side, chunk in zip(found.shape, found.chunks, strict=True)
    )


def _promised(found: Any) -> int:
    """Bytes that a dataset takes in its file at least: each chunk is somewhere in it."""
    if found.chunks is None:
        return int(found.nbytes)
    return _chunk_count(found)


def listed(file: Any) -> list[str]:
    """The names at the file's root.

    Raises
    ------
    SourceError
        When libhdf5 cannot list them.
    """
    try:
        return sorted(map(str, file))
    except ERRORS as error:
        raise _unreadable(file.filename, error) from error


def rows(array: Any, at_once: int) -> Iterator[Any]:
    """All rows as ndarrays, whole chunks of at least `at_once` rows at a time.

    Raises
    ------
    SourceError
        When libhdf5 cannot read them.
    """
    chunk = array.chunks[0] if array.chunks else 1
    step = -(-at_once // chunk) * chunk
    for start in range(0, len(array), step):
        try:
            block = array[start : start + step]
        except ERRORS as error:
            raise _unreadable(array.file.filename, error) from error
        yield block
