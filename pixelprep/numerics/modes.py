"""The modes of scaling, and the scopes of a statistic. A new mode is one entry here.

Loads no NumPy, so that the command line can show and complete the names at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelprep.numerics.statistics import Float, Statistics


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of scaling, by shift and divisor from the statistics."""

    formula: str  # the stored value of a raw pixel x, for people
    result: str  # what scaled training images have, for people
    shift: "Callable[[Statistics], Float]"  # plain arithmetic, of a framework's tensors too
    divisor: "Callable[[Statistics], Float] | None" = None  # None means 1
    uses_range: bool = False  # minimum and maximum (for integers, their type's), not mean and std


MODES: dict[str, Mode] = {
    "normalize": Mode(
        "x / maximum of the type; floats: (x - minimum) / (maximum - minimum)",
        "0 to 1",
        shift=lambda s: s.minimum,
        divisor=lambda s: s.maximum - s.minimum,
        uses_range=True,
    ),
    "center": Mode("x - mean", "mean 0", shift=lambda s: s.mean),
    "standardize": Mode(
        "(x - mean) / std", "mean 0 and variance 1", shift=lambda s: s.mean, divisor=lambda s: s.std
    ),
}
DEFAULT_MODE = "standardize"
PER = ("dataset", "channel", "pixel", "image")
