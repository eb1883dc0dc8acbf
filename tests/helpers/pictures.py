"""Image files with what few writers write: TIFF of any type, several bands and pages."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pixelprep.sources.pictures.image_file import ImageDecoder, strict_pillow
from pixelprep.sources.pictures.image_problems import ImageError

Tag = tuple[int, int, Sequence[int]]  # number, type (3: 16 bits, 4: 32 bits), values

Order = Literal["<", ">"]

FORMATS = {"u": 1, "i": 2, "f": 3}


def read(content: bytes, path: Path, **options: Any) -> np.ndarray:
    """Return the pixels of a file with this content."""
    path.write_bytes(content)
    with strict_pillow():
        return ImageDecoder(**options).read(str(path))


def refusal(content: bytes, path: Path, **options: Any) -> ImageError:
    """Return the error of a file with this content; it names the file, and no patient."""
    with pytest.raises(ImageError) as caught:
        read(content, path, **options)
    assert caught.value.message.startswith(f"{path}: ")
    assert "Nobody" not in str(caught.value)
    return caught.value


def tiff_file(
    image: np.ndarray,
    *,
    order: Order = "<",
    pages: int = 1,
    deflate: bool = False,
    planes: bool = False,
    photometric: int = 1,
    extra: Sequence[int] = (),
    more: Sequence[Tag] = (),
) -> bytes:
    """Return a TIFF of an image (H, W) or (H, W, C), each page of one strip; `more` are tags."""
    height, width = image.shape[:2]
    count = 1 if image.ndim == 2 else image.shape[2]
    strips = [image[..., i] for i in range(count)] if planes else [image]
    kind = image.dtype.newbyteorder(order)
    stored = [np.ascontiguousarray(strip.astype(kind)).tobytes() for strip in strips]
    stored = [zlib.compress(strip) for strip in stored] if deflate else stored
    found = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8))
    for page in range(pages):
        tags: list[Tag] = [
            (256, 4, [width]),
            (257, 4, [height]),
            (258, 3, [image.dtype.itemsize * 8] * count),
            (259, 3, [8 if deflate else 1]),
            (262, 3, [photometric]),
            (277, 3, [count]),
            (278, 4, [height]),
            (279, 4, [len(strip) for strip in stored]),
            (284, 3, [2 if planes else 1]),
            (339, 3, [FORMATS[image.dtype.kind]] * count),
            *([(338, 3, extra)] if extra else []),
            *more,
        ]
        found += _directory(len(found), order, tags, stored, last=page == pages - 1)
    return bytes(found)


def _directory(at: int, order: str, tags: list[Tag], strips: list[bytes], last: bool) -> bytes:
    """Return a directory that stands at this place, and all that it leads to."""
    tags = sorted([*tags, (273, 4, [0] * len(strips))])  # where the strips are
    behind = at + 2 + 12 * len(tags) + 4
    codes = {3: "H", 4: "I"}
    long = {n: len(v) * (2 if t == 3 else 4) for n, t, v in tags}
    data = behind + sum(size + size % 2 for size in long.values() if size > 4)
    offsets = [data + sum(map(len, strips[:i])) for i in range(len(strips))]
    end = data + sum(map(len, strips))
    end += end % 2
    head, values = struct.pack(order + "H", len(tags)), b""
    for number, code, given in tags:
        packed = struct.pack(
            f"{order}{len(given)}{codes[code]}", *(offsets if number == 273 else given)
        )
        head += struct.pack(order + "HHI", number, code, len(given))
        if len(packed) > 4:
            head += struct.pack(order + "I", behind + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        else:
            head += packed.ljust(4, b"\0")
    head += struct.pack(order + "I", 0 if last else end)
    whole = head + values + b"".join(strips)
    return whole + b"\0" * (len(whole) % 2)


def turned(upright_of: np.ndarray, orientation: int) -> np.ndarray:
    """Return stored pixels (H, W, …) turned as EXIF and TIFF define each of the eight values."""
    image: Any = upright_of
    flat = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.swapaxes(0, 1),
        6: image[::-1].swapaxes(0, 1),
        7: image[::-1, ::-1].swapaxes(0, 1),
        8: image[:, ::-1].swapaxes(0, 1),
    }
    found: np.ndarray = flat[orientation]
    return found
