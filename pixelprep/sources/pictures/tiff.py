"""Say what a TIFF file holds, as its tags have it, and whether Pillow reads that rightly."""

import ctypes
import logging
import re
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any  # Any: the values of tags

Tags = Mapping[int, Any]

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # of either byte order; + is BigTIFF
BIG, BIG_MOTOROLA = b"+", b"MM\0+"
ORIENTATION = 274
BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 258, 259, 262, 270
STRIP_OFFSETS, BANDS, STRIP_BYTES, PLANAR = 273, 277, 279, 284
TILE_WIDTH, TILE_OFFSETS, TILE_BYTES, EXTRA_BANDS, SAMPLE_FORMAT = 322, 324, 325, 338, 339
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8  # PHOTOMETRIC
COLOR_BANDS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
UNUSUAL: dict[int | None, str] = {  # of PHOTOMETRIC, for names
    **{None: "not said what is white", WHITE_IS_ZERO: "white is 0", PALETTE: "a palette"},
    **{4: "a mask", CMYK: "CMYK", YCBCR: "YCbCr", LAB: "L*a*b*", 32803: "of a colour filter"},
    **{32844: "LogL", 32845: "LogLuv"},
}
ALPHA = ((1,), (2,))  # of EXTRA_BANDS, multiplied with the colours or not
WEBP = 50001  # of COMPRESSION: known to Pillow, but not to the libtiff that it comes with
COMPRESSIONS = {  # that Pillow does not unpack
    **{33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34933: "PNG"},
    **{32809: "ThunderScan", 34934: "JPEG XR", WEBP: "WebP", 50002: "JPEG XL", 50013: "Pixtiff"},
}
SAMPLES = {1: "uint", 2: "int", 3: "float", 4: "undefined", 5: "complex int", 6: "complex float"}
IMAGEJ_PAGES = re.compile(r"\AImageJ=.*^images=(\d+)", re.DOTALL | re.MULTILINE)


def read_tags(content: bytes) -> Tags:
    """Return the tags of the first page by number; none if it is no TIFF, or they are not whole."""
    if not content.startswith(MAGIC):
        return {}
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    silence_libraries()
    file = BytesIO(content)
    try:
        tags = ImageFileDirectory_v2(file.read(16 if BIG in content[2:4] else 8))
        start = tags.next
        file.seek(start)
        tags.load(file)
        return dict(tags) if tags.next != start else {}  # which it sets once it has read all
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return {}


@cache
def silence_libraries() -> None:
    """Keep what libtiff and tifffile say of damaged files off standard error: our line tells it.

    For good, as threads share it: of the libtiff that Pillow brought, not one that others use, and
    of tifffile where nobody listens to its messages.
    """
    import PIL

    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    package = Path(PIL.__file__).parent
    for path in (*package.parent.glob("pillow.libs/libtiff*"), *package.glob(".dylibs/libtiff*")):
        library = ctypes.CDLL(str(path))  # the one that Pillow has loaded
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def imagej_pages(tags: Tags) -> int:
    """Return the number of images of ImageJ's that only the first page's description tells of."""
    # A large stack has one directory alone.
    found = IMAGEJ_PAGES.search(str(tags.get(DESCRIPTION, "")))
    return int(found[1]) if found else 1


def ends(tags: Tags) -> Iterator[int]:
    """Yield where in the file each strip or tile ends."""
    for starts, sizes in ((STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES)):
        if starts in tags and sizes in tags:
            yield from map(sum, zip(_values(tags, starts), _values(tags, sizes), strict=False))


def is_read_rightly(tags: Tags) -> bool:
    """Tell whether Pillow reads these pixels to the last bit: 8 bits or fewer, or 16 of grey.

    It takes others for what they are not, or reads them in the wrong byte order, or not at all;
    and it leaves out bands that are neither colours nor alpha.
    """
    bits, photometric = set(_values(tags, BITS, 1)), tags.get(PHOTOMETRIC, WHITE_IS_ZERO)
    extra, colors = _values(tags, EXTRA_BANDS), COLOR_BANDS.get(photometric, 0)
    if set(_values(tags, SAMPLE_FORMAT, 1)) != {1} or bands(tags) != colors + len(extra):
        return False
    if PHOTOMETRIC not in tags or tags.get(COMPRESSION) in COMPRESSIONS:
        return False
    if TILE_WIDTH in tags and TILE_OFFSETS not in tags:  # tiles where strips are listed
        return False
    if photometric == YCBCR and tags.get(COMPRESSION, 1) == 1:  # it knows no coarser colours
        return False
    if extra:  # one that is alpha, which it reads in planes of RGB alone
        if tags.get(PLANAR, 1) == 2:
            return bits == {8} and extra == (2,) and photometric == RGB
        known = {BLACK_IS_ZERO: ALPHA[1:], RGB: ALPHA, PALETTE: ALPHA}
        return bits == {8} and extra in known.get(photometric, ())
    if colors > 1:
        return bits == {8}
    return bits <= {1, 2, 4, 8} or (bits <= {12, 16} and photometric == BLACK_IS_ZERO)


def bands(tags: Tags) -> int:
    """Return the number of values of a pixel."""
    return int(tags.get(BANDS, len(_values(tags, BITS, 1))))


def extra_bands(tags: Tags) -> tuple[int, ...]:
    """Return what each band behind the colours means."""
    return _values(tags, EXTRA_BANDS)


def bits(tags: Tags) -> int:
    """Return the bits of every value; 0 where bands differ in it."""
    return _only(_values(tags, BITS, 1))


def sample_format(tags: Tags) -> int:
    """Return the kind of every value, a key of `SAMPLES`; 0 where bands differ in it."""
    return _only(_values(tags, SAMPLE_FORMAT, 1))


def _only(values: tuple[int, ...]) -> int:
    return values[0] if len(set(values)) == 1 else 0


def name(tags: Tags) -> str:
    """Say what is in a file: its bands, their type, and what is unusual."""
    count = bands(tags)
    bits, formats = _values(tags, BITS, 1), _values(tags, SAMPLE_FORMAT, 1)
    kinds = {f"{SAMPLES.get(kind, 'unknown ')}{n}" for n in bits for kind in formats}
    photometric = tags.get(PHOTOMETRIC)
    more = [UNUSUAL[photometric]] if photometric in UNUSUAL else []
    packed = COMPRESSIONS.get(tags.get(COMPRESSION, 1))
    more += [f"packed by {packed}"] if packed else []
    more += ["in planes"] if tags.get(PLANAR, 1) == 2 and count > 1 else []
    held = f"{count} band{'s' * (count != 1)} of {' and '.join(sorted(kinds))}"
    return ", ".join([f"TIFF of {held}", *more])


def _values(tags: Tags, number: int, default: int | None = None) -> tuple[int, ...]:
    value = tags.get(number, () if default is None else default)
    return value if isinstance(value, tuple) else (value,)
