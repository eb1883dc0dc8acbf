"""Read what Pillow reads wrongly or not at all, by tifffile and imagecodecs: TIFF, 16-bit PNG."""

from dataclasses import replace
from io import BytesIO

import numpy as np

from pixelprep.sources.lazy_arrays import AnyArray
from pixelprep.sources.pictures import tiff
from pixelprep.sources.pictures.bands import Bands, UnreadError

UINT, INT, FLOAT = 1, 2, 3  # of SAMPLE_FORMAT
BITS = {UINT: range(8, 17), INT: (8, 16), FLOAT: (16, 32, 64)}  # that are read
COLORS = {tiff.WHITE_IS_ZERO: 1, tiff.BLACK_IS_ZERO: 1, tiff.RGB: 3}
MAX_BANDS = 16  # of an image of as many pixels as may be
PREMULTIPLIED = 1  # of EXTRA_BANDS: alpha that the colours are multiplied with


def read_png(content: bytes) -> Bands:
    """Return a PNG of 16 bits as it is stored, its transparent colour taken as alpha."""
    from imagecodecs import png_decode

    pixels: AnyArray = png_decode(content)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    count = pixels.shape[2]
    return _with_alpha(pixels, 1 if count < 3 else 3, count - 1 if count in (2, 4) else None)


def read_tiff(content: bytes, tags: tiff.Tags, max_pixels: int) -> tuple[Bands, int]:
    """Return the first page of a TIFF, which has these tags, as it is stored; and how many it has.

    Integers of 9 to 16 bits come as uint16; where white is 0 they are turned over. Floats have no
    white, so that such ones are not read.
    """
    colors, alpha = _check(tags)
    from tifffile import TIFF, TiffFile  # what it does not read either needs no installation

    try:
        TIFF.DECOMPRESSORS[tags.get(tiff.COMPRESSION, 1)]
    except KeyError:
        raise _unread(tags) from None
    with TiffFile(BytesIO(content)) as file:
        page = file.pages.first
        _, depth, height, width, _ = page.shaped
        if height * width > max_pixels or page.size > MAX_BANDS * max_pixels:
            size = f"{width:,}×{height:,} pixels of {tiff.bands(tags):,} bands"
            most = f"expected at most {max_pixels:,}, of more than {MAX_BANDS} bands fewer"
            raise UnreadError(f"{size}: {most}", "pixels")
        if depth != 1 or 0 in page.databytecounts:
            raise _unread(tags, "which has depth, or places without pixels")
        pages = max(len(file.pages), tiff.imagej_pages(tags))
        stored = page.asarray(squeeze=False, maxworkers=1)[:, 0]  # planes, H, W, bands
    pixels = np.moveaxis(stored, 0, 2).reshape(height, width, -1)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if tags.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO:
        bits, first = tiff.bits(tags), pixels[..., :1]
        pixels[..., :1] = ~first if bits % 8 == 0 else (1 << bits) - 1 - first
    image = _with_alpha(pixels, colors, alpha)
    return replace(image, premultiplied=PREMULTIPLIED in tiff.extra_bands(tags)), pages


def _check(tags: tiff.Tags) -> tuple[int, int | None]:
    """Return the number of colours, and which band is alpha; refuse what is not read."""
    kind, bits, extra = tiff.sample_format(tags), tiff.bits(tags), tiff.extra_bands(tags)
    # Floats that do not say what is white are read as they are.
    photometric = tags.get(tiff.PHOTOMETRIC, tiff.BLACK_IS_ZERO if kind == FLOAT else None)
    if photometric not in COLORS or bits not in BITS.get(kind, ()):
        raise _unread(tags)
    if kind == FLOAT and photometric == tiff.WHITE_IS_ZERO:
        raise _unread(tags)
    first = tiff.bands(tags) - len(extra)
    alpha = [first + i for i, meaning in enumerate(extra) if (meaning,) in tiff.ALPHA]
    if not alpha:
        return COLORS[photometric], None
    if len(alpha) > 1 or bits % 8:
        raise _unread(tags, "whose alpha is not read")
    return COLORS[photometric], alpha[0]


def _unread(tags: tiff.Tags, what: str = "which is not read") -> UnreadError:
    return UnreadError(f"a {tiff.name(tags)}, {what}")


def _with_alpha(pixels: AnyArray, colors: int, alpha: int | None) -> Bands:
    """Take alpha apart; more bands than colours are none."""
    found = None
    if alpha is not None:
        found, pixels = pixels[..., alpha], np.delete(pixels, alpha, axis=2)
        top = 1 if found.dtype.kind == "f" else np.iinfo(found.dtype).max
        found = None if (found >= top).all() else found
    names = {1: "grey", 3: "rgb"} if pixels.shape[2] == colors else {}
    return Bands(pixels, names.get(colors), found)
