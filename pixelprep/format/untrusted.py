"""Arrays of HDF5 files that others wrote: looked at before they are read, read row by row.

All of it belongs into a process of its own (`sandbox`).
"""

import math
import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.format import chunks, h5, layout
from pixelprep.format.layout import FileLayout
from pixelprep.system import fs

MAX_CHUNK_BYTES = 64 << 20  # bytes; of larger ones no more than the dataset has

ERRORS = (*h5.ERRORS, MemoryError)  # of files that promise more than there is


@contextmanager
def open_untrusted(path: Path) -> Iterator[Any]:
    """The file, for `dataset`.

    Raises
    ------
    SourceError
        When libhdf5 cannot read it.
    """
    try:
        file = h5.open_read(path)
    except ERRORS as error:
        raise _unreadable(path, error) from error
    yield file  # and left to the end of the process: of a damaged one, closing can fail


def _unreadable(path: Path | str, error: Exception) -> SourceError:
    return SourceError(f"{path}: not a readable HDF5 file: {error}", "get it again")


def find_dataset(file: Any, key: str) -> Any | None:
    """The dataset under this key; None where there is none.

    Raises
    ------
    SourceError
        When the way to it leads over links, its data lies in other files, it is packed in ways
        that are not known here, or it promises more than its file can hold.
    """
    try:
        found = _follow(file, key)
        if found is not None:
            _check(file, key, found)
    except ERRORS as error:
        raise _unreadable(file.filename, error) from error
    return found


def _follow(file: Any, key: str) -> Any | None:
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
    if found.shape is None or _promised_bytes(found) > size:
        raise SourceError(f"{path}: {key} promises more than the file holds: {size:,} bytes")
    if found.chunks is None:
        held = found.id.get_storage_size()
        if found.nbytes > held:
            raise SourceError(f"{path}: {key} promises more than the file holds: {held:,} bytes")
        return
    chunk = math.prod(found.chunks) * kind.itemsize
    if chunk > max(found.nbytes, MAX_CHUNK_BYTES):
        raise SourceError(f"{path}: {key} has chunks of {chunk:,} bytes, more than all of it")
    if found.id.get_num_chunks() < _chunk_count(found):
        raise SourceError(f"{path}: {key} promises more than the file holds: chunks are missing")


def check_chunks(found: Any) -> Iterator[None]:
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


def _promised_bytes(found: Any) -> int:
    """Bytes that a dataset takes in its file at least: each chunk is somewhere in it."""
    if found.chunks is None:
        return int(found.nbytes)
    return _chunk_count(found)


def root_names(file: Any) -> list[str]:
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


def iter_rows(array: Any, at_once: int) -> Iterator[Any]:
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


def validate(path: Path, outline: FileLayout) -> str | None:
    """What is wrong with a file, before any of its rows is read; None if it is as the outline says.

    An uncompressed file is compared with one that is made anew: then libhdf5 reads nothing that
    somebody else has written. Other files it looks at in a process of its own.
    """
    from pixelprep.format import sandbox, writer

    needed = sum(c.chunk_bytes * c.chunk_count for c in outline.columns.values())
    try:
        if outline.compression == "none":
            if path.stat().st_size < needed:
                return f"its rows take {needed:,} bytes, which it does not have"
            if writer.matches_reference(path, outline):
                return None
        asked = sandbox.run_in_sandbox(
            f"{__name__}:validate_in_sandbox", path=os.fspath(path), outline=_as_json(outline)
        )
        found = deque(asked, maxlen=1)[0]  # before: signs of life
    except sandbox.SandboxError as error:
        return f"not a readable HDF5 file: {error}"
    return None if found is None else str(found)


def _as_json(outline: FileLayout) -> dict[str, Any]:
    return {**asdict(outline), "attributes": plain_attributes(outline.attributes)}


def plain_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are stored, as texts, numbers and lists."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in attributes.items()
        if not isinstance(value, np.ndarray) or value.size <= layout.MAX_ATTRIBUTE_VALUES
    }


def validate_in_sandbox(path: str, outline: dict[str, Any]) -> Iterator[str | None]:
    """As `problem`, in the process that it is looked at in; the last value is the answer."""
    outlined = FileLayout(**outline | {"shape": tuple(outline["shape"])})
    try:
        with h5.open_read(path) as file:
            found = yield from _mismatch(file, outlined)
    except (*h5.ERRORS, MemoryError) as error:
        # libhdf5's own have no number.
        if isinstance(error, OSError) and error.errno and not fs.is_damage(error):
            raise
        found = f"not a readable HDF5 file: {error!r}"
    yield found


def _mismatch(file: Any, outline: FileLayout) -> Generator[None, None, str | None]:
    if wrong := (yield from _dataset_mismatch(file, outline.columns)):
        return wrong
    for name in differing_attributes(file, outline.attributes):
        return f"its attribute {name} is not that of the manifest"
    return None


def differing_attributes(group: Any, attributes: Mapping[str, Any]) -> Iterator[str]:
    """The names of those that are missing or others, of `plain_attributes`."""
    for name, value in attributes.items():
        if name not in group.attrs or not _is_attribute(group.attrs[name], value):
            yield name


def _is_attribute(found: Any, value: Any) -> bool:
    """Whether an attribute is a text, a number, or a list of one of them."""
    if isinstance(value, list):
        return bool(_as_text(np.asarray(found).tolist()) == value)
    return bool(_as_text(found.item() if isinstance(found, np.generic) else found) == value)


def _as_text(value: Any) -> Any:
    """Texts of fixed length come as bytes."""
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def _dataset_mismatch(
    file: Any, expected: Mapping[str, layout.DatasetLayout]
) -> Generator[None, None, str | None]:
    import h5py

    if len(file) != len(expected) or set(file) != set(expected):
        return f"expected the datasets {', '.join(expected)}"
    for name, column in expected.items():
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            return f"/{name} is a link"
        found = file[name]
        if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
            return f"/{name} is not a dataset stored in this file"
        if wrong := _differs(found, column):
            return f"/{name} differs from the manifest or the format in its {wrong}"
        yield from chunks.check(found)
    stored = sum(file[name].id.get_storage_size() for name in expected)
    return "its chunks overlap" if stored > file.id.get_filesize() else None


def _differs(found: Any, column: layout.DatasetLayout) -> str | None:
    """In what a dataset differs from what it should be."""
    import h5py

    filters = found.id.get_create_plist()
    numbers = tuple(filters.get_filter(i)[0] for i in range(filters.get_nfilters()))
    kind = h5py.h5t.py_create(np.dtype(column.dtype))
    pairs = {
        "shape": (found.shape, column.shape),
        "largest shape": (found.maxshape, column.shape),
        "type": (found.id.get_type(), kind),
        "chunks": (found.chunks, column.chunks),
        "filters": (numbers, column.filters),
    }
    for what, (got, wanted) in pairs.items():
        if got != wanted:
            return what
    return "stored rows" if found.id.get_num_chunks() != column.chunk_count else None
