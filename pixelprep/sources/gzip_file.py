"""What a gzipped or plain file holds: read once, piece by piece, no further than is wanted.

The content goes to a private file, of which rows are read as they are needed: data may be larger
than memory, and what was checked is what is used, whatever happens to the user's file meanwhile.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from pixelprep.errors import SourceError

GZIP = b"\x1f\x8b"  # how a gzip file begins
MOST_SHRINKING = 1032  # deflate cannot do better: no file holds more than so many times its size
PIECE = 1 << 16  # bytes of a file at a time


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a file held, in a private file.

    path : of the private file
    size : bytes of it
    sha256 : of the file itself, in hex; where it held more than was wanted, of what was read
    """

    path: Path
    size: int
    sha256: str


def unpack(path: Path, most: int, private: Path) -> Unpacked:
    """Unpack a file into a new one; of more than `most` bytes only the first `most` + 1.

    Raises
    ------
    SourceError
        When the file cannot be read, or is a damaged gzip file.
    OSError
        When the private file cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    with private.open("xb") as file:
        for piece in pieces(path, digest):
            size += file.write(piece[: most + 1 - size])
            if size > most:
                break
    return Unpacked(private, size, digest.hexdigest())


def pieces(path: Path, digest: Any = None) -> Iterator[bytes]:
    """What a gzipped or plain file holds; `digest` is updated with the bytes of the file itself.

    Raises
    ------
    SourceError
        When the file cannot be read, or is a damaged gzip file.
    """
    try:
        with path.open("rb") as file:
            first = file.read(PIECE)
            read = chain([first], iter(partial(file.read, PIECE), b""))
            noted = read if digest is None else _noted(read, digest)
            yield from _inflated(noted) if first.startswith(GZIP) else noted
    except EOFError:
        raise SourceError(f"{path}: the gzip file ends too early", "get it again") from None
    except (OSError, zlib.error) as error:
        raise SourceError(f"{path}: cannot read: {error}", "get it again") from error


def most_held(path: Path) -> int:
    """The most bytes that a file can hold, going by its size."""
    with path.open("rb") as file:
        zipped = file.read(len(GZIP)) == GZIP
    return path.stat().st_size * (MOST_SHRINKING if zipped else 1)


def _noted(read: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for piece in read:
        digest.update(piece)
        yield piece


def _inflated(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack the members of a gzip file, one after the other; each one's checksum is checked."""
    member, inside = zlib.decompressobj(wbits=31), False
    for packed_piece in packed:
        piece = packed_piece
        while piece := piece if inside else piece.lstrip(b"\0"):  # zeros may follow a member
            yield member.decompress(piece)
            piece, inside = member.unused_data, not member.eof
            if member.eof:
                member = zlib.decompressobj(wbits=31)
    if inside:
        raise EOFError
