"""Shared by all tests: where the real MNIST is, small generated sources, a cache per test."""

import os
import re
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import pixelprep
from pixelprep.dataset.entry import Entry
from tests.helpers.data import arrays, write_digits
from tests.helpers.packages import ROOT, environment_with, wheel_of

# No test may touch the user's own cache, or be led astray by his settings. Commands print through
# buffers, as they do for him.
for name in list(os.environ):
    ours = name.startswith("PIXELPREP_") and name != "PIXELPREP_TEST_DATA"
    if ours or name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
        del os.environ[name]

# Where the tests run in the background, Ctrl-C is ignored; what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("few", max_examples=15, deadline=None)
settings.register_profile("many", max_examples=300, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Try few examples of what Hypothesis draws, unless the long tests are asked for."""
    settings.load_profile("few" if config.option.markexpr == "not long" else "many")


# Tests that import TensorFlow, or fork commands that have it imported.
TENSORFLOW = re.compile(
    r"tests/training/|/test_(run_report|frameworks|equivalence|paste)\.py"
    r"|\[training|bar_of_training|tfrecord|\[tf|to_tf|(?i:keras|tensorflow)"
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give one worker all tests that need TensorFlow, so that no other imports it, which takes as
    long as dozens of tests; of the others each file goes to whoever is free.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc] # xdist is not typed
        def _split_scope(self, nodeid: str) -> str:
            return "TensorFlow" if TENSORFLOW.search(nodeid) else super()._split_scope(nodeid)

    return Scheduling(config, log)


LIMITS = {False: 300, True: 3600}  # seconds that a test may take, a long one too


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have a test fail that waits for ever, for whatever it is."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"{item.nodeid} has not ended")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMITS[item.get_closest_marker("long") is not None])
    try:
        return (yield)
    finally:
        signal.alarm(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the test's own, also for the processes that it starts."""
    monkeypatch.setenv("PIXELPREP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def mnist() -> Path:
    """Return the folder of the real MNIST files."""
    data = os.environ.get("PIXELPREP_TEST_DATA")
    if not data:
        pytest.skip("PIXELPREP_TEST_DATA is not set: no real MNIST files to test with")
    folder = Path(data) / "mnist"
    if not folder.is_dir():
        pytest.skip(f"{folder} (from PIXELPREP_TEST_DATA) does not exist")
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this checkout."""
    return wheel_of(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the wheel and what it declares, and nothing else."""
    return environment_with(wheel, tmp_path_factory.mktemp("alone") / "environment")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide the current folder, empty; modules that are imported from it are forgotten at the
    end.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a small dataset of the user's own, below the current folder."""
    write_digits(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    return "./digits"


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset that takes its time: 20,000 images."""
    return write_digits(tmp_path_factory.mktemp("data") / "many", 20_000, 1_000, 28)


@pytest.fixture
def small() -> Entry:
    """Return random images that are large enough for the CNN, with a validation split."""
    return pixelprep.prepare(arrays(300, 70, (12, 12, 1)), val_fraction=0.2)
