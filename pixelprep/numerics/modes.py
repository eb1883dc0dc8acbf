"""The modes of scaling, and the scopes of a statistic. A new mode is one entry here.

Loads no NumPy, so that the command line can show and complete the names at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pixelprep.errors import UsageError, unknown_choice

if TYPE_CHECKING:
    from pixelprep.numerics.fitted import Float, Statistics


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of scaling, by shift and divisor from the statistics."""

    formula: str  # the stored value of a raw pixel x, for people
    result: str  # what scaled training images have, for people
    shift: "Callable[[Statistics], Float]"  # plain arithmetic, of a framework's tensors too
    divisor: "Callable[[Statistics], Float] | None" = None  # None means 1
    uses_range: bool = False  # minimum and maximum (for integers, their type's), not mean and std
    uses_quantiles: bool = False  # which only integers have, per dataset and per channel
    is_given: bool = False  # by constants: nothing is fitted


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
    "fixed": Mode(
        "(x - mean) / std, both given",
        "what given constants make of them",
        shift=lambda s: s.mean,
        divisor=lambda s: s.std,
        is_given=True,
    ),
    "robust": Mode(
        "(x - median) / (high quantile - low quantile)",
        "median 0 and quantiles a distance of 1 apart",
        shift=lambda s: s.median,
        divisor=lambda s: s.high - s.low,
        uses_quantiles=True,
    ),
}
DEFAULT_QUANTILES = (0.25, 0.75)  # the interquartile range, as scikit-learn's RobustScaler has it
DEFAULT_MODE = "standardize"
PER = ("dataset", "channel", "pixel", "image")


def plain_modes() -> tuple[str, ...]:
    """Return the modes that take all data, and need to be told no more."""
    special = (mode.is_given or mode.uses_quantiles for mode in MODES.values())
    return tuple(name for name, one in zip(MODES, special, strict=True) if not one)


def check_taken(mode: str, given: Mapping[str, object]) -> None:
    """Refuse an unknown mode, and options of scaling that it does not take."""
    if mode not in MODES:
        raise unknown_choice("mode", mode, MODES)
    takers = {"limits": "uses_range", "range": "uses_range"}
    takers |= {"quantiles": "uses_quantiles", "clip": "uses_quantiles"}
    for name, value in given.items():
        trait = takers.get(name, "is_given")
        if value not in (None, False) and not getattr(MODES[mode], trait):
            taking = " or ".join(f"`mode={one}`" for one, of in MODES.items() if getattr(of, trait))
            raise UsageError(f"`{name}`: `mode={mode}` does not take it", f"it is for {taking}")
