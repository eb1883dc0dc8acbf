"""Choose the workers of a `prepare`, and kill one."""

import os
import signal
from dataclasses import dataclass
from typing import Any

from tests.helpers.cluster import Servers
from tests.helpers.process import Process
from tests.helpers.workers import wait_for, working


@dataclass(frozen=True)
class Team:
    """Worker processes, those of a cluster's servers, or none."""

    servers: Servers | None = None
    alone: bool = False

    def choice(self, count: int = 2) -> dict[str, Any]:
        """Return how Python is told to use so many."""
        if self.servers:
            return {"scheduler": self.servers.have(count)}
        return {"workers": 1 if self.alone else count}

    def options(self, count: int = 2) -> list[str]:
        """Return how the command line is told so."""
        ((name, value),) = self.choice(count).items()
        return [f"--{name}", str(value)]

    def lose_one(self, process: Process) -> None:
        """Kill a worker of a `prepare`; come back when it is gone, or its death has been noticed.

        One worker process that dies takes the others with it.
        """
        pool = [one.pid for one in self.servers.workers] if self.servers else working(process.pid)
        os.kill(pool[0], signal.SIGKILL)
        if self.servers:
            self.servers.workers[0].wait()
        else:
            wait_for(process, lambda: not {*pool} & {*working(process.pid)})
