"""Unpack gzipped or plain files once, block by block, no further than is wanted.

The content goes to a private file, whose rows are read when they are needed: data may be larger
than memory, and what was checked is what is used even if the user's file changes meanwhile.
"""

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any  # Any: zlib, or a library that is used as it is

from pixelprep.errors import SourceError

GZIP = b"\x1f\x8b"  # the first bytes of a gzip file
MAX_RATIO = 1032  # deflate's limit: no file unpacks to more than this many times its size
PIECE = 1 << 16  # bytes read at once


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The content of a file, in a private file."""

    path: Path  # the private file
    size: int  # its bytes
    digest: str  # of the packed file; of the part that was read, if its content is too long


def unpack(path: Path, limit: int, private: Path, algorithm: str = "sha256") -> Unpacked:
    """Unpack a file into a new one, stopping at `limit` + 1 bytes."""
    digest, size = hashlib.new(algorithm, usedforsecurity=False), 0
    with private.open("xb") as file:
        for piece in read_pieces(path, digest.update):
            size += file.write(piece[: limit + 1 - size])
            if size > limit:
                break
    return Unpacked(private, size, digest.hexdigest())


def read_pieces(path: Path, on_read: Callable[[bytes], object] = lambda _: None) -> Iterator[bytes]:
    """Yield the content of a gzipped or plain file; `on_read` receives the file's own bytes."""
    try:
        with path.open("rb") as file:

            def read() -> bytes:
                piece = file.read(PIECE)
                on_read(piece)
                return piece

            first = read()
            packed = chain([first], iter(read, b""))
            yield from _unpacked(packed, path) if first.startswith(GZIP) else packed
    except EOFError:
        raise SourceError(f"{path}: the gzip file ends too early", "get a new copy of it") from None
    except (OSError, zlib.error) as error:
        raise SourceError(f"{path}: cannot read: {error}", "get a new copy of it") from error


def max_content(path: Path) -> int:
    """Return the most bytes that a file of this size can unpack to."""
    with path.open("rb") as file:
        zipped = file.read(len(GZIP)) == GZIP
    return path.stat().st_size * (MAX_RATIO if zipped else 1)


def _unpacked(packed: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Unpack a gzip file by isal, where there is a wheel of it, in half of zlib's time."""
    try:
        from isal import isal_zlib
    except ImportError:
        yield from _decompressed(packed, zlib)
        return
    try:
        yield from _decompressed(packed, isal_zlib)
    except (EOFError, isal_zlib.error) as error:
        with path.open("rb") as file:  # zlib tells better what is wrong with it
            deque(_decompressed(iter(lambda: file.read(PIECE), b""), zlib), maxlen=0)
        raise zlib.error(str(error)) from error


def _decompressed(packed: Iterable[bytes], library: Any) -> Iterator[bytes]:
    """Unpack the members of a gzip file one after the other, checking each one's checksum."""
    member, inside = library.decompressobj(wbits=31), False
    for packed_piece in packed:
        piece = packed_piece
        while piece := piece if inside else piece.lstrip(b"\0"):  # zeros may follow a member
            if not inside and library is not zlib:
                zlib.decompressobj(wbits=31).decompress(piece, 1)  # refuses more headers
            yield member.decompress(piece)
            piece, inside = member.unused_data, not member.eof
            if member.eof:
                member = library.decompressobj(wbits=31)
    if inside:
        raise EOFError
