"""Import what the user names as ``module:name``."""

import difflib
import importlib
import os
import re
import sys
from typing import Any  # of whatever is named

from pixelprep.errors import TrainError


def is_reference(text: str) -> bool:
    """Tell ``module:name`` from a path."""
    return bool(re.fullmatch(r"[\w.]+:\w+", text))


def imported(reference: str, option: str) -> Any:
    """Import what ``module:name`` names, from the current folder too; `option` is what named it."""
    module, _, name = reference.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - compared with strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - likewise
    try:
        found = importlib.import_module(module)
    except Exception as error:  # of a module of the user's, whatever
        message = f"`{option}={reference}`: {str(error) or type(error).__name__}"
        raise TrainError(message, _hint(module, name, error)) from error
    if not hasattr(found, name):
        near = difflib.get_close_matches(name, vars(found), n=1)
        hint = f"did you mean {module}:{near[0]}?" if near else None
        raise TrainError(f"`{option}={reference}`: module {module} has no {name}", hint)
    return getattr(found, name)


def _hint(module: str, name: str, error: Exception) -> str | None:
    """Return what to do about a module that cannot be imported, unless the fault is its own."""
    outermost = module.split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or error.name not in (module, outermost):
        return None
    if module.endswith(".py"):
        return f"did you mean {module.removesuffix('.py')}:{name}?"
    return "the module must be importable from the current folder"
