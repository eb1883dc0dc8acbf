"""Read an entry's file where it lies on a server, by ranges that are kept on the disk.

A file is cut into pieces, a chunk each, which is what a checksum vouches for. Of a plain file
it is known where they are; that of a packed one is read from its HDF5 index, in Python. Pieces are
asked for before they are needed, neighbours together, and kept in a `BlockCache`.
"""

import hashlib
import io
import json
import math
import os
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any, ClassVar  # Any: fsspec and pyfive have no types

import numpy as np

from pixelprep.errors import EntryError, PixelprepError, RemoteError, missing_extra
from pixelprep.format import reader
from pixelprep.format.checksum import fletcher32
from pixelprep.format.codecs import SUM_BYTES
from pixelprep.format.layout import FLETCHER32, FileLayout
from pixelprep.system import canonical, remote
from pixelprep.system.block_cache import BlockCache

PULL_HINT = "copy the entry: `pixelprep.pull`"
GROUP_RANGES, GROUP_BYTES = 8, 8 << 20  # asked for together, by one thread
ANNOUNCED = 32  # chunks of one read that are asked for while as many before them are read
PAGE_BYTES = 16 << 10  # read at once of a packed file's index
INDEX_BYTES, INDEX_SHARE = 1 << 20, 2 << 10  # of such an index: its most, and that of a chunk more

Identity = tuple[int | str, ...]  # of a file on a server: its size, and what changes with it
Index = dict[str, list[list[int]]]  # by column: offsets, sizes and filter masks of its chunks


@dataclass(frozen=True, slots=True)
class RemoteFile(reader.EntryFile):
    """One file of a split on a server; its stamp is its `identity` when the entry was opened.

    It travels to other processes without credentials: they find their own.
    """

    url: str
    layout: FileLayout = field(compare=False)
    blocks: BlockCache = field(compare=False)

    AHEAD: ClassVar = 3

    @property
    def place(self) -> str:
        return self.url

    @property
    def size(self) -> int:
        return int(self.stamp[0])

    def open(self, handles: reader.HandleCache) -> reader.OpenFile:
        return _OpenRemote(self, handles)


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """Where an entry lies, and where what is read of it is kept."""

    url: str
    urls: Mapping[str, str]  # of its files, by the names in the manifest
    blocks: BlockCache

    def file(self, file: reader.EntryFile, layout: FileLayout) -> RemoteFile:
        """Return this of the entry's files, as passes read it here."""
        own = (file.path, file.rows, file.sha256, file.stamp)
        return RemoteFile(*own, self.urls[file.path.name], layout, self.blocks)


def identity(url: str, filesystem: Any, path: str) -> Identity:
    """Return the size of what lies there, and its version as far as the server tells one."""
    with remote.translated(url):
        with suppress(NotImplementedError):
            filesystem.invalidate_cache(path)
        about = filesystem.info(path)
    told = {name.lower().replace("_", "").replace("-", ""): about[name] for name in about}
    names = ("etag", "generation", "mtime", "modified", "lastmodified", "created")
    return int(about["size"] or 0), *(f"{name}={told[name]}" for name in names if told.get(name))


def fetch(url: str, filesystem: Any, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return these ranges of a file, each its begin and end; several are asked for at once."""
    begins, ends = map(list, zip(*ranges, strict=True))
    with remote.translated(url):
        contents = filesystem.cat_ranges([path] * len(ranges), begins, ends)
        for content in contents:
            if isinstance(content, Exception):
                raise content
    for (begin, end), content in zip(ranges, contents, strict=True):
        got = f"{url}: expected {end - begin:,} bytes from byte {begin:,}, got {len(content):,}"
        if len(content) > end - begin:
            raise RemoteError(f"{got}: the server sends no ranges", PULL_HINT)
        if len(content) < end - begin:
            raise remote.TransientError(got)
    return list(contents)


class _Pieces:
    """The pieces of a file, for all passes of this process."""

    def __init__(self, file: RemoteFile) -> None:
        self.file, self.process = file, os.getpid()
        self.filesystem, self.path = remote.open_remote(file.url)
        self.indexes = self._load_indexes()
        spans = (zip(one.offsets, one.sizes, strict=True) for one in self.indexes.values())
        self.chunks = sorted(chain(*spans))  # offset and size, by piece
        # The first piece begins with the file; each has what lies behind its chunk, too.
        self.begins = [0, *(offset for offset, _ in self.chunks[1:]), file.size]
        self.checked = bytearray(len(self.chunks))  # 1 once this process has found it here, right
        self.damage: EntryError | None = None
        self._hashed, self._digest, self._hashing = 0, hashlib.sha256(), threading.Lock()
        self._is_right = (
            file.blocks.get(self.name("right")) is not None
        )  # as some process has found

    def name(self, piece: int | str) -> str:
        """Return the name of a piece's block: that of the content that it is part of."""
        return f"{self.file.sha256}/{piece}"

    def size(self, piece: int) -> int:
        return self.begins[piece + 1] - self.begins[piece]

    def at(self, offset: int) -> int:
        """Return the piece that has the byte at this offset of the file."""
        return bisect_right(self.begins, offset) - 1

    def read(self, piece: int, target: memoryview, skipped: int) -> bool:
        """Fill a buffer from a piece that is kept; return False where it is not."""
        checked = bool(self.checked[piece])
        if not self.file.blocks.read(self.name(piece), target, skipped, not checked):
            if checked:  # given up meanwhile, and not alone
                self.checked = bytearray(len(self.chunks))
            return False
        self.checked[piece] = 1
        return True

    def fetch(self, pieces: Sequence[int]) -> dict[int, bytes]:
        """Get pieces, whose numbers go up, from the server."""
        return remote.retried(partial(self._fetch, pieces))

    def keep(self, found: dict[int, bytes]) -> dict[int, bytes]:
        """Keep pieces on the disk; return those that it does not take."""
        left = {}
        for piece, content in found.items():
            self.checked[piece] = 1
            if not self.file.blocks.put(self.name(piece), content):
                left[piece] = content
        self.hash()
        return left

    def _fetch(self, pieces: Sequence[int]) -> dict[int, bytes]:
        joined: list[list[int]] = []
        for piece in pieces:
            if joined and joined[-1][-1] == piece - 1:
                joined[-1].append(piece)
            else:
                joined.append([piece])
        ranges = [(self.begins[run[0]], self.begins[run[-1] + 1]) for run in joined]
        try:
            contents = fetch(self.file.url, self.filesystem, self.path, ranges)
        except RemoteError:
            self.check_unchanged()
            raise
        self.check_unchanged()  # while they were sent
        found = {}
        for run, (begin, _), content in zip(joined, ranges, contents, strict=True):
            for piece in run:
                own = content[self.begins[piece] - begin : self.begins[piece + 1] - begin]
                self._check(piece, own)
                found[piece] = own
        return found

    def check_unchanged(self) -> None:
        found = identity(self.file.url, self.filesystem, self.path)
        if found != self.file.stamp:
            message = f"{self.file.url}: changed on the server since the entry was opened"
            about = f"expected {self.file.stamp[0]:,} bytes" if found[0] != self.file.size else ""
            now = f"{about}, found {found[0]:,}" if about else "it has another version"
            raise EntryError(f"{message}: {now}", "open it again")

    def _check(self, piece: int, content: bytes) -> None:
        """Compare a piece with the checksum of its chunk."""
        offset, size = self.chunks[piece]
        offset -= self.begins[piece]
        chunk = np.frombuffer(content, np.uint8)[offset : offset + size]
        stored = int.from_bytes(chunk[-SUM_BYTES:].tobytes(), "little")
        if fletcher32(chunk[:-SUM_BYTES]) != stored:
            where = f"{self.file.url}: from byte {self.chunks[piece][0]:,}"
            damaged = f"{where}: a chunk differs from its checksum, on the server or on its way"
            hint = "if it stays so, push the entry again, with `force=True`"
            raise remote.TransientError(damaged, hint)

    def hash(self) -> None:
        """Hash what follows on what was hashed, and check the digest at the file's end."""
        with self._hashing:
            while not self._is_right and self._hashed < len(self.chunks):
                seen = bool(self.checked[self._hashed])
                content = self.file.blocks.get(self.name(self._hashed), check=not seen)
                if content is None:
                    return
                self._digest.update(content)
                self._hashed += 1
                if self._hashed == len(self.chunks):
                    self._finish()

    def _finish(self) -> None:
        blocks = self.file.blocks
        if self._digest.hexdigest() == self.file.sha256:
            blocks.put(self.name("right"), b"right")
            return
        for piece in range(len(self.chunks)):
            blocks.remove(self.name(piece))
        message = f"{self.file.url}: differs from its SHA-256 in the manifest"
        self.damage = EntryError(
            message, "push it again, with `force=True`, from where it is right"
        )

    def _load_indexes(self) -> dict[str, reader.ChunkIndex]:
        """Return the indexes of all columns, as they were found before or are found now."""
        if (kept := self.file.blocks.get(self.name("index"))) is not None:
            with suppress(ValueError, KeyError, TypeError, EntryError):
                return self._indexes(json.loads(kept))
        found = self._plain_index() or self._packed_index()
        indexes = self._indexes(found)
        self.file.blocks.put(self.name("index"), canonical.dumps(found))
        return indexes

    def _plain_index(self) -> Index | None:
        """Return where the chunks are that are not packed, as our own writer puts them."""
        layout = self.file.layout
        if layout.compression != "none":
            return None
        from pixelprep.format import writer  # which imports h5py

        chunks, size = writer.chunk_offsets(layout)
        if size != self.file.size:  # another writer's
            return None
        found: Index = {}
        for name, column in layout.columns.items():
            offsets = [offset for own, offset in chunks if own == name]
            found[name] = [[offset, column.chunk_bytes, 0] for offset in offsets]
        return found

    def _packed_index(self) -> Index:
        """Read where the chunks are, by a reader that no file can harm: others may have made it."""
        try:
            import pyfive
        except ImportError as error:
            purpose = "reading a packed entry in place"
            raise missing_extra("pyfive", "remote", purpose) from error
        columns = self.file.layout.columns
        most = INDEX_BYTES + INDEX_SHARE * sum(one.chunk_count for one in columns.values())
        source, found = _Paged(self, most), dict[str, list[list[int]]]()
        try:
            with pyfive.File(io.BufferedReader(source, PAGE_BYTES)) as file:
                for name, column in columns.items():
                    own, count = file[name].id, column.chunk_count
                    if own.get_num_chunks() != count:
                        raise ValueError(f"expected {count} chunks of /{name}")
                    chunks = sorted(map(own.get_chunk_info, range(count)), key=lambda c: c[0])
                    if [c[0][0] for c in chunks] != list(
                        range(0, column.shape[0], column.chunks[0])
                    ):
                        raise ValueError(f"chunks of /{name} are missing or twice there")
                    found[name] = [[int(c[2]), int(c[3]), int(c[1])] for c in chunks]
        except PixelprepError:
            raise
        except Exception as error:  # of whatever the file made of it
            reason = str(error) or "its index is damaged"
            raise source.error or self._unreadable(reason) from error
        return found

    def _indexes(self, found: Index) -> dict[str, reader.ChunkIndex]:
        """Check that chunks lie in the file, each for itself, and index them."""
        columns = self.file.layout.columns
        spans = sorted((offset, size) for one in found.values() for offset, size, _ in one)
        ends = [offset + size for offset, size in spans]
        begins = [*(offset for offset, _ in spans[1:]), self.file.size]
        apart = all(end <= begin for end, begin in zip(ends, begins, strict=True))
        counts = {name: column.chunk_count for name, column in columns.items()}
        right = {name: len(one) for name, one in found.items()} == counts
        if not (
            right and apart and spans[0][0] >= 0 and min(size for _, size in spans) > SUM_BYTES
        ):
            raise self._unreadable("its chunks overlap, or are not in the file")
        indexes = {}
        for name, column in columns.items():
            dtype = np.dtype(column.dtype)
            offsets, sizes, masks = (array("q", one) for one in zip(*found[name], strict=True))
            most = 2 * column.chunk_bytes + SUM_BYTES  # no codec makes more of a chunk
            last = len(column.filters) - 1
            if column.filters[last] != FLETCHER32 or any(m >> last & 1 for m in masks):
                raise self._unreadable(f"a chunk of /{name} has no checksum")
            if max(sizes) > most:
                raise self._unreadable(f"a chunk of /{name} is longer than {most:,} bytes")
            packed = column.filters != (FLETCHER32,)
            row_bytes = math.prod(column.shape[1:]) * dtype.itemsize
            checked = bytearray(b"\1" * len(offsets))  # pieces are, each before it is used
            indexes[name] = reader.ChunkIndex(
                *(column.chunks[0], dtype, row_bytes, column.filters, packed),
                *(offsets, sizes, masks, checked),
            )
        return indexes

    def _unreadable(self, reason: str) -> EntryError:
        return EntryError(f"{self.file.url}: not a readable HDF5 file: {reason}", PULL_HINT)


class _Paged(io.RawIOBase):
    """A file on a server as Python has files, of which so many bytes are read at most."""

    def __init__(self, pieces: _Pieces, most: int) -> None:
        self.pieces, self.left, self.position = pieces, most, 0
        self.pages: dict[int, bytes] = {}
        self.error: PixelprepError | None = None

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = self.pieces.file.size
        self.position = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: size}[whence]
        self.position += offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        page, skipped = divmod(self.position, PAGE_BYTES)
        content = self._page(page)[skipped : skipped + len(view)]
        view[: len(content)] = content
        self.position += len(content)
        return len(content)

    def _page(self, number: int) -> bytes:
        file, begin = self.pieces.file, number * PAGE_BYTES
        end = min(begin + PAGE_BYTES, file.size)
        self.left -= 1 << 10  # of reads that come from memory, too: none goes on for ever
        if number not in self.pages and begin < end:
            self.left -= PAGE_BYTES
            if self.left < 0:
                raise ValueError("its index has no end")
            pieces = self.pieces
            try:
                get = partial(fetch, file.url, pieces.filesystem, pieces.path, [(begin, end)])
                self.pages[number] = remote.retried(get)[0]
                pieces.check_unchanged()
            except PixelprepError as error:
                self.error = error
                raise
        return self.pages.get(number, b"")


_pieces: dict[tuple[str, str], _Pieces] = {}


def _pieces_of(file: RemoteFile) -> _Pieces:
    """Return the pieces of a file, as this process has them: connections outlive no fork."""
    key = (file.url, file.sha256)
    found = _pieces.get(key)
    if found is not None and found.damage:
        del _pieces[key]  # the next one starts anew
        raise found.damage
    if found is None or found.process != os.getpid() or found.file != file:
        if len(_pieces) >= 4096:
            _pieces.clear()
        found = _pieces[key] = _Pieces(file)
    return found


class _OpenRemote(reader.OpenFile):
    """One remote file that a pass reads."""

    def __init__(self, file: RemoteFile, handles: reader.HandleCache) -> None:
        self.file, self.pool = file, handles.pool
        self.kept, self.recent = handles.kept, handles.recent
        self.pieces = _pieces_of(file)
        self.indexes = self.pieces.indexes
        self._coming: dict[int, Future[dict[int, bytes]]] = {}
        self.pool.submit(self.pieces.hash)  # where all is here already, but was never hashed

    def check(self) -> None:
        """Refuse a file that was found damaged meanwhile."""
        if self.pieces.damage:
            raise self.pieces.damage

    def finish(self) -> None:
        self.check()

    def read_at(self, target: memoryview, offset: int) -> None:
        """Fill a buffer with what one piece has from an offset of the file on."""
        self.check()
        piece = self.pieces.at(offset)
        skipped, content = offset - self.pieces.begins[piece], None
        if coming := self._coming.get(piece):
            with suppress(CancelledError):
                content = coming.result().get(piece)
            self._coming.pop(piece, None)
        if content is None:
            if self.pieces.read(piece, target, skipped):
                return
            found = self.pieces.fetch([piece])
            self.pieces.keep(found)
            content = found[piece]
        target[:] = memoryview(content)[skipped : skipped + len(target)]

    def announced(
        self, index: reader.ChunkIndex, pieces: Iterator[reader.Piece]
    ) -> Iterator[reader.Piece]:
        """Yield what is read, each part of it once the next one was asked for."""
        last: list[reader.Piece] = []
        while following := list(islice(pieces, ANNOUNCED)):
            self._request(index.offsets[chunk] for chunk, _, _ in following)
            yield from last
            last = following
        yield from last

    def prefetch(self, runs: reader.Runs) -> None:
        """Ask for the images of these runs."""
        index = self.indexes["images"]
        chunks = (
            range(start // index.chunk_rows, -(-(start + rows) // index.chunk_rows))
            for start, rows, _ in runs
        )
        self._request(index.offsets[chunk] for chunk in chain(*chunks))

    def _request(self, offsets: Iterable[int]) -> None:
        """Ask for the pieces at these offsets, unless they are here or on their way."""
        pieces, coming = self.pieces, self._coming
        own = sorted({n for n in map(pieces.at, offsets) if not (pieces.checked[n] or n in coming)})
        new = [n for n in own if not pieces.file.blocks.has(pieces.name(n))]
        for group in _groups(new, pieces.size):
            future = self.pool.submit(self._bring, group)
            self._coming.update(dict.fromkeys(group, future))

    def _bring(self, group: list[int]) -> dict[int, bytes]:
        return self.pieces.keep(self.pieces.fetch(group))


def _groups(pieces: Iterable[int], size: Callable[[int], int]) -> Iterator[list[int]]:
    """Cut pieces into groups that are asked for together."""
    group, ranges, total = list[int](), 0, 0
    for piece in pieces:
        ranges += not group or piece != group[-1] + 1
        if group and (ranges > GROUP_RANGES or total + size(piece) > GROUP_BYTES):
            yield group
            group, ranges, total = [], 1, 0
        group.append(piece)
        total += size(piece)
    if group:
        yield group
