"""Check HDF5 files that others wrote, before their rows are read.

A user's own file holds any datasets: each is checked to be numbers, stored in the file itself, in
chunks that unpack to their size. An entry's file must have exactly the layout of its manifest.
libhdf5 does all of it in a process of its own (`sandbox`).
"""

import math
import os
import re
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any  # Any: h5py has no types; attributes of several types

import numpy as np

from pixelprep.errors import CacheError, SourceError
from pixelprep.format import chunks, h5, sandbox
from pixelprep.format.layout import FORMAT, DatasetLayout, FileLayout, is_stored
from pixelprep.system import fs

NUMBERS = "uif"  # kinds of NumPy's types
LABELS = f"{NUMBERS}bSO"  # likewise, and text
MAX_GROUPS = 5  # one in the other, around a dataset that is looked for
MAX_ARRAYS = 10_000  # and groups, after which groups within groups are not looked into
MAX_CHUNK_BYTES = 64 << 20  # a larger chunk may be no larger than its dataset

MAX_RATIO = 1032  # deflate's limit: no chunk unpacks to more than this many times its size
COPIES = 5  # of a chunk in memory at once, at most: stored, unpacked, unshuffled, in libhdf5
NO_MEMORY = re.compile("memory allocation failed|(unable to|can't) allocate", re.IGNORECASE)
NEWER = re.compile("bad (superblock )?version", re.IGNORECASE)

ERRORS = (*h5.ERRORS, MemoryError)  # from files that declare more than there is


@contextmanager
def open_untrusted(path: Path) -> Iterator[Any]:
    """Open a user's file, or raise a SourceError."""
    with _reading(path):
        opened = h5.open_read(path)
        file = opened.__enter__()
    yield file  # open until the process ends: closing a damaged file can fail


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """Turn an error of libhdf5 into a SourceError, but for a lack of memory."""
    try:
        yield
    except ERRORS as error:
        _raise_if_no_memory(error)
        if isinstance(error, OSError) and error.errno and not fs.is_damage(error):
            raise SourceError(f"{path}: cannot read: {os.strerror(error.errno)}") from error
        message, hint = f"{path}: not a readable HDF5 file: {error}", "get it again"
        if NEWER.search(str(error)):
            message += f": written by a newer HDF5 than {h5.library_version()}, or damaged"
            hint = "update h5py, or write the file anew by h5repack of the HDF5 that wrote it"
        raise SourceError(message, hint) from error


def _raise_if_no_memory(error: Exception) -> None:
    """Raise a MemoryError if this is one, also by libhdf5's words."""
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        raise MemoryError(str(error)) from error


def is_ours(file: Any) -> bool:
    """Return whether the file is one of an entry, or of an export of one."""
    with _reading(file.filename):
        return _is_attribute(file.attrs.get("format"), FORMAT)


def list_arrays(
    file: Any, attributes: Collection[str], joint: str
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type of all datasets in a file, those in groups within groups among them.

    Beside them those of `attributes` that they and their groups have, as KEY, joint, NAME; the
    file's own key is empty. Links, and groups too deep or after too many arrays, are listed, but
    not followed. MATLAB's own are left out.
    """
    import h5py

    found, entered = dict[str, tuple[tuple[int, ...], str]](), list[str]()

    def visit(group: Any, above: str, around: tuple[Any, ...]) -> None:
        found.update(_attributes(above.rstrip("/"), group, attributes, joint))
        for name in map(str, group):
            key = above + name
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                found[key] = (), "link"
            elif isinstance(node := group[name], h5py.Dataset):
                found.update(_headers(key, node, attributes, joint))
            elif isinstance(node, h5py.Group) and not name.startswith("#") and node not in around:
                many = len(around) > 1 and len(found) + len(entered) > MAX_ARRAYS
                if many or len(around) > MAX_GROUPS:
                    found[key] = (), "group"
                else:
                    entered.append(key)
                    visit(node, f"{key}/", (*around, node))

    with _reading(file.filename):
        visit(file, "", (file["/"],))
    return found


def _headers(
    key: str, node: Any, attributes: Collection[str], joint: str
) -> Iterator[tuple[str, tuple[tuple[int, ...], str]]]:
    """Yield shape and type of a dataset, and those of its attributes."""
    try:
        yield key, (node.shape or (), str(node.dtype))
    except TypeError as error:  # NumPy has no such type
        yield key, ((), str(error))
    yield from _attributes(key, node, attributes, joint)


def _attributes(
    key: str, node: Any, attributes: Collection[str], joint: str
) -> Iterator[tuple[str, tuple[tuple[int, ...], str]]]:
    for name in attributes:
        if name in node.attrs:
            values = np.asarray(node.attrs[name])
            yield f"{key}{joint}{name}", (values.shape, str(values.dtype))


def attribute(file: Any, owner: str, name: str) -> list[Any]:
    """Return an attribute that is text, of an array or a group that `list_arrays` found."""
    with _reading(file.filename):
        return list(np.asarray(file[owner or "/"].attrs[name]).reshape(-1).tolist())


def find_dataset(file: Any, key: str, kinds: str = NUMBERS) -> Any | None:
    """Return the dataset under this key, or None; refuse any but numbers stored in this file.

    `kinds` are those of NumPy's types that are accepted; "O" stands for text of any length.
    """
    with _reading(file.filename):
        dataset = _follow(file, key)
        if dataset is not None:
            _check_storage(file, key, dataset, kinds)
        return dataset


def _follow(file: Any, key: str) -> Any | None:
    import h5py

    node = file
    for name in (name for name in key.split("/") if name not in ("", ".")):
        if not isinstance(node, h5py.Group) or name not in node:
            return None
        if not isinstance(node.get(name, getlink=True), h5py.HardLink):
            raise SourceError(f"{file.filename}: {key} is a link", "give the key of its target")
        node = node[name]
    return node if isinstance(node, h5py.Dataset) else None


def _check_storage(file: Any, key: str, dataset: Any, kinds: str) -> None:
    import h5py

    path = file.filename
    if dataset.external or dataset.is_virtual:
        raise SourceError(f"{path}: {key} is stored in other files", "copy it into one file")
    try:
        dtype = dataset.dtype
    except TypeError as error:  # NumPy has no such type
        raise SourceError(f"{path}: {key}: expected numbers: {error}") from error
    is_text = h5py.check_string_dtype(dtype) is not None
    if dtype.kind not in kinds or dtype.hasobject > is_text:
        raise SourceError(f"{path}: {key} is {dtype}: expected numbers")
    # By arithmetic first: libhdf5 takes long to count very many missing chunks.
    size = file.id.get_filesize()
    too_large = f"{path}: {key} declares more than the file holds"
    least = _chunk_count(dataset) if dataset.chunks else dataset.nbytes  # a byte per chunk
    if dataset.shape is None or least > size:
        raise SourceError(f"{too_large}: {size:,} bytes")
    if dataset.chunks is None:
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > stored:
            raise SourceError(f"{too_large}: {stored:,} bytes")
        return
    chunk = math.prod(dataset.chunks) * dtype.itemsize
    if chunk > max(dataset.nbytes, MAX_CHUNK_BYTES):
        raise SourceError(f"{path}: {key} has chunks of {chunk:,} bytes, more than the dataset")
    if chunk > MAX_CHUNK_BYTES and chunk > dataset.id.get_storage_size() * MAX_RATIO:
        raise SourceError(f"{too_large}: chunks of {chunk:,} bytes")
    if dataset.id.get_num_chunks() < least:
        raise SourceError(f"{path}: {key}: {_unwritten(dataset, least)}", "store it without them")


def _unwritten(dataset: Any, expected: int) -> str:
    """Say which rows lack chunks, of which all rows together have an expected number."""
    total, rows, stored = len(dataset), dataset.chunks[0], Counter[int]()
    dataset.id.chunk_iter(lambda chunk: stored.update([chunk.chunk_offset[0]]))
    starts = range(0, total, rows)
    needed = expected // len(starts)
    written = sum(min(rows, total - start) for start, n in stored.items() if n == needed)
    first = next(start for start in starts if stored[start] < needed)
    return (
        f"{total - written:,} of {total:,} rows were never written, the first of them row {first}"
    )


def _chunk_count(dataset: Any) -> int:
    sides = zip(dataset.shape, dataset.chunks, strict=True)
    return math.prod(-(-side // chunk) for side, chunk in sides)


def check_chunks(dataset: Any) -> Iterator[None]:
    """Refuse a dataset unless each chunk unpacks to its size; yield as signs of life."""
    if dataset.chunks is None:
        return
    path = dataset.file.filename
    sandbox.allow_memory(COPIES * math.prod(dataset.chunks) * dataset.dtype.itemsize)
    with _reading(path):
        try:
            yield from chunks.check(dataset)
        except ValueError as error:
            where = f"{path}: {dataset.name.lstrip('/')}"
            raise SourceError(f"{where}: {error}", "get it again, or write it anew") from error


def iter_rows(dataset: Any, min_rows: int) -> Iterator[Any]:
    """Yield all rows in blocks of whole chunks, each of at least `min_rows` rows."""
    chunk = dataset.chunks[0] if dataset.chunks else 1
    step = -(-min_rows // chunk) * chunk
    row_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    sandbox.allow_memory(min(step, len(dataset)) * row_bytes)
    for start in range(0, len(dataset), step):
        with _reading(dataset.file.filename):
            block = dataset[start : start + step]
        yield block


def validate(path: Path, layout: FileLayout) -> str | None:
    """Say what is wrong with an entry's file, before its rows are read; None if nothing is.

    An uncompressed file is compared with a new one of its layout, so that libhdf5 parses nothing
    that others wrote. Any other file is parsed in the sandbox.
    """
    from pixelprep.format import writer  # which imports h5py: a cache hit does without

    values = {**asdict(layout), "attributes": stored_attributes(layout.attributes)}
    needed = sum(c.chunk_bytes * c.chunk_count for c in layout.columns.values())
    try:
        if layout.compression == "none":
            if path.stat().st_size < needed:
                return f"its rows take {needed:,} bytes, more than the file has"
            if writer.matches_reference(path, layout):
                return None
        replies = sandbox.run_in_sandbox(
            f"{__name__}:validate_in_sandbox", path=os.fspath(path), layout=values
        )
        problem = deque(replies, maxlen=1)[0]  # those before are signs of life
    except sandbox.OutOfMemory as error:
        raise CacheError(f"{path}: cannot check: {error}") from error
    except sandbox.SandboxError as error:
        return f"not a readable HDF5 file: {error}"
    return None if problem is None else str(problem)


def stored_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a layout that a file stores, as JSON values."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in attributes.items()
        if is_stored(value)
    }


def validate_in_sandbox(path: str, layout: dict[str, Any]) -> Iterator[str | None]:
    """Do the part of `validate` for the sandbox; the last value is the answer."""
    expected = FileLayout(**layout | {"shape": tuple(layout["shape"])})
    sandbox.allow_memory(COPIES * max(column.chunk_bytes for column in expected.columns.values()))
    try:
        with h5.open_read(path) as file:
            problem = yield from _dataset_mismatch(file, expected.columns)
            names = differing_attributes(file, expected.attributes)
            if problem is None and (name := next(names, None)) is not None:
                problem = f"its attribute {name} is not that of the manifest"
    except ERRORS as error:
        _raise_if_no_memory(error)
        # libhdf5's own errors have no number.
        if isinstance(error, OSError) and error.errno and not fs.is_damage(error):
            raise
        problem = f"not a readable HDF5 file: {error!r}"
    yield problem


def differing_attributes(group: Any, expected: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of `stored_attributes` that are missing or differ."""
    for name, value in expected.items():
        if name not in group.attrs or not _is_attribute(group.attrs[name], value):
            yield name


def _is_attribute(stored: Any, expected: Any) -> bool:
    """Return whether an attribute is this text or number, or this list of numbers."""
    value = np.asarray(stored).tolist()
    # Strings of fixed length are bytes for h5py.
    return bool((value.decode() if isinstance(value, bytes) else value) == expected)


def _dataset_mismatch(
    file: Any, expected: Mapping[str, DatasetLayout]
) -> Generator[None, None, str | None]:
    import h5py

    if len(file) != len(expected) or set(file) != set(expected):
        return f"expected the datasets {', '.join(expected)}"
    for name, layout in expected.items():
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            return f"/{name} is a link"
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            return f"/{name} is not a dataset stored in this file"
        if difference := _layout_difference(dataset, layout):
            return f"/{name} differs from the manifest or the format in its {difference}"
        yield from chunks.check(dataset)
    stored = sum(file[name].id.get_storage_size() for name in expected)
    return "its chunks overlap" if stored > file.id.get_filesize() else None


def _layout_difference(dataset: Any, layout: DatasetLayout) -> str | None:
    """Name the property in which a dataset differs from its layout."""
    import h5py

    properties = dataset.id.get_create_plist()
    filters = tuple(properties.get_filter(i)[0] for i in range(properties.get_nfilters()))
    dtype = h5py.h5t.py_create(h5.type_of(layout.dtype))
    pairs = {
        "shape": (dataset.shape, layout.shape),
        "largest shape": (dataset.maxshape, layout.shape),
        "type": (dataset.id.get_type(), dtype),
        "chunks": (dataset.chunks, layout.chunks),
        "filters": (filters, layout.filters),
    }
    for name, (stored, expected) in pairs.items():
        if stored != expected:
            return name
    return "stored rows" if dataset.id.get_num_chunks() != layout.chunk_count else None
