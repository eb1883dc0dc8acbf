"""Do in a fork what pixelprep does in a process of its own: the same, but sooner.

Both end in the same ways, and an end is noted: a crash, a hang or much memory there is what such
a process is for.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from pixelprep.format import sandbox

PATIENCE = 5  # seconds; a real one waits a minute, which so many hangs would make days
EVERY = 50  # of so many inputs one is tried with a real process
REAL = sandbox.run_in_sandbox


def hasten() -> None:
    """Make both kinds of process wait no longer than `PATIENCE`."""
    sandbox.TIMEOUT = PATIENCE
    ready = "sandbox.main("
    assert sandbox.PROGRAM.count(ready) == 1
    sandbox.PROGRAM = sandbox.PROGRAM.replace(ready, f"sandbox.TIMEOUT = {PATIENCE}\n{ready}")


class Isolation:
    """Stands in for `sandbox.run_in_sandbox` while one input is tried.

    Parameters
    ----------
    real : bool
        Whether a real process is started each time, and no fork.
    log : Path
        Where a process that crashes says where it was.

    Attributes
    ----------
    deaths : list of str
        How each process ended that came to no good end.
    """

    def __init__(self, real: bool, log: Path) -> None:
        self.real, self.log = real, log
        self.deaths: list[str] = []

    def in_place(self) -> AbstractContextManager[Any]:
        """Stand in until the block is left."""
        return patch.object(sandbox, "run_in_sandbox", self.values)

    def values(self, function: str, **arguments: Any) -> Iterator[Any]:
        """Do what `sandbox.run_in_sandbox` does."""
        try:
            yield from (REAL if self.real else self._forked)(function, **arguments)
        except sandbox.SandboxError:
            if self.real:
                self.deaths.append("a real process")
            raise

    def _forked(self, function: str, **arguments: Any) -> Iterator[Any]:
        out, into = os.pipe()
        child = os.fork()
        if not child:
            os.close(out)
            _answer(into, function, arguments)
        os.close(into)
        ended = False
        try:
            with os.fdopen(out, "rb") as said:
                yield from sandbox.receive(said)
        except sandbox.SandboxError:
            ended = True
            self.deaths.append(f"{how_ended(child)} {where(self.log)}".rstrip())
            raise
        finally:
            if not ended:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def in_a_fork(function: Callable[[], Any]) -> Any | None:
    """Return the JSON value that a function returns; None where it raises or does not return."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.close(out)
        with suppress(BaseException):
            sandbox.set_limits()
            os.write(into, json.dumps(function()).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as said:
        value = said.read()
    os.waitpid(child, 0)
    return json.loads(value) if value else None


def _answer(into: int, function: str, arguments: dict[str, Any]) -> NoReturn:
    """Do what `sandbox.main` does once it knows the request."""
    try:
        sandbox.set_limits()
        module, _, name = function.partition(":")
        run = getattr(import_module(module), name)
        with os.fdopen(into, "wb", buffering=0) as out:
            for answer in sandbox.iter_replies(run, arguments):
                out.write(json.dumps(answer).encode() + b"\n")
                signal.alarm(sandbox.TIMEOUT)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def how_ended(child: int) -> str:
    """Wait for a child process, and return how it ended."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def where(log: Path) -> str:
    """Return the innermost line of pixelprep in a process's last words."""
    said = log.read_text(errors="replace")
    lines = [line.strip() for line in said.splitlines() if "/pixelprep/" in line]
    if not lines:
        return ""
    crashed = "most recent call first" in said  # as faulthandler says it
    return lines[0] if crashed else f"{lines[-1]}: {said.splitlines()[-1]}"
