"""Image files: the way up, transparency, pages and types; nothing is read wrongly in silence."""

import io
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from pixelprep import SourceError
from pixelprep.installation import install_command
from pixelprep.sources.pictures.bands import Bands
from pixelprep.sources.pictures.image_file import ImageDecoder, strict_pillow
from pixelprep.sources.pictures.image_problems import ImageError
from tests.helpers.pictures import Order, read, refusal, tiff_file, turned
from tests.helpers.raw_files import chunk

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (9, 7, 3), np.uint8)
GREY = RGB[..., 0]
DEEP = RANDOM.integers(0, 65536, (9, 7), np.uint16)
FORMATS = ("jpg", "png", "webp", "tif")


def saved(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    """Return a file of Pillow's."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if format == "webp":
        options = {"lossless": True, "exact": True} | options
    file = io.BytesIO()
    image.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(format, format), **options)
    return file.getvalue()


def stored(content: bytes, format: str) -> np.ndarray:
    """Return the pixels as they are stored, by decoders that are not Pillow's."""
    decode = {
        "jpg": imagecodecs.jpeg8_decode,
        "png": imagecodecs.png_decode,
        "webp": imagecodecs.webp_decode,
        "tif": lambda _: RGB,
    }
    pixels: np.ndarray = decode[format](content)
    return pixels


def exif(orientation: int) -> bytes:
    """Return a block of EXIF that says this of the way up."""
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


def with_exif(format: str, orientation: int) -> bytes:
    """Return a file that says this of the way up."""
    if format == "tif":
        return tiff_file(RGB, photometric=2, more=[(274, 3, [orientation])])
    return saved(RGB, format, exif=exif(orientation))


# The way up


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_every_orientation_of_every_format(tmp_path: Path, format: str, orientation: int) -> None:
    """Each of the eight is followed alike, or ignored alike; any other number says nothing."""
    content = with_exif(format, orientation)
    pixels = stored(content, format)
    upright = turned(pixels, orientation if 1 <= orientation <= 8 else 1)
    assert np.array_equal(read(content, tmp_path / "x"), upright)
    assert np.array_equal(read(content, tmp_path / "x", orientation="ignore"), pixels)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_grey_is_turned_too(tmp_path: Path, orientation: int, deflate: bool) -> None:
    """16 bits of either byte order, packed or not, are turned as 8 are; and then resized."""
    more = [(274, 3, [orientation])]
    orders: tuple[Order, ...] = ("<", ">")
    for order in orders:
        content = tiff_file(DEEP, order=order, deflate=deflate, more=more)
        for choice, expected in (("follow", turned(DEEP, orientation)), ("ignore", DEEP)):
            found = read(content, tmp_path / "x", orientation=choice)
            assert np.array_equal(found[..., 0], expected)
            assert read(content, tmp_path / "x", orientation=choice, size=(4, 5)).shape == (4, 5, 1)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0nonsense", exif(6)[:-8]],
    ids=["nothing", "head", "leads out", "nonsense", "cut"],
)
def test_broken_exif_is_no_broken_image(tmp_path: Path, format: str, block: bytes) -> None:
    """An image whose EXIF says nothing that can be read is read as it is stored."""
    if format == "tif":
        content = tiff_file(RGB, photometric=2, more=[(34665, 4, [1 << 30]), (34853, 4, [3])])
    else:
        content = saved(RGB, format, exif=block)
    assert np.array_equal(read(content, tmp_path / "x"), stored(content, format))


# Transparency

ALPHA = RANDOM.integers(0, 256, (9, 7), np.uint8)
RGBA, LA = np.dstack([RGB, ALPHA]), np.dstack([GREY, ALPHA])


def laid(pixels: np.ndarray, background: int, alpha: np.ndarray = ALPHA) -> np.ndarray:
    """Return pixels (H, W, C) on a shade: exact quotients, rounded to the nearest."""
    share = alpha[..., None].astype(np.float64) / 255
    return np.rint(pixels * share + background * (1 - share)).astype(np.uint8)


def png_with(content: bytes, *chunks: bytes) -> bytes:
    """Put chunks behind a PNG's first."""
    return content[:33] + b"".join(chunks) + content[33:]


def grey_png(bits: int, packed: bytes, width: int, clear: int) -> bytes:
    """Return a PNG of one row of greys, of which this one is transparent."""
    header = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    held = [chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">H", clear))]
    held += [chunk(b"IDAT", zlib.compress(b"\0" + packed)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(held)


def palette_png() -> tuple[bytes, np.ndarray]:
    """Return a PNG of a palette whose colours are more or less transparent, and its RGBA."""
    index = GREY % 16
    colors = RANDOM.integers(0, 256, (16, 4), np.uint8)
    image = Image.fromarray(index, "L").convert("P")
    image.putpalette(colors[:, :3].tobytes())
    return saved(image, "png", transparency=colors[:, 3].tobytes()), colors[index]


TRANSPARENT: dict[str, tuple[bytes, np.ndarray]] = {
    "PNG": (saved(RGBA, "png"), RGBA),
    "grey PNG": (saved(LA, "png"), LA),
    "PNG of a palette": palette_png(),
    "PNG with a clear colour": (
        png_with(saved(RGB, "png"), chunk(b"tRNS", struct.pack(">3H", *RGB[3, 4]))),
        np.dstack([RGB, np.where((RGB[3, 4] == RGB).all(axis=2), 0, 255).astype(np.uint8)]),
    ),
    "1-bit PNG": (grey_png(1, b"\xa0", 4, 1), np.array([[[255, 0], [0, 255]] * 2], np.uint8)),
    "2-bit PNG": (
        grey_png(2, b"\x1b", 4, 2),
        np.array([[[0, 255], [85, 255], [170, 0], [255, 255]]], np.uint8),
    ),
    "4-bit PNG": (grey_png(4, b"\x3f", 2, 3), np.array([[[51, 0], [255, 255]]], np.uint8)),
    "WebP": (saved(RGBA, "webp"), RGBA),
    "TIFF": (tiff_file(RGBA, photometric=2, extra=[2]), RGBA),
    "TIFF in planes": (tiff_file(RGBA, photometric=2, extra=[2], planes=True), RGBA),
    "grey TIFF": (tiff_file(LA, extra=[2], deflate=True), LA),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_is_refused_or_taken_as_asked(tmp_path: Path, kind: str) -> None:
    """Any alpha below 255 needs a choice, and each choice is what arithmetic makes of it."""
    content, expected = TRANSPARENT[kind]
    colors, alpha = expected[..., :-1], expected[..., -1]
    error = refusal(content, tmp_path / "x")
    assert f"has transparency, alpha {alpha.min()} to {alpha.max()}" in error.message
    assert error.hint is not None
    assert "`alpha=white|black|drop|keep`" in error.hint
    for choice, wanted in {
        "white": laid(colors, 255, alpha),
        "black": laid(colors, 0, alpha),
        "drop": colors,
        "keep": expected,
    }.items():
        assert np.array_equal(read(content, tmp_path / "x", alpha=choice), wanted), choice


@pytest.mark.parametrize("format", ["png", "webp", "tif"])
def test_opaque_alpha_is_dropped(tmp_path: Path, format: str) -> None:
    """Alpha of 255 everywhere says nothing, and `keep` gives images without alpha that."""
    whole = np.dstack([RGB, np.full_like(GREY, 255)])
    assert np.array_equal(read(saved(whole, format), tmp_path / "x"), RGB)
    assert np.array_equal(read(saved(RGB, format), tmp_path / "x", alpha="keep"), whole)
    assert read(saved(GREY, "png"), tmp_path / "x", alpha="keep", color="rgb").shape == (9, 7, 4)


def test_grey_is_made_of_what_lies_on_the_background(tmp_path: Path) -> None:
    """Transparent pixels are laid on their background before they lose colour or size."""
    path, content = tmp_path / "x", saved(RGBA, "png")
    on_white = Image.fromarray(laid(RGB, 255))
    found = read(content, path, alpha="white", color="grey", size=(4, 5))[..., 0]
    assert np.array_equal(found, np.asarray(on_white.convert("L").resize((5, 4), 2)))
    kept = read(content, path, alpha="keep", color="grey")
    assert np.array_equal(kept[..., 0], np.asarray(Image.fromarray(RGB).convert("L")))
    assert np.array_equal(kept[..., 1], ALPHA)


def test_a_clear_shade_of_16_bits_counts(tmp_path: Path) -> None:
    """So does one of 16-bit grey, which Pillow knows nothing of; its alpha is not kept."""
    content, path = grey_png(16, bytes([1, 2, 3, 4, 5, 6]), 3, 0x0304), tmp_path / "x"
    refusal(content, path)
    for choice, shade in {"white": 65535, "black": 0, "drop": 0x0304}.items():
        assert read(content, path, alpha=choice)[0, :, 0].tolist() == [0x0102, shade, 0x0506]
    assert "16-bit grey, whose alpha is not kept" in refusal(content, path, alpha="keep").message


# Pages, bands and types


def animated(format: str) -> bytes:
    """Return a file of three frames."""
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB), Image.fromarray(RGB // 2)]
    return saved(frames[0], format, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("format", ["png", "webp", "tif", "gif", "avif"])
def test_several_pages_are_not_one_image(tmp_path: Path, format: str) -> None:
    """Frames and pages are counted, and refused or the first taken."""
    content = tiff_file(RGB, photometric=2, pages=3) if format == "tif" else animated(format)
    error = refusal(content, tmp_path / "x")
    assert "has 3 pages or frames" in error.message
    assert error.hint == "take the first of each file: `page=first`"
    first = read(content, tmp_path / "x", page="first")
    assert format == "avif" or np.array_equal(first, RGB)  # which is lossy


def test_a_stack_of_imagejs_tells_of_its_pages_in_words(tmp_path: Path) -> None:
    """A large stack has a single directory, whose description has the number."""
    said = b"ImageJ=1.54\nimages=5\nslices=5\n"
    content = bytearray(tiff_file(GREY, more=[(270, 4, [0, 0])]))  # a place for a description
    place, end = content.index(struct.pack("<HHI", 270, 4, 2)), len(content)
    content[place : place + 12] = struct.pack("<HHII", 270, 2, len(said) + 1, end)
    assert "has 5 pages" in refusal(bytes(content) + said + b"\0", tmp_path / "x").message


def bands(count: int, dtype: str = "uint8") -> np.ndarray:
    """Return an image of so many bands."""
    shape = (9, 7) if count == 1 else (9, 7, count)
    return RANDOM.integers(0, 100, shape).astype(dtype)


def rare(
    image: np.ndarray, name: str, *, is_read: bool = True, **tags: Any
) -> tuple[bytes, str, np.ndarray | None]:
    """Return a TIFF that Pillow misreads, its true name, and its pixels, if anybody reads them."""
    content = tiff_file(image, **tags)
    if tags.get("photometric") == 0:  # turned over: for integers of any kind, all bits
        image = image if image.dtype.kind == "f" else ~image
    return content, name, image if is_read else None


PACKED: dict[str, Any] = {"order": ">", "deflate": True}
RARE: dict[str, tuple[bytes, str, np.ndarray | None]] = {
    "int8": rare(bands(1, "i1") - 50, "1 band of int8"),
    "int16": rare(bands(1, "i2") - 50, "1 band of int16"),
    "packed int16": rare(bands(1, "i2") - 50, "1 band of int16", **PACKED),
    "float16": rare(bands(1, "f2") / 7, "1 band of float16"),
    "float32": rare(bands(1, "f4") / 7, "1 band of float32", **PACKED),
    "float64": rare(bands(1, "f8") / 7, "1 band of float64"),
    "white is 0": rare(DEEP, "1 band of uint16, white is 0", photometric=0),
    "signed, white is 0": rare(bands(1, "i1"), "1 band of int8, white is 0", photometric=0),
    "16-bit RGB": rare(bands(3, "u2"), "3 bands of uint16", photometric=2),
    "packed 16-bit RGB": rare(bands(3, "u2"), "3 bands of uint16", photometric=2, **PACKED),
    "in planes": rare(bands(3, "u2"), "3 bands of uint16, in planes", photometric=2, planes=True),
    "2 bands": rare(bands(2), "2 bands of uint8"),
    "2 bands, one of no meaning": rare(bands(2), "2 bands of uint8", extra=[0]),
    "4 bands": rare(bands(4), "4 bands of uint8", photometric=2, extra=[0]),
    "4 bands of no meaning": rare(bands(4), "4 bands of uint8", photometric=2),
    "13 bands": rare(bands(13, "u2"), "13 bands of uint16", extra=[0] * 12),
    "13 in planes": rare(
        bands(13, "f4"), "13 bands of float32, in planes", extra=[0] * 12, planes=True, **PACKED
    ),
    "int32": rare(bands(1, "i4"), "1 band of int32", is_read=False, **PACKED),
    "uint32": rare(bands(1, "u4"), "1 band of uint32", is_read=False),
    "float, white is 0": rare(
        bands(1, "f4"), "1 band of float32, white is 0", is_read=False, photometric=0
    ),
    "L*a*b*": rare(RGB, "3 bands of uint8, L*a*b*", is_read=False, photometric=8),
}


@pytest.mark.parametrize("kind", RARE)
def test_what_pillow_misreads_is_read_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With the extra it is the array that was written, without it a name: never damage."""
    content, name, expected = RARE[kind]
    if expected is not None:
        found = read(content, tmp_path / "x")
        assert found.dtype == expected.dtype.newbyteorder("=")
        assert np.array_equal(found, expected.reshape(9, 7, -1))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    error = refusal(content, tmp_path / "x")
    needs = "is not read" if expected is None else "needs tifffile, which is not installed"
    assert error.message == f"{tmp_path / 'x'}: a TIFF of {name}, which {needs}"
    assert error.hint is not None
    assert "on_error" not in error.hint
    assert expected is None or error.hint == install_command("scientific")


def test_integers_of_other_depths_are_as_stored(tmp_path: Path) -> None:
    """Those of 9 to 16 bits are numbers of 16, not spread over them."""
    for bits in (9, 10, 12, 14):
        stored = DEEP >> (16 - bits)
        for photometric, expected in (("minisblack", stored), ("miniswhite", 2**bits - 1 - stored)):
            file = io.BytesIO()
            tifffile.imwrite(file, stored, bitspersample=bits, photometric=photometric)
            assert np.array_equal(read(file.getvalue(), tmp_path / "x")[..., 0], expected)


def saved_rgb16(format: str, alpha: bool = True) -> tuple[bytes, np.ndarray]:
    """Return a file of 16-bit colour, with alpha."""
    pixels = RANDOM.integers(0, 65536, (9, 7, 3 + alpha), np.uint16)
    if format == "png":
        return bytes(imagecodecs.png_encode(pixels)), pixels
    return tiff_file(pixels, photometric=2, extra=[2] * alpha), pixels


@pytest.mark.parametrize("format", ["png", "tif"])
def test_deep_colour_takes_every_option(tmp_path: Path, format: str) -> None:
    """16 bits a colour are laid on a background, kept, turned grey and resized as 8 bits are."""
    content, pixels = saved_rgb16(format)
    colors, alpha = pixels[..., :3], pixels[..., 3:]
    path, share = tmp_path / "x", alpha / 65535
    error = refusal(content, path)
    assert f"has transparency, alpha {alpha.min()} to {alpha.max()}" in error.message
    assert np.array_equal(read(content, path, alpha="keep"), pixels)
    assert np.array_equal(read(content, path, alpha="drop"), colors)
    for choice, shade in (("white", 65535), ("black", 0)):
        laid = np.rint(colors * share + shade * (1 - share))
        assert np.array_equal(read(content, path, alpha=choice), laid)
    grey = (colors @ np.array([0.299, 0.587, 0.114]))[..., None]
    assert np.abs(read(content, path, alpha="drop", color="grey") - grey).max() < 1.5
    small = read(content, path, alpha="drop", size=(4, 5))
    bands = [Image.fromarray(np.ascontiguousarray(colors[..., i])) for i in range(3)]
    expected = np.dstack([np.asarray(band.resize((5, 4), 2)) for band in bands])
    assert small.dtype == np.uint16
    assert np.array_equal(small, expected)


def test_16_bits_turn_grey_as_8_do() -> None:
    """Pixels of 8 bits give the very greys that Pillow gives them."""
    found = Bands(RGB, "rgb").finished(None, "grey", None)
    assert np.array_equal(found[..., 0], np.asarray(Image.fromarray(RGB).convert("L")))


def test_what_has_no_meaning_is_refused(tmp_path: Path) -> None:
    """13 bands have no colours, float64 is more than Pillow resizes, floats have no white."""
    path = tmp_path / "x"
    error = refusal(RARE["13 bands"][0], path, color="rgb")
    assert error.message.endswith("x: has 13 bands, which are no colours to convert")
    error = refusal(RARE["float64"][0], path, size=(4, 5))
    assert error.message.endswith("x: is float64, which Pillow cannot resize without loss")
    clear = tiff_file(bands(4, "f4") / 200, photometric=2, extra=[2])
    error = refusal(clear, path, alpha="white")
    assert error.message.endswith("x: is transparent float32, which has no white to lie on")


@pytest.mark.parametrize("colors", [1, 3])
def test_colours_multiplied_with_alpha_only_lie_on_something(tmp_path: Path, colors: int) -> None:
    """What is left of the background is added to them; what they were before is not known."""
    kind = np.dtype("u1" if colors == 1 else "u2")
    top = np.iinfo(kind).max
    alpha = RANDOM.integers(0, top + 1, (9, 7, 1)).astype(kind)
    pixels = np.repeat(alpha // 3, colors, axis=2)
    photometric = 1 if colors == 1 else 2
    content = tiff_file(np.dstack([pixels, alpha]), photometric=photometric, extra=[1])
    path = tmp_path / "x"
    assert np.array_equal(read(content, path, alpha="white"), pixels + (top - alpha))
    assert np.array_equal(read(content, path, alpha="black"), pixels)
    for choice in ("drop", "keep"):
        error = refusal(content, path, alpha=choice)
        assert "has colours multiplied with alpha" in error.message


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_libraries_say_nothing_of_damage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], compression: str
) -> None:
    """What libtiff and tifffile print of a damaged file would stand beside our line."""
    random = np.random.default_rng(0)
    whole = saved(random.integers(0, 256, (24, 24, 3), np.uint8), "TIFF", compression=compression)
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        for place in random.integers(8, len(whole), 3).tolist():
            content[place] = random.integers(256)
        with strict_pillow():
            refused += bool(ImageDecoder().examine_bytes("a.tif", bytes(content))[1])
    assert refused > 10
    assert capfd.readouterr() == ("", "")


def test_tiles_that_are_listed_as_strips_are_read(tmp_path: Path) -> None:
    """Old writers did so; Pillow takes such a file for cut off."""
    file = io.BytesIO()
    image = RANDOM.integers(0, 256, (40, 50), np.uint8)
    tifffile.imwrite(file, image, tile=(16, 16))
    content = bytearray(file.getvalue())
    for tiles, strips in ((324, 273), (325, 279)):  # where they are, and how long
        content = content.replace(struct.pack("<H", tiles), struct.pack("<H", strips), 1)
    assert np.array_equal(read(bytes(content), tmp_path / "x")[..., 0], image)


def test_big_endian_bigtiff_is_named(tmp_path: Path) -> None:
    """Its tags are beyond Pillow: it is no damage."""
    file = io.BytesIO()
    tifffile.imwrite(file, RGB, bigtiff=True, byteorder=">")
    error = refusal(file.getvalue(), tmp_path / "x")
    assert error.message.endswith("x: a big-endian BigTIFF, which is not read")


@pytest.mark.parametrize("kind", ["int8", "int16", "float16", "float32"])
def test_numbers_are_resized_by_pillows_floats(tmp_path: Path, kind: str) -> None:
    """A plane stays one: bilinear weights keep it, whichever the type."""
    content, _, expected = RARE[kind]
    assert expected is not None
    found = read(content, tmp_path / "x", size=(4, 5))
    floats = Image.fromarray(expected.astype("=f4")).resize((5, 4), 2)
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert np.abs(found[..., 0] - np.asarray(floats)).max() <= (0.5 if kind[0] == "i" else 0.05)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "tif"])
def test_deep_colour_is_turned(tmp_path: Path, format: str, orientation: int) -> None:
    """So is what Pillow does not decode; or it is not, as asked."""
    pixels = RANDOM.integers(0, 65536, (9, 7, 3), np.uint16)
    if format == "png":
        held = chunk(b"eXIf", exif(orientation)[6:])
        content = png_with(bytes(imagecodecs.png_encode(pixels)), held)
    else:
        content = tiff_file(pixels, photometric=2, more=[(274, 3, [orientation])])
    assert np.array_equal(read(content, tmp_path / "x"), turned(pixels, orientation))
    assert np.array_equal(read(content, tmp_path / "x", orientation="ignore"), pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("kind", ["grey", "deep", "RGB", "RGB in planes"])
def test_what_pillow_reads_rightly_is_read(
    tmp_path: Path, kind: str, deflate: bool, order: Order
) -> None:
    """Grey of 8 or 16 bits and 8-bit RGB, of either byte order, are as libtiff has them."""
    image = {"grey": GREY, "deep": DEEP}.get(kind, RGB)
    photometric, planes = (2 if image is RGB else 1), kind.endswith("planes")
    content = tiff_file(image, order=order, deflate=deflate, photometric=photometric, planes=planes)
    if not planes:
        assert np.array_equal(imagecodecs.tiff_decode(content).reshape(image.shape), image)
    assert np.array_equal(read(content, tmp_path / "x").reshape(image.shape), image)


def test_other_formats_have_a_name(tmp_path: Path) -> None:
    """A sound picture of a format that is not read is no damage."""
    error = refusal(saved(RGB, "tga"), tmp_path / "x")
    assert error.message.endswith("x: a TGA file, which is not read")
    assert not error.is_damage


def decoded_gif(content: bytes) -> np.ndarray:
    """Return the pixels as another decoder has them: one more channel, of alpha."""
    pixels: np.ndarray = imagecodecs.gif_decode(content)
    return pixels[..., :3]


def netpbm(content: bytes) -> np.ndarray:
    """Return the pixels behind a header of three lines, as Netpbm's page has them."""
    kind, size, highest, pixels = content.split(b"\n", 3)
    width, height = map(int, size.split())
    dtype = ">u2" if int(highest) > 255 else "u1"
    found = np.frombuffer(pixels, dtype).reshape(height, width, 3 if kind == b"P6" else 1)
    return found.astype(found.dtype.newbyteorder("="))


READERS: dict[str, tuple[bytes, Callable[[bytes], np.ndarray]]] = {
    "gif": (saved(RGB, "gif"), decoded_gif),
    "avif": (saved(RGB, "avif", quality=80), imagecodecs.avif_decode),
    "JPEG 2000": (saved(RGB, "jpeg2000"), imagecodecs.jpeg2k_decode),
    "grey JPEG 2000": (saved(GREY, "jpeg2000"), imagecodecs.jpeg2k_decode),
    "16-bit JPEG 2000": (saved(DEEP, "jpeg2000"), imagecodecs.jpeg2k_decode),
    "ppm": (saved(RGB, "ppm"), netpbm),
    "pgm": (saved(GREY, "ppm"), netpbm),
    "16-bit pgm": (b"P5\n7 9\n65535\n" + DEEP.astype(">u2").tobytes(), netpbm),
}


@pytest.mark.parametrize("kind", READERS)
def test_rarer_formats_are_what_another_decoder_makes_of_them(tmp_path: Path, kind: str) -> None:
    """Every pixel is that of a decoder that is not Pillow's; a file cut in its pixels is damage."""
    content, decode = READERS[kind]
    expected = decode(content)
    found = read(content, tmp_path / "x")
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected.reshape(found.shape))
    for end in range(30, len(content) - 3, 7):
        assert refusal(content[:end], tmp_path / "x").is_damage


def test_bits_that_pillow_drops_are_refused_by_name(tmp_path: Path) -> None:
    """AVIF and JPEG 2000 of other depths, Netpbm of other scales, are named, not cut to 8 bits."""
    deep = RANDOM.integers(0, 1024, (9, 7, 3), np.uint16)
    named: dict[str, Any] = {
        "an? AVIF of 10 bits a colour": imagecodecs.avif_encode(deep, bitspersample=10),
        "a JPEG 2000 of 10 bits in 3 bands": imagecodecs.jpeg2k_encode(deep, bitspersample=10),
        "a JPEG 2000 of 12 bits in 1 bands": imagecodecs.jpeg2k_encode(
            deep[..., 0], bitspersample=12
        ),
        "a PPM of values up to 65,535": b"P6 1 1\n65535\n" + bytes(6),
        "a PGM of values up to 100": b"P5 # a line\n1 1 100\n" + bytes(1),
    }
    for name, content in named.items():
        error = refusal(content, tmp_path / "x")
        assert re.search(f"{name}, which is not read", error.message)
        assert not error.is_damage


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_it_says(tmp_path: Path, orientation: int) -> None:
    """Its boxes, which Pillow writes for EXIF, turn the pixels that are stored upright."""
    smooth = np.asarray(Image.fromarray(RGB).resize((40, 32), Image.Resampling.BILINEAR))
    upright = saved(smooth, "avif", subsampling="4:4:4", quality=100)
    content = saved(smooth, "avif", subsampling="4:4:4", quality=100, exif=exif(orientation))
    expected = turned(read(upright, tmp_path / "x"), orientation)
    assert np.array_equal(read(content, tmp_path / "y"), expected)


def picture_of(height: int, width: int) -> np.ndarray:
    """Return a picture whose left and right, and top and bottom, differ."""
    return RANDOM.integers(1, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(8, 16), (16, 8), (12, 12), (5, 90), (1, 900)])
def test_crop_and_pad_keep_the_aspect(tmp_path: Path, height: int, width: int) -> None:
    """At a whole scale, cropping takes the middle, and padding lays all of it on black."""
    image = picture_of(height, width)
    content, size = saved(image, "png"), (8, 8)
    options: dict[str, Any] = {"size": size, "filter": "box"}
    padded = read(content, tmp_path / "x", fit="pad", **options)
    scale = min(8 / height, 8 / width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (8 - inner[0]) // 2, (8 - inner[1]) // 2
    seen = padded[top : top + inner[0], left : left + inner[1]]
    plain = Image.fromarray(image).resize(inner[::-1], Image.Resampling.BOX)
    assert np.array_equal(seen, np.asarray(plain))
    assert padded.astype(int).sum() == seen.astype(int).sum()
    cropped = read(content, tmp_path / "x", fit="crop", **options)
    side = min(height, width)
    x, y = (width - side) / 2, (height - side) / 2
    if x == int(x) and y == int(y):
        middle = image[int(y) : int(y) + side, int(x) : int(x) + side]
        square = Image.fromarray(middle).resize(size, Image.Resampling.BOX)
        assert np.array_equal(cropped, np.asarray(square))


def photo(height: int, width: int, noise: float = 0) -> np.ndarray:
    """Return a picture of slow waves, which any way of shrinking leaves much as they are."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 37 + c) + np.cos(y / (29 + c)) for c in range(3)]
    noisy = 127 + 55 * np.stack(waves, -1) + RANDOM.normal(0, noise, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_draft_of_a_jpeg_lies_where_the_whole_does(
    tmp_path: Path, orientation: int, fit: str
) -> None:
    """Decoded at a quarter, waves are within two levels up to the edges, also where the sides are
    no multiples of four, whatever the way up and the fit; they are not decoded in full.
    """
    options: dict[str, Any] = {"size": (40, 24), "fit": fit}
    content = saved(photo(411, 333), "jpg", quality=95, exif=exif(orientation))
    full = read(content, tmp_path / "x", **options).astype(int)
    draft = read(content, tmp_path / "x", **options, jpeg="draft").astype(int)
    assert 0 < abs(draft - full).max() <= 2
    noisy = saved(photo(411, 333, noise=40), "jpg", exif=exif(orientation))
    one, other = (read(noisy, tmp_path / "x", **options, jpeg=way) for way in ("full", "draft"))
    assert not np.array_equal(one, other)


def test_a_draft_leaves_alone_what_is_not_large(tmp_path: Path) -> None:
    """A JPEG of less than four times the size, and a PNG, have the very pixels of a full decode;
    of a larger one they are those of Pillow's `draft`, resized.
    """
    for content in (saved(photo(159, 200), "jpg"), saved(photo(400, 400), "png")):
        options: dict[str, Any] = {"size": (40, 40)}
        full = read(content, tmp_path / "x", **options)
        assert np.array_equal(read(content, tmp_path / "x", **options, jpeg="draft"), full)
    content = saved(photo(160, 200, noise=40), "jpg")
    with Image.open(io.BytesIO(content)) as image:
        image.draft(None, (80, 80))
        expected = np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR))
    assert expected.std() > 10
    assert image.size == (100, 80)
    assert np.array_equal(read(content, tmp_path / "x", size=(40, 40), jpeg="draft"), expected)


@pytest.mark.parametrize("filter", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
def test_a_filter_is_pillows_of_that_name(tmp_path: Path, filter: str) -> None:
    """Of 8 and of 16 bits, images are resized by the filter that was chosen."""
    for image in (RGB, DEEP):
        found = read(saved(image, "png"), tmp_path / "x", size=(5, 4), filter=filter)
        resample = Image.Resampling[filter.upper()]
        expected = np.asarray(Image.fromarray(image).resize((4, 5), resample))
        assert np.array_equal(found, expected.reshape(found.shape))


def test_padding_of_a_kept_alpha_is_clear(tmp_path: Path) -> None:
    """Where alpha is kept, what is padded has none."""
    opaque = np.dstack([picture_of(8, 4), np.full((8, 4), 255, np.uint8)])
    options: dict[str, Any] = {"alpha": "keep", "size": (8, 8), "fit": "pad"}
    found = read(saved(opaque, "png"), tmp_path / "x", **options)
    assert np.array_equal(found[:, 2:6], opaque)
    assert not found[:, [0, 1, 6, 7]].any()


@pytest.mark.parametrize("packing", ["webp", "lerc", "png", "jpegxl", "jpeg2000", "zstd", "lzma"])
def test_every_lossless_packing_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    """By whichever library knows it; without the extra, what Pillow lacks is named."""
    file = io.BytesIO()
    more = {"level": 101} if packing == "webp" else {}  # more than 100: lossless
    tifffile.imwrite(file, RGB, compression=packing, photometric="rgb", compressionargs=more)
    assert np.array_equal(read(file.getvalue(), tmp_path / "x"), RGB)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    if packing in ("zstd", "lzma"):
        assert np.array_equal(read(file.getvalue(), tmp_path / "x"), RGB)
    else:
        assert "3 bands of uint8, packed by " in refusal(file.getvalue(), tmp_path / "x").message


def test_a_tiff_that_does_not_say_what_is_white_is_no_guess(tmp_path: Path) -> None:
    """Readers differ in it: Pillow turns such greys over, libtiff does not; floats have none."""
    number = struct.pack("<H", 262)
    for image, reads in ((GREY, False), (bands(1, "f4"), True)):
        content = tiff_file(image).replace(number + b"\3\0", struct.pack("<H", 261) + b"\3\0")
        if reads:
            assert np.array_equal(read(content, tmp_path / "x")[..., 0], image)
        else:
            error = refusal(content, tmp_path / "x")
            assert "1 band of uint8, not said what is white, which is not read" in error.message


SOUND: dict[str, tuple[bytes, str]] = {
    "JPEG of 12 bits": (bytes(imagecodecs.jpeg8_encode(DEEP >> 4, bitspersample=12)), "JPEG of 12"),
    "deep lossless JPEG": (
        bytes(imagecodecs.jpeg8_encode(DEEP, lossless=True, bitspersample=16)),
        "lossless JPEG of 16",
    ),
    "JPEG-LS": (bytes(imagecodecs.jpegls_encode(RGB)), "JPEG-LS of 8"),
    "JPEG XL": (bytes(imagecodecs.jpegxl_encode(RGB)), "JPEG XL"),
    "HEIF": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIF"),
    "BMP of odd fields": (
        b"BM" + struct.pack("<IHHI", 0, 0, 0, 66)
        + struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 32, 3, 4, 0, 0, 0, 0)
        + struct.pack("<IIII", 0x7FE00000, 0x1FF800, 0x7FF, 0),
        "Unsupported BMP bitfields",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SOUND)
def test_sound_files_of_unusual_kinds_are_no_damage(tmp_path: Path, kind: str) -> None:
    """They are named, with no hint to leave them out."""
    content, name = SOUND[kind]
    error = refusal(content, tmp_path / "x")
    assert name in error.message
    assert not error.is_damage


# Damage


def test_no_flipped_bit_of_a_png_passes(tmp_path: Path) -> None:
    """Whichever bit is another, the picture is refused or the very same."""
    x, y = np.mgrid[:24, :24]
    sound = saved(np.dstack([x * 9, y * 9, (x + y) * 5]).astype(np.uint8), "png")
    path, passed, refused = tmp_path / "x", 0, 0
    expected = read(sound, path)
    for place in range(len(sound)):
        for bit in range(8):
            content = bytearray(sound)
            content[place] ^= 1 << bit
            try:
                passed += not np.array_equal(read(bytes(content), path), expected)
            except ImageError:
                refused += 1
    assert passed == 0
    assert refused > 8 * (len(sound) - 12)


@pytest.mark.parametrize("format", FORMATS)
def test_no_picture_that_is_cut_short_passes(tmp_path: Path, format: str) -> None:
    """However few bytes are missing, an image is damaged; so is one that ends in zeros."""
    sound = saved(RGB, format) if format != "tif" else tiff_file(RGB, photometric=2)[:-1]
    read(sound, tmp_path / "x")
    for length in range(len(sound)):
        assert refusal(sound[:length], tmp_path / "x").is_damage
    if format in ("jpg", "png"):
        assert refusal(sound[:-2] + bytes(2), tmp_path / "x").is_damage


@pytest.mark.parametrize("format", FORMATS)
def test_what_follows_a_picture_is_not_looked_at(tmp_path: Path, format: str) -> None:
    """Phones and editors append to image files."""
    content = saved(RGB, format)
    assert np.array_equal(read(content + bytes(99), tmp_path / "x"), read(content, tmp_path / "y"))


def test_a_file_system_that_fails_is_no_damage(tmp_path: Path) -> None:
    """What the system says of a file is told in its words, and never skipped."""
    decoder = ImageDecoder(skip=True)
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(SourceError, match="cannot read: ") as caught:
            decoder.read(str(path))
        assert not isinstance(caught.value, ImageError)


# Warnings


def test_threads_share_the_filters_of_warnings() -> None:
    """While any thread decodes, a bomb is an error; afterwards the filters are what they were,
    whichever thread ends first.
    """
    before = list(warnings.filters)
    first, second = strict_pillow(), strict_pillow()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(Image.DecompressionBombWarning):
        warnings.warn("large", Image.DecompressionBombWarning, stacklevel=1)
    second.__exit__(None, None, None)
    assert warnings.filters == before
