"""Child processes that leave nothing behind, whatever ends the run."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from benchmarks.place import Crashed


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], **options: Any
) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A child with its standard error in a file; it and all its children end with the block."""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        # A group of its own, so that its children can be ended with it.
        child = subprocess.Popen(
            command, env=environment, stderr=errors, text=True, start_new_session=True, **options
        )
        try:
            yield child, errors
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for pipe in filter(None, (child.stdin, child.stdout)):
                with suppress(OSError):
                    pipe.close()


def last_words(child: subprocess.Popen[str], errors: IO[str]) -> str:
    """How a child ended: its status and its last line."""
    errors.seek(0)
    lines = [line for line in errors.read().splitlines() if line.strip()]
    return f"exit status {child.poll()}" + (f", {lines[-1].strip()}" if lines else "")


def seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long a whole process takes, from its start to its end."""
    begun = time.perf_counter()
    with started(command, environment, stdout=subprocess.DEVNULL) as (child, errors):
        child.wait()
        taken = time.perf_counter() - begun
        if child.returncode:
            raise Crashed(last_words(child, errors))
    return taken
