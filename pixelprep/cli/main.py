"""Start the command line: run it, and turn every failure into a line and a hint.

A plain ``pixelprep prepare …`` is read here, without Typer: what is prepared already is found
sooner than Typer is loaded. Any other line, and any doubt about this one, is Typer's (`app`).
"""

import codecs
import gc
import io
import logging
import os
import re
import sys
import time
import traceback
import warnings
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, get_origin  # Any: options of `prepare`, Typer's things

import pixelprep
from pixelprep.cli import output
from pixelprep.errors import PixelprepError, PixelprepWarning, UsageError, one_line, resume_command
from pixelprep.format.options import (
    FIXED,
    PREPARE_OPTIONS,
    RecipeOptions,
    declared_options,
    option_types,
)
from pixelprep.system import formatting

INTERRUPTED = 130
SHORT = {"workers": "-j", "force": "-f"}  # of options of `prepare`
# How a number is certainly written; Typer knows more ways.
NUMBERS = {int: re.compile("[0-9]{1,18}"), float: re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?")}
# What others call options of ours, and Click would take for another one that is spelled like it.
OTHERWISE = {
    "--gr[ae]y(scale)?": "--color grey",
    "--(image-size|resize|img-size)": "--size HxW",
    "--validation-split": "--val-fraction F",
    "--test-split": "--test-fraction F",
    "--normali[sz]e": "--mode normalize",
    "--standardi[sz]e": "--mode standardize",
    "--cent(er|re)": "--mode center",
    "--dataset": "{command} DATASET",
    "command '(delete|del|clear|clean)": "pixelprep cache remove",
}


def run_prepare(
    dataset: str = "mnist", as_json: bool = False, quiet: bool = False, **choices: Any
) -> None:
    """Prepare a dataset, and print what came of it."""
    messages(quiet)
    started, prepare = time.perf_counter(), pixelprep.prepare  # which loads what a hit needs
    collect_garbage()
    entry = prepare(dataset, quiet=quiet, **choices)
    seconds = time.perf_counter() - started
    result = output.prepared(entry, seconds)
    output.show(result, as_json, lambda: output.print_prepared(entry, seconds))


def collect_garbage() -> None:
    """Search for garbage from now on, which starting did without, but not in what is loaded."""
    if not gc.isenabled():  # else what was made meanwhile would stay, too
        gc.freeze()
        gc.enable()


def cli_type(name: str) -> type:
    """Return the type of an option on the command line: text may be a path, no more."""
    kinds = option_types(name)
    return Path if any(get_origin(kind) is os.PathLike for kind in kinds) else kinds[0]


def _plain_prepare(arguments: list[str]) -> dict[str, Any] | None:
    """Return the parameters of a plain `prepare`; None where Typer is to read the line."""
    flags = {"--json": "as_json", "--quiet": "quiet", "-q": "quiet", "-f": "force"}
    named = {f"--{name.replace('_', '-')}": name for name in PREPARE_OPTIONS}
    given: dict[str, Any] = {}
    words = iter(arguments[1:])
    for word in words:
        option, is_joined, value = word.partition("=")
        name = flags.get(word) or named.get(option, "" if word.startswith("-") else "dataset")
        kind = bool if word in flags else cli_type(name) if name in PREPARE_OPTIONS else str
        if name == "dataset":
            found: Any = word
        elif kind is bool:
            found = not is_joined or None
        else:
            value = value if is_joined else next(words, "-")
            is_plain = kind not in NUMBERS or NUMBERS[kind].fullmatch(value)
            found = kind(value) if is_plain and not value.startswith("-") else None
        if not name or name in given or found is None:
            return None
        given[name] = found
    return given


def _run(arguments: list[str]) -> object:
    """Run a command line, and return the exit status or what a command returned."""
    if arguments[:1] == ["prepare"] and "_PIXELPREP_COMPLETE" not in os.environ:
        plain = _plain_prepare(arguments)
        if plain is not None:
            try:
                run_prepare(**plain)
            except KeyboardInterrupt:
                return INTERRUPTED
            return 0
    return _app()(arguments, prog_name="pixelprep", standalone_mode=False)


def _app() -> Any:
    """Return the whole command line: by its name, as it imports this module."""
    collect_garbage()
    return import_module("pixelprep.cli.app").app


def spelled(text: str) -> str:
    """Turn arguments in backticks into options of the command line."""
    if "`" not in text:
        return text
    from pixelprep.cli.spelling import as_options  # loads Typer

    return as_options(text, _app())


class _Plain(logging.Formatter):
    """Format messages whose names may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        return formatting.escape_control(spelled(super().format(record)))


def messages(quiet: bool) -> None:
    """Send the library's messages, and what it warns of, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    log = logging.getLogger("pixelprep")
    log.handlers = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    warnings.simplefilter("always", PixelprepWarning)
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line).rstrip("\n")
    own = issubclass(category, PixelprepWarning)
    logging.getLogger("pixelprep").warning("%s", message if own else text)


def main() -> NoReturn:
    """Run the command line; every failure is one line and, where there is a way out, a hint."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: nothing may go into a file instead
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - for as long as we run
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name == "ascii":
            stream.reconfigure(encoding="utf-8", errors="replace")  # a locale that is not set
    try:
        _main()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # discard what cannot be written: Python, on exit, would return 120
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _main() -> NoReturn:
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    _refuse_empty(arguments)
    try:
        code = _run(arguments)
        sys.stdout.flush()  # a full disk is an error while it can still be reported
    except BrokenPipeError:  # nobody reads any more
        sys.exit(1)
    except Exception as error:
        if debug:
            traceback.print_exc()
        fail(*_format_error(error))
    if code == INTERRUPTED:
        fail("interrupted", None, INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse an empty argument, of a variable that is not set: as a path it would be here."""
    for before, given in zip(["", *arguments], arguments, strict=False):
        if not given or re.fullmatch("--[a-z-]+=", given):
            name = given.removesuffix("=") or before
            name = name if name.startswith("--") else "an argument"
            fail(f"{name} is empty", "is a shell variable not set? leave the option out", 2)


def _format_error(error: Exception) -> tuple[str, str | None, int]:
    """Return the message, the hint and the exit status of an error."""
    command = resume_command(error)
    if isinstance(error, PixelprepError):
        hint = ", then ".join(filter(None, (error.hint, command)))
        return error.message, hint, 2 if isinstance(error, UsageError) else 1
    if hasattr(error, "format_message"):  # Typer's own: wrong usage
        return _usage_error(error)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}", command, 1
    hint = f"{command} --debug" if command else "run again with --debug for the traceback"
    return f"{type(error).__name__}: {error}", hint, 1


def _usage_error(error: Any) -> tuple[str, str | None, int]:  # Any: one of Click's, vendored
    """Return the same of wrong usage, with the nearest command or option that Click suggests."""
    import difflib

    before_names = r"\.? (?:Did you mean '|\(Possible options: )"
    message, *suggested = re.split(before_names, error.format_message())
    message = re.sub("Input should be a valid ([a-z]+), unable .*", r"expected a \1", message)
    message = message.replace("a integer", "a whole number").rstrip(".")
    context = getattr(error, "ctx", None)  # Click knows none where an option has no value
    command = context.command_path if context else _command_of(sys.argv[1:])
    hint = f"{command} --help"
    elsewhere = [way for name, way in OTHERWISE.items() if re.search(rf"{name}\b", message)]
    fixed = {
        f"--{name.replace('_', '-')}" for name in FIXED | declared_options(RecipeOptions).keys()
    }
    meant = {*message.split(), *(way.split()[0] for way in elsewhere)}
    if context and context.info_name in ("evaluate", "predict") and fixed & meant:
        hint = "leave it out: data is read and scaled as the run's was"
    elif elsewhere:
        hint = f"did you mean '{elsewhere[0].format(command=command)}'?"
    elif suggested:
        told, names = (re.findall("[a-z-]+", text) for text in (message, suggested[0]))
        bare = {name.lstrip("-"): name for name in names}
        if near := difflib.get_close_matches(told[-1].lstrip("-"), bare, n=1):
            hint = f"did you mean '{bare[near[0]]}'?"
    return message[:1].lower() + message[1:], hint, 2


def _command_of(arguments: list[str]) -> str:
    """Return the command of a line: the words before its options; of `cache` it has two."""
    words = list(takewhile(lambda word: not word.startswith("-"), arguments))
    return " ".join(["pixelprep", *words[: 2 if words[:1] == ["cache"] else 1]])


def fail(message: str, hint: str | None, code: int) -> NoReturn:
    output.print_error("error", spelled(one_line(message)))
    if hint:
        output.print_error("hint", spelled(hint))
    sys.exit(code)
