"""The formula of the stored values (data/FORMAT.md, section 3), on a framework's own tensors."""

import math
from typing import Any, Protocol  # Any: tensors of whichever framework

import numpy as np
from numpy.typing import DTypeLike

from pixelprep.numerics.scaling import MODES, Scaling, shift_and_divisor, to_range
from pixelprep.numerics.statistics import Statistics

MAX_EXACT = {"float64": 2**53, "float32": 2**24}  # whole numbers below are exact
# Leaves float16's 11 bits of 53, and of 24.
TO_HALF = {"float64": 2.0**42 + 1, "float32": 2.0**13 + 1}


class Tensors(Protocol):
    """What the formula needs of a framework, beside its tensors' arithmetic."""

    # The type that is computed in: float64 gives the stored values, float32 nearly these.
    precision: str

    def cast(self, x: Any, dtype: str) -> Any:
        """Return a tensor of another type."""

    def over_images(self, function: str, x: Any) -> Any:
        """Return the "sum", "min" or "max" of each image, as (N, 1, 1, 1)."""

    def flip(self, x: Any) -> Any:
        """Turn the channels, which are last, round."""

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        """Bring values between two others."""

    def sqrt(self, x: Any) -> Any:
        """Return the square roots."""

    def equal(self, x: Any, y: Any) -> Any:
        """Return where two tensors are equal: of a symbolic one `==` says nothing."""

    def rounded(self, product: Any) -> Any:
        """Return a product as it is, which no compiler is to add before it is rounded."""

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """Choose from two tensors."""


def constants(scaling: Scaling) -> dict[str, Any]:
    """Return the arrays, float64, that `scaled` is given as tensors; none per image."""
    if scaling.statistics is None:
        return {}
    shift, divisor = shift_and_divisor(scaling, scaling.statistics)
    bounds = {"low": scaling.statistics.low, "high": scaling.statistics.high}
    return {"shift": shift, "divisor": divisor, **(bounds if scaling.clip else {})}


def scaled(
    tensors: Tensors, raw: Any, scaling: Scaling, dtype: DTypeLike, given: dict[str, Any]
) -> Any:
    """Scale raw pixels (N, H, W, C) in float64, each step as it is written, and round once.

    `given` are the `constants`, in the tensors' `precision`, as all is computed.
    """
    exact, number = tensors.cast(raw, tensors.precision), np.dtype(tensors.precision).type
    if scaling.channel_order == "bgr":
        exact = tensors.flip(exact)
    given = given or _own(tensors, exact, scaling)
    if scaling.unit != 1:
        exact = exact / number(scaling.unit)
    if "low" in given:
        exact = tensors.clip(exact, given["low"], given["high"])
    t = (exact - given["shift"]) / given["divisor"]
    return _rounded(tensors, to_range(scaling, t, tensors.rounded, number), np.dtype(dtype))


def _own(tensors: Tensors, x: Any, scaling: Scaling) -> dict[str, Any]:
    """Return shift and divisor (never 0) of each image, (N, 1, 1, 1)."""
    mode, own = MODES[scaling.mode], _statistics_per_image(tensors, x, scaling)
    divisor: Any = np.dtype(tensors.precision).type(1)
    if mode.divisor is not None:
        divisor = mode.divisor(own)
        divisor = tensors.where(tensors.equal(divisor, 0), divisor * 0 + 1, divisor)
    return {"shift": mode.shift(own), "divisor": divisor}


def _statistics_per_image(tensors: Tensors, x: Any, scaling: Scaling) -> Statistics:
    """Compute the statistics of integers as `Moments` does, of floats as `FloatMoments`."""
    # Not Python's numbers, which Keras would turn into float32.
    number, over = np.dtype(tensors.precision).type, tensors.over_images
    unit: Any = number(scaling.unit)
    raw, sides = np.dtype(scaling.raw_dtype), list(x.shape[1:])
    is_known = all(isinstance(side, int) for side in sides)  # before Keras runs it may not be
    count: Any = number(math.prod(sides)) if is_known else over("sum", x * 0 + 1)
    total, low, high = (over(function, x) for function in ("sum", "min", "max"))
    is_exact = raw.kind in "ui" and (count * np.iinfo(raw).max) ** 2 < MAX_EXACT[tensors.precision]
    if is_known and is_exact:
        mean = total / (count * unit)
        m2 = over("sum", x * x) * count - total * total
        std = tensors.sqrt(m2 / (count * unit) ** 2)
    else:
        delta = x - total / count
        residual = over("sum", delta)  # 0 but for what rounding left in the mean
        mean = (total / count + residual / count) / unit
        m2 = over("sum", delta * delta) - residual * residual / count
        std = tensors.sqrt(m2 / count) / unit
    # What rounding may leave of a constant image's deviation would be divided by.
    std = tensors.where(tensors.equal(low, high), low * 0, std)
    return Statistics(mean, std, low / unit, high / unit)


def _rounded(tensors: Tensors, exact: Any, dtype: np.dtype[Any]) -> Any:
    """Round once, where frameworks round float64 to float32 and only that to float16.

    Values are first rounded to as many bits as float16 has (Veltkamp's splitting; see Boldo,
    "Pitfalls of a full floating-point proof", IJCAR 2006), but for those that float32 holds
    exactly, ties among them, which are rounded rightly then. Below 2**-14, where float16 has
    fewer bits, the last may differ. In float32 too: tf2onnx leaves out a cast to float16 and back.
    """
    single = tensors.cast(exact, "float32")
    if dtype == np.float32:
        return single
    shifted = exact * np.dtype(tensors.precision).type(TO_HALF[tensors.precision])
    rounded = tensors.cast(shifted + (exact - shifted), "float32")
    if tensors.precision == "float64":
        is_single = tensors.equal(tensors.cast(single, "float64"), exact)
        rounded = tensors.where(is_single, single, rounded)
    return tensors.cast(rounded, dtype.name)
