"""Find damage in image files that decoders let pass, by what their formats say of themselves."""

import struct
import zlib
from collections.abc import Iterator

from pixelprep.sources.pictures import tiff
from pixelprep.sources.pictures.image_depth import codestream

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
START_OF_SCAN, END_OF_IMAGE = 0xDA, b"\xff\xd9"
JPEG_FRAMES = dict.fromkeys((0xC0, 0xC1, 0xC2), "JPEG")  # by the kind of the segment that has bits
JPEG_FRAMES |= {0xC3: "lossless JPEG", 0xF7: "JPEG-LS"}


class DamagedImageError(ValueError):
    """A file contradicts itself, or is cut short."""


def check_whole(content: bytes, tags: tiff.Tags) -> None:
    """Raise `DamagedImageError` if a file is not whole; TIFF has tags.

    What is of no known format, or broken so that it cannot be followed, is left to the decoder.
    """
    if content.startswith(PNG):
        _check_png(content)
    elif content.startswith(JPEG):
        _check_jpeg(content)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        if 8 + int.from_bytes(content[4:8], "little") > len(content):
            raise DamagedImageError("a WebP file that is cut short")
    elif (start := codestream(content)) >= 0:
        if content.find(END_OF_IMAGE, start) < 0:
            raise DamagedImageError("a JPEG 2000 file without its end")
    elif content.startswith(tiff.MAGIC) and not content.startswith(tiff.BIG_MOTOROLA):
        if not tags:
            raise DamagedImageError("a TIFF file whose directory is not whole")
        if max(tiff.ends(tags), default=0) > len(content):
            raise DamagedImageError("a TIFF file whose pixels are cut short")


def _check_png(content: bytes) -> None:
    """Compare the checksum of every chunk; Pillow does so of those before the pixels alone."""
    view, at, kind = memoryview(content), len(PNG), b""
    try:
        while kind != b"IEND":
            length, kind = struct.unpack_from(">I4s", content, at)
            end = at + 8 + length
            [stated] = struct.unpack_from(">I", content, end)
            if zlib.crc32(view[at + 4 : end]) != stated:
                name = kind.decode("ascii", "backslashreplace")
                raise DamagedImageError(f"the checksum of its chunk {name} is wrong")
            at = end + 4
    except struct.error:
        raise DamagedImageError("a PNG file that is cut short") from None


def _check_jpeg(content: bytes) -> None:
    """Require the mark of the end behind the first scan: what follows it is not looked at."""
    for kind, at in _jpeg_segments(content):
        if kind == START_OF_SCAN and content.rfind(END_OF_IMAGE, at) < 0:
            raise DamagedImageError("a JPEG file without its end")


def jpeg_name(content: bytes) -> str | None:
    """Name a JPEG of a kind that Pillow does not read; None of any other."""
    for kind, at in _jpeg_segments(content):
        if kind in JPEG_FRAMES and at + 5 <= len(content):
            bits, way = content[at + 4], JPEG_FRAMES[kind]
            return f"{way} of {bits} bits" if bits != 8 or way != "JPEG" else None
    return None


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the kind of every segment up to the first scan, and where it begins."""
    at, kind = 2, 0
    while kind != START_OF_SCAN and content[at : at + 1] == b"\xff" and at + 1 < len(content):
        kind = content[at + 1]
        if kind == 0xFF:  # a byte to fill up
            at += 1
            continue
        yield kind, at
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
