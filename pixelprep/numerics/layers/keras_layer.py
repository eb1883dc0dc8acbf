"""The scaling made of Keras's own operations, so that plain Keras reads what is saved with it."""

from dataclasses import dataclass
from typing import Any  # Keras is not typed

import keras
import numpy as np
from keras import ops
from numpy.typing import DTypeLike

from pixelprep.numerics.checks import MOST
from pixelprep.numerics.layers import formula
from pixelprep.numerics.scaling import Scaling


@dataclass(slots=True)
class _Keras:
    precision: str

    def cast(self, x: Any, dtype: str) -> Any:
        return ops.cast(x, dtype)

    def over_images(self, function: str, x: Any) -> Any:
        return getattr(ops, function)(x, axis=(1, 2, 3), keepdims=True)

    def flip(self, x: Any) -> Any:
        return ops.flip(x, axis=-1)

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return ops.minimum(ops.maximum(x, low), high)

    def sqrt(self, x: Any) -> Any:
        return ops.sqrt(x)

    def equal(self, x: Any, y: Any) -> Any:
        return ops.equal(x, y)

    def rounded(self, product: Any) -> Any:
        if self.precision != "float64":
            return product
        return ops.maximum(product, np.float64(-(MOST**2)))  # none is less; for JAX

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return ops.where(condition, x, y)


def scaled(raw: Any, scaling: Scaling, dtype: DTypeLike, precision: str = "float64") -> Any:
    """Scale raw pixels (N, H, W, C), a tensor or a symbolic one, to `dtype`, by this arithmetic."""
    given = {name: each.astype(precision) for name, each in formula.constants(scaling).items()}
    return formula.scaled(_Keras(precision), raw, scaling, dtype, given)


def raw_input(
    scaling: Scaling, shape: tuple[int | None, ...] | None = None, precision: str = "float64"
) -> Any:
    """Return an input of raw pixels of this shape (H, W, C), or of any that the scaling fits.

    They come as float32, which holds integers of 8 and 16 bits exactly: an input of their own type
    would cut and wrap what is no such number, without a word. Only float64 stays that, where
    `precision` has it.
    """
    if shape is None:
        fitted = scaling.mean.shape if scaling.per in ("channel", "pixel") else ()
        shape = (None,) * (3 - len(fitted)) + fitted
    dtype = precision if scaling.raw_dtype == "float64" else "float32"
    return keras.Input(shape, dtype=dtype, name="raw_pixels")


def layer(scaling: Scaling, dtype: DTypeLike) -> Any:
    """Return a ``keras.Model`` that scales raw pixels (N, H, W, C)."""
    raw = raw_input(scaling)
    return keras.Model(raw, scaled(raw, scaling, dtype), name="scaling")
