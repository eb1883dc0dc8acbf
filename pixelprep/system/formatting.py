"""Format numbers and names for people."""

from collections.abc import Iterable, Mapping


def options(arguments: Mapping[str, object]) -> list[str]:
    """Spell Python arguments as options of the command line, without those that are None or off."""
    words: list[str] = []
    for name, value in arguments.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, list | tuple):
            words.append(("x" if {*map(type, value)} == {int} else ",").join(map(str, value)))
        elif isinstance(value, Mapping):
            pairs = ",".join(f"{key}={one}" for key, one in value.items())
            words.append("FILE" if name == "class_map" else pairs)  # which may be anywhere
        elif value is not True:
            words.append(str(value))
    return words


def format_shape(sides: Iterable[int]) -> str:
    """Format a shape: 28×28×1."""
    return "×".join(map(str, sides))


def format_value(value: object) -> str:
    """Format a JSON value as people write it: none, 64×64, train source, cat, dog."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        is_shape = value and all(type(side) is int for side in value)
        return format_shape(value) if is_shape else shorten(map(format_value, value))
    return "none" if value is None else str(value)


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """Format a count of things: 1 step, 1,000 steps."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def shorten(names: Iterable[object], most: int = 5) -> str:
    """List names, of many only the first: cat, dog, … (20 in all)."""
    words = list(map(str, names))
    rest = f", … ({len(words):,} in all)" if len(words) > most else ""
    return ", ".join(words[:most]) + rest


def format_duration(seconds: float) -> str:
    """Format a duration roughly: 40 s, 12 min, 1 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def flatten(values: object) -> list[float]:
    """Return the numbers of nested lists in one."""
    if not isinstance(values, list):
        assert isinstance(values, int | float)
        return [values]
    return [number for inner in values for number in flatten(inner)]


def format_numbers(values: object, max_listed: int = 4) -> str:
    """Format statistics: few in full, many by their range, none as "each image's own"."""
    numbers = flatten(values.tolist() if hasattr(values, "tolist") else values)
    if not numbers:
        return "each image's own"
    if len(numbers) <= max_listed:
        return ", ".join(map(repr, numbers))
    return f"{len(numbers):,} values, {min(numbers)!r} to {max(numbers)!r}"


def escape_control(text: str) -> str:
    """Return the text on one line, everything but letters, signs and spaces spelled out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
