"""Shared by all tests: where the real MNIST is, small generated sources, a cache per test."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from packages import ROOT, environment_with, wheel_of

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.sources import Arrays

# No test may touch the user's own cache, or be led astray by his settings.
for name in [name for name in os.environ if name.startswith("PIXELPREP_")]:
    if name != "PIXELPREP_TEST_DATA":
        del os.environ[name]
# Output is buffered, as it is for users: what cannot be written may only be noticed at the end.
os.environ.pop("PYTHONUNBUFFERED", None)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, also for the processes that it starts."""
    monkeypatch.setenv("PIXELPREP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The folder of the real MNIST files."""
    data = os.environ.get("PIXELPREP_TEST_DATA")
    if not data:
        pytest.skip("PIXELPREP_TEST_DATA is not set: no real MNIST files to test with")
    folder = Path(data) / "mnist"
    if not folder.is_dir():
        pytest.skip(f"{folder} (from PIXELPREP_TEST_DATA) does not exist")
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return wheel_of(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it declares, and nothing else."""
    return environment_with(wheel, tmp_path_factory.mktemp("alone") / "environment")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, empty; modules that are imported from it are forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture
def small() -> Entry:
    """Random images that are large enough for the CNN, with a validation split."""
    return pixelprep.prepare(arrays(300, 70, (12, 12, 1)), val_fraction=0.2)


def arrays(
    train: int = 40,
    test: int = 20,
    shape: tuple[int, ...] = (6, 5, 3),
    dtype: str = "uint8",
    classes: int = 4,
    seed: int = 0,
    name: str = "little",
) -> Arrays:
    """A small source of random integer images in memory, every class in every split."""
    random = np.random.default_rng(seed)
    limits = np.iinfo(dtype)

    def split(rows: int) -> tuple[np.ndarray, np.ndarray]:
        images = random.integers(limits.min, limits.max, (rows, *shape), dtype, endpoint=True)
        return images, random.permutation(np.arange(rows) % classes)

    return Arrays(name, split(train), split(test))
