"""Count integer pixels by value, from which their quantiles follow exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: pixels of whichever integer type

from pixelprep.numerics.lazy import np

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

BLOCK_PIXELS = 1 << 20  # that are counted at once: NumPy makes 64-bit numbers of them


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many pixels of each channel have each value of their type; adding merges two.

    Counts are whole numbers, so they are the same in whichever blocks, order and processes the
    pixels were counted.
    """

    lowest: int  # the type's smallest value: that of the first bin
    counts: NDArray[np.int64]  # (C, 256) of 8-bit pixels, (C, 65536) of 16-bit ones

    @classmethod
    def of(cls, images: NDArray[Any]) -> Histogram:
        """Count the pixels of integer images (N, H, W, C)."""
        channels, limits = images.shape[-1], np.iinfo(images.dtype)
        counts = np.zeros((channels, int(limits.max) - int(limits.min) + 1), np.int64)
        native, unsigned = images.dtype.newbyteorder("="), np.dtype(f"u{images.dtype.itemsize}")
        for channel, of_channel in enumerate(counts):
            # Read as unsigned, negative numbers come last: rolled, they are first.
            pixels = np.ascontiguousarray(images[..., channel], native).reshape(-1).view(unsigned)
            for start in range(0, len(pixels), BLOCK_PIXELS):
                of_channel += _counted(pixels[start : start + BLOCK_PIXELS])
        return cls(int(limits.min), np.roll(counts, -int(limits.min), axis=1))

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.lowest, self.counts + other.counts)

    def overall(self) -> Histogram:
        """Return the histogram of all channels together, as of one."""
        return Histogram(self.lowest, self.counts.sum(axis=0, keepdims=True))

    def quantile(self, share: float | Fraction, unit: int = 1) -> NDArray[np.float64]:
        """Return each channel's quantile of the pixels divided by ``unit``, rounded once.

        Of n sorted pixels it is that at (n − 1)·share, between two of them on the line: Hyndman
        and Fan's definition 7, as of `numpy.quantile`. A share of 0.01 is a hundredth.
        """
        from fractions import Fraction  # only quantiles need it

        place = (int(self.counts[0].sum()) - 1) * Fraction(str(share))
        below, part = int(place), place % 1
        found = []
        for counts in self.counts:
            ends = np.cumsum(counts)
            low, high = np.searchsorted(ends, [below, below + (part > 0)], side="right").tolist()
            found.append(float((self.lowest + low + (high - low) * part) / unit))
        return np.array(found)


def _counted(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """Count unsigned pixels (n,) by value; those of 8 bits in pairs, which is twice as fast."""
    even = len(pixels) // 2 * 2 if pixels.dtype.itemsize == 1 else len(pixels)
    counts: NDArray[np.int64] = np.bincount(pixels[:even].view(np.uint16), minlength=1 << 16)
    if pixels.dtype.itemsize == 2:
        return counts
    pairs = counts.reshape(256, 256)
    rest: NDArray[np.int64] = np.bincount(pixels[even:], minlength=256)
    rest += pairs.sum(axis=0) + pairs.sum(axis=1)
    return rest
