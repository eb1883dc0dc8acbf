"""Decode plain PNG files, grey or RGB of 8 bits, by imagecodecs where it is installed.

That takes half of Pillow's time, and gives the same pixels. All else is left to Pillow: what has a
palette, transparency or a way up, and what is damaged.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any  # Any: imagecodecs tells no types

from pixelprep.sources.lazy_arrays import AnyArray

KINDS = (b"\x08\0\0\0\0", b"\x08\x02\0\0\0")  # bits, colours; compression, filters, interlace
SAYS_NOTHING = {b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"bKGD"}  # of pixels as they are read
CHUNKS = {b"IHDR", b"IDAT"} | SAYS_NOTHING


def decode(content: bytes, max_pixels: int) -> AnyArray | None:
    """Return the pixels of a whole PNG, (H, W) or (H, W, 3) uint8; None if Pillow is to read it."""
    if not _is_plain(content, max_pixels) or (png_decode := _decoder()) is None:
        return None
    try:
        pixels: AnyArray = png_decode(content)
    except Exception:  # whatever is wrong, Pillow says it
        return None
    return pixels


def _is_plain(content: bytes, max_pixels: int) -> bool:
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    if content[24:29] not in KINDS or width * height > max_pixels:
        return False
    at = 8
    while (kind := content[at + 4 : at + 8]) in CHUNKS:
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return kind == b"IEND"


@cache
def _decoder() -> Callable[[bytes], Any] | None:
    try:
        from imagecodecs import png_decode
    except ImportError:
        return None
    # It warns of bytes behind the pixels, which Pillow does not look at either.
    logging.getLogger("imagecodecs").addHandler(logging.NullHandler())
    found: Callable[[bytes], Any] = png_decode
    return found
