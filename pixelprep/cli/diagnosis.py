"""Print what `doctor` found: aligned text, to be pasted into a bug report."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any  # Any: JSON values

from pixelprep.cli import output
from pixelprep.cli.main import spelled
from pixelprep.system import formatting

if TYPE_CHECKING:
    from pixelprep.reports.doctor import Diagnosis

PLACES = 28  # of a name before what there is to say
BYTES, SECONDS = "_bytes", "_seconds"  # how names of such numbers end


def print_diagnosis(found: "Diagnosis") -> None:
    """Print each part, and at the end the problems."""
    parts = found.to_dict()
    problems = parts.pop("problems")
    for part, values in parts.items():
        output.say(part.replace("_", "-"))
        rows = _extras(values) if part == "extras" else map(_row, values.items())
        lines = [f"  {name.ljust(PLACES)}{text}" for name, text in rows]
        output.say(*lines or ["  none"])
    for problem in problems:
        output.say(f"problem: {spelled(problem['message'])}")
        if problem["hint"]:
            output.say(f"   hint: {spelled(problem['hint'])}")
    if not problems:
        output.say("no problem found")


def _row(item: tuple[str, Any]) -> tuple[str, str]:
    """Return a name as people write it, and its value in a unit."""
    name, value = item
    if name.isupper() or name.endswith("proxy"):  # a variable
        return name, str(value)
    if isinstance(value, Mapping):
        return name, ", ".join(" ".join(_row(one)) for one in value.items())
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif value is None:
        text = "–"
    elif name.endswith(BYTES):
        text = output.size(value)
    elif name.endswith(SECONDS):
        text = f"{1000 * value:.1f} ms"
    else:
        text = formatting.format_value(value)
    return name.removesuffix(BYTES).removesuffix(SECONDS).replace("_", " "), text


def _extras(extras: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a row for each extra of which something is installed, and one for all others."""
    none = []
    for name, one in extras.items():
        if not one["installed"]:
            none.append(name)
            continue
        parts = [", ".join(f"{package} {has}" for package, has in one["installed"].items())]
        parts += [f"lacks {', '.join(one['missing'])}"] if one["missing"] else []
        parts += [f"needs {', '.join(one['not_within'])}"] if one["not_within"] else []
        yield name, "; ".join(parts)
    yield "not installed", ", ".join(none) or "–"
