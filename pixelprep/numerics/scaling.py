"""Scale pixels, and invert the scaling.

The stored value of a raw pixel x is ``((x / unit) − shift) / divisor``, computed in float64 in
this order and rounded once to the stored type. ``unit`` is the integer type's maximum where the
recipe rescales and 1 otherwise; ``shift`` and ``divisor`` come from the mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Self  # Any: raw and stored pixels of whichever type

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pixelprep.errors import UsageError, unknown_choice
from pixelprep.numerics.modes import MODES as MODES  # with `PER` for all that scale
from pixelprep.numerics.modes import PER as PER
from pixelprep.numerics.modes import Mode
from pixelprep.numerics.statistics import Float, Statistics, check_images, moments_of

GUARD_BITS = 2  # bits beyond a raw integer's, so that rounding errors stay below half a step
TABLE_BITS = 16  # integers up to this width are scaled by a table of all their values


def _ones_for_zeros(divisor: Float) -> Float:
    """Replace 0 by 1: dividing a constant pixel by 1 leaves it as it is."""
    return np.where(divisor == 0, 1.0, divisor)


def rescale_unit(dtype: DTypeLike, rescale: bool) -> int:
    """Return what pixels of this type are divided by first: the type's maximum, or 1."""
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
        One of `PER`: which pixels share one statistic.
    unit : int
        What pixels are divided by first: their type's maximum, or 1.
    raw_dtype : str
        The type of the raw pixels, such as ``"uint8"``.
    statistics : Statistics or None
        The statistics of the training split; None per image, where each image has its own.
    fixed : bool
        Whether shift and divisor were given, not fitted: they are `mean` and `std` then.
    """

    mode: str
    per: str
    unit: int
    raw_dtype: str
    statistics: Statistics | None
    fixed: bool = False

    @classmethod
    def fit(
        cls, images: NDArray[Any], mode: str, *, per: str = "channel", rescale: bool = False
    ) -> Self:
        """Fit a scaling to images in memory.

        Parameters
        ----------
        images : ndarray, shape (N, H, W, C)
            Raw pixels, N ≥ 1: integers of 8 or 16 bits, or finite floats.
        mode : str
            The scaling, one of `MODES`.
        per : str
            Which pixels share one statistic, one of `PER`.
        rescale : bool
            Divide integers by their type's maximum first.

        Returns
        -------
        Scaling
            It applies to raw pixels of this type and, per channel and per pixel, of this shape.

        Raises
        ------
        UsageError
            When the mode or `per` does not exist.
        SourceError
            When the images have another type or shape, or are floats that are non-finite or too
            large.

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
        statistics = moments_of(images, per).statistics(unit)
        return cls(mode, per, unit, images.dtype.name, None if per == "image" else statistics)

    @property
    def mean(self) -> Float:
        """The mean of the training pixels after division by ``unit``; empty per image.

        Of a `fixed` scaling, what is subtracted.
        """
        return self.statistics.mean if self.statistics else np.zeros(0)

    @property
    def std(self) -> Float:
        """Their population standard deviation after division by ``unit``; empty per image.

        Of a `fixed` scaling, what is divided by.
        """
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
            The type of the result: float32 or float16.

        Returns
        -------
        ndarray of `dtype`, the shape of `raw`
            ``((x / unit) − shift) / divisor`` in float64, rounded once.

        Raises
        ------
        UsageError
            When `raw` has another type or shape than was fitted, or its scaled values are too
            large for `dtype`.
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
        """Make one image a batch of one; refuse images of another shape than was fitted."""
        has_shape = self.statistics is not None and self.per in ("channel", "pixel")
        fitted = self.mean.shape if has_shape else ()
        if images.ndim not in (3, 4) or (fitted and images.shape[-len(fitted) :] != fitted):
            shape = f"(…, {', '.join(map(str, fitted))})" if fitted else "(…, H, W, C)"
            raise UsageError(f"images of {images.shape}: expected {shape}, as fitted")
        return images[None] if images.ndim == 3 else images

    def is_exact(self, dtype: DTypeLike) -> bool:
        """Return whether `invert` recovers every raw pixel exactly from values stored as `dtype`.

        Rounding moves y = (x' − shift) / divisor by at most 2**-bits of itself, so x by at most
        2**-bits of its type's range, which must be less than half a step. So 8-bit pixels are
        recovered from float16 and float32, and 16-bit pixels from float32.

        Parameters
        ----------
        dtype : dtype
            float16, float32 or float64.

        Returns
        -------
        bool
            False for floats, which are recovered up to rounding.
        """
        raw, bits = np.dtype(self.raw_dtype), np.finfo(np.dtype(dtype)).nmant + 1
        return raw.kind in "ui" and 8 * raw.itemsize + GUARD_BITS <= bits

    def invert(
        self, scaled: NDArray[Any], mean: Float | None = None, std: Float | None = None
    ) -> NDArray[Any]:
        """Recover raw pixels from scaled ones, rounded to the raw type's nearest value.

        `is_exact` tells whether they equal the pixels that were scaled.

        Parameters
        ----------
        scaled : ndarray of float, shape (N, H, W, C) or (H, W, C)
            Stored values.
        mean, std : ndarray of float64, shape (N,)
            Per image only: each image's own statistics, as the entry stores them.

        Returns
        -------
        ndarray of the raw type, the shape of `scaled`
            The raw pixels.

        Raises
        ------
        UsageError
            When `scaled` has another shape than was fitted; per image, when `mean` and `std` are
            missing, or not one an image.
        """
        scaled = np.asarray(scaled)
        shape, scaled = scaled.shape, self._batch(scaled)
        statistics = self.statistics or statistics_per_image(mean, std, images=len(scaled))
        shift, divisor = shift_and_divisor(self, statistics)
        exact = scaled.astype(np.float64) * divisor + shift
        if np.dtype(self.raw_dtype).kind not in "ui":
            return (exact * self.unit).astype(self.raw_dtype).reshape(shape)
        limits = np.iinfo(self.raw_dtype)
        raw = np.clip(np.rint(exact * self.unit), limits.min, limits.max)
        return raw.astype(self.raw_dtype).reshape(shape)

    def layer(self, framework: str, dtype: DTypeLike = np.float32) -> Any:
        """Return the scaling as a layer, to stand behind an augmentation of raw pixels.

        Parameters
        ----------
        framework : {"keras", "torch", "jax"}
            Of which the layer is: a ``keras.Model`` of Keras's own operations, a
            ``torch.nn.Module``, or a function of a JAX array.
        dtype : dtype
            The type of the result: float32 or float16.

        Returns
        -------
        keras.Model, torch.nn.Module or callable
            Of raw pixels (N, H, W, C), integers or floats in the raw pixels' unit, the values of
            `apply`: in float64, rounded once. JAX without ``jax_enable_x64`` has only float32, and
            so is right up to that, but for raw integers of 8 and 16 bits that are scaled per
            dataset or channel, which are exact. Per image, Keras is right up to float64's
            rounding, as it knows the images' shape only when it runs.

        Raises
        ------
        UsageError, MissingExtraError
            When there is no such framework; when it is not installed.
        """
        layers = import_module("pixelprep.numerics.layers")  # by its name, as it needs this module
        return layers.layer_of(self, framework, dtype)

    @cached_property
    def _tables(self) -> dict[np.dtype[Any], NDArray[Any]] | None:
        """The stored value of every raw value, (1 or C, 2**bits), by stored type."""
        raw = np.dtype(self.raw_dtype)
        if self.per not in ("dataset", "channel") or raw.kind != "u":
            return None
        raw_values = np.arange(2 ** min(8 * raw.itemsize, TABLE_BITS), dtype=raw)
        exact = self._exact(raw_values[:, None], self.statistics).T
        with np.errstate(over="ignore"):  # a value that no pixel has may well overflow
            tables = {np.dtype(t): np.ascontiguousarray(exact.astype(t)) for t in ("f2", "f4")}
        return {t: table for t, table in tables.items() if np.isfinite(table).all()}

    @cached_property
    def _pairs(self) -> dict[np.dtype[Any], NDArray[Any]]:
        """The stored values of every two neighbouring bytes, as one number: half the look-ups."""
        if self.raw_dtype != "uint8":
            return {}
        both = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
        return {
            dtype: table[0][both].view(f"u{2 * dtype.itemsize}").reshape(-1)
            for dtype, table in (self._tables or {}).items()
            if len(table) == 1
        }

    def _exact(self, raw: NDArray[Any], statistics: Statistics | None) -> Float:
        """Return ``((x / unit) − shift) / divisor`` in float64, each step rounded as written."""
        assert statistics is not None  # it is only per image, where the caller brings each image's
        exact = raw.astype(np.float64)
        if self.unit != 1:
            exact /= self.unit
        shift, divisor = shift_and_divisor(self, statistics)
        return (exact - shift) / divisor


def fixed_scaling(
    mode: str, per: str, unit: int, raw_dtype: str, shift: Sequence[float], divisor: Sequence[float]
) -> Scaling:
    """Return the scaling with this shift and divisor, of one number or, per channel, of each."""
    unknown = np.zeros(0)  # minimum and maximum, which are for fitting alone
    given = Statistics(np.array(shift, np.float64), np.array(divisor, np.float64), unknown, unknown)
    return Scaling(mode, per, unit, raw_dtype, given, fixed=True)


def table_of(scaling: Scaling, dtype: DTypeLike) -> NDArray[Any] | None:
    """Return the stored value of every raw value, (1 or C, 2**bits), as `dtype`.

    None where there is none: of floats, signed integers, and per pixel or image.
    """
    return (scaling._tables or {}).get(np.dtype(dtype))


def apply_with_statistics(
    scaling: Scaling, raw: NDArray[Any], dtype: DTypeLike
) -> tuple[NDArray[Any], Statistics | None]:
    """Scale raw pixels (N, H, W, C) of the fitted type and shape, as `Scaling.apply` does.

    Also return, per image, each image's own statistics (N, 1, 1, 1); otherwise None. A UsageError
    says that `dtype` (float32 or float16) cannot hold the values.
    """
    if scaling.per == "image":
        own = moments_of(raw, "image").statistics(scaling.unit)
        return _rounded(scaling._exact(raw, own), dtype), own
    tables = scaling._tables
    if tables is None or np.dtype(dtype) not in tables:
        return _rounded(scaling._exact(raw, scaling.statistics), dtype), None
    table = tables[np.dtype(dtype)]
    scaled = np.empty(raw.shape, dtype=dtype)
    pairs = scaling._pairs.get(np.dtype(dtype))
    if pairs is not None and raw.size % 2 == 0 and raw.flags.c_contiguous:
        two = raw.reshape(-1).view(np.uint16)
        np.take(pairs, two, out=scaled.reshape(-1).view(pairs.dtype), mode="clip")
        return scaled, None
    if len(table) == 1:  # one statistic for all channels
        return np.take(table[0], raw, out=scaled, mode="clip"), None
    for channel, values in enumerate(table):
        scaled[..., channel] = np.take(values, raw[..., channel], mode="clip")
    return scaled, None


def scale_stored(
    scaling: Scaling,
    raw: NDArray[Any],
    dtype: DTypeLike,
    mean: Float | None = None,
    std: Float | None = None,
) -> NDArray[Any]:
    """Scale integers (N, H, W, C) that were stored raw; per image with the columns beside them."""
    if scaling.per != "image":
        return apply_with_statistics(scaling, raw, dtype)[0]
    return _rounded(scaling._exact(raw, statistics_per_image(mean, std)), dtype)


def shift_and_divisor(scaling: Scaling, statistics: Statistics) -> tuple[Float, Float]:
    """Return shift and divisor (never 0) after ``unit``, in the shape of the statistics."""
    if scaling.fixed:
        return statistics.mean, _ones_for_zeros(statistics.std)
    mode = MODES[scaling.mode]
    if MODES[scaling.mode].uses_range and np.dtype(scaling.raw_dtype).kind in "ui":
        zeros, ones = np.zeros_like(statistics.mean), np.ones_like(statistics.mean)
        statistics = Statistics(zeros, ones, minimum=zeros, maximum=ones)  # divided by `unit`
    if mode.divisor is None:
        return mode.shift(statistics), np.ones_like(statistics.mean)
    return mode.shift(statistics), _ones_for_zeros(mode.divisor(statistics))


def scaled_statistics(scaling: Scaling, raw: Statistics) -> Statistics:
    """Return the statistics of the scaled pixels, up to rounding, from those of the raw ones."""
    shift, divisor = shift_and_divisor(scaling, raw)
    mean, low, high = ((x - shift) / divisor for x in (raw.mean, raw.minimum, raw.maximum))
    return Statistics(mean, raw.std / divisor, low, high)


def per_image_columns(scaling: Scaling, own: Statistics) -> dict[str, Float]:
    """Return the columns ``mean`` and ``std``, float64 (N,), that `Scaling.invert` needs.

    For normalized floats they hold each image's minimum, and its maximum minus its minimum.
    """
    if MODES[scaling.mode].uses_range and np.dtype(scaling.raw_dtype).kind == "f":
        return {"mean": own.minimum.reshape(-1), "std": (own.maximum - own.minimum).reshape(-1)}
    return {"mean": own.mean.reshape(-1), "std": own.std.reshape(-1)}


def normalize_options(mode: str, per: str, rescale: bool, dtype: DTypeLike) -> tuple[str, bool]:
    """Return the `per` and `rescale` in effect for this mode and raw type; refuse unknown ones."""
    if mode not in MODES:
        raise unknown_choice("mode", mode, MODES)
    if per not in PER:
        raise unknown_choice("per", per, PER)
    integers = np.dtype(dtype).kind in "ui"
    if integers and MODES[mode].uses_range:
        return "dataset", True
    if per == "image" and not MODES[mode].uses_range and _reads_range(MODES[mode]):
        kept = f"an entry has each image's mean and std, but {mode} needs its minimum or maximum"
        raise UsageError(f"`per=image`: {kept}", "choose another `per`")
    return per, rescale and integers


def _reads_range(mode: Mode) -> bool:
    """Return whether a mode's shift or divisor depends on minimum or maximum."""
    one, unknown = np.ones(1), np.full(1, np.nan)
    statistics = Statistics(one, one, minimum=unknown, maximum=unknown)
    functions = filter(None, (mode.shift, mode.divisor))
    return any(bool(np.isnan(function(statistics)).any()) for function in functions)


def _rounded(exact: Float, dtype: DTypeLike) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    if not np.isfinite(exact).all():
        raise UsageError("images hold non-finite values: expected finite numbers")
    if not np.isfinite(rounded).all():
        largest = float(np.abs(exact).max())
        raise UsageError(
            f"scaled values reach ±{largest:.6g}, more than {np.dtype(dtype)} can hold",
            "use `dtype=float32`; integers fit with `rescale=True`, too",
        )
    return rounded


def statistics_per_image(
    mean: Float | None, std: Float | None, *, images: int | None = None
) -> Statistics:
    """Return each image's statistics, as far as the columns stored beside it tell them.

    Of so many `images`, one mean for all of them is refused.
    """
    if mean is None or std is None:
        raise UsageError(
            "inverting a scaling per image needs each image's own mean and std",
            "pass mean=split.mean, std=split.std of the same rows",
        )
    shift = np.asarray(mean, np.float64).reshape(-1, 1, 1, 1)
    divisor = np.asarray(std, np.float64).reshape(-1, 1, 1, 1)
    if images is not None and (len(shift), len(divisor)) != (images, images):
        got = f"{len(shift)} of mean and {len(divisor)} of std for {images} images"
        raise UsageError(f"inverting a scaling per image got {got}: expected one an image")
    return Statistics(shift, divisor, minimum=shift, maximum=shift + divisor)
