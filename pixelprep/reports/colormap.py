"""Map pixels to colours, in pictures that are not too large."""

from dataclasses import dataclass
from typing import Any  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ColorScale:
    """A map of values to colours: from the lowest to the highest, others as these."""

    low: float
    high: float
    diverging: bool = False  # blue below 0, white at 0, red above; else from black to white

    def colors(self, image: NDArray[Any]) -> Pixels:
        """Return the colours (H, W, 3) of an image (H, W, C): of three channels, or the first."""
        span = self.high - self.low or 1.0
        part = np.clip((image.astype(np.float64) - self.low) / span, 0.0, 1.0)
        return _bytes(part) if image.shape[2] == 3 else self._painted(part[:, :, 0])

    def _painted(self, part: NDArray[np.float64]) -> Pixels:
        if not self.diverging:
            return _bytes(np.repeat(part[:, :, None], 3, axis=2))
        from matplotlib import colormaps

        painted: Pixels = colormaps["RdBu_r"](part, bytes=True)[:, :, :3]
        return painted

    def scale(self) -> Pixels:
        """Return all colours, from left to right."""
        return self._painted(np.linspace(0.0, 1.0, 128)[None].repeat(8, axis=0))


def raw_scale(dtype: str, low: float, high: float) -> ColorScale:
    """Return the colours of raw pixels: of 8 bits as they are, of others between these two."""
    return ColorScale(0.0, 255.0) if dtype == "uint8" else ColorScale(low, high)


def downsample(image: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Shrink an image (H, W, C) to at most `side` pixels a side, each the mean of a square."""
    exact = image.astype(np.float64)
    factor = -(-max(image.shape[:2]) // side)
    if factor == 1:
        return exact
    for axis in (0, 1):
        starts = np.arange(0, exact.shape[axis], factor)
        sizes = np.diff(np.append(starts, exact.shape[axis]))
        sums = np.add.reduceat(exact, starts, axis=axis)
        exact = sums / sizes.reshape([-1 if one == axis else 1 for one in range(3)])
    return exact


def _bytes(part: NDArray[np.float64]) -> Pixels:
    return np.rint(part * 255).astype(np.uint8)
