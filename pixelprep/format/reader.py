"""Reading rows of the files of an entry."""

import errno
import math
import os
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import REPAIR_HINT, EntryError
from pixelprep.format import h5
from pixelprep.format.checksum import fletcher32
from pixelprep.system import fs

Runs = Sequence[tuple[int, int]]  # first row and number of rows

MAX_OPEN_FILES = 64  # open at once while reading an entry of many files
MAX_INDEXED_FILES = 4096  # whose chunks' places are kept in mind: some 3 kB each


@dataclass(frozen=True, slots=True)
class EntryFile:
    """One file of a split, its digest, and its `fs.file_stamp` when it was found right."""

    path: Path
    rows: int
    sha256: str
    state: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _ChunkIndex:
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


_known: dict[EntryFile, Mapping[str, _ChunkIndex]] = {}


def _indexes(part: EntryFile, fd: int) -> Mapping[str, _ChunkIndex]:
    """The columns of a file that can be read past libhdf5, which is asked only once."""
    if part not in _known:
        if len(_known) >= MAX_INDEXED_FILES:
            _known.clear()
        with _through_libhdf5(part.path, fd) as file:
            columns = {name: _index(file[name]) for name in file}
        _known[part] = {name: column for name, column in columns.items() if column is not None}
    return _known[part]


def _index(dataset: Any) -> _ChunkIndex | None:
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
    return _ChunkIndex(rows, row_bytes, offsets, bytearray(count))


class _OpenFile:
    """One open file. Rows stored as they are come straight from it, past libhdf5 and its lock;
    others through libhdf5.
    """

    def __init__(self, part: EntryFile) -> None:
        self.fd = os.open(part.path, os.O_RDONLY | os.O_NOFOLLOW)
        self.part, self.state = part, part.state
        self.file: Any = None
        try:
            self.check()  # before libhdf5 sees it
            self.columns = _indexes(part, self.fd)
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
        state = fs.file_stamp(self.fd)
        if state != self.state:
            if fs.sha256(self.fd) != self.part.sha256:
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

    def prefetch(self, runs: Runs) -> None:
        """Have the system bring the images of these runs from the disk meanwhile."""
        if "images" not in self.columns or not hasattr(os, "posix_fadvise"):
            return
        column = self.columns["images"]
        for start, rows in runs:
            first, last = column.place(start), column.place(start + rows - 1)
            size = last - first + column.row_bytes
            os.posix_fadvise(self.fd, first, size, os.POSIX_FADV_WILLNEED)

    def _read(self, column: _ChunkIndex, runs: Runs, out: NDArray[Any]) -> None:
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
    return h5.open_read(same if same.exists() else path)


class HandleCache:
    """Open files of one entry, the least recently used of more than 64 closed again.

    Not shared between processes: each opens its own (a handle carried over a fork is not safe).
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()

    def read(self, part: EntryFile, runs: Runs, **spaces: NDArray[Any]) -> None:
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
            raise EntryError(f"{part.path}: cannot read {names}: {error}", REPAIR_HINT) from error

    def prefetch(self, part: EntryFile, runs: Runs) -> None:
        """Say that these runs are read next, so that a disk need not be waited for."""
        with suppress(*h5.ERRORS):  # whatever is wrong, reading says it
            self._get(part).prefetch(runs)

    def _get(self, part: EntryFile) -> _OpenFile:
        if part.path in self._open:
            self._open.move_to_end(part.path)
            return self._open[part.path]
        if len(self._open) >= MAX_OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        self._open[part.path] = opened = fs.retry_while_missing(lambda: _OpenFile(part))
        return opened

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            self._open.popitem()[1].close()


@contextmanager
def open_files() -> Iterator[HandleCache]:
    """Files that are closed at the end."""
    opened = HandleCache()
    try:
        yield opened
    finally:
        opened.close()
