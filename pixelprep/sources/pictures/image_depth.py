"""Name what Pillow would misread: files of more bits than it keeps, of other scales or orders."""

import re

from pixelprep.sources.pictures import tiff

CODESTREAM = b"\xff\x4f\xff\x51"  # the start of the image in JPEG 2000
JP2 = b"\0\0\0\x0cjP  "  # and of a file around it
# Netpbm's header: kind, width, height and, but of bitmaps, the highest value.
NETPBM = re.compile(rb"P([2356])" + rb"(?:\s|#[^\n]*\n)+(\d+)" * 3)


def lost_type(content: bytes) -> str | None:
    """Return the name of a file's type if its pixels would not be read as they are."""
    if content[4:8] == b"ftyp":
        return _of_avif(content)
    if content.startswith(tiff.BIG_MOTOROLA):
        return "big-endian BigTIFF"  # of which Pillow does not find the tags
    if found := NETPBM.match(content):
        highest, is_grey = int(found[4]), found[1] in b"25"
        if highest != 255 and not (is_grey and highest == 65535):
            return f"{'PGM' if is_grey else 'PPM'} of values up to {highest:,}"
    at = codestream(content)
    return _of_jpeg2000(content[at:]) if at >= 0 else None


def codestream(content: bytes) -> int:
    """Return where in a file of JPEG 2000 the image starts; -1 in others."""
    return content.find(CODESTREAM) if content.startswith((JP2, CODESTREAM)) else -1


def _of_avif(content: bytes) -> str | None:
    at = content.find(b"av1C")  # the box that tells how it is coded
    flags = content[at + 6] if 0 <= at < len(content) - 6 else 0
    return f"AVIF of {12 if flags & 0x20 else 10} bits a colour" if flags & 0x40 else None


def _of_jpeg2000(content: bytes) -> str | None:
    count = int.from_bytes(content[40:42], "big")
    depths = content[42 : 42 + 3 * count : 3]  # one less than the bits; the highest bit: signed
    if set(depths) == {7} or depths == b"\x0f":
        return None
    found = ", ".join(sorted({f"{'signed ' * (d >> 7)}{(d & 127) + 1}" for d in depths}))
    return f"JPEG 2000 of {found} bits in {count} bands"
