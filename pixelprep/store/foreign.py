"""Arrays of HDF5 files that others wrote: looked at before they are read, read row by row."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pixelprep.errors import SourceError

MOST_SHRINKING = 1032  # deflate cannot do better


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, for `dataset`.

    Raises
    ------
    SourceError
        When libhdf5 cannot read it, then or later.
    """
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401 - registers its filters
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        if getattr(error, "errno", None) and getattr(error, "filename", None):
            raise  # of another file
        raise SourceError(f"{path}: not a readable HDF5 file: {error}", "get it again") from error


def dataset(file: Any, key: str) -> Any | None:
    """The dataset under this key; None where there is none.

    Raises
    ------
    SourceError
        When the way to it leads over links, its data lies in other files, or it promises more
        than its file can hold.
    """
    import h5py

    here = file
    for name in filter(None, key.split("/")):
        if not isinstance(here, h5py.Group) or name not in here:
            return None
        if not isinstance(here.get(name, getlink=True), h5py.HardLink):
            raise SourceError(f"{file.filename}: {key} is a link", "give the place it leads to")
        here = here[name]
    if not isinstance(here, h5py.Dataset):
        return None
    if here.external or here.is_virtual:
        raise SourceError(f"{file.filename}: {key} lies in other files", "copy it into one file")
    if here.dtype.hasobject or here.dtype.kind not in "uif":
        raise SourceError(f"{file.filename}: {key} is {here.dtype}: expected numbers")
    stored = here.id.get_storage_size()
    if here.shape is None or here.nbytes > stored * MOST_SHRINKING:
        raise SourceError(f"{file.filename}: {key} promises more than the file holds: {stored:,}")
    return here


def listed(file: Any) -> list[str]:
    """The names at the file's root."""
    return sorted(file)


def rows(array: Any, at_once: int) -> Iterator[Any]:
    """All rows as ndarrays, whole chunks of at least `at_once` rows at a time."""
    chunk = array.chunks[0] if array.chunks else 1
    step = -(-at_once // chunk) * chunk
    return (array[start : start + step] for start in range(0, len(array), step))
