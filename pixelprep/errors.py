"""Define every error that pixelprep raises on purpose.

Each message is one line that says where, what was expected and what was found; ``hint``, where
there is a way out, is one line that says what to do. Both name arguments as Python has them, in
backticks (`val_fraction=0.2`); the command line turns these into its options.
"""

import operator
import re
from collections.abc import Iterable

# The way out of a damaged entry.
REPAIR_HINT = "verify it with `repair=True` to rebuild it; if this is a copy, copy it again"
MAX_CHOICES = 12  # listed in an error; of more, the first few


def one_line(text: str) -> str:
    """Return a text without the line breaks that file names and system messages may hold."""
    return " ".join(line.strip() for line in text.strip().splitlines())


class PixelprepError(Exception):
    """The base of every error that pixelprep raises on purpose.

    Parameters
    ----------
    message : str
        One line: where, expected, got.
    hint : str, optional
        One line: what to do.

    Attributes
    ----------
    resume_command : str or None
        The command that continues what this error interrupted, where there is one.
    """

    resume_command: str | None = None

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = one_line(message)
        self.hint = one_line(hint) if hint else None
        super().__init__(self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class PixelprepWarning(UserWarning):
    """What was guessed about data, or left out of it: one line."""


class UsageError(PixelprepError, ValueError):
    """The call itself is wrong: an unknown mode, dataset or option value."""


class RowError(UsageError, IndexError):
    """There is no such row; an `IndexError` too, at which loops over numbers end."""


class SourceError(PixelprepError):
    """Raw data is missing or is not what it should be."""


class DownloadError(SourceError):
    """No mirror gave the right bytes."""


class RemoteError(PixelprepError):
    """A remote cannot be reached, refuses, or has the wrong bytes."""


class EntryError(PixelprepError):
    """A cache entry is missing, damaged or of a newer format."""


class NewerFormatError(EntryError):
    """A cache entry is of a format that a newer pixelprep reads."""


class CacheError(PixelprepError):
    """The cache folder cannot be used, or its disk is full."""


class WorkerError(PixelprepError):
    """Worker processes died again and again, or the cluster is not there."""


class TrainError(PixelprepError):
    """A model or a run folder is not usable."""


class MissingExtraError(PixelprepError):
    """An optional package is not installed."""


def attach_resume_command(error: BaseException, command: str) -> None:
    """Let an error, or Ctrl-C, carry the command that continues what it interrupted."""
    error.resume_command = command  # type: ignore[attr-defined] # of any error, not ours alone


def resume_command(error: BaseException) -> str | None:
    """Return the command that continues what this error interrupted; None where there is none."""
    return getattr(error, "resume_command", None)


def check_int(argument: str, value: object, low: int, high: int | None = None) -> int:
    """Return the value as a plain int; refuse what is no whole number within the limits."""
    limits = f"{low} or more" if high is None else f"{low} to {high}"
    try:
        number = operator.index(value)  # type: ignore[arg-type] # what this asks
        if isinstance(value, bool):
            raise TypeError
    except TypeError:
        raise UsageError(f"`{argument}={value!r}`: expected a whole number, {limits}") from None
    if number < low or (high is not None and number > high):
        raise UsageError(f"`{argument}={number}`: expected {limits}")
    return number


def check_bool(argument: str, value: object) -> bool:
    """Return the value; refuse what is neither True nor False."""
    if isinstance(value, bool):
        return value
    raise UsageError(f"`{argument}={value!r}`: expected True or False")


def unknown_choice(
    argument: str,
    got: str,
    known: Iterable[str],
    otherwise: str | None = None,
    certain: bool = False,
) -> UsageError:
    """Make the error for a value that is none of the known ones.

    The hint is the nearest of them, or `otherwise` where none is near (or that is `certain`).
    """
    names = list(known)
    import difflib  # only errors need it

    near = difflib.get_close_matches(str(got).lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near and not certain else otherwise
    if len(names) > MAX_CHOICES:
        names = [*names[:5], f"… ({len(names)} in all)"]
    return UsageError(f"unknown `{argument}` '{got}': expected one of {', '.join(names)}", hint)


def named_type_error(error: TypeError, function: str) -> TypeError:
    """Make the same error of a function whose arguments a class takes in its place."""
    return TypeError(re.sub(r"\S*__init__", function, str(error)))


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """Make the error for an optional package that is not installed."""
    from pixelprep.installation import install_command

    message = f"{purpose} needs {package}, which is not installed"
    return MissingExtraError(message, install_command(extra))
