"""Test paired figures for a significant difference, by Student's t."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


FEWEST = 3  # pairs that make an interval: that of two is as wide as ± 100 points


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean difference of paired figures; of fewer than `FEWEST` pairs that is all."""

    each: tuple[float, ...]  # the difference of each pair
    mean: float
    low: float | None  # Student's 95% confidence interval of the mean: from
    high: float | None  # to
    # Whether chance alone explains it: equal differences (of few images) have no variance to judge.
    within_noise: bool | None


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return the mean of ``first − second``, pair by pair, of one pair or more."""
    each = tuple(a - b for a, b in zip(first, second, strict=True))
    mean = statistics.fmean(each)
    if len(each) < FEWEST:
        return Difference(each, mean, None, None, None)
    margin = t_quantile(len(each) - 1) * statistics.stdev(each) / math.sqrt(len(each))
    low, high = mean - margin, mean + margin
    return Difference(each, mean, low, high, low <= 0 <= high or len(set(each)) == 1)


def t_quantile(df: int) -> float:
    """Return the t such that Student's t, `df` ≥ 1, is in −t to t with `CONFIDENCE`."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # bisections: as fine as a float gets
        middle = (low + high) / 2
        low, high = (middle, high) if _probability(middle, df) < CONFIDENCE else (low, middle)
    return math.sqrt(df) * math.tan(low)


def _probability(angle: float, df: int) -> float:
    """Return the probability of Student's t between −t and t, where t = √df · tan(angle).

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 (odd) and 26.7.4 (even).
    """
    odd, cosine = df % 2, math.cos(angle)
    term, total = cosine if odd else 1.0, 0.0
    for n in range(odd, df - 1, 2):
        total += term
        term *= cosine**2 * (n + 1) / (n + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def format_accuracy(mean: float | None, spread: float | None) -> str:
    """Write a mean accuracy, with its standard deviation if there is one; a dash for none."""
    if mean is None:
        return "–"
    return f"{mean:.2%}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def format_interval(difference: Difference) -> str:
    """Write the confidence interval of a difference of accuracies, in percentage points."""
    assert difference.low is not None  # of fewer pairs there is none to write
    assert difference.high is not None
    return f"95% interval {_points(difference.low)} to {_points(difference.high)}"


def format_difference(difference: Difference) -> str:
    """Write a difference of accuracies, with its confidence interval and whether it is noise."""
    mean = f"{_points(difference.mean)} points"
    if difference.low is None:
        return f"{mean}, fewer than three repeats: no confidence interval"
    verdict = "within noise" if difference.within_noise else "more than noise"
    return f"{mean}, {format_interval(difference)}, {verdict}"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")
