"""The scalings: what is subtracted from pixels and what they are divided by, and the way back.

The stored value of a raw pixel x is ``((x / unit) − shift) / divisor``, computed in float64 in
this order and rounded once to the stored type. ``unit`` is the integer type's maximum where the
recipe rescales and 1 otherwise; ``shift`` and ``divisor`` come from the mode.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pixelprep.errors import UsageError, unknown_choice
from pixelprep.numerics.statistics import Float, Statistics, check_images, moments_of

PER = ("dataset", "channel", "pixel", "image")
GUARD_BITS = 2  # beyond those of raw integers, for rounding never to reach half a step of them
TABLE_BITS = 16  # integers up to this width are scaled by a table of all their values


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of scaling: what is subtracted and what is divided by, from the statistics.

    Plain arithmetic: `serving` does it on a framework's tensors too. No divisor is 1.

    ``of_range``: of minimum and range, which of integers are those of their type; otherwise of
    mean and deviation.
    """

    formula: str
    shift: Callable[[Statistics], Float]
    divisor: Callable[[Statistics], Float] | None = None
    uses_range: bool = False


def _ones_for_zeros(divisor: Float) -> Float:
    """A constant pixel has no spread to divide by; dividing it by 1 leaves it where it is."""
    return np.where(divisor == 0, 1.0, divisor)


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        "normalize": Mode(
            "x / maximum of the type; floats: (x - minimum) / (maximum - minimum)",
            shift=lambda s: s.minimum,
            divisor=lambda s: s.maximum - s.minimum,
            uses_range=True,
        ),
        "center": Mode("x - mean", shift=lambda s: s.mean),
        "standardize": Mode(
            "(x - mean) / std",
            shift=lambda s: s.mean,
            divisor=lambda s: s.std,
        ),
    }
)


def rescale_unit(dtype: DTypeLike, rescale: bool) -> int:
    """What pixels of this type are divided by first: the type's maximum, or 1."""
    kind = np.dtype(dtype)
    return int(np.iinfo(kind).max) if rescale and kind.kind in "ui" else 1


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
        per, rescale = normalize_options(mode, per, rescale, images.dtype)
        check_images("Scaling.fit", images.shape, images.dtype)
        unit = rescale_unit(images.dtype, rescale)
        found = moments_of(images, per).statistics(unit)
        fitted = None if per == "image" else found
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
        _, divisor = shift_and_divisor(self, self.statistics)
        return 1.0 / (self.unit * divisor)

    @property
    def offset(self) -> Float:
        """The term in ``y ≈ x·scale + offset``; empty per image."""
        if self.statistics is None:
            return np.zeros(0)
        shift, divisor = shift_and_divisor(self, self.statistics)
        return 0.0 - shift / divisor

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
        scaled, _ = apply_with_statistics(self, self._batch(raw), dtype)
        return scaled.reshape(raw.shape)

    def _batch(self, images: NDArray[Any]) -> NDArray[Any]:
        """One image as a batch of one; images of another shape than fitted are refused."""
        one_shape = self.statistics is not None and self.per in ("channel", "pixel")
        own = self.mean.shape if one_shape else ()
        if images.ndim not in (3, 4) or (own and images.shape[-len(own) :] != own):
            shape = "(…, H, W, C)" if not own else f"(…, {', '.join(map(str, own))})"
            raise UsageError(f"images of {images.shape}: expected {shape}, as fitted")
        return images[None] if images.ndim == 3 else images

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
        return raw.kind in "ui" and 8 * raw.itemsize + GUARD_BITS <= bits

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
        scaled = np.asarray(scaled)
        shape, scaled = scaled.shape, self._batch(scaled)
        statistics = self.statistics or statistics_per_image(mean, std)
        shift, divisor = shift_and_divisor(self, statistics)
        exact = scaled.astype(np.float64) * divisor + shift
        if np.dtype(self.raw_dtype).kind not in "ui":
            return (exact * self.unit).astype(self.raw_dtype).reshape(shape)
        limits = np.iinfo(self.raw_dtype)
        raw = np.clip(np.rint(exact * self.unit), limits.min, limits.max)
        return raw.astype(self.raw_dtype).reshape(shape)

    @cached_property
    def _tables(self) -> dict[np.dtype[Any], NDArray[Any]] | None:
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
        shift, divisor = shift_and_divisor(self, statistics)
        return (exact - shift) / divisor


def apply_with_statistics(
    scaling: Scaling, raw: NDArray[Any], dtype: DTypeLike
) -> tuple[NDArray[Any], Statistics | None]:
    """Scale pixels, and per image return each image's own statistics too.

    Parameters
    ----------
    scaling : Scaling
        A fitted scaling.
    raw : ndarray, shape (N, H, W, C)
        Raw pixels of the type and shape that were fitted.
    dtype : dtype
        Type of the result: float32 or float16.

    Returns
    -------
    scaled : ndarray of `dtype`, the shape of `raw`
        What `Scaling.apply` returns.
    statistics : Statistics or None
        Per image, the statistics of each, shape (N, 1, 1, 1); otherwise None.

    Raises
    ------
    UsageError
        When `dtype` cannot hold the values.
    """
    if scaling.per == "image":
        own = moments_of(raw, "image").statistics(scaling.unit)
        return _rounded(scaling._exact(raw, own), dtype), own
    tables = scaling._tables
    if tables is None or np.dtype(dtype) not in tables:
        return _rounded(scaling._exact(raw, scaling.statistics), dtype), None
    table = tables[np.dtype(dtype)]
    scaled = np.empty(raw.shape, dtype=dtype)
    if len(table) == 1:  # one statistic for all channels
        return np.take(table[0], raw, out=scaled, mode="clip"), None
    for channel, values in enumerate(table):
        scaled[..., channel] = np.take(values, raw[..., channel], mode="clip")
    return scaled, None


def shift_and_divisor(scaling: Scaling, statistics: Statistics) -> tuple[Float, Float]:
    """Return what is subtracted from raw pixels of these statistics, and what divides them.

    The statistics are those after division by ``unit``; both results have their shape, and the
    divisor is never 0.
    """
    mode = MODES[scaling.mode]
    if _only_unit(scaling):
        return np.zeros_like(statistics.mean), np.ones_like(statistics.mean)
    if mode.divisor is None:
        return mode.shift(statistics), np.ones_like(statistics.mean)
    return mode.shift(statistics), _ones_for_zeros(mode.divisor(statistics))


def scaled_statistics(scaling: Scaling, raw: Statistics) -> Statistics:
    """Return the statistics of the stored values, but for rounding, from those of raw pixels."""
    shift, divisor = shift_and_divisor(scaling, raw)
    mean, low, high = ((x - shift) / divisor for x in (raw.mean, raw.minimum, raw.maximum))
    return Statistics(mean, raw.std / divisor, low, high)


def per_image_columns(scaling: Scaling, own: Statistics) -> dict[str, Float]:
    """Return the columns ``mean`` and ``std``, float64 (N,), with which `invert` goes back.

    For normalized floats these hold each image's minimum, and its maximum less its minimum.
    """
    if MODES[scaling.mode].uses_range and not _only_unit(scaling):
        return {"mean": own.minimum.reshape(-1), "std": (own.maximum - own.minimum).reshape(-1)}
    return {"mean": own.mean.reshape(-1), "std": own.std.reshape(-1)}


def _only_unit(scaling: Scaling) -> bool:
    """Whether dividing by ``unit`` is all that this scaling does."""
    return MODES[scaling.mode].uses_range and np.dtype(scaling.raw_dtype).kind in "ui"


def normalize_options(mode: str, per: str, rescale: bool, dtype: DTypeLike) -> tuple[str, bool]:
    """The `per` and `rescale` that really decide the stored bytes, for this mode and raw type.

    Raises
    ------
    UsageError
        For a mode or a `per` that does not exist.
    """
    if mode not in MODES:
        raise unknown_choice("mode", mode, MODES)
    if per not in PER:
        raise unknown_choice("per", per, PER)
    integers = np.dtype(dtype).kind in "ui"
    if integers and MODES[mode].uses_range:
        return "dataset", True
    return per, rescale and integers


def _rounded(exact: Float, dtype: DTypeLike) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    if not np.isfinite(exact).all():
        raise UsageError("images hold values that are not finite: expected finite numbers")
    if not np.isfinite(rounded).all():
        largest = float(np.abs(exact).max())
        raise UsageError(
            f"scaled values reach ±{largest:.6g}, more than {np.dtype(dtype)} can hold",
            "use `dtype=float32`, or `rescale=True`",
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
