"""Say what was guessed about data, or left out of it; and keep it, so that it can be said again."""

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from pixelprep.errors import PixelprepWarning
from pixelprep.system.json_record import LenientRecord

PACKAGE = os.fspath(Path(__file__).parents[1])


@dataclass(frozen=True, slots=True)
class Duplicates(LenientRecord):
    """Images that the raw data has more than once.

    Parameters
    ----------
    kind : str
        ``test in train``, and so on, for images of one split that are in another; or ``label
        conflicts``, for equal images with different labels.
    images : int
        How many images of the first split; of conflicts, how many different images.
    dropped : bool
        Whether these were left out.
    equal : tuple of tuple of str
        The files, or else the rows in the data, that are equal: of a thousand such pairs or
        groups at most, and ten of a group.
    """

    kind: str
    images: int
    dropped: bool
    equal: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class Told:
    """What was told of data, in order."""

    lines: list[str] = field(default_factory=list)
    duplicates: list[Duplicates] = field(default_factory=list)
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.lines or self.files)


_told: ContextVar[Told | None] = ContextVar("told", default=None)


def tell(message: str, *values: object, duplicates: Duplicates | None = None) -> None:
    """Warn of something that users should know of their data: one line, formatted with values."""
    message = message % values if values else message
    if (told := _told.get()) is not None:
        if message in told.lines:
            return
        told.lines.append(message)
        told.duplicates += [duplicates] if duplicates else []
    warnings.warn(message, PixelprepWarning, stacklevel=_callers_level())


def record_files(files: Mapping[str, Mapping[str, int]]) -> None:
    """Keep, to be looked up, what the files of the data are: how many of each format and so on."""
    if (told := _told.get()) is not None:
        told.files = files


def _callers_level() -> int:
    """Return how far up the stack the first line is that is not of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


@contextmanager
def collect() -> Iterator[Told]:
    """Collect what is told meanwhile."""
    told = Told()
    before = _told.set(told)
    try:
        yield told
    finally:
        _told.reset(before)
