"""Check options of labels; files that they name are read here, so that what is in them counts."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any  # Any: whatever the user gave

from pixelprep.errors import SourceError, UsageError

ROLES = ("file", "label", "split", "group")  # of the columns of a table


def class_list(name: str, given: Any) -> tuple[str, ...]:
    """Return names of classes: of text A,B,C, of a file with one on each line, or of a sequence."""
    if isinstance(given, str):
        path = Path(given).expanduser()
        lines = _text(name, path).splitlines() if path.is_file() else given.split(",")
        names = [line.strip() for line in lines]
    else:
        names = list(given) if isinstance(given, Iterable) else []
    names = [one for one in names if one != ""]
    if not names or len(set(names)) < len(names) or not all(isinstance(n, str) for n in names):
        raise UsageError(f"`{name}={given!s:.80}`: expected names of classes, each once")
    return tuple(names)


def class_map(name: str, given: Any) -> dict[str, str]:
    """Return what classes become: of a file with lines CLASS,NEW, or of a mapping."""
    if isinstance(given, Mapping):
        pairs = [list(pair) for pair in given.items()]
    else:
        import csv  # most data has no such file

        rows = csv.reader(_text(name, Path(given).expanduser()).splitlines())
        pairs = [[cell.strip() for cell in row] for row in rows if row]
    if not pairs or not all(len(pair) == 2 and all(map(_is_name, pair)) for pair in pairs):
        raise UsageError(f"`{name}={given!s:.80}`: expected lines CLASS,NEW, or a mapping")
    return dict(sorted(dict(pairs).items()))


def columns(name: str, given: Any) -> dict[str, str]:
    """Return the columns of a table by what they are: of text ROLE=NAME,…, or of a mapping."""
    if isinstance(given, Mapping):
        found = dict(given)
    else:
        pairs = [part.partition("=") for part in str(given).split(",")]
        found = {role.strip(): column.strip() for role, _, column in pairs}
    if not (found.keys() <= set(ROLES) and all(map(_is_name, found.values()))):
        expected = f"expected ROLE=NAME,…, of the roles {', '.join(ROLES)}"
        raise UsageError(f"`{name}={given!s:.80}`: {expected}")
    return dict(sorted(found.items()))


def pattern(name: str, given: str) -> str:
    """Return a regular expression; refuse what is none."""
    try:
        re.compile(given)
    except (re.error, TypeError) as error:
        wrong = f"`{name}={given!s:.80}`: expected a regular expression: {error}"
        raise UsageError(wrong, r"such as `group_pattern=^[^_]+`") from None
    return given


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _text(name: str, path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"`{name}={path}`: cannot read the file: {reason}") from error
