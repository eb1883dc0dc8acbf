"""Reading rows of the files of an entry."""

import errno
import math
import os
from array import array
from collections import OrderedDict, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import files
from pixelprep.errors import AGAIN, EntryError
from pixelprep.store import chunks, h5, layout
from pixelprep.store.checksum import fletcher32
from pixelprep.store.layout import Outline

Runs = Sequence[tuple[int, int]]  # first row and number of rows

OPEN_FILES = 64  # open at once while reading an entry of many files
KNOWN_FILES = 4096  # whose chunks' places are kept in mind: some 3 kB each


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a split, its digest, and its `files.state` when it was found right."""

    path: Path
    rows: int
    sha256: str
    state: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Column:
    """A dataset whose rows lie in the file as they are: no filter but the checksum."""

    chunk_rows: int
    row_bytes: int
    offsets: "array[int]"  # of each chunk, bytes from the file's start
    sound: bytearray  # by chunk, 1 once its checksum was found right

    def place(self, row: int) -> int:
        """Where a row begins, bytes from the file's start."""
        chunk, first = divmod(row, self.chunk_rows)
        return self.offsets[chunk] + first * self.row_bytes

    def check(self, fd: int, row: int) -> None:
        """Refuse the chunk of a row if its checksum differs; once a process is enough."""
        chunk = row // self.chunk_rows
        if self.sound[chunk]:
            return
        stored = np.empty(self.chunk_rows * self.row_bytes + 4, np.uint8)
        if os.preadv(fd, [stored.data], self.offsets[chunk]) < len(stored):
            raise OSError("the file ends too early")
        if fletcher32(stored[:-4]) != int.from_bytes(stored[-4:].tobytes(), "little"):
            raise OSError(f"row {chunk * self.chunk_rows} or one soon after it is damaged")
        self.sound[chunk] = 1


_known: dict[Part, Mapping[str, _Column]] = {}


def _columns(part: Part, fd: int) -> Mapping[str, _Column]:
    """The columns of a file that can be read past libhdf5, which is asked only once."""
    if part not in _known:
        if len(_known) >= KNOWN_FILES:
            _known.clear()
        with _through_libhdf5(part.path, fd) as file:
            columns = {name: _column(file[name]) for name in file}
        _known[part] = {name: column for name, column in columns.items() if column is not None}
    return _known[part]


def _column(dataset: Any) -> _Column | None:
    filters = dataset.id.get_create_plist()
    only_checksum = filters.get_nfilters() == 1 and dataset.fletcher32
    if not only_checksum or not dataset.dtype.isnative:
        return None
    rows = dataset.chunks[0]
    row_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    count = -(-dataset.shape[0] // rows)
    offsets = array("q", [-1]) * count

    def note(chunk: Any) -> None:
        if chunk.size == rows * row_bytes + 4 and not chunk.filter_mask:
            offsets[chunk.chunk_offset[0] // rows] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    if -1 in offsets:
        raise OSError("chunks are missing, or not stored with their checksum")
    return _Column(rows, row_bytes, offsets, bytearray(count))


class _Open:
    """One open file. Rows stored as they are come straight from it, past libhdf5 and its lock;
    others through libhdf5.
    """

    def __init__(self, part: Part) -> None:
        self.fd = os.open(part.path, os.O_RDONLY | os.O_NOFOLLOW)
        self.part, self.state = part, part.state
        self.file: Any = None
        try:
            self.check()  # before libhdf5 sees it
            self.columns = _columns(part, self.fd)
            if "images" not in self.columns:
                self.file = _through_libhdf5(part.path, self.fd)
        except BaseException as error:
            replaced = isinstance(error, OSError) and self._is_replaced()
            os.close(self.fd)
            if replaced:  # which libhdf5 does not open: the next try finds the new one
                raise FileNotFoundError(errno.ENOENT, "replaced meanwhile") from None
            raise

    def _is_replaced(self) -> bool:
        """Whether the file's name is gone, or is another file's by now."""
        try:
            return self.part.path.stat().st_ino != os.fstat(self.fd).st_ino
        except OSError:
            return True

    def check(self) -> None:
        """Refuse a file that was changed after it was found right.

        A changed state may also mean that it was made again, or that its rights were changed.
        """
        state = files.state(self.fd)
        if state != self.state:
            if files.sha256(self.fd) != self.part.sha256:
                raise OSError("the file was changed after it was checked")
            self.state = state

    def read(self, runs: Runs, spaces: Mapping[str, NDArray[Any]]) -> None:
        """Fill each space with its column's rows of these runs, one after the other."""
        self.check()
        for name, out in spaces.items():
            if name in self.columns:
                self._read(self.columns[name], runs, out)
            else:
                self._read_through_libhdf5(name, runs, out)

    def expect(self, runs: Runs) -> None:
        """Have the system bring the images of these runs from the disk meanwhile."""
        if "images" not in self.columns or not hasattr(os, "posix_fadvise"):
            return
        column = self.columns["images"]
        for start, rows in runs:
            first, last = column.place(start), column.place(start + rows - 1)
            size = last - first + column.row_bytes
            os.posix_fadvise(self.fd, first, size, os.POSIX_FADV_WILLNEED)

    def _read(self, column: _Column, runs: Runs, out: NDArray[Any]) -> None:
        filled = 0
        for start, rows in runs:
            stop = start + rows
            while start < stop:  # one read a chunk
                count = min(column.chunk_rows - start % column.chunk_rows, stop - start)
                column.check(self.fd, start)
                space = out[filled : filled + count].data
                if os.preadv(self.fd, [space], column.place(start)) < space.nbytes:
                    raise OSError("the file ends too early")
                start, filled = start + count, filled + count

    def _read_through_libhdf5(self, name: str, runs: Runs, out: NDArray[Any]) -> None:
        filled = 0
        for start, rows in runs:
            into = out[filled : filled + rows]
            self.file[name].read_direct(into, np.s_[start : start + rows])
            filled += rows

    def close(self) -> None:
        os.close(self.fd)
        if self.file is not None:
            self.file.close()


def _through_libhdf5(path: Path, fd: int) -> Any:
    """The very file that is open already, though another one may have its name by now."""
    same = Path(f"/dev/fd/{fd}")
    return h5.opened(same if same.exists() else path)


class Files:
    """Open files of one entry, the least recently used of more than 64 closed again.

    Not shared between processes: each opens its own (a handle carried over a fork is not safe).
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _Open] = OrderedDict()

    def read(self, part: Part, runs: Runs, **spaces: NDArray[Any]) -> None:
        """Fill each space with rows of the column of its name, one run after the other.

        Parameters
        ----------
        part : Part
            The file.
        runs : sequence of tuple of int
            First row and number of rows of each run, 1 or more.
        **spaces : ndarray
            Contiguous, of the stored type, each as long as there are rows to read.

        Raises
        ------
        EntryError
            When the file is damaged, or was changed after it was checked.
        """
        try:
            self._get(part).read(runs, spaces)
        except h5.ERRORS as error:
            names = ", ".join(f"/{name}" for name in spaces)
            raise EntryError(f"{part.path}: cannot read {names}: {error}", AGAIN) from error

    def expect(self, part: Part, runs: Runs) -> None:
        """Say that these runs are read next, so that a disk need not be waited for."""
        with suppress(*h5.ERRORS):  # whatever is wrong, reading says it
            self._get(part).expect(runs)

    def _get(self, part: Part) -> _Open:
        if part.path in self._open:
            self._open.move_to_end(part.path)
            return self._open[part.path]
        if len(self._open) >= OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        self._open[part.path] = opened = files.patiently(lambda: _Open(part))
        return opened

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            self._open.popitem()[1].close()


@contextmanager
def opening() -> Iterator[Files]:
    """Files that are closed at the end."""
    opened = Files()
    try:
        yield opened
    finally:
        opened.close()


def problem(path: Path, outline: Outline) -> str | None:
    """What is wrong with a file, before any of its rows is read; None if it is as the outline says.

    An uncompressed file is compared with one that is made anew: then libhdf5 reads nothing that
    somebody else has written. Other files it looks at in a process of its own.
    """
    from pixelprep.store import isolated, writing

    needed = sum(c.chunk_bytes * c.chunk_count for c in outline.columns.values())
    try:
        if outline.compression == "none":
            if path.stat().st_size < needed:
                return f"its rows take {needed:,} bytes, which it does not have"
            if writing.is_as_written(path, outline):
                return None
        asked = isolated.values(
            f"{__name__}:looked_at", path=os.fspath(path), outline=_as_json(outline)
        )
        found = deque(asked, maxlen=1)[0]  # before: signs of life
    except isolated.Died as error:
        return f"not a readable HDF5 file: {error}"
    return None if found is None else str(found)


def _as_json(outline: Outline) -> dict[str, Any]:
    return {**asdict(outline), "attributes": plain_attributes(outline.attributes)}


def plain_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are stored, as texts, numbers and lists."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in attributes.items()
        if not isinstance(value, np.ndarray) or value.size <= layout.SMALL
    }


def looked_at(path: str, outline: dict[str, Any]) -> Iterator[str | None]:
    """As `problem`, in the process that it is looked at in; the last value is the answer."""
    outlined = Outline(**outline | {"shape": tuple(outline["shape"])})
    try:
        with h5.opened(path) as file:
            found = yield from _problem(file, outlined)
    except (*h5.ERRORS, MemoryError) as error:
        # libhdf5's own have no number.
        if isinstance(error, OSError) and error.errno and not files.is_damage(error):
            raise
        found = f"not a readable HDF5 file: {error!r}"
    yield found


def _problem(file: Any, outline: Outline) -> Generator[None, None, str | None]:
    if wrong := (yield from _problem_of_datasets(file, outline.columns)):
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


def _problem_of_datasets(
    file: Any, expected: Mapping[str, layout.Column]
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


def _differs(found: Any, column: layout.Column) -> str | None:
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
