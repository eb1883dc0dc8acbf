"""Run the command line as users run it: its output, and its exit status."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.main import get_command

from pixelprep.cli.app import app

Done = subprocess.CompletedProcess[str]


COMMAND = [sys.executable, "-m", "pixelprep"]


def run(*arguments: str, **options: Any) -> Done:
    """Run the command to its end."""
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120} | options
    return subprocess.run([*COMMAND, *arguments], **settings)


def prepared(*arguments: str) -> dict[str, Any]:
    """What ``prepare --json`` answers, once it is sure to have worked."""
    done = run("prepare", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def failure(done: Done, status: int = 1) -> tuple[str, str]:
    """Error and hint of a command, once it is sure that it says nothing else.

    The lines on the raw data may come first: they are there before anything can go wrong.
    """
    assert done.returncode == status, (done.returncode, done.stderr)
    assert done.stdout == ""
    error, *hints = [line for line in done.stderr.splitlines() if not line.startswith("raw ")]
    assert error.startswith("error: ")
    assert len(hints) <= 1
    assert all(hint.startswith("hint: ") for hint in hints)
    return error.removeprefix("error: "), hints[0].removeprefix("hint: ") if hints else ""


def limited(kind: int, limit: int) -> Callable[[], None]:
    """Limits a child process, before it becomes the command."""
    return lambda: resource.setrlimit(kind, (limit, limit))


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command."""
    out, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen([*COMMAND, *arguments], stdout=out, stderr=pipe, text=True, **options)


def wait_until_it_writes(process: subprocess.Popen[str], cache: Path) -> None:
    """Come back when the first file is being written."""
    while process.poll() is None and not list(cache.glob(".tmp/*/parts/train.h5.*")):
        time.sleep(0.001)


def parse(arguments: list[str]) -> None:
    """Have a command line understood, without doing what it says."""
    command, rest = get_command(app), list(arguments)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)
