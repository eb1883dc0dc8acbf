"""Arrays of HDF5 files that others wrote: looked at before they are read, read row by row."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pixelprep.errors import SourceError
from pixelprep.unpack import MOST_SHRINKING

BOUNDED = {1, 2, 3, 32000}  # deflate, shuffle, Fletcher-32, LZF: HDF5's numbers of them


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, for `dataset`.

    Raises
    ------
    SourceError
        When libhdf5 cannot read it.
    """
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers its filters
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        yield file


def _unreadable(path: Path | str, error: Exception) -> SourceError:
    return SourceError(f"{path}: not a readable HDF5 file: {error}", "get it again")


def dataset(file: Any, key: str) -> Any | None:
    """The dataset under this key; None where there is none.

    Raises
    ------
    SourceError
        When the way to it leads over links, its data lies in other files, or it promises more
        than its file can hold.
    """
    try:
        found = _followed(file, key)
        if found is not None:
            _check(file.filename, key, found)
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # libhdf5's
        if isinstance(error, SourceError):
            raise
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


def _check(path: str, key: str, found: Any) -> None:
    if found.external or found.is_virtual:
        raise SourceError(f"{path}: {key} lies in other files", "copy it into one file")
    try:
        kind = found.dtype
    except TypeError as error:  # NumPy has no such type
        raise SourceError(f"{path}: {key}: expected numbers: {error}") from error
    if kind.hasobject or kind.kind not in "uif":
        raise SourceError(f"{path}: {key} is {kind}: expected numbers")
    if found.shape is None or found.nbytes > _most_held(found):
        stored = found.id.get_storage_size()
        raise SourceError(f"{path}: {key} promises more than the file holds: {stored:,} bytes")


def _most_held(found: Any) -> int:
    """The most bytes that what is stored of a dataset can be, once it is unpacked."""
    filters = found.id.get_create_plist()
    numbers = {filters.get_filter(i)[0] for i in range(filters.get_nfilters())}
    if numbers <= BOUNDED:
        return int(found.id.get_storage_size()) * MOST_SHRINKING
    # Other filters may shrink without bound, but a chunk that is there holds no more than a chunk.
    chunk: int = math.prod(found.chunks) * found.dtype.itemsize
    return chunk * int(found.id.get_num_chunks())


def listed(file: Any) -> list[str]:
    """The names at the file's root."""
    return sorted(file)


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
        except (OSError, RuntimeError) as error:
            raise _unreadable(array.file.filename, error) from error
        yield block
