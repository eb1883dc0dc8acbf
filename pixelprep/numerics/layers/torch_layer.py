"""The scaling as a ``torch.nn.Module``."""

from typing import Any  # tensors of any type

import numpy as np
import torch
from numpy.typing import DTypeLike

from pixelprep.numerics.layers import formula
from pixelprep.numerics.scaling import Scaling


class _Torch:
    precision = "float64"

    def cast(self, x: torch.Tensor, dtype: str) -> torch.Tensor:
        return x.to(getattr(torch, dtype))

    def over_images(self, function: str, x: torch.Tensor) -> torch.Tensor:
        over = {"sum": torch.sum, "min": torch.amin, "max": torch.amax}[function]
        found: torch.Tensor = over(x, dim=(1, 2, 3), keepdim=True)
        return found

    def flip(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flip(x, dims=(-1,))

    def clip(self, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return torch.minimum(torch.maximum(x, low), high)

    def sqrt(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(x)

    def equal(self, x: torch.Tensor, y: Any) -> Any:
        return x == y

    def rounded(self, product: torch.Tensor) -> torch.Tensor:
        return product

    def where(self, condition: torch.Tensor, x: Any, y: Any) -> torch.Tensor:
        return torch.where(condition, x, y)


class ScalingModule(torch.nn.Module):  # type: ignore[misc] # untyped
    """Scales raw pixels (N, H, W, C) of any type; its constants move with the module."""

    def __init__(self, scaling: Scaling, dtype: DTypeLike) -> None:
        super().__init__()
        self.scaling, self.dtype = scaling, np.dtype(dtype)
        self.names = []
        for name, values in formula.constants(scaling).items():
            self.register_buffer(name, torch.from_numpy(np.array(values)), persistent=False)
            self.names.append(name)

    def _apply(self, *changes: Any, **options: Any) -> "ScalingModule":
        """Move the constants, but keep them float64 where a model is made half or float."""
        super()._apply(*changes, **options)
        for name, values in formula.constants(self.scaling).items():
            moved = torch.from_numpy(np.array(values)).to(getattr(self, name).device)
            setattr(self, name, moved)
        return self

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the stored values of raw pixels."""
        given = {name: getattr(self, name) for name in self.names}
        found: torch.Tensor = formula.scaled(_Torch(), raw, self.scaling, self.dtype, given)
        return found


def layer(scaling: Scaling, dtype: DTypeLike) -> ScalingModule:
    """Return a module that scales raw pixels."""
    return ScalingModule(scaling, dtype)
