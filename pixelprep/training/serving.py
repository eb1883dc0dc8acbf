"""Build the model for production: it takes raw pixels, so that nobody can scale them wrongly.

The scaling is made of Keras's own operations in front of the trained model, so that the file is
read by plain Keras in its safe mode. It takes RGB, whatever the order of the stored channels. It is
the stored value's formula in float64, rounded once
(data/FORMAT.md, section 3). JAX computes in float32 unless ``JAX_ENABLE_X64`` is set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any  # Any: Keras tensors and operations, which are not typed

import numpy as np
from numpy.typing import DTypeLike

from pixelprep.numerics.scaling import MODES, Scaling, shift_and_divisor, to_range
from pixelprep.numerics.statistics import Statistics

if TYPE_CHECKING:
    import keras

MAX_EXACT = 2**53  # whole numbers below are exact in float64
TO_HALF = 2.0**42 + 1  # leaves float16's 11 bits of float64's 53


def serving_model(
    trained: keras.Model,
    scaling: Scaling,
    image_shape: Sequence[int],
    dtype: DTypeLike,
    class_names: Sequence[str],
) -> keras.Model:
    """Build a model that scales raw pixels (N, H, W, C) for the trained one, sharing its weights.

    Images have this shape (H, W, C), and the entry's stored ones `dtype`, float32 or float16. Raw
    pixels come as float32, which holds integers of 8 and 16 bits exactly: an input of their own
    type would cut and wrap what is no such number, without a word. Only float64 stays float64.

    The name of the output is a JSON list of the class names: `json.loads(model.output_names[0])`.
    """
    import keras
    from keras import ops

    raw_dtype = "float64" if scaling.raw_dtype == "float64" else "float32"
    raw = keras.Input(tuple(image_shape), dtype=raw_dtype, name="raw_pixels")
    found = trained(_scaled(raw, scaling, dtype))
    named = ops.cast(found, found.dtype)  # of a plain operation any name will do but a slash's
    names = json.dumps(list(class_names), ensure_ascii=False).replace("/", "\\u002f")
    keras.Model(raw, named).operations[-1].name = names
    return keras.Model(raw, named, name="serving")


def _scaled(raw: Any, scaling: Scaling, dtype: DTypeLike) -> Any:
    """Compute the stored value's formula in float64, rounded once to the stored type."""
    from keras import ops

    exact = ops.cast(raw, "float64")
    if scaling.channel_order == "bgr":
        exact = ops.flip(exact, axis=-1)
    if scaling.statistics is None:  # each image has its own: (N, 1, 1, 1)
        mode, own = MODES[scaling.mode], _statistics_per_image(exact, scaling)
        shift: Any = mode.shift(own)
        divisor: Any = np.float64(1)
        if mode.divisor is not None:
            divisor = mode.divisor(own)
            divisor = ops.where(ops.equal(divisor, 0), ops.ones_like(divisor), divisor)
    else:
        shift, divisor = shift_and_divisor(scaling, scaling.statistics)
    if scaling.unit != 1:
        exact = exact / np.float64(scaling.unit)
    if scaling.clip and (fitted := scaling.statistics):
        exact = ops.minimum(ops.maximum(exact, fitted.low), fitted.high)
    return _rounded(to_range(scaling, (exact - shift) / divisor), np.dtype(dtype))


def _statistics_per_image(x: Any, scaling: Scaling) -> Statistics:
    """Compute the statistics of integers as `Moments` does, of floats as `FloatMoments`."""
    from keras import ops

    def over(function: Any, values: Any) -> Any:
        return function(values, axis=(1, 2, 3), keepdims=True)

    # Not Python's numbers, which Keras would turn into float32.
    count, unit = np.float64(math.prod(x.shape[1:])), np.float64(scaling.unit)
    raw = np.dtype(scaling.raw_dtype)
    total, low, high = over(ops.sum, x), over(ops.min, x), over(ops.max, x)
    if raw.kind in "ui" and (count * np.iinfo(raw).max) ** 2 < MAX_EXACT:
        mean = total / (count * unit)
        m2 = over(ops.sum, x * x) * count - total * total
        std = ops.sqrt(m2 / (count * unit) ** 2)
    else:
        delta = x - total / count
        residual = over(ops.sum, delta)  # 0 but for what rounding left in the mean
        mean = (total / count + residual / count) / unit
        m2 = over(ops.sum, delta * delta) - residual * residual / count
        std = ops.sqrt(m2 / count) / unit
    # What rounding may leave of a constant image's deviation would be divided by.
    std = ops.where(ops.equal(low, high), ops.zeros_like(std), std)
    return Statistics(mean, std, low / unit, high / unit)


def _rounded(exact: Any, dtype: np.dtype[Any]) -> Any:
    """Round once, where TensorFlow rounds float64 to float32 and only that to float16.

    Values are first rounded to as many bits as float16 has (Veltkamp's splitting; see Boldo,
    "Pitfalls of a full floating-point proof", IJCAR 2006), but for those that float32 holds
    exactly, ties among them, which TensorFlow rounds rightly. Below 2**-14, where float16 has
    fewer bits, the last may differ.
    """
    from keras import ops

    single = ops.cast(exact, "float32")
    if dtype == np.float32:
        return single
    shifted = exact * np.float64(TO_HALF)
    rounded = ops.cast(shifted + (exact - shifted), "float32")
    is_single = ops.equal(ops.cast(single, "float64"), exact)
    return ops.cast(ops.where(is_single, single, rounded), dtype.name)
