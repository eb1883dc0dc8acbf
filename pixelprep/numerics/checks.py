"""Check the numbers that scalings are told, as options or arguments. Loads no NumPy."""

import math
from collections.abc import Callable, Sequence
from typing import Any  # Any: whatever the user wrote

from pixelprep.errors import UsageError, unknown_choice

LIMITS = ("data",)
SMALLEST = 1e-300  # of what is divided by: far above numbers whose reciprocal overflows
MOST = 1e30  # of the ends of a range: float32 has them, and their difference


def check_numbers(name: str, value: Any) -> tuple[float, ...]:
    """Return finite numbers of a text, a number, a sequence or an array of one axis."""
    try:
        parts = value.split(",") if isinstance(value, str) else _listed(value)
        parts = parts if isinstance(parts, Sequence) else [parts]
        found = tuple(float(one) + 0.0 for one in parts)  # without -0.0, another key
    except (TypeError, ValueError):
        found = ()
    if not found or not all(map(math.isfinite, found)):
        between = " with commas between" if isinstance(value, str) else ""
        raise UsageError(f"`{name}={_listed(value)}`: expected finite numbers{between}")
    return found


def check_deviations(name: str, value: Any) -> tuple[float, ...]:
    """Return numbers that can be divided by."""
    found = check_numbers(name, value)
    if min(found) < SMALLEST:
        bound = f"expected numbers above 0, {SMALLEST:g} or more, which are divided by"
        raise UsageError(f"`{name}={_listed(value)}`: {bound}")
    return found


def check_range(name: str, value: Any) -> tuple[float, ...]:
    """Return the ends of a range, the lower first."""
    return _two_numbers(name, value, -MOST, MOST)


def check_quantiles(name: str, value: Any) -> tuple[float, ...]:
    """Return two quantiles, the lower first."""
    return _two_numbers(name, value, 0, 1)


def check_limits(name: str, value: Any) -> str:
    """Return what is normalized by; refuse any but `LIMITS`."""
    if value not in LIMITS:
        raise unknown_choice(name, str(value), LIMITS)
    return str(value)


def _two_numbers(name: str, value: Any, low: float, high: float) -> tuple[float, ...]:
    found = check_numbers(name, value)
    if len(found) != 2 or not low <= found[0] < found[1] <= high:
        expected = f"expected two numbers, the smaller one first, from {low:g} to {high:g}"
        raise UsageError(f"`{name}={_listed(value)}`: {expected}")
    return found


def _listed(value: Any) -> Any:
    """Return the numbers of an array, of any library, as a list."""
    return value.tolist() if hasattr(value, "tolist") else value


# What is told beside a mode, by name.
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "limits": check_limits,
    "range": check_range,
    "quantiles": check_quantiles,
}
