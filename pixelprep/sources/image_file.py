"""Decode image files with Pillow into pixels of one size, color and dtype."""

import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from pixelprep.errors import SourceError, missing_extra
from pixelprep.sources.lazy_arrays import AnyArray
from pixelprep.system import formatting

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
COLORS = {"grey": 1, "rgb": 3}
FACTS = {"orientation": "ignored", "alpha": "dropped", "class_order": "code points"}
GREY = ("1", "L", "LA", "La")  # Pillow's modes of 8-bit grey images
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")  # and of 16-bit ones
RAW_16 = re.compile(r";16[BLN]")  # in Pillow's names of the raw modes in a file
MAX_PIXELS = 89_478_485  # in one image: Pillow's own limit


class ImageDecodeError(SourceError):
    """A file is damaged, or is not an image."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """The shape (H, W, C) of an image, and its dtype: uint8 or uint16."""

    shape: tuple[int, int, int]
    dtype: str

    @property
    def bytes(self) -> int:
        """The size of one image in memory."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{formatting.format_shape(self.shape)} {self.dtype}"


@dataclass(frozen=True, slots=True)
class ImageDecoder:
    """The options by which images are decoded; without size or color, all must have the same."""

    size: tuple[int, int] | None  # (H, W) that images are resized to
    color: str | None  # grey or rgb
    skip: bool  # leave out damaged images
    format: ImageFormat | None = None  # that all images must have
    reference: str = ""  # the path of the first image, which has that format
    folder: str = ""  # that paths start from: workers may run in another one

    def with_reference(self, paths: Sequence[str]) -> "ImageDecoder":
        """Return a decoder that requires the format of the first readable image."""
        with strict_pillow():
            for path in paths:
                try:
                    pixels = self.read(path)
                except ImageDecodeError:
                    if not self.skip:
                        raise
                    continue
                return replace(self, format=_format_of(pixels), reference=path)
        raise SourceError(f"{paths[0]}: none of the {len(paths)} images could be read")

    def read(self, path: str) -> AnyArray:
        """Return the pixels of an image, uint8 or uint16 (H, W, C). Call within `strict_pillow`.

        A file that is damaged or not an image is an `ImageDecodeError`.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            file_path = os.path.join(self.folder, path)  # noqa: PTH118 - thousands of them
            with open(file_path, "rb", buffering=0) as file:  # noqa: PTH123 - likewise
                content = BytesIO(file.read())  # one read, where Pillow makes many
            with Image.open(content, formats=IMAGE_FORMATS) as image:
                pixels = self._pixels(path, image)
        except SourceError:
            raise
        except Exception as error:  # Pillow's plugins raise errors of all kinds
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
            damaged = f"{path}: cannot read the image: {reason}"
            hint = "leave out damaged images: `on_error=skip`"
            raise ImageDecodeError(damaged, hint) from error
        self._check(path, pixels)
        return pixels

    def _pixels(self, path: str, image: "PillowImage") -> AnyArray:
        from PIL import Image

        if math.prod(image.size) > MAX_PIXELS:
            size = f"{image.width:,}×{image.height:,}"
            raise SourceError(f"{path}: {size} pixels: expected at most {MAX_PIXELS:,}")
        deep = image.mode in GREY_16
        if image.mode in ("I", "F") or (not deep and _loses_bits(image)):
            lost = f"{path}: more than 8 bits a colour, or 16 of grey, would be lost"
            raise SourceError(lost, "convert it to 8-bit colour or 16-bit grey")
        if deep:
            # Pillow resizes and converts only one byte order of it correctly.
            image = Image.fromarray(np.asarray(image).astype(np.uint16))
        else:
            color = self.color or ("grey" if image.mode in GREY else "rgb")
            mode = "L" if color == "grey" else "RGB"
            image = image if image.mode == mode else image.convert(mode)
        if self.size is not None:
            height, width = self.size
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
            if deep and self.color == "rgb":
                pixels = np.repeat(pixels, 3, axis=2)
        return pixels

    def _check(self, path: str, pixels: AnyArray) -> None:
        expected, found = self.format, _format_of(pixels)
        if expected is None or found == expected:
            return
        if found.shape[:2] != expected.shape[:2]:
            hint = "make them equal: `size=HxW`"
        elif found.dtype != expected.dtype:
            hint = "keep images of 8 and 16 bits apart"
        else:
            hint = "make them equal: `color=grey` or `color=rgb`"
        raise SourceError(f"{path}: is {found}, but {self.reference} is {expected}", hint)


def _format_of(pixels: AnyArray) -> ImageFormat:
    height, width, channels = pixels.shape
    return ImageFormat((height, width, channels), pixels.dtype.name)


def _loses_bits(image: "PillowImage") -> bool:
    """Tell whether Pillow would reduce 16 bits a channel to 8 while decoding."""
    modes = (args if isinstance(args, str) else args[:1] for *_, args in getattr(image, "tile", ()))
    return any(RAW_16.search(str(mode)) for mode in modes)


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Turn Pillow's warnings of decompression bombs into errors; silence its others."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def require(purpose: str = "a folder of images") -> None:
    """Raise `MissingExtraError` if Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise missing_extra("Pillow", "images", purpose) from error
