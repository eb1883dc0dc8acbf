"""What paired figures tell: the mean of their differences, and how far it can be trusted."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference of paired figures, with its interval where one can be had.

    Parameters
    ----------
    each : tuple of float
        The differences, pair by pair.
    mean : float
        Of these.
    low, high : float or None
        Student's 95% interval of the mean; None of a single pair.
    """

    each: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None

    @property
    def within_noise(self) -> bool | None:
        """Whether chance alone explains the difference; None where that cannot be known.

        Differences that are all alike (of few images) have no spread to judge by: also noise.
        """
        if self.low is None or self.high is None:
            return None
        return self.low <= 0 <= self.high or len(set(self.each)) == 1


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """How much larger the first figures are than their partners among the second.

    Parameters
    ----------
    first, second : sequence of float
        Equally many, at least one; those of the same place belong together.
    """
    each = tuple(a - b for a, b in zip(first, second, strict=True))
    mean = statistics.fmean(each)
    if len(each) < 2:
        return Difference(each, mean, None, None)
    reach = t_quantile(len(each) - 1) * statistics.stdev(each) / math.sqrt(len(each))
    return Difference(each, mean, mean - reach, mean + reach)


def t_quantile(df: int) -> float:
    """Student's t of `df` ≥ 1 degrees of freedom: `CONFIDENCE` of it lies between −t and t."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # halvings: as fine as a float gets
        middle = (low + high) / 2
        low, high = (middle, high) if _between(middle, df) < CONFIDENCE else (low, middle)
    return math.sqrt(df) * math.tan(low)


def _between(angle: float, df: int) -> float:
    """The share of Student's t between −t and t, where t = √df · tan(angle).

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 (odd) and 26.7.4 (even).
    """
    odd, cosine = df % 2, math.cos(angle)
    term, total = cosine if odd else 1.0, 0.0
    for n in range(odd, df - 1, 2):
        total += term
        term *= cosine**2 * (n + 1) / (n + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def format_accuracy(mean: float, spread: float | None) -> str:
    """A mean accuracy, with its standard deviation where there is one."""
    return f"{mean:.2%}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def format_interval(difference: Mapping[str, Any]) -> str:
    """The interval of a difference of accuracies, in percentage points."""
    return f"95% interval {_points(difference['low'])} to {_points(difference['high'])}"


def format_difference(difference: Mapping[str, Any]) -> str:
    """A difference of accuracies, with its interval and what it is worth."""
    mean = f"{_points(difference['mean'])} points"
    if difference["low"] is None:
        return f"{mean}, of one repeat: no interval can be had"
    worth = "within noise" if difference["within_noise"] else "more than noise"
    return f"{mean}, {format_interval(difference)}, {worth}"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")
