"""One picture file: decoded by Pillow into pixels of the wanted size and colours."""

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError, missing_extra
from pixelprep.system import formatting

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
COLORS = {"grey": 1, "rgb": 3}
RESAMPLING = "bilinear"
GREY = ("1", "L", "LA", "La")  # Pillow's names of 8-bit grey images
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # and of 16-bit ones
TOO_DEEP = ("I", "F")
BILINEAR = 2  # Pillow's number of it
CUT = re.compile(r";16[BLN]")  # in Pillow's names of what lies in a file
MAX_PIXELS = 89_478_485  # of one image: Pillow's own limit


class ImageDecodeError(SourceError):
    """A file that is damaged, or no picture at all."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """What an image looks like: (H, W, C) and uint8 or uint16."""

    shape: tuple[int, int, int]
    dtype: str

    @property
    def bytes(self) -> int:
        """Of one image."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{formatting.format_shape(self.shape)} {self.dtype}"


@dataclass(frozen=True, slots=True)
class ImageDecoder:
    """What images are to look like.

    Parameters
    ----------
    size : tuple of int, optional
        (H, W) that they are resized to; otherwise they must be equal already.
    color : str, optional
        grey or rgb; otherwise they must be equal already.
    skip : bool
        Whether unreadable ones are left out.
    format : Format, optional
        Of the first image; the others must have the same.
    first : str
        That image's path.
    """

    size: tuple[int, int] | None
    color: str | None
    skip: bool
    format: ImageFormat | None = None
    first: str = ""

    def like(self, paths: Sequence[str]) -> "ImageDecoder":
        """The same, the format being that of the first readable image."""
        with strict_pillow():
            for path in paths:
                try:
                    pixels = self.read(path)
                except ImageDecodeError:
                    if not self.skip:
                        raise
                    continue
                height, width, channels = pixels.shape
                found = ImageFormat((height, width, channels), pixels.dtype.name)
                return replace(self, format=found, first=path)
        raise SourceError(f"{paths[0]}: can not be read, nor can {len(paths) - 1} others")

    def read(self, path: str) -> NDArray[Any]:
        """The pixels of an image, uint8 or uint16 (H, W, C); within `careful`.

        Raises
        ------
        Unreadable
            When the file is damaged or no picture.
        SourceError
            When its format is another than that of the first image.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - thousands of them
                content = BytesIO(file.read())  # one read, where Pillow makes many
            with Image.open(content, formats=IMAGE_FORMATS) as image:
                pixels = self._pixels(path, image)
        except SourceError:
            raise
        except Exception as error:  # Pillow's plugins raise whatever went wrong in them
            reason = "no picture" if isinstance(error, UnidentifiedImageError) else error
            raise ImageDecodeError(
                f"{path}: cannot read the image: {reason}", "leave such out: `on_error=skip`"
            ) from error
        self._check(path, pixels)
        return pixels

    def _pixels(self, path: str, image: "Picture") -> NDArray[Any]:
        from PIL import Image

        if math.prod(image.size) > MAX_PIXELS:
            raise SourceError(
                f"{path}: {image.width:,}×{image.height:,} pixels: expected at most {MAX_PIXELS:,}"
            )
        deep = image.mode in DEEP
        if image.mode in TOO_DEEP or (not deep and _loses_bits(image)):
            raise SourceError(
                f"{path}: more than 8 bits a colour, or 16 of grey, would be lost",
                "convert it to 8-bit colour or 16-bit grey",
            )
        if deep:
            # Pillow resizes and converts only one byte order of it rightly.
            image = Image.fromarray(np.asarray(image).astype(np.uint16))
        else:
            color = self.color or ("grey" if image.mode in GREY else "rgb")
            mode = "L" if color == "grey" else "RGB"
            image = image if image.mode == mode else image.convert(mode)
        if self.size is not None:
            height, width = self.size
            image = image.resize((width, height), BILINEAR)
        pixels = np.asarray(image)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
            if deep and self.color == "rgb":
                pixels = np.repeat(pixels, 3, axis=2)
        return pixels

    def _check(self, path: str, pixels: NDArray[Any]) -> None:
        wanted = self.format
        if wanted is None or (pixels.shape == wanted.shape and pixels.dtype == wanted.dtype):
            return
        height, width, channels = pixels.shape
        found = ImageFormat((height, width, channels), pixels.dtype.name)
        if found == wanted:  # in another byte order
            return
        if found.shape[:2] != wanted.shape[:2]:
            hint = "make them equal: `size=HxW`"
        elif found.dtype != wanted.dtype:
            hint = "keep images of 8 and 16 bits apart"
        else:
            hint = "make them equal: `color=grey` or `color=rgb`"
        raise SourceError(f"{path}: is {found}, but {self.first} is {wanted}", hint)


def _loses_bits(image: "Picture") -> bool:
    """Whether Pillow would cut 16 bits a channel down to 8 while decoding."""
    modes = (args if isinstance(args, str) else args[:1] for *_, args in getattr(image, "tile", ()))
    return any(CUT.search(str(mode)) for mode in modes)


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Pillow's warnings: of bombs they are errors, others are not the user's."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def require(purpose: str = "a folder of images") -> None:
    """Refuse to begin without Pillow."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise missing_extra("Pillow", "images", purpose) from error
