"""Read rows from an entry's files, past libhdf5, which only tells where their chunks are."""

import errno
import math
import os
import sys
import weakref
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar  # Any: h5py has no types; arrays of every stored type

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import REPAIR_HINT, EntryError
from pixelprep.format import chunks, codecs, h5
from pixelprep.format.codecs import buffer_of_thread
from pixelprep.format.layout import FLETCHER32
from pixelprep.system import fs, os_calls

Bytes = NDArray[np.uint8]
Runs = Sequence[tuple[int, int, int]]  # first row, number of rows, where they go in a buffer
Part = Callable[[], None]  # of what is read
ReadAt = Callable[[memoryview, int], None]  # fills a buffer with a file's bytes from an offset on
Piece = tuple[int, int, memoryview]  # a chunk, the bytes of it to pass over, what to fill

MAX_OPEN_FILES = 64
SMALL_ROW = 16  # bytes: of labels and the like, which take longer to ask for than to copy
FETCHERS = 16  # ranges of remote files that are under way at once, or groups of them
KEPT_BYTES = 1 << 20  # of chunks of small rows, for all open files together


@dataclass(frozen=True, slots=True)
class EntryFile:
    """One file of a split, with its digest and its `fs.file_stamp` when it was checked."""

    path: Path
    rows: int
    sha256: str
    stamp: tuple[int | str, ...]

    AHEAD: ClassVar = 1  # steps of a pass that are announced before they are read

    @property
    def place(self) -> Path | str:
        """What messages call it."""
        return self.path

    def open(self, handles: "HandleCache") -> "OpenFile":
        return OpenFile(self, handles)


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """Where the chunks of a dataset are, and how their rows are read."""

    chunk_rows: int
    dtype: np.dtype[Any]  # of the stored values
    row_bytes: int
    filters: tuple[int, ...]  # HDF5's numbers
    packed: bool  # whether there are others than the checksum
    # By chunk:
    offsets: "array[int]"  # in bytes from the file's start
    sizes: "array[int]"  # in bytes
    masks: "array[int]"  # of the filters that are not applied
    checked: bytearray  # 1 once its checksum was verified

    def pieces(self, runs: Runs, buffer: NDArray[Any]) -> Iterator[Piece]:
        """Cut the reading of runs into a buffer where chunks begin and end."""
        content = buffer.reshape(-1).view(np.uint8).data
        for start, rows, place in runs:
            stop, filled = start + rows, place * self.row_bytes
            while start < stop:
                chunk, first = divmod(start, self.chunk_rows)
                count = min(self.chunk_rows - first, stop - start)
                size = count * self.row_bytes
                yield chunk, first * self.row_bytes, content[filled : filled + size]
                start, filled = start + count, filled + size

    def read(self, read_at: ReadAt, pieces: Iterable[Piece]) -> None:
        """Read these; what is packed once for pieces of one chunk that follow each other."""
        if self.packed:
            for chunk, group in groupby(pieces, key=itemgetter(0)):
                self._read_packed(read_at, chunk, list(group))
        for chunk, skipped, target in () if self.packed else pieces:
            if not self.checked[chunk]:  # once per process
                self.unpack(read_at, chunk, buffer_of_thread("chunk", self.chunk_bytes))
            read_at(target, self.offsets[chunk] + skipped)

    def _read_packed(self, read_at: ReadAt, chunk: int, pieces: Sequence[Piece]) -> None:
        _, _, target = pieces[0]
        if len(target) == self.chunk_bytes:  # all of it, in place
            self.unpack(read_at, chunk, np.frombuffer(target, np.uint8))
            pieces = pieces[1:]
        if pieces:
            whole = self.unpack(read_at, chunk, buffer_of_thread("chunk", self.chunk_bytes)).data
        for _, skipped, target in pieces:
            target[:] = whole[skipped : skipped + len(target)]

    def span(self, start: int, last: int) -> tuple[int, int]:
        """Return offset and size of what holds these rows of the file: whole chunks, if packed."""
        (chunk, first), (end, rows) = divmod(start, self.chunk_rows), divmod(last, self.chunk_rows)
        begin, stop = self.offsets[chunk], self.offsets[end]
        if self.packed:
            return begin, stop + self.sizes[end] - begin
        begin += first * self.row_bytes
        return begin, stop + (rows + 1) * self.row_bytes - begin

    @property
    def chunk_bytes(self) -> int:
        return self.chunk_rows * self.row_bytes

    def unpack(self, read_at: ReadAt, chunk: int, out: Bytes) -> Bytes:
        """Read a chunk, undo its filters, and compare its checksum if this process has not yet."""
        stored = buffer_of_thread("stored", self.sizes[chunk])
        read_at(stored.data, self.offsets[chunk])
        checked = bool(self.checked[chunk])
        try:
            filters = chunks.applied_filters(self.filters, self.masks[chunk])
            size, width = self.chunk_bytes, self.dtype.itemsize
            codecs.unpack(stored, filters, width, size, out=out, checked=checked)
        except ValueError as error:
            where = f"row {chunk * self.chunk_rows} or one soon after it is damaged"
            raise OSError(f"{where}: {error}") from error
        self.checked[chunk] = 1
        return out


def _read_at(fd: int, target: memoryview, offset: int) -> None:
    if os_calls.read_into(fd, target, offset) < len(target):
        raise OSError("the file ends too early")


_index_cache: dict[EntryFile, Mapping[str, ChunkIndex]] = {}


def _chunk_indexes(file: EntryFile, fd: int) -> Mapping[str, ChunkIndex]:
    """Index the columns of a file, once per process: the only time that libhdf5 opens it."""
    if file not in _index_cache:
        if len(_index_cache) >= 4096:  # files of some 3 kB of memory each
            _index_cache.clear()
        with h5.open_read(file.path, fd) as h5_file:
            _index_cache[file] = {name: _chunk_index(h5_file[name]) for name in h5_file}
    return _index_cache[file]


def _chunk_index(dataset: Any) -> ChunkIndex:
    rows, dtype = dataset.chunks[0], dataset.dtype
    count = -(-dataset.shape[0] // rows)
    offsets, sizes, masks = (array("q", [-1]) * count for _ in range(3))

    def add(chunk: Any) -> None:
        number = chunk.chunk_offset[0] // rows
        offsets[number], sizes[number], masks[number] = (
            chunk.byte_offset,
            chunk.size,
            chunk.filter_mask,
        )

    dataset.id.chunk_iter(add)
    if -1 in offsets:
        raise OSError("chunks are missing")
    row_bytes = math.prod(dataset.shape[1:]) * dtype.itemsize
    filters = tuple(chunks.filters_of(dataset))
    packed, checked = filters != (FLETCHER32,), bytearray(count)
    return ChunkIndex(rows, dtype, row_bytes, filters, packed, offsets, sizes, masks, checked)


class _Kept:
    """Chunks of small rows that were read once, as far as there is room for them."""

    def __init__(self) -> None:
        self.room, self.chunks = KEPT_BYTES, dict[tuple[Path, str, int], memoryview]()

    def rest(self, file: "OpenFile", name: str, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Copy the pieces of a column that are here, or can be; yield the others."""
        index = file.indexes[name]
        for chunk, skipped, target in pieces:
            content = self.chunks.get(key := (file.file.path, name, chunk))
            if content is None:
                if self.room < index.chunk_bytes:
                    yield chunk, skipped, target
                    continue
                self.room -= index.chunk_bytes
                content = index.unpack(
                    file.read_at, chunk, np.empty(index.chunk_bytes, np.uint8)
                ).data
                self.chunks[key] = content
            target[:] = content[skipped : skipped + len(target)]


class _Recent:
    """The packed chunks that were unpacked last, of which rows are read one by one."""

    def __init__(self, room: int) -> None:
        self.room, self.used, self.lock = room, 0, Lock()
        self.chunks = dict[tuple[Path, str, int], Bytes]()  # the latest comes last

    def rest(self, file: "OpenFile", name: str, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Copy the pieces of a column that are parts of a chunk; yield those that are all of it."""
        index = file.indexes[name]
        for chunk, skipped, target in pieces:
            if len(target) == index.chunk_bytes or index.chunk_bytes > self.room:
                yield chunk, skipped, target
                continue
            key = file.file.path, name, chunk
            content = self.chunks.get(key)
            if content is None:
                content = index.unpack(file.read_at, chunk, np.empty(index.chunk_bytes, np.uint8))
            self._keep(key, content)
            target[:] = content.data[skipped : skipped + len(target)]

    def _keep(self, key: tuple[Path, str, int], content: Bytes) -> None:
        with self.lock:
            self.used += len(content) - len(self.chunks.pop(key, ()))
            self.chunks[key] = content
            while self.used > self.room:
                self.used -= len(self.chunks.pop(next(iter(self.chunks))))


class OpenFile:
    """One open file, whose columns are read past libhdf5 and its lock."""

    indexes: Mapping[str, ChunkIndex]
    read_at: ReadAt

    def __init__(self, file: EntryFile, handles: "HandleCache") -> None:
        self.kept, self.recent = handles.kept, handles.recent
        self.fd = os_calls.open_plain(file.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.fd)  # once no part of a read is left
        self.file, self.stamp, self.read_at = file, file.stamp, partial(_read_at, self.fd)
        try:
            self.check()  # before libhdf5 parses it
            self.indexes = _chunk_indexes(file, self.fd)
        except BaseException as error:
            replaced = isinstance(error, OSError) and self._is_replaced()
            if replaced:  # libhdf5 cannot open it any more: the next try finds the new file
                raise FileNotFoundError(errno.ENOENT, "replaced meanwhile") from None
            raise

    def _is_replaced(self) -> bool:
        """Return whether the path now leads to another file, or to none."""
        try:
            return self.file.path.stat().st_ino != os.fstat(self.fd).st_ino
        except OSError:
            return True

    def check(self) -> None:
        """Refuse a file whose content was changed after it was checked."""
        stamp = fs.file_stamp(self.fd)
        if stamp != self.stamp:  # or it was rebuilt, or its permissions were changed
            if fs.sha256(self.fd) != self.file.sha256:
                raise OSError("the file was changed after it was checked")
            self.stamp = stamp

    def part(self, runs: Runs, buffers: Mapping[str, NDArray[Any]]) -> Part:
        """Return what puts these runs of each buffer's column where they go."""
        self.check()
        return partial(self._read, runs, buffers)

    def _read(self, runs: Runs, buffers: Mapping[str, NDArray[Any]]) -> None:
        for name, buffer in buffers.items():
            index = self.indexes[name]
            try:
                pieces = self.announced(index, index.pieces(runs, buffer))
                if index.row_bytes <= SMALL_ROW:
                    pieces = self.kept.rest(self, name, pieces)
                elif index.packed and self.recent:
                    pieces = self.recent.rest(self, name, pieces)
                index.read(self.read_at, pieces)
            except h5.ERRORS as error:
                raise _unreadable(self.file, (name,), error) from error
            for _, rows, place in () if index.dtype.isnative else runs:
                buffer[place : place + rows].byteswap(inplace=True)

    def finish(self) -> None:
        """Refuse a file that only the last read has shown to be wrong."""

    def announced(self, index: ChunkIndex, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Return what is read next, announced where that helps."""
        return pieces

    def prefetch(self, runs: Runs) -> None:
        """Ask the system to load the images of these runs into the page cache."""
        if sys.platform == "linux" and hasattr(os, "posix_fadvise"):
            index = self.indexes["images"]
            for start, rows, _ in runs:
                offset, size = index.span(start, start + rows - 1)
                os.posix_fadvise(self.fd, offset, size, os.POSIX_FADV_WILLNEED)


def _unreadable(file: EntryFile, columns: Iterable[str], error: BaseException) -> EntryError:
    if isinstance(error, FileNotFoundError):
        return EntryError(f"{file.place}: the file is gone", "prepare the dataset again")
    names = ", ".join(f"/{name}" for name in columns)
    return EntryError(f"{file.place}: cannot read {names}: {error}", REPAIR_HINT)


class HandleCache:
    """The open files of an entry; beyond `MAX_OPEN_FILES` the least recently used is closed.

    Processes do not share it: each opens its own files (a handle is not safe across a fork). For
    rows that are read one by one, `recent_bytes` of unpacked chunks are kept.
    """

    def __init__(self, recent_bytes: int = 0) -> None:
        self._open: OrderedDict[Path, OpenFile] = OrderedDict()
        self.kept, self.recent = _Kept(), _Recent(recent_bytes) if recent_bytes else None
        self._pool: ThreadPoolExecutor | None = None

    def read(self, file: EntryFile, runs: Runs, **buffers: NDArray[Any]) -> None:
        """Put rows into each contiguous buffer from the column of its name."""
        self.part(file, runs, **buffers)()

    def part(self, file: EntryFile, runs: Runs, **buffers: NDArray[Any]) -> Part:
        """Return what does a `read`; any thread may call it, also beside others."""
        try:
            return self._get(file).part(runs, buffers)
        except h5.ERRORS as error:
            raise _unreadable(file, buffers, error) from error

    def prefetch(self, file: EntryFile, runs: Runs) -> None:
        """Announce that these runs are read next, so that reading need not wait for the disk."""
        with suppress(*h5.ERRORS):  # reading will report the error
            self._get(file).prefetch(runs)

    def finish(self) -> None:
        """End a pass: refuse files that were found wrong once they were wholly read."""
        for opened in self._open.values():
            opened.finish()

    def _get(self, file: EntryFile) -> OpenFile:
        if file.path in self._open:
            self._open.move_to_end(file.path)
            return self._open[file.path]
        if len(self._open) >= MAX_OPEN_FILES:
            self._open.popitem(last=False)
        self._open[file.path] = opened = fs.retry_while_missing(lambda: file.open(self))
        return opened

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads that wait for servers."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="pixelprep")
        return self._pool

    def close(self) -> None:
        self._open.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def open_files() -> AbstractContextManager[HandleCache]:
    """Make a `HandleCache` whose files are closed at the end."""
    return closing(HandleCache())
