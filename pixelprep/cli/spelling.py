"""Spell the library's arguments as options of the command line."""

import inspect
import re
from functools import cache

import typer

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
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    callbacks = [c.callback for g in groups if g for c in g.registered_commands if c.callback]
    found: dict[str, str] = {}
    for callback in callbacks:
        for name, parameter in inspect.signature(callback).parameters.items():
            for declared in getattr(parameter.annotation, "__metadata__", ()):
                if isinstance(declared, typer.models.OptionInfo):
                    # In `Annotated`, the first name of an option is where its default would be.
                    names = [declared.default, f"--{name.replace('_', '-')}"]
                    found[name] = next(n for n in names if isinstance(n, str))
    return found
