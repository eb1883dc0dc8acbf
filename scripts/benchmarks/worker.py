"""A process that hosts contestants of one row, so that frameworks do not disturb each other.

It sets them up, then measures one round whenever it is asked: the parent keeps the turns, and a
contestant that takes its process down takes no other process with it.
"""

import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection
from typing import Self

from benchmarks.clock import Measure
from benchmarks.place import Crashed, LeftOut, Place

Make = Callable[[Place], Measure]
SPAWN = get_context("spawn")
PATIENCE, LEAVE = 900, 2  # seconds for one set-up or one round, and for ending


class Worker:
    """The parent's side of one such process."""

    def __enter__(self) -> Self:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs,))
        self.process.start()
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()  # at which it ends, unless it is busy
        self.process.join(LEAVE)
        with suppress(ProcessLookupError):  # it leads a group, so that its children end with it
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()

    def set_up(self, name: str, make: Make, place: Place) -> Measure:
        """Set a contestant up there, and return what measures it there."""
        self._ask((name, make, place))
        return lambda: self._ask((name, None, None))

    def _ask(self, question: object) -> float:
        try:
            self.pipe.send(question)
            if not self.pipe.poll(PATIENCE):
                raise Crashed(f"no answer in {PATIENCE} s")
            answer: float | Exception = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Crashed(f"its process ended: exit status {self.process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe: Connection) -> None:
    """Set up and measure what the parent asks for, until it ends."""
    os.setsid()
    set_start_method(None, force=True)  # not "spawn", but what users have
    os.dup2(2, 1)  # what a framework prints does not belong into the table
    measures: dict[str, Measure] = {}
    with suppress(EOFError, OSError):
        while True:
            name, make, place = pipe.recv()
            answer: float | Exception
            try:
                if make:
                    measures[name] = make(place)
                answer = 0.0 if make else measures[name]()
            except Exception as error:
                answer = _sent(error)
            pipe.send(answer)


def _sent(error: Exception) -> Exception:
    """Return an error that can travel and that says why."""
    if isinstance(error, LeftOut):
        return error
    for missing in (error, error.__cause__):  # pixelprep's own error names the extra
        if isinstance(missing, ModuleNotFoundError) and missing.name:
            return LeftOut(f"{missing.name.partition('.')[0]} is not installed")
    traceback.print_exc()
    return Crashed(f"{type(error).__name__}: {error}")
