"""A folder of images, the entry that one process makes of it, and workers of both kinds."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from tests.helpers.cluster import Servers, serving
from tests.helpers.data import bytes_of
from tests.helpers.process import Process
from tests.helpers.workers import wait_for, working


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 300 little PNG images of three classes."""
    top, numbers = tmp_path_factory.mktemp("in") / "pictures", np.random.default_rng(0)
    for i in range(300):
        path = top / ("test" if i % 5 == 0 else "train") / f"c{i % 3}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    return top


@pytest.fixture(scope="session")
def right(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what one process makes of the folder."""
    cache = tmp_path_factory.mktemp("right")
    return bytes_of(pixelprep.prepare(folder, shard_rows=40, cache_dir=cache, quiet=True).path)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Provide a scheduler that is never killed."""
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with serving(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


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


@pytest.fixture(params=["processes", "cluster"])
def team(request: pytest.FixtureRequest) -> Team:
    """Return workers of either kind."""
    if not Path("/proc/self/task").exists():
        pytest.skip("the system has no /proc")
    if request.param == "cluster":
        return Team(request.getfixturevalue("servers"))
    return Team(alone=request.param == "alone")
