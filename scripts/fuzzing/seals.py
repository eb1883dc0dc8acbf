"""Make checksums and digests right again after a mutation."""

import hashlib
import io
import json
import re
import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import h5py
import numpy as np

from pixelprep.format.checksum import fletcher32

WORD = 0xFFFFFFFF

# How blocks of HDF5's metadata begin that end in a checksum of all before it.
ENDING = (
    *(b"\x89HDF\r\n\x1a\n", b"OHDR", b"OCHK", b"FRHP", b"BTHD", b"BTLF", b"BTIN", b"FAHD"),
    *(b"FADB", b"EAHD", b"EAIB", b"EADB", b"EASB", b"FSHD", b"FSSE", b"SMTB"),
)
LONGEST = 600  # bytes of such a block; enough for the small files that are mutated
HEAP_BLOCK, HEAP_BYTES, HEAP_CHECKSUM = b"FHDB", 512, 17  # its checksum is within, where groups use


@dataclass(frozen=True, slots=True)
class Seal:
    """A block of metadata, bytes `start` to `stop`, whose checksum is at `place`."""

    start: int
    stop: int
    place: int

    def of(self, content: bytes | bytearray) -> bytes:
        """Compute the checksum that belongs there."""
        block = bytearray(content[self.start : self.stop])
        if self.place < self.stop:
            block[self.place - self.start : self.place - self.start + 4] = bytes(4)
        return struct.pack("<I", lookup3(bytes(block)))


@dataclass(frozen=True, slots=True)
class ChunkSeal(Seal):
    """The seal of a packed chunk, which has another checksum."""

    def of(self, content: bytes | bytearray) -> bytes:
        """Compute the checksum that belongs there."""
        packed = np.frombuffer(bytes(content[self.start : self.stop]), np.uint8)
        return fletcher32(packed).to_bytes(4, "little")


def lookup3(data: bytes) -> int:
    """Compute Bob Jenkins's lookup3 (hashlittle, from 0), HDF5's checksum of its metadata."""
    a = b = c = (0xDEADBEEF + len(data)) & WORD
    if not data:
        return c
    count = -(-len(data) // 12)
    words = struct.unpack(f"<{3 * count}I", data.ljust(12 * count, b"\0"))
    for place in range(0, len(words), 3):
        a = a + words[place] & WORD
        b = b + words[place + 1] & WORD
        c = c + words[place + 2] & WORD
        if place + 3 < len(words):
            for shift in (4, 6, 8, 16, 19, 4):
                mixed = (a - c & WORD) ^ _turned(c, shift)
                a, b, c = b, c + b & WORD, mixed
    a, b, c = c, b, a
    for shift in (14, 11, 25, 16, 4, 14, 24):
        mixed = (a ^ b) - _turned(b, shift) & WORD
        a, b, c = c, mixed, b
    return b


def _turned(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & WORD


def seals(content: bytes) -> list[Seal]:
    """Find all checksums in a valid, small HDF5 file: of packed chunks, and of all around them.

    In the order in which they are to be made right.
    """
    return [*_of_chunks(content), *_of_metadata(content)]


def _of_chunks(content: bytes) -> list[Seal]:
    found: list[Seal] = []

    def note(_: str, held: Any) -> None:
        if isinstance(held, h5py.Dataset) and held.chunks and held.fletcher32:
            held.id.chunk_iter(lambda c: ends.append((c.byte_offset, c.byte_offset + c.size - 4)))
            if held.id.get_create_plist().get_nfilters() > 1:
                found.extend(ChunkSeal(start, stop, stop) for start, stop in ends)
            ends.clear()

    ends: list[tuple[int, int]] = []
    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(note)
    return found


def _of_metadata(content: bytes) -> list[Seal]:
    if content[8:9] < b"\2":  # version of the file's head: the oldest has none
        return []
    begins = sorted((at, begin) for begin in (*ENDING, HEAP_BLOCK) for at in _found(content, begin))
    found = []
    for (start, begin), (following, _) in pairwise([*begins, (len(content), b"")]):
        if begin == HEAP_BLOCK:
            found.append(Seal(start, start + HEAP_BYTES, start + HEAP_CHECKSUM))
            continue
        tried = range(start + len(begin), min(start + LONGEST, following - 4) + 1)
        ends = [_header_end(content, start)] if begin == b"OHDR" else tried
        possible = (Seal(start, end, end) for end in ends)
        found += [s for s in possible if s.of(content) == content[s.place : s.place + 4]][:1]
    return found


def _header_end(content: bytes, start: int) -> int:
    """Return where the first part of an object's header ends, as it says itself."""
    flags = content[start + 5]
    place = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    return place + width + int.from_bytes(content[place : place + width], "little")


def _found(content: bytes, begin: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(begin), content)]


def sealed(content: bytes, places: list[Seal]) -> bytes:
    """Return the content with its checksums made right, as far as they are where they were."""
    made = bytearray(content)
    for seal in places:
        if max(seal.stop, seal.place + 4) <= len(made):
            made[seal.place : seal.place + 4] = seal.of(made)
    return bytes(made)


def gzip_sealed(content: bytes) -> bytes:
    """Return a gzip file with the checksum and length of what it really unpacks to."""
    unpacker = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        inside = unpacker.decompress(content[10:], 1 << 20)
    except zlib.error:
        return content
    if not unpacker.eof:
        return content
    packed = content[10 : len(content) - len(unpacker.unused_data)]
    return content[:10] + packed + struct.pack("<II", zlib.crc32(inside), len(inside))


def canonical(value: Any) -> bytes:
    """Spell any value as manifests are spelled."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")


def key_of(recipe: Any) -> str:
    """Return the key that belongs to a recipe."""
    return hashlib.sha256(canonical(recipe)).hexdigest()[:12]


def manifest_files(content: bytes) -> dict[str, bytes]:
    """Return the two files of a manifest that its writer signed."""
    signed = f"{hashlib.sha256(content).hexdigest()}  manifest.json\n".encode()
    return {"manifest.json": content, "manifest.sha256": signed}
