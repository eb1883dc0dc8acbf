"""Statistics of pixels, exact for integers, and the scalings that are made from them.

The stored value of a raw pixel x is ``((x / unit) − shift) / divisor``, computed in float64 in
this order and rounded once to the stored type. ``unit`` is the integer type's maximum where the
recipe rescales and 1 otherwise; ``shift`` and ``divisor`` come from the mode.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pixelprep.errors import SourceError, UsageError, unknown

Float = NDArray[np.float64]

PER = ("dataset", "channel", "pixel", "image")
SIDE_BY_SIDE = 768  # pixels a row of the table that is summed up, where a statistic has fewer
SUMMED = 256  # rows of it that floats sum up exactly
SMALLEST_DIVISOR = 1 / np.finfo(np.float64).max  # below, one part by it is no float64
EXACT = 1 << 16  # squares of 16 bits that float64 sums up exactly
PIXELS = 1 << 30  # whose squares' sum 64 bits can hold
SURE_BITS = 2  # beyond those of raw integers, for rounding never to reach half a step of them
TABLE_BITS = 16  # integers up to this width are scaled by a table of all their values


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


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of scaling: what is subtracted and what is divided by, from the statistics.

    Plain arithmetic: `serving` does it on a framework's tensors too. No divisor is 1.
    """

    formula: str
    shift: Callable[[Statistics], Float]
    divisor: Callable[[Statistics], Float] | None = None
    integers_need_only_unit: bool = False


def _ones_for_zeros(divisor: Float) -> Float:
    """A constant pixel has no spread to divide by; dividing it by 1 leaves it where it is."""
    return np.where(divisor == 0, 1.0, divisor)


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        "normalize": Mode(
            "x / maximum of the type; floats: (x - minimum) / (maximum - minimum)",
            shift=lambda s: s.minimum,
            divisor=lambda s: s.maximum - s.minimum,
            integers_need_only_unit=True,
        ),
        "center": Mode("x - mean", shift=lambda s: s.mean),
        "standardize": Mode(
            "(x - mean) / std",
            shift=lambda s: s.mean,
            divisor=lambda s: s.std,
        ),
    }
)


def unit_of(dtype: DTypeLike, rescale: bool) -> int:
    """What pixels of this type are divided by first: the type's maximum, or 1."""
    kind = np.dtype(dtype)
    return int(np.iinfo(kind).max) if rescale and kind.kind in "ui" else 1


def statistics_shape(image_shape: tuple[int, int, int], per: str) -> tuple[int, ...]:
    """The shape of one statistic for images of (H, W, C), except per image, which has N."""
    height, width, channels = image_shape
    shapes = {"dataset": (1,), "channel": (channels,), "pixel": (height, width, channels)}
    if per not in shapes:
        raise unknown("--per", per, shapes)
    return shapes[per]


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
        if images.dtype.kind not in "ui" or images.dtype.itemsize > 2:
            raise SourceError(
                f"images are {images.dtype}: expected integers of 8 or 16 bits, or floats",
                "convert the images to uint8, uint16 or float32",
            )
        if images.size > PIXELS and per != "image" and len(images) > 1:
            half = len(images) // 2
            return cls.of(images[:half], per) + cls.of(images[half:], per)
        if per == "image":
            shape: tuple[int, ...] = (len(images), 1, 1, 1)
            pixels = images.reshape(len(images), -1)
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
        if per in ("image", "dataset"):
            table, axis = images.reshape(size, -1).astype(np.float64), 1
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


class Sums:
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


def merged(parts: Iterable[AnyMoments]) -> AnyMoments:
    """The sum of one part or more, as `Sums` has it."""
    sums = Sums()
    for part in parts:
        sums.add(part)
    return sums.total()


Found = tuple[NDArray[np.int64], ...]  # total, squares, minimum, maximum


def _column_moments(pixels: NDArray[Any]) -> Found:
    """Exact moments of integers (n, k) down each column."""
    columns = pixels.shape[1]
    side = max(1, SIDE_BY_SIDE // columns) if len(pixels) >= SIDE_BY_SIDE else 1
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
    rows = max(1, min(SUMMED, SIDE_BY_SIDE * SUMMED // width))
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
    step = max(1, EXACT // pixels.shape[1])  # rows at a time: what the processor's cache holds
    for row, column in product(range(0, len(pixels), step), range(0, pixels.shape[1], EXACT)):
        rows = slice(row, row + step)
        block = pixels[rows, column : column + EXACT].astype(np.float64)
        total[rows] += block.sum(axis=1).astype(np.int64)
        squares[rows] += np.einsum("ij,ij->i", block, block).astype(np.int64)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    return total, squares, low.astype(np.int64), high.astype(np.int64)


@dataclass(frozen=True)
class Scaling:
    """A fitted scaling: how raw pixels become stored values, and back.

    Parameters
    ----------
    mode : str
        One of `MODES`.
    per : str
        One of `PER`: over what one statistic is shared.
    unit : int
        What pixels are divided by first: their type's maximum, or 1.
    raw_dtype : str
        The type of the raw pixels, such as ``"uint8"``.
    statistics : Statistics or None
        Of the training split; None per image, where each image has its own.
    """

    mode: str
    per: str
    unit: int
    raw_dtype: str
    statistics: Statistics | None

    @classmethod
    def fit(
        cls, images: NDArray[Any], mode: str, *, per: str = "channel", rescale: bool = False
    ) -> Self:
        """Fit on images that are held in memory.

        Parameters
        ----------
        images : ndarray, shape (N, H, W, C)
            Raw pixels, N ≥ 1: integers of 8 or 16 bits, or finite floats.
        mode : {"standardize", "center", "normalize"}
            The scaling.
        per : {"channel", "dataset", "pixel", "image"}
            Over what one statistic is shared.
        rescale : bool
            Divide integers by their type's maximum first.

        Returns
        -------
        Scaling
            For raw pixels of this type and, per channel and per pixel, of this shape.

        Raises
        ------
        UsageError
            For a mode or a `per` that does not exist.
        SourceError
            When the images are of another type, or floats that are not finite or too large.

        Examples
        --------
        >>> import numpy as np
        >>> import pixelprep
        >>> images = np.array([0, 100, 200], np.uint8).reshape(3, 1, 1, 1)
        >>> pixelprep.Scaling.fit(images, "center").mean
        array([100.])
        """
        per, rescale = effective(mode, per, rescale, images.dtype)
        unit = unit_of(images.dtype, rescale)
        fitted = None if per == "image" else moments_of(images, per).statistics(unit)
        return cls(mode, per, unit, images.dtype.name, fitted)

    @property
    def mean(self) -> Float:
        """Mean of the training pixels (after division by ``unit``); empty per image."""
        return self.statistics.mean if self.statistics else np.zeros(0)

    @property
    def std(self) -> Float:
        """Population deviation of the training pixels (after ``unit``); empty per image."""
        return self.statistics.std if self.statistics else np.zeros(0)

    @property
    def scale(self) -> Float:
        """The factor in ``y ≈ x·scale + offset``; empty per image."""
        if self.statistics is None:
            return np.zeros(0)
        return 1.0 / (self.unit * self._divisor(self.statistics))

    @property
    def offset(self) -> Float:
        """The term in ``y ≈ x·scale + offset``; empty per image."""
        if self.statistics is None:
            return np.zeros(0)
        return 0.0 - self._shift(self.statistics) / self._divisor(self.statistics)

    def apply(self, raw: NDArray[Any], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Scale raw pixels.

        Parameters
        ----------
        raw : ndarray, shape (N, H, W, C) or (H, W, C)
            Raw pixels of the type that was fitted.
        dtype : dtype
            Of the result: float32 or float16.

        Returns
        -------
        ndarray of `dtype`, the shape of `raw`
            ``((x / unit) − shift) / divisor`` in float64, rounded once.

        Raises
        ------
        UsageError
            When `raw` has another type or shape than the images that were fitted, or values that
            `dtype` cannot hold.
        """
        raw = np.asarray(raw)
        if raw.dtype != np.dtype(self.raw_dtype):
            raise UsageError(
                f"scaling.apply got {raw.dtype} pixels: expected {self.raw_dtype}, as fitted"
            )
        if np.dtype(dtype) not in (np.float16, np.float32, np.float64):
            raise UsageError(f"scaling.apply to {np.dtype(dtype)}: expected a floating-point type")
        scaled, _ = self.apply_with_statistics(self._batch(raw), dtype)
        return scaled.reshape(raw.shape)

    def _batch(self, images: NDArray[Any]) -> NDArray[Any]:
        """One image as a batch of one; images of another shape than fitted are refused."""
        fitted = () if self.statistics is None else self.statistics.mean.shape
        own = fitted if len(fitted) == 3 or fitted[:1] != (1,) else ()  # (1,) fits any shape
        if images.ndim not in (3, 4) or (own and images.shape[-len(own) :] != own):
            shape = "(…, H, W, C)" if not own else f"(…, {', '.join(map(str, own))})"
            raise UsageError(f"images of {images.shape}: expected {shape}, as fitted")
        return images[None] if images.ndim == 3 else images

    def apply_with_statistics(
        self, raw: NDArray[Any], dtype: DTypeLike
    ) -> tuple[NDArray[Any], Statistics | None]:
        """Scale; per image also return each image's own statistics.

        Parameters
        ----------
        raw : ndarray, shape (N, H, W, C)
            Raw pixels of the type that was fitted.
        dtype : dtype
            Of the result: float32 or float16.

        Returns
        -------
        scaled : ndarray of `dtype`, the shape of `raw`
            As `apply` gives it.
        statistics : Statistics or None
            Per image each image's own, shape (N, 1, 1, 1); otherwise None.

        Raises
        ------
        UsageError
            When `dtype` cannot hold the values.
        """
        if self.per == "image":
            own = moments_of(raw, "image").statistics(self.unit)
            return _rounded(self._exact(raw, own), dtype), own
        if self._table is None or np.dtype(dtype) not in self._table:
            return _rounded(self._exact(raw, self.statistics), dtype), None
        table = self._table[np.dtype(dtype)]
        scaled = np.empty(raw.shape, dtype=dtype)
        if len(table) == 1:  # one statistic for all channels
            return np.take(table[0], raw, out=scaled, mode="clip"), None
        for channel, values in enumerate(table):
            scaled[..., channel] = np.take(values, raw[..., channel], mode="clip")
        return scaled, None

    def stored_of(self, own: Statistics) -> dict[str, Float]:
        """Per image: what is stored as ``mean`` and ``std``, from which `invert` goes back.

        Parameters
        ----------
        own : Statistics
            Each image's own, shape (N, 1, 1, 1).

        Returns
        -------
        dict of ndarray
            ``mean`` and ``std``, float64 (N,); of floats that are normalized, their minimum and
            what lies between it and their maximum.
        """
        if MODES[self.mode].integers_need_only_unit and not self._only_unit():
            return {"mean": own.minimum.reshape(-1), "std": (own.maximum - own.minimum).reshape(-1)}
        return {"mean": own.mean.reshape(-1), "std": own.std.reshape(-1)}

    def shift_and_divisor(self, raw: Statistics) -> tuple[Float, Float]:
        """What is subtracted and what is divided by, for raw pixels of these statistics.

        Parameters
        ----------
        raw : Statistics
            Of the raw pixels, after division by ``unit``.

        Returns
        -------
        shift : ndarray of float64
            Of the shape of the statistics.
        divisor : ndarray of float64
            Likewise; never 0.
        """
        return self._shift(raw), self._divisor(raw)

    def scaled_statistics(self, raw: Statistics) -> Statistics:
        """The statistics of what is stored, but for rounding, from those of the raw pixels.

        Parameters
        ----------
        raw : Statistics
            Of the raw pixels, after division by ``unit``.

        Returns
        -------
        Statistics
            Of the same shape.
        """
        shift, divisor = self.shift_and_divisor(raw)
        mean, low, high = ((x - shift) / divisor for x in (raw.mean, raw.minimum, raw.maximum))
        return Statistics(mean, raw.std / divisor, low, high)

    def is_exact(self, dtype: DTypeLike) -> bool:
        """Whether `invert` gives every raw pixel back from values that are stored as `dtype`.

        Rounding moves y = (x' − shift) / divisor by no more than 2**-bits of itself, so x by no
        more than 2**-bits of the range of its type, which must be less than half a step: so 8
        bits come back from float16 and float32, 16 bits from float32. Floats come back but for
        rounding.

        Parameters
        ----------
        dtype : dtype
            float16, float32 or float64.

        Returns
        -------
        bool
            Of floats always False.
        """
        raw, bits = np.dtype(self.raw_dtype), np.finfo(np.dtype(dtype)).nmant + 1
        return raw.kind in "ui" and 8 * raw.itemsize + SURE_BITS <= bits

    def invert(
        self, scaled: NDArray[Any], mean: Float | None = None, std: Float | None = None
    ) -> NDArray[Any]:
        """Raw pixels from scaled ones, rounded to the raw type's nearest value.

        `is_exact` tells whether they are the very pixels that were scaled.

        Parameters
        ----------
        scaled : ndarray of float, shape (N, H, W, C) or (H, W, C)
            Stored values.
        mean, std : ndarray of float64, shape (N,)
            Per image only: each image's own statistics, as the entry stores them.

        Returns
        -------
        ndarray of the raw type, the shape of `scaled`
            Of integers, the very pixels that were scaled, where the stored type is fine enough.

        Raises
        ------
        UsageError
            When `scaled` has another shape than was fitted; per image, when `mean` and `std` are
            missing.
        """
        shape, scaled = scaled.shape, self._batch(np.asarray(scaled))
        statistics = self.statistics or statistics_per_image(mean, std)
        exact = scaled.astype(np.float64) * self._divisor(statistics) + self._shift(statistics)
        if np.dtype(self.raw_dtype).kind not in "ui":
            return (exact * self.unit).astype(self.raw_dtype).reshape(shape)
        limits = np.iinfo(self.raw_dtype)
        raw = np.clip(np.rint(exact * self.unit), limits.min, limits.max)
        return raw.astype(self.raw_dtype).reshape(shape)

    @cached_property
    def _table(self) -> dict[np.dtype[Any], NDArray[Any]] | None:
        """The stored value of every raw value, (1 or C, 2**bits), for each stored type."""
        raw = np.dtype(self.raw_dtype)
        if self.per not in ("dataset", "channel") or raw.kind != "u":
            return None
        every = np.arange(2 ** min(8 * raw.itemsize, TABLE_BITS), dtype=raw)
        exact = self._exact(every[:, None], self.statistics).T
        with np.errstate(over="ignore"):  # a value that no pixel has may overflow unharmed
            tables = {np.dtype(t): np.ascontiguousarray(exact.astype(t)) for t in ("f2", "f4")}
        return {t: table for t, table in tables.items() if np.isfinite(table).all()}

    def _exact(self, raw: NDArray[Any], statistics: Statistics | None) -> Float:
        """``((x / unit) − shift) / divisor`` in float64, each step rounded as written."""
        assert statistics is not None  # only per image has none, and it brings its own
        exact = raw.astype(np.float64)
        if self.unit != 1:
            exact /= self.unit
        return (exact - self._shift(statistics)) / self._divisor(statistics)

    def _only_unit(self) -> bool:
        return MODES[self.mode].integers_need_only_unit and np.dtype(self.raw_dtype).kind in "ui"

    def _shift(self, statistics: Statistics) -> Float:
        if self._only_unit():
            return np.zeros_like(statistics.mean)
        return MODES[self.mode].shift(statistics)

    def _divisor(self, statistics: Statistics) -> Float:
        divide = MODES[self.mode].divisor
        if self._only_unit() or divide is None:
            return np.ones_like(statistics.mean)
        return _ones_for_zeros(divide(statistics))


def effective(mode: str, per: str, rescale: bool, dtype: DTypeLike) -> tuple[str, bool]:
    """The `per` and `rescale` that really decide the stored bytes, for this mode and raw type.

    Raises
    ------
    UsageError
        For a mode or a `per` that does not exist.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if per not in PER:
        raise unknown("--per", per, PER)
    integers = np.dtype(dtype).kind in "ui"
    if integers and MODES[mode].integers_need_only_unit:
        return "dataset", True
    return per, rescale and integers


def _rounded(exact: Float, dtype: DTypeLike) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    if not np.isfinite(rounded).all():
        largest = float(np.abs(exact).max())
        raise UsageError(
            f"scaled values reach ±{largest:.6g}, more than {np.dtype(dtype)} can hold",
            "use --dtype float32, or --rescale",
        )
    return rounded


def statistics_per_image(mean: Float | None, std: Float | None) -> Statistics:
    """Each image's own statistics, as far as what is stored beside it tells them."""
    if mean is None or std is None:
        raise UsageError(
            "a scaling per image is inverted with each image's own mean and std",
            "pass mean=split.mean, std=split.std of the rows",
        )
    own = np.asarray(mean, np.float64).reshape(-1, 1, 1, 1)
    spread = np.asarray(std, np.float64).reshape(-1, 1, 1, 1)
    return Statistics(own, spread, minimum=own, maximum=own + spread)
