"""Numbers and names as people read and write them."""

from collections.abc import Iterable, Mapping
from typing import Any

MAX_LISTED = 4  # numbers that are told one by one


def option(name: str) -> str:
    """An option of the command line, from the argument's name in Python."""
    return f"--{name.replace('_', '-')}"


def options(asked: Mapping[str, Any]) -> list[str]:
    """Options with their values, as a command is given them; what is off or None is left out."""
    said: list[str] = []
    for name, value in asked.items():
        if value is True:
            said.append(option(name))
        elif isinstance(value, list | tuple):
            said += [option(name), "x".join(map(str, value))]
        elif value is not None and value is not False:
            said += [option(name), str(value)]
    return said


def format_shape(sides: Iterable[int]) -> str:
    """A shape: 28×28×1."""
    return "×".join(map(str, sides))


def pluralize(count: int, one: str, more: str = "") -> str:
    """So many of something: 1 step, 1,000 steps."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def format_duration(seconds: float) -> str:
    """About how long: 40 s, 12 min, 1 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def format_numbers(values: Any, few: int = MAX_LISTED) -> str:
    """Few statistics in full; many by their range; none where each image has its own.

    Parameters
    ----------
    values : ndarray
        Of any shape.
    few : int
        So many are told one by one.
    """
    every = values.reshape(-1).tolist()
    if not every:
        return "each image's own"
    if len(every) <= few:
        return ", ".join(map(repr, every))
    return f"{len(every):,} values, {min(every)!r} to {max(every)!r}"
