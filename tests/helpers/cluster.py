"""A Dask cluster: scheduler and workers are processes of their own, as those of ``dask`` are."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.helpers.process import Forked, Process, fork_server
from tests.helpers.workers import children

STARTING = 60  # seconds that a server may take to start

# What a scheduler and a worker run; a task is given up with its second worker.
SERVER = """
import sys
import dask
from distributed.cli.dask_{kind} import main
dask.config.set({{"distributed.scheduler.allowed-failures": 1}})
sys.exit(main())
"""


def until(ready: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + STARTING
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)


class Servers:
    """A scheduler and its workers, with options of both, and the scheduler's environment.

    The folder, empty at first, is for what they say and keep.
    """

    def __init__(self, top: Path, *options: str, **environment: str) -> None:
        self.top, self.options = top, ("--host", "127.0.0.1", "--no-dashboard", *options)
        self.workers: list[Process] = []
        told = top / "scheduler.json"
        self.scheduler = self._run(
            "scheduler", "--port", "0", "--scheduler-file", str(told), **environment
        )
        until(lambda: told.exists() and told.stat().st_size)
        self.address: str = json.loads(told.read_text())["address"]

    def _run(self, kind: str, *options: str, **environment: str) -> Process:
        """Have a server forked, or started by Python where it needs an environment of its own."""
        arguments, code = (*options, *self.options), SERVER.format(kind=kind)
        with (self.top / f"{kind}.log").open("ab") as log:
            settings: dict[str, Any] = {"cwd": self.top, "stdout": log, "stderr": log}
            settings |= {"stdin": subprocess.DEVNULL, "env": os.environ | environment}
            if environment:
                return Process([sys.executable, "-c", code, *arguments], **settings)
            return Forked(fork_server("distributed"), arguments, code=code, **settings)

    def have(self, count: int, nanny: str = "--no-nanny", **environment: str) -> str:
        """Have so many workers, by starting or ending some; the scheduler's address."""
        alive = [worker for worker in self.workers if worker.poll() is None]
        for worker in alive[count:]:
            end(worker)
        known = self._registered()
        threads = ("--nthreads", "1", "--memory-limit", "0", "--local-directory", str(self.top))
        self.workers = alive[:count]
        for _ in range(count - len(self.workers)):
            worker = self._run("worker", self.address, nanny, *threads, **environment)
            self.workers.append(worker)
        until(lambda: self._registered() >= known + max(0, count - len(alive)))
        return self.address

    def _registered(self) -> int:
        log = self.top / "worker.log"
        return log.read_text().count("Registered to:") if log.exists() else 0

    def stop(self) -> None:
        """End them all."""
        for process in (*self.workers, self.scheduler):
            end(process)


def end(process: Process) -> None:
    """Kill it, and what a nanny has started."""
    below = children(process.pid) if process.poll() is None else []
    process.kill()
    for pid in below:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@contextmanager
def serving(top: Path, *options: str, **environment: str) -> Iterator[Servers]:
    """Provide servers that are ended in any case."""
    servers = Servers(top, *options, **environment)
    try:
        yield servers
    finally:
        servers.stop()
