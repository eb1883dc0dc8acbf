"""Compute statistics of pixels, exact for integers, from moments that merge.

Integers of 8 or 16 bits are summed as integers; floats are added in a fixed order. So the same
pixels have the same statistics, no matter how they were cut into blocks or which worker summed
which block.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import TYPE_CHECKING, Any  # Any: pixels of every type; int64 or Python ints

from pixelprep.errors import SourceError
from pixelprep.numerics.fitted import Statistics as Statistics  # what moments give
from pixelprep.numerics.fitted import statistics_shape
from pixelprep.numerics.histogram import Histogram
from pixelprep.numerics.lazy import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float64]
    IntegerSums = tuple[NDArray[np.int64], ...]  # total, squares, minimum, maximum
else:
    Float = Any  # NumPy is not loaded for it

TABLE_WIDTH = 768  # pixels per row of the table that is summed, where a statistic has fewer
TABLE_ROWS = 256  # rows of the table that floats sum exactly
SMALLEST_DIVISOR = 1 / sys.float_info.max  # the reciprocal of a smaller one overflows
EXACT_TERMS = 1 << 16  # squares of 16-bit pixels that float64 sums exactly
SUM_VALUES = 1 << 14  # values that are summed together, in the processor's cache
LARGEST_SUMMED = 1e290  # what is larger might overflow on the way
MAX_PIXELS = 1 << 30  # pixels whose sum of squares fits into 64 bits


@dataclass(frozen=True, slots=True)
class Moments:
    """Exact sums of integer pixels; adding two gives the sums of all their pixels.

    ``total``, ``squares``, ``minimum`` and ``maximum`` are int64 as long as 64 bits are certain to
    suffice, and Python ints (dtype object) from then on: the squares of uint16 pixels overflow at
    2**32 pixels. ``count`` is the number of pixels behind each statistic. Only pixels that are to
    tell quantiles have a histogram.
    """

    count: int
    total: NDArray[Any]
    squares: NDArray[Any]
    minimum: NDArray[Any]
    maximum: NDArray[Any]
    histogram: Histogram | None = None

    @classmethod
    def of(cls, images: NDArray[Any], per: str) -> Moments:
        """Sum integer images (N, H, W, C), N ≥ 1, over the pixels that share a statistic."""
        if images.size > MAX_PIXELS and per != "image" and len(images) > 1:
            half = len(images) // 2
            return cls.of(images[:half], per) + cls.of(images[half:], per)
        if per == "image":
            shape: tuple[int, ...] = (len(images), 1, 1, 1)
            pixels = images.reshape(len(images), math.prod(images.shape[1:]))
            count, sums = pixels.shape[1], _row_moments(pixels)
        else:
            shape = statistics_shape(images.shape[1:], per)
            pixels = images.reshape(-1, math.prod(shape))
            count, sums = len(pixels), _column_moments(pixels)
        total, squares, low, high = (values.reshape(shape) for values in sums)
        return cls(count, total, squares, low, high)

    def __add__(self, other: Moments) -> Moments:
        minimum = np.minimum(self.minimum, other.minimum)
        maximum = np.maximum(self.maximum, other.maximum)
        count = self.count + other.count
        largest = max(-int(minimum.min()), int(maximum.max()))
        kind = np.int64 if count * largest**2 < 2**63 else object
        total, squares = self.total.astype(kind), self.squares.astype(kind)
        one, two = self.histogram, other.histogram
        both = one + two if one and two else None
        return Moments(count, total + other.total, squares + other.squares, minimum, maximum, both)

    def statistics(self, unit: int = 1, quantiles: tuple[float, ...] | None = None) -> Statistics:
        """Return the statistics of the pixels divided by ``unit``, with these quantiles, if any.

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
            **self._quantiles(unit, quantiles),
        )

    def _quantiles(self, unit: int, shares: tuple[float, ...] | None) -> dict[str, Float]:
        if shares is None:
            return {}
        assert self.histogram is not None  # they were `counted`
        named = {"low": shares[0], "median": 0.5, "high": shares[1]}
        return {name: self.histogram.quantile(share, unit) for name, share in named.items()}

    def overall(self) -> dict[str, int]:
        """Return ``count``, ``sum`` and ``sum_of_squares`` of all pixels together."""
        return {
            "count": self.count * self.total.size,
            "sum": int(self.total.astype(object).sum()),
            "sum_of_squares": int(self.squares.astype(object).sum()),
        }


@dataclass(frozen=True, slots=True)
class FloatMoments:
    """Moments of float pixels in float64; adding two gives those of all their pixels.

    Rounding depends on the order of additions: that of `pairwise_sum` depends on nothing but the
    number of terms. ``m2`` is the sum of the squared deviations from the mean.
    """

    count: int
    mean: Float
    m2: Float
    minimum: Float
    maximum: Float

    @classmethod
    def of(cls, images: NDArray[Any], per: str) -> FloatMoments:
        """Sum float images (N, H, W, C), N ≥ 1, over the pixels that share a statistic.

        These are plain additions and products in a fixed order, so that it does not matter how a
        processor fuses or reorders them. Pixels that share a statistic are contiguous, where NumPy
        adds pairwise, except per pixel, where a block has few of each.
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
        # Whether it is 0.0 or -0.0 depends on the processor; adding 0.0 makes both 0.0.
        low, high = table.min(axis=axis) + 0.0, table.max(axis=axis) + 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # `statistics` refuses what overflows
            mean = table.sum(axis=axis) / count
            table -= np.expand_dims(mean, axis)
            residual = table.sum(axis=axis)  # 0 but for what rounding left in the mean
            table *= table
            m2 = np.maximum(table.sum(axis=axis) - residual * residual / count, 0.0)
            mean = mean + residual / count
        return cls(count, *(values.reshape(shape) for values in (mean, m2, low, high)))

    def __add__(self, other: FloatMoments) -> FloatMoments:
        """Merge two moments by Chan, Golub and LeVeque, "Updating formulae …" (1979)."""
        count = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            delta = other.mean - self.mean
            mean = self.mean + delta * (other.count / count)
            m2 = self.m2 + other.m2
            m2 = m2 + delta * delta * (self.count * other.count / count)
        low = np.minimum(self.minimum, other.minimum)
        high = np.maximum(self.maximum, other.maximum)
        return FloatMoments(count, mean, m2, low, high)

    def statistics(self, unit: int = 1, quantiles: tuple[float, ...] | None = None) -> Statistics:
        """Return the statistics, whatever the ``unit``; refuse too large and non-finite ones.

        Quantiles are of integers alone.
        """
        assert quantiles is None
        with np.errstate(over="ignore", invalid="ignore"):
            value_range = self.maximum - self.minimum
            std = np.sqrt(self.m2 / self.count)
        divisors = (value_range, std)
        small = any(((one > 0) & (one < SMALLEST_DIVISOR)).any() for one in divisors)
        if small or not np.isfinite([self.mean, self.m2, value_range]).all():
            raise self._unusable()
        return Statistics(self.mean, std, self.minimum, self.maximum)

    def overall(self) -> dict[str, float]:
        """Return ``count``, ``sum`` and ``sum_of_squares`` of all pixels; refuse infinite ones."""
        mean, m2 = self.mean.reshape(-1), self.m2.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = {"sum": self.count * mean, "sum_of_squares": m2 + self.count * mean * mean}
        try:
            sums = {name: math.fsum(values) for name, values in terms.items()}
        except (OverflowError, ValueError) as error:
            raise self._unusable() from error
        if not all(map(math.isfinite, sums.values())):
            raise self._unusable()
        return {"count": self.count * mean.size, **sums}

    def _unusable(self) -> SourceError:
        return SourceError(
            f"float images of {self.minimum.min():g} to {self.maximum.max():g}: values are"
            " non-finite, or too large or too close together for float64 statistics",
            "clip or rescale them",
        )


AnyMoments = Moments | FloatMoments


def moments_of(images: NDArray[Any], per: str, *, counted: bool = False) -> AnyMoments:
    """Return the moments of images (N, H, W, C), N ≥ 1, of any type that is prepared.

    Those of integers that are `counted` tell quantiles, too.
    """
    if images.dtype.kind == "f":
        return FloatMoments.of(images, per)
    found = Moments.of(images, per)
    if not counted:
        return found
    counts = Histogram.of(images)
    return replace(found, histogram=counts.overall() if per == "dataset" else counts)


def moments_of_histogram(pixels: Histogram) -> Moments:
    """Return the exact moments of counted pixels, of each channel."""
    met = [np.flatnonzero(counts) for counts in pixels.counts]
    values = [(bins + pixels.lowest).astype(object) for bins in met]
    times = [counts[bins] for counts, bins in zip(pixels.counts, met, strict=True)]
    pairs = list(zip(values, times, strict=True))
    return Moments(
        int(pixels.counts[0].sum()),
        np.array([value @ count for value, count in pairs], object),
        np.array([value**2 @ count for value, count in pairs], object),
        np.array([value[0] for value in values], np.int64),
        np.array([value[-1] for value in values], np.int64),
    )


def exact_sum(values: NDArray[Any], about: float | None = None) -> float:
    """Return what `math.fsum` does of floats (N,), the exact sum of all, rounded once; sooner.

    Or of the squares, in float64, of their distances from a value that they are `about`.

    The high bits of values, multiples of one power of two, are so few that any order adds them
    without rounding; then those of what is left, until nothing is.
    """
    parts = list[float]()
    for rest in _pieces(values, about):
        while largest := float(abs(rest).max()):
            if not largest < LARGEST_SUMMED:  # or no number
                return math.fsum(chain.from_iterable(_pieces(values, about)))
            unit = math.ldexp(2.0 * SUM_VALUES, math.frexp(largest)[1])
            high = (rest + unit) - unit
            parts.append(float(high.sum()))
            rest = rest - high
    return math.fsum(parts)


def _pieces(values: NDArray[Any], about: float | None) -> Iterator[Float]:
    for start in range(0, values.size, SUM_VALUES):
        piece = values[start : start + SUM_VALUES].astype(np.float64)
        yield piece if about is None else (piece - about) ** 2


class PairwiseSum:
    """A sum of one term or more, added pairwise as they come (data/FORMAT.md, section 3).

    Of n terms, the first 2**k, with the largest k for which some are left, and those left are each
    summed in the same way, then added.
    """

    def __init__(self) -> None:
        # Any: two sorts of moments, but one sort in one sum, which a union cannot say.
        self._sums: list[tuple[int, Any]] = []  # of 2**level terms each, the level falling

    def add(self, term: AnyMoments) -> None:
        level, total = 0, term
        while self._sums and self._sums[-1][0] == level:
            level, total = level + 1, self._sums.pop()[1] + total
        self._sums.append((level, total))

    def total(self) -> AnyMoments:
        total: AnyMoments = self._sums[-1][1]
        for _, before in reversed(self._sums[:-1]):
            total = before + total
        return total


def pairwise_sum(terms: Iterable[AnyMoments]) -> AnyMoments:
    """Return the `PairwiseSum` of one term or more."""
    sums = PairwiseSum()
    for term in terms:
        sums.add(term)
    return sums.total()


def _column_moments(pixels: NDArray[Any]) -> IntegerSums:
    """Return the exact moments of each column of integers (n, k)."""
    columns = pixels.shape[1]
    side = max(1, TABLE_WIDTH // columns) if len(pixels) >= TABLE_WIDTH else 1
    whole = len(pixels) // side * side
    # Many columns are faster than few: `side` rows become one, some hundred pixels wide.
    sums = _table_moments(pixels[:whole].reshape(-1, side * columns), columns)
    if whole == len(pixels):
        return sums
    rest = _table_moments(pixels[whole:], columns)
    merge = (np.add, np.add, np.minimum, np.maximum)
    return tuple(join(one, other) for join, one, other in zip(merge, sums, rest, strict=True))


def _table_moments(table: NDArray[Any], columns: int) -> IntegerSums:
    """Return the exact moments of each of `columns` columns, which repeat along a row."""
    sums, squares = _table_sums(table)
    low, high = table.min(axis=0).astype(np.int64), table.max(axis=0).astype(np.int64)
    return (
        sums.reshape(-1, columns).sum(axis=0),
        squares.reshape(-1, columns).sum(axis=0),
        low.reshape(-1, columns).min(axis=0),
        high.reshape(-1, columns).max(axis=0),
    )


def _table_sums(table: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the exact sum and sum of squares of each column.

    The processor is fastest with floats, and floats are exact here: 256 squares of 8-bit pixels
    stay below 2**24, which float32 holds, and those of 16-bit pixels below 2**53, which float64
    holds. So any order of additions gives the same result.
    """
    width = table.shape[1]
    rows = max(1, min(TABLE_ROWS, TABLE_WIDTH * TABLE_ROWS // width))
    kind = np.float32 if table.dtype.itemsize == 1 else np.float64
    buffer, ones = np.empty((rows, width), kind), np.ones(rows, kind)
    total, squares = np.zeros(width, np.int64), np.zeros(width, np.int64)
    for start in range(0, len(table), rows):
        integers = table[start : start + rows]
        block = buffer[: len(integers)]
        block[...] = integers
        total += (ones[: len(block)] @ block).astype(np.int64)
        squares += np.einsum("ij,ij->j", block, block).astype(np.int64)
    return total, squares


def _row_moments(pixels: NDArray[Any]) -> IntegerSums:
    """Return the exact moments of each row of integers (n, k)."""
    total, squares = np.zeros(len(pixels), np.int64), np.zeros(len(pixels), np.int64)
    step = max(1, EXACT_TERMS // pixels.shape[1])  # rows that fit into the processor's cache
    for row, column in product(range(0, len(pixels), step), range(0, pixels.shape[1], EXACT_TERMS)):
        rows = slice(row, row + step)
        block = pixels[rows, column : column + EXACT_TERMS].astype(np.float64)
        total[rows] += block.sum(axis=1).astype(np.int64)
        squares[rows] += np.einsum("ij,ij->i", block, block).astype(np.int64)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    return total, squares, low.astype(np.int64), high.astype(np.int64)
