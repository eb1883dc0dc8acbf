"""Child processes that leave nothing behind, whatever ends the run, and what they take."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.place import Crashed, Place

SCRIPT = "import sys; from pixelprep.cli.app import main; sys.exit(main())"


def console(place: Place) -> list[str]:
    """Return the ``pixelprep`` command of this very Python, or that of the build before."""
    script = Path(sys.executable).with_name("pixelprep")
    if place.before:  # its script is not installed; this is what it did, and -P leaves . out
        return [sys.executable, "-P", "-c", SCRIPT]
    return [str(script)] if script.exists() else [sys.executable, "-m", "pixelprep"]


@contextmanager
def started(
    command: Sequence[str], stdout: Any = subprocess.DEVNULL, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a child; it and all its children end with the block.

    Raises
    ------
    Crashed
        Where it ended with another status than 0: that, and its last line on standard error.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        child = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=stdout,
            stderr=errors,
            text=True,
            start_new_session=True,  # a group of its own, so that its children can be ended with it
        )
        try:
            yield child
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if child.stdout:
                child.stdout.close()
        if child.returncode:
            errors.seek(0)
            last = [line.strip() for line in errors if line.strip()][-1:]
            raise Crashed(", ".join([f"exit status {child.returncode}", *last]))


def seconds(command: Sequence[str], **environment: str) -> float:
    """Return how long a whole process takes, from its start to its end."""
    begun = time.perf_counter()
    with started(command, **environment) as child:
        child.wait()
        return time.perf_counter() - begun


def memory(pid: int, field: str) -> int:
    """Return the bytes that /proc reports for one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))
