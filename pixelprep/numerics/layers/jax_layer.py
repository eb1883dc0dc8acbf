"""The scaling as a function of JAX arrays."""

from collections.abc import Callable
from typing import Any  # arrays of any type

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from pixelprep.numerics.checks import MOST
from pixelprep.numerics.layers import formula
from pixelprep.numerics.scaling import Scaling, in_order, table_of


class _Jax:
    precision = "float64"

    def cast(self, x: Any, dtype: str) -> Any:
        double = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32  # JAX warns otherwise
        return x.astype(double if dtype == "float64" else dtype)

    def over_images(self, function: str, x: Any) -> Any:
        return getattr(jnp, function)(x, axis=(1, 2, 3), keepdims=True)

    def flip(self, x: Any) -> Any:
        return x[..., ::-1]

    def clip(self, x: Any, low: Any, high: Any) -> Any:
        return jnp.clip(x, low, high)

    def sqrt(self, x: Any) -> Any:
        return jnp.sqrt(x)

    def equal(self, x: Any, y: Any) -> Any:
        return x == y

    def rounded(self, product: Any) -> Any:
        return jnp.maximum(product, -(MOST**2))  # none is less: else XLA makes one step of two

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return jnp.where(condition, x, y)


def layer(scaling: Scaling, dtype: DTypeLike) -> Callable[[Any], jax.Array]:
    """Return a function that scales raw pixels (N, H, W, C), also inside ``jax.jit``."""
    given = formula.constants(scaling)
    table = table_of(scaling, dtype)

    def scale(raw: Any) -> jax.Array:
        raw = jnp.asarray(raw)
        if table is not None and raw.dtype == np.dtype(scaling.raw_dtype):  # to the last bit
            raw = in_order(scaling, raw)
            channels = jnp.arange(raw.shape[-1]) if len(table) > 1 else 0
            bits = raw.astype(jnp.int32) & (table.shape[1] - 1)  # of negative ones, too
            return jnp.asarray(table)[channels, bits]
        return formula.scaled(_Jax(), raw, scaling, dtype, given)

    return scale
