"""Write one file of scaled images, and hash it on the way.

libhdf5 first lays out the whole file, with room for the chunks; they are then filled in without
it, while another thread hashes them. So each byte is touched once, and libhdf5 need not survive a
failing write. Compressed chunks, whose size is not known before, are written by libhdf5.
"""

import errno
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any  # Any: h5py has no types; arrays of every stored type

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from pixelprep.format.checksum import fletcher32
from pixelprep.format.layout import FileLayout
from pixelprep.format.libhdf5 import new_file, open_with_layout, write_at, write_rows
from pixelprep.system import fs, os_calls

CHUNK_BUFFERS = 3  # per column: one is filled while others are hashed
SYNC_BYTES = 16 << 20  # written before they are brought to the disk, while more is written

ChunkOffset = tuple[str, int]  # a chunk's column, and its offset in the file


class Writer:
    """A writer of one file's chunks, made by `create`; at the end it has the file's digest."""

    sha256: str

    def __init__(self, layout: FileLayout) -> None:
        self._layout, self._row = layout, 0
        self._others: dict[str, list[NDArray[Any]]] = {name: [] for name in layout.columns}
        del self._others["images"]

    def append(self, images: NDArray[Any], **others: NDArray[Any]) -> None:
        """Write the next rows: those of a chunk of images or, at the end, the rest.

        Of the other columns of the layout the same rows, of the stored types.
        """
        self._write("images", self._row, images)
        self._row += len(images)
        for name, values in others.items():
            self._others[name].append(values)

    def finish(self) -> None:
        """Write the other columns, which lie behind the images."""
        for name, blocks in self._others.items():
            values = np.concatenate(blocks)
            step = self._layout.columns[name].chunks[0]
            for row in range(0, len(values), step):
                self._write(name, row, values[row : row + step])

    def _write(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write a chunk of a column, or at the end what is left of one."""
        raise NotImplementedError


@contextmanager
def create(path: Path, layout: FileLayout) -> Iterator[Writer]:
    """Create a file to write to; it is complete, but not fsynced, when the block is left."""
    if layout.compression != "none":
        with open_with_layout(new_file(path), layout) as (file, _, check):
            h5_writer = _H5Writer(file, layout, check)
            yield h5_writer
            h5_writer.finish()
        h5_writer.sha256 = fs.sha256(path)
        return
    offsets = _reserve_chunks(new_file(path), layout)
    fd = os.open(path, os.O_RDWR | os_calls.BINARY)
    try:
        with ThreadPoolExecutor(1) as hasher, ThreadPoolExecutor(1) as syncer:
            writer = _DirectWriter(fd, offsets, layout, hasher, syncer)
            yield writer
            writer.finish()
    finally:
        os.close(fd)


class _H5Writer(Writer):
    """A writer of compressed chunks, by libhdf5."""

    def __init__(self, file: h5py.File, layout: FileLayout, check: Callable[[], None]) -> None:
        super().__init__(layout)
        self._file, self._check = file, check

    def _write(self, name: str, row: int, values: NDArray[Any]) -> None:
        write_rows(self._file[name], row, values)
        self._file[name].flush()  # libhdf5 would keep it for a while, and so change the order
        self._check()


def _chunk_sizes(layout: FileLayout) -> dict[str, int]:
    """Return the bytes of each column's chunks, with their checksums."""
    return {name: column.chunk_bytes for name, column in layout.columns.items()}


def _reserve_chunks(fd: int, layout: FileLayout) -> list[ChunkOffset]:
    """Make a file with room for all chunks; return their offsets in the order of writing."""
    with open_with_layout(fd, layout) as (file, disk, check):
        names = []
        for name, column in layout.columns.items():
            dataset, blank = file[name].id, np.zeros(column.chunk_bytes, np.uint8)
            disk.placeholder = len(blank)
            for row in range(0, column.shape[0], column.chunks[0]):
                with phil:  # h5py's lock, which this call of h5py does not take
                    dataset.write_direct_chunk((row, *(0,) * (len(column.shape) - 1)), blank)
                names.append(name)
            disk.placeholder = 0
        check()
        offsets = disk.placeholders
    return list(zip(names, offsets, strict=True))


def _scratch_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):  # in memory, so that no disk need be writable
        return os.fdopen(os.memfd_create("pixelprep"), "w+b")
    return tempfile.TemporaryFile()


def chunk_offsets(layout: FileLayout) -> tuple[list[ChunkOffset], int]:
    """Return where `create` puts uncompressed chunks, in the file's order, and the file's bytes."""
    with _scratch_file() as reference:
        offsets = _reserve_chunks(os.dup(reference.fileno()), layout)
        return offsets, os.fstat(reference.fileno()).st_size


def matches_reference(path: Path, layout: FileLayout) -> bool:
    """Return whether a file is, but for its chunks' content, what `create` makes; parse nothing."""
    with _scratch_file() as reference, path.open("rb") as file:
        offsets = _reserve_chunks(os.dup(reference.fileno()), layout)
        size = os.fstat(reference.fileno()).st_size
        if os.fstat(file.fileno()).st_size != size:
            return False
        sizes, start = _chunk_sizes(layout), 0
        for name, offset in (*offsets, ("", size)):
            expected = os_calls.pread(reference.fileno(), offset - start, start)
            if os_calls.pread(file.fileno(), offset - start, start) != expected:
                return False
            start = offset + sizes.get(name, 0)
    return True


class _DirectWriter(Writer):
    """A writer of uncompressed chunks, into the room that libhdf5 has reserved in their order."""

    def __init__(
        self,
        fd: int,
        offsets: Sequence[ChunkOffset],
        layout: FileLayout,
        hasher: ThreadPoolExecutor,
        syncer: ThreadPoolExecutor,
    ) -> None:
        super().__init__(layout)
        self._fd, self._offsets, self._hasher = fd, deque(offsets), hasher
        self._syncer, self._syncing, self._synced = syncer, Future[None](), 0
        self._syncing.set_result(None)
        self._digest, self._position = hashlib.sha256(), 0  # position: hashed up to here
        self._buffers: dict[str, deque[tuple[NDArray[np.uint8], Future[None] | None]]] = {
            name: deque((np.empty(size, np.uint8), None) for _ in range(CHUNK_BUFFERS))
            for name, size in _chunk_sizes(layout).items()
        }

    def _write(self, name: str, row: int, values: NDArray[Any]) -> None:
        expected, offset = self._offsets.popleft()
        assert name == expected  # chunks are stored in the order of writing
        chunk, hashing = self._buffers[name].popleft()
        if hashing is not None:
            hashing.result()  # the buffer may not change before
        little = values.dtype.newbyteorder("<")
        chunk[: values.nbytes].view(little).reshape(values.shape)[...] = values
        chunk[values.nbytes : -4] = 0  # missing rows
        chunk[-4:] = np.frombuffer(fletcher32(chunk[:-4]).to_bytes(4, "little"), np.uint8)
        write_at(self._fd, chunk.data, offset)
        metadata = self._read_until(offset)
        self._position += len(chunk)
        self._buffers[name].append((chunk, self._hasher.submit(self._hash, metadata, chunk)))
        if self._position >= self._synced + SYNC_BYTES and self._syncing.done():
            self._syncing.result()  # an error is told only once by the system
            self._synced = self._position
            self._syncing = self._syncer.submit(os_calls.fsync, self._fd)

    def finish(self) -> None:
        super().finish()
        metadata = self._read_until(os.fstat(self._fd).st_size)
        self._hasher.submit(self._hash, metadata).result()
        self._syncing.result()
        self.sha256 = self._digest.hexdigest()

    def _read_until(self, offset: int) -> bytes:
        """Read what libhdf5 wrote between the current position and this offset."""
        content = b""
        while self._position < offset:
            data = os_calls.pread(self._fd, offset - self._position, self._position)
            if not data:
                raise OSError(errno.EIO, "the file ends too early")
            content, self._position = content + data, self._position + len(data)
        assert self._position == offset
        return content

    def _hash(self, *contents: Any) -> None:
        for content in contents:
            self._digest.update(content)
