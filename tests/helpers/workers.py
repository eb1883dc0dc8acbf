"""Watch and kill the workers of a `prepare`."""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pixelprep.sources import Arrays
from pixelprep.system import staging
from tests.helpers import cli
from tests.helpers.process import Process, seen

OPTIONS = ["--shard-rows", "40"]


def floats(source: Arrays) -> Arrays:
    """Return the same images, each by a factor that makes sums inexact."""
    train, test = ((x * np.float32(0.1), y) for x, y in source.splits.values())
    return Arrays(source.name, train, test)


def leave_unfinished(cache: Path, name: str = "work") -> None:
    """Do a step of work that could be gone on with, and be interrupted."""
    with suppress(KeyboardInterrupt), staging.workspace(cache, name, resumable=True) as work:
        staging.run_step(work, "one", lambda path: {"sha256": "", "n": path.write_bytes(b"")})
        raise KeyboardInterrupt


def start(folder: Path, *options: str, **settings: Any) -> Process:
    """Start a `prepare` in a process group of its own."""
    settings = {"stdout": subprocess.PIPE, "start_new_session": True, **settings}
    return cli.start("prepare", str(folder), *OPTIONS, *options, **settings)


def children(pid: int) -> list[int]:
    """Return the processes that a process started and that still live."""
    found = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return [one for child in found for one in (child, *children(child))]


def working(pid: int) -> list[int]:
    """Return those of them that are workers."""
    found = []
    for child in children(pid):
        with suppress(OSError):
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"popen_loky" in line:
                found.append(child)
    return found


def ended(pids: list[int]) -> bool:
    """Return whether none of these processes is alive a little later."""
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def finished(cache: Path, pattern: str) -> dict[str, int]:
    """Return files of unfinished work that were noted as finished, by name, and their inodes."""
    found = {}
    for receipt in seen(cache, f".tmp/*/done/{pattern}.json"):
        path = receipt.parents[1] / "files" / receipt.stem
        with suppress(OSError, ValueError):  # it may just be written, or already be published
            json.loads(receipt.read_bytes())
            found[path.name] = path.stat().st_ino
    return found


def wait_for(process: Process, ready: Callable[[], object]) -> None:
    """Until something is so, or the process has ended."""
    while process.poll() is None and not ready():
        time.sleep(0.001)


# By phase: which files are finished in it. Decoded parts have no suffix.
PHASES = {"decoding": "train.[0-9]", "writing": "train-*.h5"}


def reached(process: Process, cache: Path, phase: str, count: int = 1) -> None:
    """Come back when a `prepare` has finished so many files of a phase, or has ended."""
    wait_for(process, lambda: len(finished(cache, PHASES[phase])) >= count)
