"""Say what was guessed about data, or left out of it; and keep it, so that it can be said again."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pixelprep.errors import PixelprepWarning

PACKAGE = os.fspath(Path(__file__).parents[1])

_told: ContextVar[list[str] | None] = ContextVar("told", default=None)


def tell(message: str, *values: object) -> None:
    """Warn of something that users should know of their data: one line, formatted with values."""
    message = message % values if values else message
    told = _told.get()
    if told is not None and message not in told:
        told.append(message)
    warnings.warn(message, PixelprepWarning, stacklevel=_callers_level())


def _callers_level() -> int:
    """Return how far up the stack the first line is that is not of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


@contextmanager
def collect() -> Iterator[list[str]]:
    """Collect what is told meanwhile, in order."""
    told: list[str] = []
    before = _told.set(told)
    try:
        yield told
    finally:
        _told.reset(before)
