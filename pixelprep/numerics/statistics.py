"""Statistics of pixels, exact for integers, and the sums they are made of, which merge.

Integers of 8 or 16 bits are summed up as integers; floats are added in a fixed order. So the same
pixels have the same statistics, whatever they were divided into and whoever summed up the parts.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError, unknown_choice

Float = NDArray[np.float64]

TABLE_WIDTH = 768  # pixels a row of the table that is summed up, where a statistic has fewer
TABLE_ROWS = 256  # rows of it that floats sum up exactly
SMALLEST_DIVISOR = 1 / np.finfo(np.float64).max  # below, one part by it is no float64
EXACT_TERMS = 1 << 16  # squares of 16 bits that float64 sums up exactly
PIXEL_BYTES = {"u": (1, 2), "i": (1, 2), "f": (2, 4, 8)}  # bytes of a pixel, by kind of its type
MAX_PIXELS = 1 << 30  # whose squares' sum 64 bits can hold


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a scaling is fitted on, of pixels that were divided by ``unit`` first.

    Each is float64 and broadcasts against images (N, H, W, C): shape (1,) per dataset, (C,) per
    channel, (H, W, C) per pixel, (N, 1, 1, 1) per image. ``std`` is the population standard
    deviation (ddof 0).
    """

    mean: Float
    std: Float
    minimum: Float
    maximum: Float


def statistics_shape(image_shape: tuple[int, int, int], per: str) -> tuple[int, ...]:
    """The shape of one statistic for images of (H, W, C), except per image, which has N."""
    height, width, channels = image_shape
    shapes = {"dataset": (1,), "channel": (channels,), "pixel": (height, width, channels)}
    if per not in shapes:
        raise unknown_choice("per", per, shapes)
    return shapes[per]


def check_images(where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what are no images that statistics can be had of.

    Raises
    ------
    SourceError
        When the type is another than integers of 8 or 16 bits or floats, or the shape is not
        (N, H, W, C), none 0.
    """
    if dtype.itemsize not in PIXEL_BYTES.get(dtype.kind, ()):
        raise SourceError(
            f"{where}: images are {dtype}: expected integers of 8 or 16 bits, or floats",
            "convert the images to uint8, uint16 or float32",
        )
    if len(shape) != 4 or 0 in shape:
        raise SourceError(f"{where}: expected images of (N, H, W, C), none 0, got {shape}")


@dataclass(frozen=True, slots=True)
class Moments:
    """Exact sums of integer pixels; adding two gives those of all their pixels.

    ``total``, ``squares``, ``minimum`` and ``maximum`` are int64 as long as 64 bits are certain to
    suffice, and Python ints (dtype object) from then on: the squares of uint16 pixels overflow at
    2**32 pixels. ``count`` is the number of pixels behind each.
    """

    count: int
    total: NDArray[Any]
    squares: NDArray[Any]
    minimum: NDArray[Any]
    maximum: NDArray[Any]

    @classmethod
    def of(cls, images: NDArray[Any], per: str) -> "Moments":
        """Sum up integer images (N, H, W, C), N ≥ 1, over what ``per`` shares a statistic."""
        if images.size > MAX_PIXELS and per != "image" and len(images) > 1:
            half = len(images) // 2
            return cls.of(images[:half], per) + cls.of(images[half:], per)
        if per == "image":
            shape: tuple[int, ...] = (len(images), 1, 1, 1)
            pixels = images.reshape(len(images), math.prod(images.shape[1:]))
            count, found = pixels.shape[1], _row_moments(pixels)
        else:
            shape = statistics_shape(images.shape[1:], per)
            pixels = images.reshape(-1, math.prod(shape))
            count, found = len(pixels), _column_moments(pixels)
        return cls(count, *(values.reshape(shape) for values in found))

    def __add__(self, other: "Moments") -> "Moments":
        minimum = np.minimum(self.minimum, other.minimum)
        maximum = np.maximum(self.maximum, other.maximum)
        count = self.count + other.count
        largest = max(-int(minimum.min()), int(maximum.max()))
        kind = np.int64 if count * largest**2 < 2**63 else object
        total, squares = self.total.astype(kind), self.squares.astype(kind)
        return Moments(count, total + other.total, squares + other.squares, minimum, maximum)

    def statistics(self, unit: int = 1) -> Statistics:
        """Mean, population deviation, minimum and maximum of pixels divided by ``unit``.

        Mean and variance are quotients of Python ints, which are correctly rounded:
        mean = Σx / (n·unit), variance = (n·Σx² − (Σx)²) / (n·unit)².
        """
        n = self.count * unit
        total, squares = self.total.astype(object), self.squares.astype(object)
        variance = (self.count * squares - total * total) / (n * n)
        return Statistics(
            mean=(total / n).astype(np.float64),
            std=np.sqrt(variance.astype(np.float64)),
            minimum=(self.minimum / unit).astype(np.float64),
            maximum=(self.maximum / unit).astype(np.float64),
        )

    def overall(self) -> dict[str, int]:
        """``count``, ``sum`` and ``sum_of_squares`` of all pixels together."""
        return {
            "count": self.count * self.total.size,
            "sum": int(self.total.astype(object).sum()),
            "sum_of_squares": int(self.squares.astype(object).sum()),
        }


@dataclass(frozen=True, slots=True)
class FloatMoments:
    """Sums of float pixels in float64; adding two gives those of all their pixels.

    Rounding depends on what is added to what: `merged` adds in an order that depends on nothing
    but the number of parts.

    Parameters
    ----------
    count : int
        Pixels behind each number.
    mean, spread : ndarray of float64
        Mean, and sum of the squared deviations from it.
    minimum, maximum : ndarray of float64
    """

    count: int
    mean: Float
    spread: Float
    minimum: Float
    maximum: Float

    @classmethod
    def of(cls, images: NDArray[Any], per: str) -> "FloatMoments":
        """Sum up float images (N, H, W, C), N ≥ 1, over what ``per`` shares a statistic.

        Plain additions and products in a fixed order: no processor's own way of fusing or
        reordering them has a part in it. Numbers that share a statistic lie side by side, where
        NumPy adds pairwise, but for ``pixel``, of which a block has few.
        """
        if per == "image":
            shape: tuple[int, ...] = (len(images), 1, 1, 1)
        else:
            shape = statistics_shape(images.shape[1:], per)
        size = math.prod(shape)
        if per == "image":
            row = math.prod(images.shape[1:])
            table, axis = images.reshape(size, row).astype(np.float64), 1
        elif per == "dataset":
            table, axis = images.reshape(1, -1).astype(np.float64), 1
        elif per == "channel":
            table, axis = images.reshape(-1, size).T.astype(np.float64, order="C"), 1
        else:
            table, axis = images.reshape(-1, size).astype(np.float64), 0
        count = table.shape[axis]
        # Which of 0.0 and -0.0 is found depends on the processor; adding 0.0 makes both 0.0.
        low, high = table.min(axis=axis) + 0.0, table.max(axis=axis) + 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # `statistics` refuses what overflows
            mean = table.sum(axis=axis) / count
            table -= np.expand_dims(mean, axis)
            rest = table.sum(axis=axis)  # 0 but for what rounding left in the mean
            table *= table
            spread = np.maximum(table.sum(axis=axis) - rest * rest / count, 0.0)
            mean = mean + rest / count
        return cls(count, *(values.reshape(shape) for values in (mean, spread, low, high)))

    def __add__(self, other: "FloatMoments") -> "FloatMoments":
        """As Chan, Golub and LeVeque, "Updating formulae …" (1979), have it."""
        count = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            apart = other.mean - self.mean
            mean = self.mean + apart * (other.count / count)
            spread = self.spread + other.spread
            spread = spread + apart * apart * (self.count * other.count / count)
        low = np.minimum(self.minimum, other.minimum)
        high = np.maximum(self.maximum, other.maximum)
        return FloatMoments(count, mean, spread, low, high)

    def statistics(self, unit: int = 1) -> Statistics:
        """Mean, population deviation, minimum and maximum; floats are not rescaled.

        Raises
        ------
        SourceError
            When these, or what is divided by, are no float64, or numbers are not finite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            apart = self.maximum - self.minimum
            std = np.sqrt(self.spread / self.count)
        small = any(((one > 0) & (one < SMALLEST_DIVISOR)).any() for one in (apart, std))
        if small or not np.isfinite([self.mean, self.spread, apart]).all():
            raise self._unusable()
        return Statistics(self.mean, std, self.minimum, self.maximum)

    def overall(self) -> dict[str, float]:
        """``count``, ``sum`` and ``sum_of_squares`` of all pixels together.

        Raises
        ------
        SourceError
            When these are no float64.
        """
        mean, spread = self.mean.reshape(-1), self.spread.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            parts = {"sum": self.count * mean, "sum_of_squares": spread + self.count * mean * mean}
        try:
            sums = {name: math.fsum(values) for name, values in parts.items()}
        except (OverflowError, ValueError) as error:
            raise self._unusable() from error
        if not all(map(math.isfinite, sums.values())):
            raise self._unusable()
        return {"count": self.count * mean.size, **sums}

    def _unusable(self) -> SourceError:
        return SourceError(
            f"float images of {self.minimum.min():g} to {self.maximum.max():g}: their squares, or"
            " one part by their differences, do not fit into 64 bits, or some are not finite",
            "mend the images",
        )


AnyMoments = Moments | FloatMoments


def moments_of(images: NDArray[Any], per: str) -> AnyMoments:
    """Moments of images (N, H, W, C), N ≥ 1, of any type that is prepared."""
    return (FloatMoments if images.dtype.kind == "f" else Moments).of(images, per)


class PairwiseSum:
    """A sum of one part or more, added pairwise as they come (data/FORMAT.md, section 3).

    The first half, which is the largest power of two of the parts that leaves a rest, and the
    rest are summed up in the same way, then added.
    """

    def __init__(self) -> None:
        self._sums: list[tuple[int, Any]] = []  # of 2**level parts each, the level falling

    def add(self, part: AnyMoments) -> None:
        """One more part."""
        level, total = 0, part
        while self._sums and self._sums[-1][0] == level:
            level, total = level + 1, self._sums.pop()[1] + total
        self._sums.append((level, total))

    def total(self) -> AnyMoments:
        """That of all parts."""
        total: AnyMoments = self._sums[-1][1]
        for _, before in reversed(self._sums[:-1]):
            total = before + total
        return total


def pairwise_sum(parts: Iterable[AnyMoments]) -> AnyMoments:
    """The sum of one part or more, as `Sums` has it."""
    sums = PairwiseSum()
    for part in parts:
        sums.add(part)
    return sums.total()


Found = tuple[NDArray[np.int64], ...]  # total, squares, minimum, maximum


def _column_moments(pixels: NDArray[Any]) -> Found:
    """Exact moments of integers (n, k) down each column."""
    columns = pixels.shape[1]
    side = max(1, TABLE_WIDTH // columns) if len(pixels) >= TABLE_WIDTH else 1
    whole = len(pixels) // side * side
    # Rows of some hundred pixels, each column's side by side: many columns are faster than few.
    found = _table_moments(pixels[:whole].reshape(-1, side * columns), columns)
    if whole == len(pixels):
        return found
    rest = _table_moments(pixels[whole:], columns)
    merge = (np.add, np.add, np.minimum, np.maximum)
    return tuple(join(one, other) for join, one, other in zip(merge, found, rest, strict=True))


def _table_moments(table: NDArray[Any], columns: int) -> Found:
    sums, squares = _table_sums(table)
    low, high = table.min(axis=0).astype(np.int64), table.max(axis=0).astype(np.int64)
    return (
        sums.reshape(-1, columns).sum(axis=0),
        squares.reshape(-1, columns).sum(axis=0),
        low.reshape(-1, columns).min(axis=0),
        high.reshape(-1, columns).max(axis=0),
    )


def _table_sums(table: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Exact sums and sums of squares down each column.

    The fast units of the processor are those for floats, and floats are exact here: 256 squares
    of 8 bits stay below 2**24, which float32 holds, and those of 16 bits below 2**53 of float64.
    So any order of adding gives the same.
    """
    width = table.shape[1]
    rows = max(1, min(TABLE_ROWS, TABLE_WIDTH * TABLE_ROWS // width))
    kind = np.float32 if table.dtype.itemsize == 1 else np.float64
    floats, ones = np.empty((rows, width), kind), np.ones(rows, kind)
    total, squares = np.zeros(width, np.int64), np.zeros(width, np.int64)
    for start in range(0, len(table), rows):
        part = table[start : start + rows]
        block = floats[: len(part)]
        block[...] = part
        total += (ones[: len(part)] @ block).astype(np.int64)
        squares += np.einsum("ij,ij->j", block, block).astype(np.int64)
    return total, squares


def _row_moments(pixels: NDArray[Any]) -> Found:
    """Exact moments of integers (n, k) along each row."""
    total, squares = np.zeros(len(pixels), np.int64), np.zeros(len(pixels), np.int64)
    step = max(
        1, EXACT_TERMS // pixels.shape[1]
    )  # rows at a time: what the processor's cache holds
    for row, column in product(range(0, len(pixels), step), range(0, pixels.shape[1], EXACT_TERMS)):
        rows = slice(row, row + step)
        block = pixels[rows, column : column + EXACT_TERMS].astype(np.float64)
        total[rows] += block.sum(axis=1).astype(np.int64)
        squares[rows] += np.einsum("ij,ij->i", block, block).astype(np.int64)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    return total, squares, low.astype(np.int64), high.astype(np.int64)
