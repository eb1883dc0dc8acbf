"""Scale pixels, and invert the scaling.

The stored value of a raw pixel x is ``((x / unit) − shift) / divisor``, computed in float64 in
this order and rounded once to the stored type. ``unit`` is the integer type's maximum where the
recipe rescales and 1 otherwise; ``shift`` and ``divisor`` come from the mode. A scaling may turn
the channels round and clip ``x / unit`` before, and map what comes out to a range behind that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self  # Any: raw and stored pixels of whichever type

from pixelprep.errors import UsageError, unknown_choice
from pixelprep.numerics.checks import CHECKS
from pixelprep.numerics.fitted import Statistics, check_images, unknown
from pixelprep.numerics.lazy import np
from pixelprep.numerics.modes import DEFAULT_QUANTILES, Mode, check_taken
from pixelprep.numerics.modes import MODES as MODES  # with `PER` for all that scale
from pixelprep.numerics.modes import PER as PER
from pixelprep.numerics.presets import preset_name
from pixelprep.views import View

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from pixelprep.numerics.fitted import Float

# What a recipe may have beside mode, `per` and constants; each is a field of `Scaling`, too.
FORM = ("channel_order", "limits", "target_range", "quantiles", "clip")
GUARD_BITS = 2  # bits beyond a raw integer's, so that rounding errors stay below half a step
TABLE_BITS = 16  # integers up to this width are scaled by a table of all their values


def _ones_for_zeros(divisor: Float) -> Float:
    """Replace 0 by 1: dividing a constant pixel by 1 leaves it as it is."""
    return np.where(divisor == 0, 1.0, divisor)


def _bits(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the unsigned type as wide as this one, of the same byte order."""
    return np.dtype(f"{dtype.byteorder}u{dtype.itemsize}")


def rescale_unit(dtype: DTypeLike, rescale: bool) -> int:
    """Return what pixels of this type are divided by first: the type's maximum, or 1."""
    kind, size = kind_and_bytes(dtype)
    return (1 << 8 * size - (kind == "i")) - 1 if rescale and kind in "ui" else 1


def kind_and_bytes(dtype: DTypeLike) -> tuple[str, int]:
    """Return the kind of a type (u, i or f, as in NumPy) and its bytes, which its name tells."""
    if isinstance(dtype, str) and (named := re.fullmatch(r"(u|i|f)(?:int|nt|loat)(\d+)", dtype)):
        return named[1], int(named[2]) // 8
    return np.dtype(dtype).kind, np.dtype(dtype).itemsize


@dataclass(frozen=True)
class Scaling(View):
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
    channel_order : str or None
        ``"bgr"``: channels are turned round before all else, and statistics are in that order.
    limits : str or None
        ``"data"``: integers are normalized by the extremes of train, or per image of each, not of
        their type.
    target_range : tuple of float or None
        What 0 and 1 of the formula become, if not themselves.
    quantiles : tuple of float or None
        Which quantiles a robust scaling was fitted to.
    clip : bool or None
        Whether pixels are brought between these quantiles first.
    """

    mode: str
    per: str
    unit: int
    raw_dtype: str
    statistics: Statistics | None
    fixed: bool = False
    channel_order: str | None = None
    limits: str | None = None
    target_range: tuple[float, ...] | None = None
    quantiles: tuple[float, ...] | None = None
    clip: bool | None = None

    @classmethod
    def fit(
        cls,
        images: NDArray[Any],
        mode: str,
        *,
        per: str = "channel",
        rescale: bool = False,
        limits: str | None = None,
        range: tuple[float, float] | None = None,
        quantiles: tuple[float, float] | None = None,
        clip: bool = False,
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
        limits : {"data"}, optional
            Normalize integers by the extremes of these images, not of their type.
        range : tuple of float, optional
            Normalize to this range (default: 0 to 1).
        quantiles : tuple of float, optional
            Those of a robust scaling (default: 0.25 and 0.75).
        clip : bool
            Bring pixels between these quantiles first, which `invert` cannot undo.

        Returns
        -------
        Scaling
            It applies to raw pixels of this type and, per channel and per pixel, of this shape.

        Raises
        ------
        UsageError
            When the mode or `per` does not exist, does not take what is given beside it, or that is
            no range, or no two quantiles.
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
        given: dict[str, Any] = {"limits": limits, "range": range, "quantiles": quantiles}
        told = {name: value for name, value in given.items() if value is not None}
        given |= {name: CHECKS[name](name, value) for name, value in told.items()} | {"clip": clip}
        check_taken(mode, given)
        form = form_of(mode, images.dtype, **given)
        per, rescale = normalize_options(mode, per, rescale, images.dtype, form["limits"])
        if MODES[mode].is_given:
            raise UsageError(f"`mode={mode}`: is given, not fitted: expected another mode")
        from pixelprep.numerics.statistics import moments_of  # what is fitted needs it not

        check_images("Scaling.fit", images.shape, images.dtype)
        unit, shares = rescale_unit(images.dtype, rescale), form["quantiles"]
        moments = moments_of(images, per, counted=shares is not None)
        statistics = moments.statistics(unit, shares)
        own = None if per == "image" else statistics
        return cls(mode, per, unit, images.dtype.name, own, **form)

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
        low, high = self.target_range or (0.0, 1.0)
        return (high - low) / (self.unit * divisor)

    @property
    def offset(self) -> Float:
        """The term in ``y ≈ x·scale + offset``; empty per image."""
        if self.statistics is None:
            return np.zeros(0)
        shift, divisor = shift_and_divisor(self, self.statistics)
        low, high = self.target_range or (0.0, 1.0)
        return low - (high - low) * (shift / divisor)

    def apply(self, raw: NDArray[Any], dtype: DTypeLike = "float32") -> NDArray[Any]:
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
            ``((x / unit) − shift) / divisor`` in float64, rounded once; channels turned round,
            pixels clipped and values mapped to a range where the scaling says so.

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

    def __getstate__(self) -> dict[str, Any]:
        """Leave out tables, which may be large and are computed again."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def is_exact(self, dtype: DTypeLike) -> bool:
        """Return whether `invert` recovers every raw pixel exactly from values stored as `dtype`.

        Rounding moves y = (x' − shift) / divisor by at most 2**-bits of itself, so x by at most
        2**-bits of its type's range, which must be less than half a step. So 8-bit pixels are
        recovered from float16 and float32, and 16-bit pixels from float32. A range far from 0 costs
        bits, given constants may cost any number (all values are tried), and a clip is for good.

        Parameters
        ----------
        dtype : dtype
            float16, float32 or float64.

        Returns
        -------
        bool
            False for floats, which are recovered up to rounding.
        """
        raw, kind = np.dtype(self.raw_dtype), np.finfo(np.dtype(dtype))
        if self.clip or raw.kind not in "ui":
            return False
        if self.fixed:
            return self._tells_apart(np.dtype(dtype))
        low, high = self.target_range or (0.0, 1.0)
        far = max(abs(low), abs(high)) / (high - low) if self.target_range else 0.0
        needed = 8 * raw.itemsize + GUARD_BITS
        steps = 2.0**needed * float(kind.smallest_subnormal) <= high - low
        return bool(steps and needed + np.log2(1 + far) <= kind.nmant + 1)

    def _tells_apart(self, dtype: np.dtype[Any]) -> bool:
        """Return whether every value that a raw pixel may have is recovered from this type."""
        limits = np.iinfo(self.raw_dtype)
        values = np.arange(limits.min, limits.max + 1, dtype=self.raw_dtype)
        raw = np.repeat(values, self.mean.size).reshape(-1, 1, 1, self.mean.size)
        with np.errstate(over="ignore", invalid="ignore"):
            stored = self._exact(raw, self.statistics).astype(dtype)
            return bool(np.isfinite(stored).all() and (restored(self, stored) == raw).all())

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
            missing, or not one an image; when pixels were clipped.
        """
        if self.clip:
            raise UsageError(f"scaling.invert: {CLIPPED}", CLIPPED_HINT)
        return restored(self, scaled, mean, std)

    def layer(self, framework: str, dtype: DTypeLike = "float32") -> Any:
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
            rounding, as it knows the images' shape only when it runs; so is what JAX compiles (also
            for Keras), which may multiply by the reciprocal of a constant that is divided by.

        Raises
        ------
        UsageError, MissingExtraError
            When there is no such framework; when it is not installed.
        """
        layers = import_module("pixelprep.numerics.layers")  # by its name, as it needs this module
        return layers.layer_of(self, framework, dtype)

    @cached_property
    def _tables(self) -> dict[np.dtype[Any], NDArray[Any]] | None:
        """The stored value of every raw value, (1 or C, 2**bits), by stored type.

        They are in the order of their bits, so that negative ones come last.
        """
        raw = np.dtype(self.raw_dtype)
        if self.per not in ("dataset", "channel") or raw.kind not in "ui":
            return None
        raw_values = np.arange(2 ** min(8 * raw.itemsize, TABLE_BITS), dtype=_bits(raw)).view(raw)
        exact = self._exact(raw_values[:, None], self.statistics).T
        with np.errstate(over="ignore"):  # a value that no pixel has may well overflow
            tables = {np.dtype(t): np.ascontiguousarray(exact.astype(t)) for t in ("f2", "f4")}
        return {t: table for t, table in tables.items() if np.isfinite(table).all()}

    @cached_property
    def _pairs(self) -> dict[np.dtype[Any], NDArray[Any]]:
        """The stored values of every two neighbouring bytes, as one number: half the look-ups."""
        if self.raw_dtype not in ("uint8", "int8"):
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
        if self.clip:
            exact = np.clip(exact, statistics.low, statistics.high)
        shift, divisor = shift_and_divisor(self, statistics)
        scaled: Float = to_range(self, (exact - shift) / divisor)
        return scaled


CLIPPED = "pixels were clipped, and what was cut off cannot be had back"
CLIPPED_HINT = "prepare with `storage=raw`, which keeps the raw pixels, or without `clip`"


def why_inexact(scaling: Scaling, dtype: DTypeLike) -> str:
    """Say why raw pixels are not recovered exactly from values stored as `dtype`."""
    if scaling.clip:
        return CLIPPED
    return f"{scaling.raw_dtype} pixels cannot be recovered exactly from {np.dtype(dtype)}"


def to_range(
    scaling: Scaling,
    t: Any,
    rounded: Callable[[Any], Any] = lambda one: one,
    number: Callable[[float], Any] = lambda one: np.float64(one),
) -> Any:
    """Map what came out of the formula to the scaling's range, exactly at 0 and 1.

    Plain arithmetic, of a framework's tensors too. Of one whose compiler adds a product before it
    is rounded, `rounded` sees to it that it is. `number` makes numbers of the type of `t`.
    """
    if scaling.target_range is None:
        return t
    low, high = map(number, scaling.target_range)
    return rounded((-t + number(1)) * low) + rounded(t * high)  # a tensor stands before numbers


def from_range(scaling: Scaling, y: Float) -> Float:
    """Undo `to_range`, but for rounding."""
    if scaling.target_range is None:
        return y
    low, high = scaling.target_range
    return (y - low) / (high - low)


def describe(scaling: Scaling) -> str:
    """Return the formula of a scaling, and all that it does beside it, for people."""
    parts = [MODES[scaling.mode].formula]
    if scaling.unit != 1 and not MODES[scaling.mode].uses_range:
        parts.append(f"of pixels divided by {scaling.unit} first")
    return ", ".join([*parts, *details(scaling)])


def details(scaling: Scaling) -> list[str]:
    """Return what a scaling does beside its mode's formula, for people."""
    found = []
    if MODES[scaling.mode].is_given:
        units = "max" if scaling.unit != 1 else "pixel"
        mean, std = (tuple(one.tolist()) for one in (scaling.mean, scaling.std))
        name = preset_name(mean, std, units, scaling.channel_order)
        found += [f"the constants of {name}"] if name else []
    if scaling.channel_order is not None:
        found.append(f"channels turned round to {scaling.channel_order.upper()}")
    if scaling.limits is not None:
        whose = "each image" if scaling.per == "image" else "train"
        found.append(f"by the extremes of {whose}")
    if scaling.target_range is not None:
        found.append("to {:g} to {:g}".format(*scaling.target_range))
    if scaling.quantiles is not None:
        found.append("quantiles {:g} and {:g}".format(*scaling.quantiles))
    if scaling.clip:
        found.append("pixels clipped between the quantiles first")
    return found


def restored(
    scaling: Scaling, scaled: NDArray[Any], mean: Float | None = None, std: Float | None = None
) -> NDArray[Any]:
    """Recover raw pixels as `Scaling.invert` does, clipped ones as the clip left them."""
    scaled = np.asarray(scaled)
    shape, scaled = scaled.shape, scaling._batch(scaled)
    statistics = scaling.statistics or statistics_per_image(mean, std, images=len(scaled))
    shift, divisor = shift_and_divisor(scaling, statistics)
    exact = from_range(scaling, scaled.astype(np.float64))
    exact = (exact * divisor + shift) * scaling.unit
    if np.dtype(scaling.raw_dtype).kind in "ui":
        limits = np.iinfo(scaling.raw_dtype)
        exact = np.clip(np.rint(exact), limits.min, limits.max)
    raw = in_order(scaling, exact.astype(scaling.raw_dtype)).reshape(shape)
    return np.ascontiguousarray(raw)  # PyTorch takes no view of channels turned round


def in_order(scaling: Scaling, images: NDArray[Any]) -> NDArray[Any]:
    """Turn the channels round if the scaling does: from the raw to the stored order, or back."""
    return images[..., ::-1] if scaling.channel_order == "bgr" else images


def fixed_scaling(
    mode: str,
    per: str,
    unit: int,
    raw_dtype: str,
    shift: Sequence[float],
    divisor: Sequence[float],
    bounds: tuple[Sequence[float], Sequence[float]] | None = None,
    **form: Any,
) -> Scaling:
    """Return the scaling with this shift and divisor, of one number or, per channel, of each.

    With `bounds` it brings pixels between these first; `form` may have what is in `FORM`.
    """
    low, high = bounds or ((), ())
    given = Statistics(
        mean=np.array(shift, np.float64),
        std=np.array(divisor, np.float64),
        minimum=unknown(),  # which are for fitting alone
        maximum=unknown(),
        low=np.array(low, np.float64),
        high=np.array(high, np.float64),
    )
    return Scaling(mode, per, unit, raw_dtype, given, fixed=True, **form)


def table_of(scaling: Scaling, dtype: DTypeLike) -> NDArray[Any] | None:
    """Return the stored value of every raw value by its bits, (1 or C, 2**bits), as `dtype`.

    None where there is none: of floats, and per pixel or image.
    """
    return (scaling._tables or {}).get(np.dtype(dtype))


def apply_with_statistics(
    scaling: Scaling, raw: NDArray[Any], dtype: DTypeLike, out: NDArray[Any] | None = None
) -> tuple[NDArray[Any], Statistics | None]:
    """Scale raw pixels (N, H, W, C) of the fitted type and shape, as `Scaling.apply` does.

    Also return, per image, each image's own statistics (N, 1, 1, 1); otherwise None. A UsageError
    says that `dtype` (float32 or float16) cannot hold the values.
    """
    raw = in_order(scaling, raw)
    if scaling.per == "image":
        from pixelprep.numerics.statistics import moments_of  # as above

        own = moments_of(raw, "image").statistics(scaling.unit)
        return _rounded(scaling, scaling._exact(raw, own), dtype), own
    tables = scaling._tables
    if tables is None or np.dtype(dtype) not in tables:
        scaled = _rounded(scaling, scaling._exact(raw, scaling.statistics), dtype)
        return _put(scaled, out), None
    table, raw = tables[np.dtype(dtype)], raw.view(_bits(raw.dtype))
    scaled = np.empty(raw.shape, dtype=dtype) if out is None else out
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
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Scale integers (N, H, W, C) that were stored raw; per image with the columns beside them.

    The result, of type `dtype`, is put into `out` where it is given.
    """
    if scaling.per != "image":
        return apply_with_statistics(scaling, raw, dtype, out)[0]
    exact = scaling._exact(raw, statistics_per_image(mean, std))
    return _put(_rounded(scaling, exact, dtype), out)


def _put(found: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        return found
    out[...] = found
    return out


def shift_and_divisor(scaling: Scaling, statistics: Statistics) -> tuple[Float, Float]:
    """Return shift and divisor (never 0) after ``unit``, in the shape of the statistics."""
    if scaling.fixed:
        return statistics.mean, _ones_for_zeros(statistics.std)
    mode = MODES[scaling.mode]
    by_type = mode.uses_range and scaling.limits is None
    if by_type and np.dtype(scaling.raw_dtype).kind in "ui":
        zeros, ones = np.zeros_like(statistics.mean), np.ones_like(statistics.mean)
        statistics = Statistics(zeros, ones, minimum=zeros, maximum=ones)  # divided by `unit`
    if mode.divisor is None:
        return mode.shift(statistics), np.ones_like(statistics.mean)
    return mode.shift(statistics), _ones_for_zeros(mode.divisor(statistics))


def scaled_statistics(scaling: Scaling, raw: Statistics) -> Statistics:
    """Return the statistics of the scaled pixels, up to rounding, from those of the raw ones."""
    shift, divisor = shift_and_divisor(scaling, raw)
    each = (raw.mean, raw.minimum, raw.maximum)
    mean, low, high = (to_range(scaling, (x - shift) / divisor) for x in each)
    start, end = scaling.target_range or (0.0, 1.0)
    return Statistics(mean, raw.std / divisor * (end - start), low, high)


def per_image_columns(scaling: Scaling, own: Statistics) -> dict[str, Float]:
    """Return the columns ``mean`` and ``std``, float64 (N,), that `Scaling.invert` needs.

    For normalized pixels they hold each image's minimum, and its maximum minus its minimum.
    """
    if MODES[scaling.mode].uses_range:
        return {"mean": own.minimum.reshape(-1), "std": (own.maximum - own.minimum).reshape(-1)}
    return {"mean": own.mean.reshape(-1), "std": own.std.reshape(-1)}


def form_of(
    mode: str,
    dtype: DTypeLike,
    *,
    channel_order: str | None = None,
    limits: str | None = None,
    range: tuple[float, ...] | None = None,
    quantiles: tuple[float, ...] | None = None,
    clip: bool = False,
) -> dict[str, Any]:
    """Return the values of `FORM` in effect for a mode that takes what is given, and a raw type."""
    target = tuple(float(one) + 0.0 for one in range or (0.0, 1.0))
    shares = tuple(float(one) + 0.0 for one in quantiles or DEFAULT_QUANTILES)
    return {
        "channel_order": channel_order,
        "limits": limits
        if kind_and_bytes(dtype)[0] in "ui"
        else None,  # of floats always the data's
        "target_range": target if target != (0.0, 1.0) else None,
        "quantiles": shares if MODES[mode].uses_quantiles else None,
        "clip": clip or None,
    }


def normalize_options(
    mode: str, per: str, rescale: bool, dtype: DTypeLike, limits: str | None = None
) -> tuple[str, bool]:
    """Return the `per` and `rescale` in effect for this mode and raw type; refuse unknown ones."""
    if mode not in MODES:
        raise unknown_choice("mode", mode, MODES)
    if per not in PER:
        raise unknown_choice("per", per, PER)
    integers = kind_and_bytes(dtype)[0] in "ui"
    if integers and MODES[mode].uses_range:
        return (per, False) if limits else ("dataset", True)
    own = MODES[mode].uses_quantiles or MODES[mode].is_given
    if own and per not in ("dataset", "channel"):
        raise UsageError(f"`per={per}`: `mode={mode}` is per channel or per dataset")
    if MODES[mode].uses_quantiles and not integers:
        exact = f"exact quantiles are taken of integers of 8 or 16 bits, got {np.dtype(dtype)}"
        raise UsageError(f"`mode={mode}`: {exact}", "choose another `mode`")
    if own:
        return per, rescale and integers
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


def _rounded(scaling: Scaling, exact: Float, dtype: DTypeLike) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    if not np.isfinite(exact).all():
        raise UsageError("images hold non-finite values: expected finite numbers")
    if not np.isfinite(rounded).all():
        largest = float(np.abs(exact).max())
        message = f"scaled values reach ±{largest:.6g}, more than {np.dtype(dtype)} can hold"
        raise UsageError(message, _way_to_fit(scaling, np.dtype(dtype)))
    return rounded


def _way_to_fit(scaling: Scaling, dtype: np.dtype[Any]) -> str | None:
    """Return what surely makes scaled values smaller, or their type wider."""
    mode = MODES[scaling.mode]
    ways = ["use `dtype=float32`"] if dtype != np.float32 else []
    if mode.is_given:
        ways.append("a larger `std`")
    elif scaling.fixed:
        pass  # all but the type is another entry's
    elif scaling.target_range is not None:
        ways.append("a smaller `range`")
    elif mode.divisor is None and scaling.unit == 1 and np.dtype(scaling.raw_dtype).kind in "ui":
        ways.append("divide integers first: `rescale=True`")
    return "; or ".join(ways) or None


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
