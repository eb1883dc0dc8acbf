"""The reference pages of the site, as Markdown: the commands from Typer, Python from docstrings."""

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any  # Any: whatever is public, and commands, of Typer's own copy of click

import typer.main
from numpydoc.docscrape import NumpyDocString

import pixelprep
from pixelprep.cli.app import app

FIRST = ["prepare", "open", "Entry", "Split", "Scaling", "stats", "train", "evaluate", "predict"]
COLUMNS = 100


# Python


def interface() -> Iterator[str]:
    """Yield the lines on all public names: what one begins with first, errors last."""
    rest = {*pixelprep.__all__, *(f"cache.{one}" for one in pixelprep.cache.__all__)}
    for name in [*FIRST, *sorted(rest - {*FIRST, "cache"}, key=rank)]:
        found: Any = pixelprep
        for part in name.split("."):
            found = getattr(found, part)
        yield from documented(f"pixelprep.{name}", found, "##")
        if inspect.isclass(found):
            yield from of_class(name.rpartition(".")[2], found)


def rank(name: str) -> tuple[bool, bool, str]:
    """Return where a name comes: functions, classes, errors, each by its name."""
    last = name.rpartition(".")[2]
    return last.endswith(("Error", "Warning")), last[0].isupper(), name


def of_class(name: str, found: type) -> Iterator[str]:
    """Yield the lines on a class's own public methods and properties."""
    kinds = (property, cached_property, classmethod, staticmethod)
    for member, value in vars(found).items():
        if member.startswith("_") or not (inspect.isfunction(value) or isinstance(value, kinds)):
            continue
        inner = getattr(value, "fget", None) or getattr(value, "func", None)
        function = inner or getattr(value, "__func__", value)
        yield from documented(f"{name}.{member}", function, "###", is_property=inner is not None)


def documented(name: str, found: Any, heading: str, is_property: bool = False) -> Iterator[str]:
    """Yield a heading, the signature, and the sections of a docstring in numpydoc's form."""
    text = NumpyDocString(inspect.getdoc(found) or "")
    yield f"{heading} {name}\n"
    if not is_property and not (inspect.isclass(found) and issubclass(found, Exception)):
        yield f"```python\n{signature(name, found)}\n```\n"
    for section in ("Summary", "Extended Summary"):
        yield "\n".join(text[section]) + "\n"
    for section in ("Parameters", "Attributes", "Returns", "Yields", "Raises"):
        rows = [[code(one.name), code(one.type), " ".join(one.desc)] for one in text[section]]
        yield from table(section, [[cell for cell in row if cell] for row in rows])
    for section in ("Notes", "Examples"):
        lines = "\n".join(text[section])
        if lines:
            yield f"**{section}**\n"
            yield re.sub(r"(?ms)^>>> .*?(?=^\s*$|\Z)", lambda c: f"```pycon\n{c[0]}\n```\n", lines)


def signature(name: str, found: Any) -> str:
    """Return how a function or class is called, on one line or with a line for each parameter."""
    given = [
        one.replace(annotation=inspect.Parameter.empty)
        for one in inspect.signature(found).parameters.values()
        if one.name not in ("self", "cls")
    ]
    called = f"{name}{inspect.Signature(given)}"
    if len(called) <= COLUMNS:
        return called
    words = str(inspect.Signature(given))[1:-1].split(", ")
    return f"{name}(\n    " + ",\n    ".join(words) + ",\n)"


def code(text: str) -> str:
    """Return a name or a type as code, or nothing."""
    return f"`{text}`" if text else ""


# Commands


def commands() -> Iterator[str]:
    """Yield the lines on all commands."""
    yield from described("", typer.main.get_command(app))


def described(name: str, command: Any) -> Iterator[str]:
    """Yield the lines on a command, and on those below it."""
    for word, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from described(f"{name} {word}".strip(), below)
    if hasattr(command, "commands"):
        return
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one not in arguments and not one.hidden]
    usage = " ".join(placeholder(one) for one in arguments)
    yield f"## {name}\n\n{command.help}\n\n```text\npixelprep {name} [OPTIONS] {usage}\n```\n"
    yield from table("Argument", [[code(placeholder(one)), told(one)] for one in arguments])
    yield from table("Option", [[code(flags(one)), told(one)] for one in options])


def placeholder(argument: Any) -> str:
    """Return how a usage line has an argument."""
    name = str(argument.metavar or argument.name.upper()).strip("[]{}")
    shown = name if argument.required else f"[{name}]"
    return shown if argument.nargs == 1 else f"{shown}…"


def flags(option: Any) -> str:
    """Return the names of an option, and its value."""
    return " ".join(
        [", ".join([*option.opts, *option.secondary_opts]), option.metavar or ""]
    ).strip()


def told(parameter: Any) -> str:
    """Return what is said of a parameter, and its variable."""
    text = re.sub(r"([*_])", r"\\\1", (parameter.help or "").replace("<", "&lt;"))
    return text + f" Environment variable: `{parameter.envvar}`." * bool(parameter.envvar)


# Tables


def table(title: str, rows: list[list[str]]) -> Iterator[str]:
    """Yield a table whose first column has a title; nothing where there are no rows."""
    if rows:
        yield f"| {title} |" + " |" * (len(rows[0]) - 1)
        yield "|" + "---|" * len(rows[0])
        yield from (f"| {' | '.join(map(cell, row))} |" for row in rows)
        yield ""


def cell(text: str) -> str:
    """Return a text in which no | outside of code ends the cell."""
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(one if one.startswith("`") else one.replace("|", "\\|") for one in parts)
