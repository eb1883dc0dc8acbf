"""A folder of images, the entry that one process makes of it, and workers of both kinds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pixelprep
from tests.helpers.cluster import Servers, serving
from tests.helpers.data import bytes_of
from tests.helpers.team import Team


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


@pytest.fixture(params=["processes", pytest.param("cluster", marks=pytest.mark.long)])
def team(request: pytest.FixtureRequest) -> Team:
    """Return workers of either kind."""
    if not Path("/proc/self/task").exists():
        pytest.skip("the system has no /proc")
    if request.param == "cluster":
        return Team(request.getfixturevalue("servers"))
    return Team(alone=request.param == "alone")
