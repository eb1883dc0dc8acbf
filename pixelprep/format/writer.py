"""Writing one file of scaled images.

libhdf5 lays the whole file out first, with room for the chunks; they are then filled in and the
file's digest is taken on the way, in another thread. So each byte is touched once, and nothing
that goes wrong meanwhile is libhdf5's to survive. Compressed chunks, whose size only shows when
they are made, go through libhdf5.
"""

import errno
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from h5py._objects import phil
from numpy.typing import NDArray

from pixelprep.format.checksum import fletcher32
from pixelprep.format.layout import FileLayout
from pixelprep.format.libhdf5 import new_file, open_with_layout, write_at
from pixelprep.system import fs

AHEAD = 3  # chunks of a column in memory: one is made while others are hashed

Place = tuple[str, int]  # of a chunk: its column, and where in the file it begins


class Writer:
    """Appends chunks to one file (made by `create`); has its digest when it is complete."""

    sha256: str

    def append(self, **columns: NDArray[Any]) -> None:
        """Write the next chunk.

        Parameters
        ----------
        **columns : ndarray
            ``images``, ``labels`` and, per image, ``mean`` and ``std``, of the stored types:
            equally many rows, as many as a chunk has or, at the end of the file, fewer.

        Raises
        ------
        OSError
            When the disk is full or fails.
        """
        raise NotImplementedError


def create(path: Path, outline: FileLayout) -> AbstractContextManager[Writer]:
    """A new file to write to; complete, but not yet fsynced, when the block is left.

    Raises
    ------
    OSError
        When the disk is full or fails.
    """
    making = _direct_writer if outline.compression == "none" else _h5_writer
    return making(path, outline)


@contextmanager
def _h5_writer(path: Path, outline: FileLayout) -> Iterator[Writer]:
    with open_with_layout(new_file(path), outline) as (file, _, check):
        writer = _H5Writer(file, check)
        yield writer
    writer.sha256 = fs.sha256(path)


class _H5Writer(Writer):
    """Through libhdf5."""

    def __init__(self, file: h5py.File, check: Any) -> None:
        self._file, self._check, self._row = file, check, 0

    def append(self, **columns: NDArray[Any]) -> None:
        rows = slice(self._row, self._row + len(columns["labels"]))
        for name, values in columns.items():
            self._file[name][rows] = values
        self._check()
        self._row = rows.stop


@contextmanager
def _direct_writer(path: Path, outline: FileLayout) -> Iterator[Writer]:
    places = _reserved(new_file(path), outline)
    sizes = _sizes(outline)
    fd = os.open(path, os.O_RDWR)
    try:
        with ThreadPoolExecutor(1) as hasher:
            writer = _DirectWriter(fd, places, sizes, hasher)
            yield writer
            writer.finish()
    finally:
        os.close(fd)


def _sizes(outline: FileLayout) -> dict[str, int]:
    """Bytes of a chunk of each column, with its checksum."""
    return {name: column.chunk_bytes for name, column in outline.columns.items()}


def _reserved(fd: int, outline: FileLayout) -> list[Place]:
    """Make a file with room for all chunks; their places, in the order of `Writer.append`."""
    with open_with_layout(fd, outline) as (file, disk, check):
        names = []
        chunks = {
            name: (file[name].id, (0,) * (file[name].ndim - 1), np.zeros(size, np.uint8))
            for name, size in _sizes(outline).items()
        }
        for row in range(0, len(file["labels"]), file["labels"].chunks[0]):
            for name, (dataset, corner, blank) in chunks.items():
                disk.placeholder = len(blank)
                with phil:  # which h5py forgets here
                    dataset.write_direct_chunk((row, *corner), blank)
                disk.placeholder = 0
                names.append(name)
        check()
        places = disk.placeholders
    return list(zip(names, places, strict=True))


def _scratch() -> IO[bytes]:
    """A file that is nowhere; in memory where the system has that: no disk need be writable."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("pixelprep"), "w+b")
    return tempfile.TemporaryFile()


def matches_reference(path: Path, outline: FileLayout) -> bool:
    """Whether an uncompressed file is, but for what its chunks hold, byte for byte as `create`
    makes it; nothing of it is parsed.
    """
    with _scratch() as made, path.open("rb") as found:
        places = _reserved(os.dup(made.fileno()), outline)
        size = os.fstat(made.fileno()).st_size
        if os.fstat(found.fileno()).st_size != size:
            return False
        sizes, start = _sizes(outline), 0
        for name, place in (*places, ("", size)):
            before = place - start
            if os.pread(made.fileno(), before, start) != os.pread(found.fileno(), before, start):
                return False
            start = place + sizes.get(name, 0)
    return True


class _DirectWriter(Writer):
    """Into the places that libhdf5 keeps for the chunks, which follow each other in the file."""

    def __init__(
        self, fd: int, places: Sequence[Place], sizes: dict[str, int], hasher: ThreadPoolExecutor
    ) -> None:
        self._fd, self._places, self._hasher = fd, deque(places), hasher
        self._digest, self._hashed = hashlib.sha256(), 0
        self._spaces: dict[str, deque[tuple[NDArray[np.uint8], Future[None] | None]]] = {
            name: deque((np.empty(size, np.uint8), None) for _ in range(AHEAD))
            for name, size in sizes.items()
        }

    def append(self, **columns: NDArray[Any]) -> None:
        for _ in columns:
            name, place = self._places.popleft()
            stored, hashing = self._spaces[name].popleft()
            if hashing is not None:
                hashing.result()  # it may not change before
            _fill(stored, columns[name])
            write_at(self._fd, stored.data, place)
            before = self._until(place)
            self._hashed += len(stored)
            self._spaces[name].append((stored, self._hasher.submit(self._hash, before, stored)))

    def finish(self) -> None:
        """Take the digest to its end."""
        end = self._until(os.fstat(self._fd).st_size)
        self._hasher.submit(self._hash, end).result()
        self.sha256 = self._digest.hexdigest()

    def _until(self, place: int) -> bytes:
        """What libhdf5 wrote between what is hashed and this place."""
        found = b""
        while self._hashed < place:
            piece = os.pread(self._fd, place - self._hashed, self._hashed)
            if not piece:
                raise OSError(errno.EIO, "the file ends too early")
            found, self._hashed = found + piece, self._hashed + len(piece)
        assert self._hashed == place  # chunks follow each other in the file
        return found

    def _hash(self, *pieces: Any) -> None:
        for piece in pieces:
            self._digest.update(piece)


def _fill(stored: NDArray[np.uint8], values: NDArray[Any]) -> None:
    """Make a chunk's bytes: values, zeros for rows that are not there, checksum."""
    little = values.dtype.newbyteorder("<")
    stored[: values.nbytes].view(little).reshape(values.shape)[...] = values
    stored[values.nbytes : -4] = 0
    stored[-4:] = np.frombuffer(fletcher32(stored[:-4]).to_bytes(4, "little"), np.uint8)
