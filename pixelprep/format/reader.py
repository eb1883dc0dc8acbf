"""Read rows from an entry's files, past libhdf5, which only tells where their chunks are."""

import errno
import math
import os
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: h5py has no types; arrays of every stored type

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import REPAIR_HINT, EntryError
from pixelprep.format import chunks, codecs, h5
from pixelprep.format.layout import FLETCHER32
from pixelprep.system import fs

Bytes = NDArray[np.uint8]
Runs = Sequence[tuple[int, int]]  # first row and number of rows

MAX_OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class EntryFile:
    """One file of a split, with its digest and its `fs.file_stamp` when it was checked."""

    path: Path
    rows: int
    sha256: str
    stamp: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _ChunkIndex:
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
    checked: bytearray  # 1 once its checksum was verified; of packed ones always 0

    def read(self, fd: int, start: int, target: memoryview, latest: dict[int, Bytes]) -> None:
        """Fill a buffer with rows of one chunk, from row `start` on.

        `latest` has the chunk that was unpacked last: neighbouring runs often share one.
        """
        chunk, first = divmod(start, self.chunk_rows)
        skipped = first * self.row_bytes
        if self.packed:
            if chunk not in latest:
                latest.clear()
                latest[chunk] = self._unpacked(fd, chunk)
            target[:] = latest[chunk][skipped : skipped + len(target)].data
            return
        if not self.checked[chunk]:  # once per process
            self._unpacked(fd, chunk)
            self.checked[chunk] = 1
        _read_at(fd, target, self.offsets[chunk] + skipped)

    def span(self, start: int, last: int) -> tuple[int, int]:
        """Return offset and size of what holds these rows of the file: whole chunks, if packed."""
        (chunk, first), (end, rows) = divmod(start, self.chunk_rows), divmod(last, self.chunk_rows)
        begin, stop = self.offsets[chunk], self.offsets[end]
        if self.packed:
            return begin, stop + self.sizes[end] - begin
        begin += first * self.row_bytes
        return begin, stop + (rows + 1) * self.row_bytes - begin

    def _unpacked(self, fd: int, chunk: int) -> Bytes:
        stored = np.empty(self.sizes[chunk], np.uint8)
        _read_at(fd, stored.data, self.offsets[chunk])
        size = self.chunk_rows * self.row_bytes
        try:
            filters = chunks.applied_filters(self.filters, self.masks[chunk])
            return codecs.unpack(stored, filters, self.dtype.itemsize, size)
        except ValueError as error:
            where = f"row {chunk * self.chunk_rows} or one soon after it is damaged"
            raise OSError(f"{where}: {error}") from error


def _read_at(fd: int, buffer: memoryview, offset: int) -> None:
    if os.preadv(fd, [buffer], offset) < len(buffer):
        raise OSError("the file ends too early")


_index_cache: dict[EntryFile, Mapping[str, _ChunkIndex]] = {}


def _chunk_indexes(file: EntryFile, fd: int) -> Mapping[str, _ChunkIndex]:
    """Index the columns of a file, once per process: the only time that libhdf5 opens it."""
    if file not in _index_cache:
        if len(_index_cache) >= 4096:  # files of some 3 kB of memory each
            _index_cache.clear()
        with h5.open_read(file.path, fd) as h5_file:
            _index_cache[file] = {name: _chunk_index(h5_file[name]) for name in h5_file}
    return _index_cache[file]


def _chunk_index(dataset: Any) -> _ChunkIndex:
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
    return _ChunkIndex(rows, dtype, row_bytes, filters, packed, offsets, sizes, masks, checked)


class _OpenFile:
    """One open file, whose columns are read past libhdf5 and its lock."""

    def __init__(self, file: EntryFile) -> None:
        self.fd = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
        self.file, self.stamp = file, file.stamp
        try:
            self.check()  # before libhdf5 parses it
            self.indexes = _chunk_indexes(file, self.fd)
        except BaseException as error:
            replaced = isinstance(error, OSError) and self._is_replaced()
            os.close(self.fd)
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

    def read(self, runs: Runs, buffers: Mapping[str, NDArray[Any]]) -> None:
        """Fill each buffer with its column's rows of these runs, run after run."""
        self.check()
        for name, buffer in buffers.items():
            self._read(self.indexes[name], runs, buffer)

    def prefetch(self, runs: Runs) -> None:
        """Ask the system to load the images of these runs into the page cache."""
        if not hasattr(os, "posix_fadvise"):
            return
        index = self.indexes["images"]
        for start, rows in runs:
            offset, size = index.span(start, start + rows - 1)
            os.posix_fadvise(self.fd, offset, size, os.POSIX_FADV_WILLNEED)

    def _read(self, index: _ChunkIndex, runs: Runs, buffer: NDArray[Any]) -> None:
        content, filled, latest = buffer.reshape(-1).view(np.uint8).data, 0, dict[int, Bytes]()
        for start, rows in runs:
            stop = start + rows
            while start < stop:  # one read per chunk
                count = min(index.chunk_rows - start % index.chunk_rows, stop - start)
                size = count * index.row_bytes
                index.read(self.fd, start, content[filled : filled + size], latest)
                start, filled = start + count, filled + size
        if not index.dtype.isnative:
            buffer.byteswap(inplace=True)

    def close(self) -> None:
        os.close(self.fd)


class HandleCache:
    """The open files of an entry; beyond `MAX_OPEN_FILES` the least recently used is closed.

    Processes do not share it: each opens its own files (a handle is not safe across a fork).
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()

    def read(self, file: EntryFile, runs: Runs, **buffers: NDArray[Any]) -> None:
        """Fill each buffer with rows of the column of its name, run after run.

        Buffers are contiguous, of the stored type, and as long as there are rows to read.
        """
        try:
            self._get(file).read(runs, buffers)
        except h5.ERRORS as error:
            names = ", ".join(f"/{name}" for name in buffers)
            raise EntryError(f"{file.path}: cannot read {names}: {error}", REPAIR_HINT) from error

    def prefetch(self, file: EntryFile, runs: Runs) -> None:
        """Announce that these runs are read next, so that reading need not wait for the disk."""
        with suppress(*h5.ERRORS):  # reading will report the error
            self._get(file).prefetch(runs)

    def _get(self, file: EntryFile) -> _OpenFile:
        if file.path in self._open:
            self._open.move_to_end(file.path)
            return self._open[file.path]
        if len(self._open) >= MAX_OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        self._open[file.path] = opened = fs.retry_while_missing(lambda: _OpenFile(file))
        return opened

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def open_files() -> AbstractContextManager[HandleCache]:
    """Make a `HandleCache` whose files are closed at the end."""
    return closing(HandleCache())
