"""A process that hosts contestants of one row, so that frameworks do not disturb each other.

It sets them up, then measures one round for each line that it is told: the turns are kept by the
parent, and a contestant that takes its process down takes no other's with it.
"""

import json
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from benchmarks.contest import Contest, Contestant, Measure, Reading
from benchmarks.place import Crashed, LeftOut, Place
from benchmarks.process import last_words, started

Failed = dict[str, tuple[str, str]]  # by name: "left out" or "crashed", and why

PATIENCE = 900  # seconds for one set-up or one round


class Worker:
    """The parent's side of one such process."""

    def __init__(self, row: str, home: str, place: Place) -> None:
        self.command = [sys.executable, "-m", "benchmarks.worker", row, home, place.to_json()]
        self.place = place
        self.failed: Failed = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = started(self.command, self.place.environment(), **pipes)
            self.child, self.errors = stack.enter_context(process)
            self.failed = self._answer()["failed"]
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def measure(self, name: str) -> Measure:
        """What measures this contestant, there."""
        if name in self.failed:
            raise _received(self.failed[name])

        def ask(number: int) -> Reading:
            try:
                print(json.dumps([name, number]), file=self.child.stdin, flush=True)
            except OSError:
                raise Crashed(self._end()) from None
            answer = self._answer()
            if "error" in answer:
                raise _received(answer["error"])
            return Reading(**answer)

        return ask

    def _answer(self) -> Any:
        assert self.child.stdout is not None
        if not select.select([self.child.stdout], [], [], PATIENCE)[0]:
            raise Crashed(f"no answer in {PATIENCE} s")
        line = self.child.stdout.readline()
        if not line:
            raise Crashed(self._end())
        return json.loads(line)

    def _end(self) -> str:
        self.child.wait()
        return f"its process ended: {last_words(self.child, self.errors)}"


def afresh(row: str, contestant: Contestant, place: Place) -> Measure:
    """What measures a contestant in a new process every round."""

    def measure(number: int) -> Reading:
        with Worker(row, contestant.home, place) as worker:
            return worker.measure(contestant.name)(number)

    return measure


def _sent(error: Exception) -> tuple[str, str]:
    """An error as it travels: its kind and its message."""
    if isinstance(error, LeftOut):
        return "left out", str(error)
    for missing in (error, error.__cause__):  # pixelprep's own error names the extra
        if isinstance(missing, ModuleNotFoundError) and missing.name:
            return "left out", f"{missing.name.partition('.')[0]} is not installed"
    traceback.print_exc()
    return "crashed", f"{type(error).__name__}: {error}"


def _received(sent: tuple[str, str]) -> Exception:
    kind, message = sent
    return LeftOut(message) if kind == "left out" else Crashed(message)


def _set_up(
    contest: Contest, home: str, place: Place
) -> tuple[dict[str, Measure], dict[str, tuple[str, str]]]:
    measures, failed = {}, {}
    for contestant in contest.contestants:
        if contestant.home != home:
            continue
        try:
            measures[contestant.name] = contestant.make(place)
        except Exception as error:
            failed[contestant.name] = _sent(error)
    return measures, failed


def _serve(measures: dict[str, Measure], send: Callable[[Any], None]) -> None:
    for line in sys.stdin:  # ends with the parent
        name, number = json.loads(line)
        try:
            send(measures[name](number)._asdict())
        except Exception as error:
            send({"error": _sent(error)})


def main() -> None:
    """The child's side: ROW HOME PLACE."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints is not an answer

    def send(answer: Any) -> None:
        print(json.dumps(answer), file=channel, flush=True)

    from benchmarks.rows import CONTESTS

    row, home, place = sys.argv[1:]
    measures, failed = _set_up(CONTESTS[row], home, Place(**json.loads(place)))
    send({"failed": failed})
    _serve(measures, send)


if __name__ == "__main__":
    main()
