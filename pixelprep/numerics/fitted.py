"""Hold the statistics that a scaling is fitted to, which `statistics` computes; loads no NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any  # Any: pixels of every type

from pixelprep.errors import SourceError, unknown_choice
from pixelprep.numerics.lazy import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float64]
else:
    Float = Any  # NumPy is not loaded for it

PIXEL_BYTES = {"u": (1, 2), "i": (1, 2), "f": (2, 4, 8)}  # bytes per pixel, by kind of its type


def unknown() -> Float:
    """Return the statistic that is not known, or not needed."""
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of pixels (divided by ``unit`` first) that a scaling is fitted to.

    Each is float64 and broadcasts against images (N, H, W, C): shape (1,) per dataset, (C,) per
    channel, (H, W, C) per pixel, (N, 1, 1, 1) per image. ``std`` is the population standard
    deviation (ddof 0). Quantiles are empty unless a scaling needs them.
    """

    mean: Float
    std: Float
    minimum: Float
    maximum: Float
    low: Float = field(default_factory=unknown)
    median: Float = field(default_factory=unknown)
    high: Float = field(default_factory=unknown)


def statistics_shape(image_shape: tuple[int, int, int], per: str) -> tuple[int, ...]:
    """Return the shape of a statistic of images (H, W, C), for every `per` but "image"."""
    height, width, channels = image_shape
    shapes = {"dataset": (1,), "channel": (channels,), "pixel": (height, width, channels)}
    if per not in shapes:
        raise unknown_choice("per", per, shapes)
    return shapes[per]


def check_images(where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse images other than (N, H, W, C), no side 0, of integers of 8 or 16 bits or floats."""
    if dtype.itemsize not in PIXEL_BYTES.get(dtype.kind, ()):
        raise SourceError(
            f"{where}: images are {dtype}: expected integers of 8 or 16 bits, or floats",
            "convert the images to uint8, uint16 or float32",
        )
    if len(shape) != 4 or 0 in shape:
        raise SourceError(f"{where}: expected images of (N, H, W, C), each at least 1, got {shape}")
