"""Run the command line as users run it: its output, and its exit status."""

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from typer.main import get_command

from pixelprep.cli.app import app
from tests.helpers.process import PATIENCE, TENSORFLOW, Forked, Process, fork_server, seen

Done = subprocess.CompletedProcess[str]

COMMAND = [sys.executable, "-m", "pixelprep"]
MAIN = "from pixelprep.cli.app import main; main()"

# What a warm process has to have imported for commands with one of these arguments.
IMPORTS = {
    "train": TENSORFLOW,
    "evaluate": TENSORFLOW,
    "predict": TENSORFLOW,
    "compare": TENSORFLOW,
    "tfrecord": TENSORFLOW,
    "saved-model": TENSORFLOW,
    "--scheduler": ("distributed",),
}


def start(
    *arguments: str,
    code: str = "",
    limits: Mapping[int, int] | None = None,
    cold: bool = False,
    bare: bool = False,
    hurried: bool = True,
    **options: Any,
) -> Process:
    """Start the command, after Python `code`, within `limits` as `resource.setrlimit` has them.

    A process that has all imported forks it; a `bare` one without TensorFlow and the like, as for
    what is refused at once. `hurried`, the interpreter's own end, half of what a command costs, is
    left out, but for those that start workers. Only where it is `cold`, as for what happens while
    it starts and imports, Python is started for it. Options are those of `subprocess.Popen`; by
    default standard error is text in a pipe.
    """
    settings = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True} | options
    if not cold and hasattr(os, "pidfd_open"):
        wanted = (IMPORTS[one] for one in arguments if one in IMPORTS and not bare)
        modules: tuple[str, ...] = next(wanted, ())
        hurried = hurried and not {*arguments} & {"--workers", "-j", "--scheduler"}
        settings |= {"code": code, "limits": limits, "hurried": hurried}
        return Forked(fork_server(*modules), arguments, **settings)

    def limit() -> None:
        for kind, number in (limits or {}).items():
            resource.setrlimit(kind, (number, number))

    command = [sys.executable, "-c", f"{code}\n{MAIN}"] if code else COMMAND
    return Process([*command, *arguments], **{"preexec_fn": limit, **settings})


def run(*arguments: str, timeout: float = PATIENCE, **options: Any) -> Done:
    """Run the command to its end, with options of `start`; capture what it prints."""
    with start(*arguments, **{"stdout": subprocess.PIPE, **options}) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


AGAIN = 5.0  # seconds after which Ctrl-C is pressed once more


def on_terminal(
    *arguments: str,
    columns: int = 100,
    typed: str = "",
    interrupted_at: str = "",
    status: int = 0,
    both: bool = False,
    **options: Any,
) -> tuple[str, str]:
    """Return standard output, and what a terminal shows of standard error, or of `both`.

    What is `typed` waits there to be read; once the mark is shown, the command is interrupted.
    """
    ours, its = pty.openpty()
    termios.tcsetwinsize(ours, (40, columns))
    os.write(ours, typed.encode())
    env = {**options.pop("env", os.environ)}
    env.pop("COLUMNS", None)
    files: dict[str, Any] = {
        "stdin": its,
        "stdout": its if both else subprocess.PIPE,
        "stderr": its,
    }
    with start(*arguments, env=env, **files, **options) as process:
        os.close(its)
        seen, mark, is_interrupted = b"", interrupted_at.encode(), False
        with suppress(OSError):  # how Linux says that the other side is closed
            while True:
                # A signal just before Python begins to read the terminal waits for the next one.
                while is_interrupted and not select.select([ours], [], [], AGAIN)[0]:
                    process.send_signal(signal.SIGINT)
                if not (piece := os.read(ours, 1 << 16)):
                    break
                seen += piece
                if mark and mark in seen and not is_interrupted:
                    process.send_signal(signal.SIGINT)
                    is_interrupted = True
        os.close(ours)
        printed, _ = process.communicate()
    assert process.returncode == status, seen
    return printed, seen.decode().replace("\r\n", "\n")


def prepared(*arguments: str) -> dict[str, Any]:
    """Return what ``prepare --json`` answers, once it is sure to have worked."""
    done = run("prepare", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# What may be said before an error.
EARLIER = re.compile("raw |[^:]+: (train|val|test) is |[^:]+: pixels of .*: are mean and std of ")


def failure(done: Done, status: int = 1) -> tuple[str, str]:
    """Return error and hint of a command, once it is sure that it says nothing else.

    The lines on the raw data may come first: they are there before anything can go wrong. So may
    which arrays are which.
    """
    assert done.returncode == status, (done.returncode, done.stderr)
    assert done.stdout == ""
    error, *hints = [line for line in done.stderr.splitlines() if not EARLIER.match(line)]
    assert error.startswith("error: ")
    assert len(hints) <= 1
    assert all(hint.startswith("hint: ") for hint in hints)
    return error.removeprefix("error: "), hints[0].removeprefix("hint: ") if hints else ""


def wait_until_it_writes(process: Process, cache: Path) -> None:
    """Come back when the first file is being written."""
    while process.poll() is None and not seen(cache, ".tmp/*/parts/train.h5.*"):
        time.sleep(0.001)


@cache
def command_line() -> Any:
    """Return the command line as click has it."""
    return get_command(app)


def parse(arguments: list[str]) -> None:
    """Have a command line understood, without doing what it says."""
    command, rest = command_line(), list(arguments)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)
