"""Spell the library's arguments as options of the command line."""

import re
from functools import cache
from typing import Any  # Any: a command of Click, which Typer contains

import typer
from typer.main import get_command

ARGUMENT = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")


def as_options(text: str, app: typer.Typer) -> str:
    """Turn arguments in backticks into options: `val_fraction=0.2` into --val-fraction 0.2.

    Library messages name arguments as Python has them. Anything else in backticks stays as it is.
    """

    def spell(match: re.Match[str]) -> str:
        option = _options(app).get(match[1])
        if option is None:
            return match[0]
        return f"{option} {match[2]}" if match[2] not in (None, "True") else option

    return ARGUMENT.sub(spell, text)


@cache
def _options(app: typer.Typer) -> dict[str, str]:
    """Map the parameters of all commands to the options that set them."""
    group: Any = get_command(app)  # Any: Click's own, which Typer does not always show
    commands = [*group.commands.values(), *group.commands["cache"].commands.values()]
    parameters = [one for command in commands for one in command.params]
    return {one.name: one.opts[0] for one in parameters}  # an argument's is its own name
