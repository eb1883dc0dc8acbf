"""Runs that many tests look at, and a current folder for those that train."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.reports import run_report
from pixelprep.reports.results import TrainSettings
from pixelprep.training import models
from tests.helpers.data import arrays
from tests.helpers.training import listening, settings


@pytest.fixture(autouse=True)
def folder(here: Path) -> Path:
    """Return the current folder, which is empty."""
    return here


@pytest.fixture(scope="package", autouse=True)
def frameworks() -> None:
    """Import TensorFlow where these tests run, not wherever they are collected: it takes long."""
    for name in ("tensorflow", "keras"):
        pytest.importorskip(name, reason="the extra `train` is not installed")


@pytest.fixture(scope="package", autouse=True)
def plain_steps(frameworks: None) -> Iterator[None]:
    """Have Keras trace a step instead of a loop over steps, which takes twice as long. That changes
    no result: runs of commands, which have the loop, are compared with these bit for bit.
    """
    build, default = models.compiled, TrainSettings().steps_per_execution

    def compiled(entry: Entry, given: str | None, steps: int) -> Any:
        return build(entry, given, 1 if steps == default else steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "compiled", compiled)
        yield


@pytest.fixture(scope="package", autouse=True)
def undrawn() -> Iterator[None]:
    """Leave out the pictures of runs, a third of what they cost; tests/reports looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "picture", lambda result: b"\x89PNG")
        patch.setattr(run_report, "build", lambda *facts: b"page")
        yield


@pytest.fixture(scope="package")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Return random images that are large enough for the CNN, in a cache of their own."""
    cache = tmp_path_factory.mktemp("entry")
    images = arrays(300, 70, (12, 12, 1))
    return pixelprep.prepare(images, val_fraction=0.2, cache_dir=cache, quiet=True)


@pytest.fixture(scope="package")
def runs(entry: Entry, plain_steps: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``whole``, the run of `settings`, which nothing interrupted, and
    ``run.unfinished``, what a kill after its first epoch would have left.
    """
    folder = tmp_path_factory.mktemp("runs")

    def keep(message: str) -> None:
        if message.startswith("epoch 1/"):
            shutil.copytree(folder / "whole.unfinished", folder / "run.unfinished")

    with listening(keep):
        pixelprep.train(entry, **settings(str(folder / "whole")))
    return folder


@pytest.fixture
def whole(runs: Path) -> Path:
    """Return the run of `settings`, which nothing interrupted; it is not to be changed."""
    return runs / "whole"


@pytest.fixture
def unfinished(runs: Path, folder: Path) -> Path:
    """Return the folder of the same run in the current folder as its first epoch left it."""
    shutil.copytree(runs / "run.unfinished", "run.unfinished")
    return Path("run.unfinished")
