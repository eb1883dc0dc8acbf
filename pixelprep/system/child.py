"""Ask another process of Python, which may crash or hang in this one's place."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self  # Any: JSON values

PROGRAM = "import sys; sys.path[:] = sys.argv[1:]\n"


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Let SIGINT, and SIGTERM where it is handled, wait until the end of the block."""
    came: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # others get none
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                signal.signal(number, lambda got, _: came.append(got))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


class ChildError(Exception):
    """The process gave no answer; the message is the last line that it said, or how it ended."""


class Child:
    """Code that runs beside this process, and at its end prints one line of JSON."""

    def __init__(self, code: str, environment: Mapping[str, str] | None = None) -> None:
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM + code, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**(os.environ if environment is None else environment), "PYTHONUTF8": "1"},
        )

    def answer(self, seconds: float) -> Any:
        """Wait until so long after the start; a ChildError says why there is no answer."""
        left = self._started + seconds - time.monotonic()
        try:
            out, err = self._process.communicate(timeout=max(left, 0.1))
        except subprocess.TimeoutExpired:
            raise ChildError(f"no answer in {seconds:.0f} s") from None
        code = self._process.returncode
        with suppress(ValueError, IndexError):  # it printed something else, or nothing
            if code == 0:
                return json.loads(out.decode(errors="replace").splitlines()[-1])
        said = err.decode(errors="replace").strip().splitlines()
        if code < 0:
            raise ChildError(f"killed by {signal.Signals(-code).name}")
        raise ChildError(said[-1] if said else f"exit status {code}, and no word")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
