"""Plain PNG files: imagecodecs reads them as Pillow does, and all others are left to Pillow."""

import struct
import zlib
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelprep.sources.pictures import plain_png
from pixelprep.sources.pictures.image_file import ImageDecoder, strict_pillow
from pixelprep.sources.pictures.met import Met

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (30, 20, 3), np.uint8)


def png(image: Image.Image | np.ndarray, **options: Any) -> bytes:
    """Return a file of Pillow's."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG, its checksum right."""
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def with_chunk(content: bytes, kind: bytes, more: bytes) -> bytes:
    """Return a PNG with another chunk behind its header."""
    return content[:33] + chunk(kind, more) + content[33:]


def with_pixels(content: bytes, compressed: bytes) -> bytes:
    """Return a PNG with other compressed pixels."""
    return content[:33] + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def decoded(content: bytes, max_pixels: int = RGB.size) -> list[Any] | None:
    """Return the pixels, or None where Pillow is to read them."""
    pixels = plain_png.decode(content, max_pixels)
    return None if pixels is None else pixels.tolist()


def by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all read by Pillow, as where imagecodecs is not installed."""
    monkeypatch.setattr(plain_png, "_decoder", lambda: None)


def examined(content: bytes, **options: Any) -> tuple[list[Any] | None, str, dict[str, Any]]:
    """Return the pixels of a file, what is told of them, and what is counted."""
    met = Met()
    with strict_pillow():
        pixels, problems = ImageDecoder(met=met, **options).examine_bytes("x.png", content)
    return None if pixels is None else pixels.tolist(), str(problems), met.to_json()


@pytest.mark.parametrize("pixels", [RGB, RGB[..., 0]], ids=["rgb", "grey"])
def test_the_pixels_are_pillows(monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray) -> None:
    """Whatever the options, pixels and counts are those that Pillow alone gives."""
    content = png(pixels)
    assert decoded(content) == pixels.tolist()
    choices = [(None, "grey", "rgb"), (None, (30, 20), (20, 31)), (None, "keep", "white")]
    every = [
        {"color": color, "size": size, "alpha": alpha, "fit": "crop"}
        for color, size, alpha in product(*choices)
    ]
    found = [examined(content, **options) for options in every]
    by_pillow(monkeypatch)
    assert [examined(content, **options) for options in every] == found


def test_what_says_more_of_pixels_is_left_to_pillow() -> None:
    """Alpha, a clear colour, a palette, other bits, a way up and a profile are; gamma is not."""
    plain, image = png(RGB), Image.fromarray(RGB)
    left = [
        *(png(image.convert(mode)) for mode in ("RGBA", "LA", "P", "1", "I;16")),
        *(png(image, transparency=(1, 2, 3)), png(image, exif=b"MM\0*\0\0\0\x08\0\0")),
        *(with_chunk(plain, kind, b"x\0y") for kind in (b"tEXt", b"iCCP", b"acTL", b"neWs")),
    ]
    assert [decoded(content) for content in left] == [None] * len(left)
    assert decoded(plain, RGB.size // 3 - 1) is None  # too many pixels
    gamma = with_chunk(plain, b"gAMA", struct.pack(">I", 100_000))
    assert decoded(gamma) == RGB.tolist()


def test_damage_has_pillows_words(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """Pixels that are cut, changed or followed by bytes are read or refused as Pillow does it."""
    plain = png(RGB)
    rows = zlib.decompress(plain[41 : plain.index(b"IEND") - 8])
    packed = [zlib.compress(rows[:-1]), zlib.compress(rows + b"x"), zlib.compress(b"\7" + rows[1:])]
    packed += [bytes(packed[1][:-3]), zlib.compress(rows) + b"x", b""]
    for at in RANDOM.integers(0, len(packed[1]), 40).tolist():
        packed.append(packed[1][:at] + bytes([packed[1][at] ^ 1]) + packed[1][at + 1 :])
    files = [with_pixels(plain, one) for one in packed]
    found = [examined(content) for content in files]
    by_pillow(monkeypatch)
    assert [examined(content) for content in files] == found
    assert {pixels is None for pixels, *_ in found} == {False, True}
    assert capfd.readouterr() == ("", "")
