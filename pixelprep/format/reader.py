"""Read rows from an entry's files, past libhdf5 where they are stored uncompressed."""

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
from pixelprep.format import h5
from pixelprep.format.checksum import fletcher32
from pixelprep.system import fs

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
    """The chunks of a dataset that is stored without a filter but the checksum."""

    chunk_rows: int
    row_bytes: int
    offsets: "array[int]"  # by chunk, in bytes from the file's start
    checked: bytearray  # by chunk, 1 once its checksum was verified

    def offset(self, row: int) -> int:
        chunk, first = divmod(row, self.chunk_rows)
        return self.offsets[chunk] + first * self.row_bytes

    def check(self, fd: int, row: int) -> None:
        """Verify the checksum of a row's chunk, once per process."""
        chunk = row // self.chunk_rows
        if self.checked[chunk]:
            return
        stored = np.empty(self.chunk_rows * self.row_bytes + 4, np.uint8)
        if os.preadv(fd, [stored.data], self.offsets[chunk]) < len(stored):
            raise OSError("the file ends too early")
        if fletcher32(stored[:-4]) != int.from_bytes(stored[-4:].tobytes(), "little"):
            raise OSError(f"row {chunk * self.chunk_rows} or one soon after it is damaged")
        self.checked[chunk] = 1


_index_cache: dict[EntryFile, Mapping[str, _ChunkIndex]] = {}


def _chunk_indexes(file: EntryFile, fd: int) -> Mapping[str, _ChunkIndex]:
    """Index the columns that can be read past libhdf5, once per process."""
    if file not in _index_cache:
        if len(_index_cache) >= 4096:  # files of some 3 kB of memory each
            _index_cache.clear()
        with _open_by_libhdf5(file.path, fd) as h5_file:
            columns = {name: _chunk_index(h5_file[name]) for name in h5_file}
        _index_cache[file] = {name: index for name, index in columns.items() if index is not None}
    return _index_cache[file]


def _chunk_index(dataset: Any) -> _ChunkIndex | None:
    """Index the chunks of a dataset; None if only libhdf5 can read it."""
    filters = dataset.id.get_create_plist()
    only_checksum = filters.get_nfilters() == 1 and dataset.fletcher32
    if not only_checksum or not dataset.dtype.isnative:
        return None
    rows = dataset.chunks[0]
    row_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    count = -(-dataset.shape[0] // rows)
    offsets = array("q", [-1]) * count

    def add(chunk: Any) -> None:
        if chunk.size == rows * row_bytes + 4 and not chunk.filter_mask:
            offsets[chunk.chunk_offset[0] // rows] = chunk.byte_offset

    dataset.id.chunk_iter(add)
    if -1 in offsets:
        raise OSError("chunks are missing, or not stored with their checksum")
    return _ChunkIndex(rows, row_bytes, offsets, bytearray(count))


class _OpenFile:
    """One open file: indexed columns are read past libhdf5 and its lock, others by libhdf5."""

    def __init__(self, file: EntryFile) -> None:
        self.fd = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
        self.file, self.stamp = file, file.stamp
        self.h5_file: Any = None
        try:
            self.check()  # before libhdf5 parses it
            self.indexes = _chunk_indexes(file, self.fd)
            if "images" not in self.indexes:
                self.h5_file = _open_by_libhdf5(file.path, self.fd)
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
            if name in self.indexes:
                self._read(self.indexes[name], runs, buffer)
                continue
            filled = 0
            for start, rows in runs:
                target = buffer[filled : filled + rows]
                self.h5_file[name].read_direct(target, np.s_[start : start + rows])
                filled += rows

    def prefetch(self, runs: Runs) -> None:
        """Ask the system to load the images of these runs into the page cache."""
        if "images" not in self.indexes or not hasattr(os, "posix_fadvise"):
            return
        index = self.indexes["images"]
        for start, rows in runs:
            first, last = index.offset(start), index.offset(start + rows - 1)
            size = last - first + index.row_bytes
            os.posix_fadvise(self.fd, first, size, os.POSIX_FADV_WILLNEED)

    def _read(self, index: _ChunkIndex, runs: Runs, buffer: NDArray[Any]) -> None:
        filled = 0
        for start, rows in runs:
            stop = start + rows
            while start < stop:  # one read per chunk
                count = min(index.chunk_rows - start % index.chunk_rows, stop - start)
                index.check(self.fd, start)
                target = buffer[filled : filled + count].data
                if os.preadv(self.fd, [target], index.offset(start)) < target.nbytes:
                    raise OSError("the file ends too early")
                start, filled = start + count, filled + count

    def close(self) -> None:
        os.close(self.fd)
        if self.h5_file is not None:
            self.h5_file.close()


def _open_by_libhdf5(path: Path, fd: int) -> Any:
    """Open the file behind this descriptor, even if another file has its path by now."""
    same = Path(f"/dev/fd/{fd}")
    return h5.open_read(same if same.exists() else path)


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
