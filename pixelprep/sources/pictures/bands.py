"""Finish images that Pillow has no mode for: any number of bands of any type."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any  # Any: pixels of whichever type

import numpy as np

from pixelprep.sources.lazy_arrays import AnyArray
from pixelprep.sources.pictures import image_pixels

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Resize = Callable[["PillowImage"], "PillowImage"]
LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # of red, green, blue: Pillow's shares of grey


class UnreadError(Exception):
    """A sound image that is not read, or not as asked: what it is, and the kind of problem."""

    def __init__(self, reason: str, kind: str = "type") -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Bands:
    """An image (H, W, C) of integers of 8 or 16 bits or floats, and its alpha (H, W), of the same.

    Without colours, the bands are what they are. Alpha is None where every pixel is opaque.
    """

    pixels: AnyArray
    colors: str | None  # grey or rgb
    alpha: AnyArray | None = None
    premultiplied: bool = False  # with alpha

    def turned(self, orientation: object) -> "Bands":
        """Return the image the way up that this value of EXIF's and TIFF's means."""
        pixels = image_pixels.turned(self.pixels, orientation)
        alpha = None if self.alpha is None else image_pixels.turned(self.alpha, orientation)
        return replace(self, pixels=pixels, alpha=alpha)

    def finished(self, alpha: str | None, color: str | None, resize: Resize | None) -> AnyArray:
        """Return pixels (H, W, C) as the options of `ImageDecoder` want them."""
        pixels, kind = self.pixels, self.pixels.dtype
        if self.alpha is not None and alpha in image_pixels.BACKGROUNDS:
            pixels = self._laid(self.alpha, alpha)
        elif alpha and self.alpha is not None and self.premultiplied:
            reason = "has colours multiplied with alpha, so that one must lie below them"
            raise UnreadError(reason, "transparency")
        if color and color != self.colors:
            pixels = self._converted(pixels, color)
        if alpha == "keep":
            top = np.iinfo(kind).max if kind.kind in "ui" else 1
            held = np.full(pixels.shape[:2], top, kind) if self.alpha is None else self.alpha
            pixels = np.dstack([pixels, held])
        return np.ascontiguousarray(resized(pixels, resize))

    def _laid(self, alpha: AnyArray, color: str) -> AnyArray:
        kind = self.pixels.dtype
        if kind.kind != "u":
            raise UnreadError(f"is transparent {kind}, which has no {color} to lie on")
        if not self.premultiplied:
            return image_pixels.on_background(self.pixels, alpha, color)
        if color == "black":
            return self.pixels
        rest = (np.iinfo(kind).max - alpha)[:, :, None]
        laid: AnyArray = self.pixels + np.minimum(rest, np.iinfo(kind).max - self.pixels)
        return laid

    def _converted(self, pixels: AnyArray, color: str) -> AnyArray:
        if self.colors is None:
            raise UnreadError(f"has {pixels.shape[2]} bands, which are no colours to convert")
        if color == "rgb":
            return np.repeat(pixels, 3, axis=2)
        grey = pixels.astype(np.float64) @ np.array(LUMA)
        return _rounded(grey, pixels.dtype)[:, :, None]


def resized(pixels: AnyArray, resize: Resize | None) -> AnyArray:
    """Resize every band of (H, W, C), one after the other, by Pillow."""
    from PIL import Image

    if resize is None:
        return pixels
    kind = pixels.dtype
    if kind.itemsize > 4:
        raise UnreadError(f"is {kind}, which Pillow cannot resize without loss")
    # Pillow resizes only one byte order of 16 bits rightly: the machine's.
    own = pixels if kind.kind == "u" else pixels.astype(np.float32)
    images = (Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(own, 2, 0))
    return _rounded(np.dstack([np.asarray(resize(one)) for one in images]), kind)


def _rounded(values: AnyArray, kind: np.dtype[Any]) -> AnyArray:
    if kind.kind in "ui" and values.dtype.kind == "f":
        limits = np.iinfo(kind)  # which some filters go beyond
        values = np.clip(np.floor(values + 0.5), limits.min, limits.max)
    return values.astype(kind)
