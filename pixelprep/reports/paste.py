"""Spell a standardization in the words of other libraries: code to paste."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pixelprep.errors import UsageError, unknown_choice
from pixelprep.numerics.scaling import rescale_unit
from pixelprep.system import formatting


@dataclass(frozen=True, slots=True)
class Standardization:
    """What standardizes raw pixels: mean and deviation by channel, as they are and over `unit`."""

    about: str  # in a comment
    shape: tuple[int, ...]  # (H, W, C) of an image
    dtype: str  # of the raw pixels
    mean: Sequence[float]
    std: Sequence[float]
    mean_over_max: Sequence[float] | None  # of integers
    std_over_max: Sequence[float] | None

    @property
    def unit(self) -> int:
        """What is the type's maximum; of floats 1."""
        return rescale_unit(self.dtype, rescale=True)

    @property
    def divisor(self) -> list[float]:
        """The deviations; 1 for a channel that never changes."""
        return [std or 1.0 for std in self.std]

    @property
    def over_max(self) -> str:
        """Arguments ``mean=…, std=…`` over the type's maximum; of floats, as they are."""
        if self.mean_over_max is None or self.std_over_max is None:
            return self.as_is
        std = [one or 1 / self.unit for one in self.std_over_max]
        return f"mean={list(self.mean_over_max)}, std={std}"

    @property
    def as_is(self) -> str:
        """Arguments ``mean=…, std=…`` in pixel units."""
        return f"mean={list(self.mean)}, std={self.divisor}"

    @property
    def is_uint8(self) -> bool:
        return self.dtype == "uint8"


def _torchvision(of: Standardization) -> str:
    # Only bytes are sure to be divided by their maximum: others are left as they are.
    given = of.over_max if of.is_uint8 else of.as_is
    return f"""\
import torch
from torchvision.transforms import v2

normalize = v2.Compose(  # of a PIL image or an array (H, W, C)
    [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale={of.is_uint8}),
        v2.Normalize({given}),
    ]
)
"""


def _keras(of: Standardization) -> str:
    variance = [one * one for one in of.divisor]
    scale = [1 / one for one in of.divisor]
    offset = [-mean / one for mean, one in zip(of.mean, of.divisor, strict=True)]
    raw = f"raw pixels, not those over {of.unit}" if of.unit > 1 else "raw pixels"
    return f"""\
import keras

# Either of the two, of {raw}.
normalize = keras.layers.Normalization(mean={list(of.mean)}, variance={variance})
rescale = keras.layers.Rescaling(scale={scale}, offset={offset})
"""


def _albumentations(of: Standardization) -> str:
    return f"""\
import albumentations as A

normalize = A.Normalize({of.over_max}, max_pixel_value={float(of.unit)})
"""


def _timm(of: Standardization) -> str:
    height, width, channels = of.shape
    return f"""\
import timm.data

config = dict({of.over_max})  # also pretrained_cfg_overlay of create_model
transform = timm.data.create_transform(({channels}, {height}, {width}), crop_pct=1.0, **config)
"""


def _jax(of: Standardization) -> str:
    return f"""\
import jax.numpy as jnp

mean, std = jnp.array({list(of.mean)}), jnp.array({of.divisor})


def scale(images):  # raw pixels, (..., H, W, C)
    return (images.astype(jnp.float32) - mean) / std
"""


def _numpy(of: Standardization) -> str:
    return f"""\
import numpy as np

mean, std = np.array({list(of.mean)}), np.array({of.divisor})


def scale(images):  # raw pixels, (..., H, W, C); the very values that `prepare` stores
    return ((images.astype(np.float64) - mean) / std).astype(np.float32)
"""


LIBRARIES: dict[str, Callable[[Standardization], str]] = {
    "torchvision": _torchvision,
    "keras": _keras,
    "albumentations": _albumentations,
    "timm": _timm,
    "jax": _jax,
    "numpy": _numpy,
}


def check_library(library: str) -> None:
    """Refuse a library that there are no lines for."""
    if library not in LIBRARIES:
        raise unknown_choice("paste", library, [*LIBRARIES, "all"])


def supports(library: str, constants: Standardization) -> bool:
    """Tell whether a library takes such pixels: timm's transforms are of pictures."""
    is_picture = constants.is_uint8 and constants.shape[2] in (1, 3)
    return library != "timm" or is_picture


def spell(library: str, constants: Standardization) -> str:
    """Return lines of Python that make what standardizes with a library."""
    check_library(library)
    if not supports(library, constants):
        channels = formatting.pluralize(constants.shape[2], "channel")
        found = f"{channels} of {constants.dtype}"
        message = f"`paste={library}`: expected pictures of 8 bits, grey or RGB, got {found}"
        raise UsageError(message, "`paste=torchvision` takes them")
    return f"# {constants.about}\n{LIBRARIES[library](constants)}"
