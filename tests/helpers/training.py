"""Training runs: start, interrupt, kill and compare them."""

import csv
import io
import json
import logging
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest

from pixelprep.system import formatting
from pixelprep.training.run_folder import Checkpoint, RunFolder
from tests.helpers.cli import run

FINISHED = [
    *("entry", "history.csv", "metrics.json", "model.keras", "run.html", "serving.keras"),
    "training.png",
]
RANDOM = "tests.helpers.models:random"
TINY = "tests.helpers.models:tiny"
SUBCLASSED = "tests.helpers.models:subclassed"
MODELS = Path(__file__).with_name("models.py")  # to be copied to where a command has no `tests`


@contextmanager
def listening(
    react: Callable[[str], object] = str, logger: str = "pixelprep"
) -> Iterator[list[str]]:
    """Provide the messages that are given out meanwhile, and do something at each."""
    log, ear, messages = logging.getLogger(logger), logging.StreamHandler(io.StringIO()), []

    def hear(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        react(messages[-1])
        return True

    ear.addFilter(hear)
    level = log.level
    log.addHandler(ear)
    log.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        log.removeHandler(ear)
        log.setLevel(level)


@contextmanager
def interrupted_at(message: str) -> Iterator[pytest.ExceptionInfo[KeyboardInterrupt]]:
    """Press Ctrl-C when what is done here says something that begins so."""

    def press(said: str) -> None:
        if said.startswith(message):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped, listening(press):
        yield stopped


@contextmanager
def saved_at(epoch: int, step: int) -> Iterator[None]:
    """Press Ctrl-C once a run is saved after so many epochs and steps of the next."""
    save = RunFolder.save

    def press(self: RunFolder, checkpoint: Checkpoint) -> None:
        save(self, checkpoint)
        if (checkpoint.state.epochs, checkpoint.state.step) == (epoch, step):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save", press)
        with pytest.raises(KeyboardInterrupt):
            yield


# What can be said of a run on the command line too.
ASKED: dict[str, Any] = {"epochs": 3, "seed": 7, "batch_size": 32, "model": RANDOM}
FIRST = (*formatting.options(ASKED), "--run-dir", "run")


def settings(run_dir: str, **options: Any) -> dict[str, Any]:
    """Return three quiet epochs of a random model into this folder, unless told otherwise."""
    return {**ASKED, "run_dir": Path(run_dir), "quiet": True, **options}


def variables(run: Path) -> dict[str, tuple[str, bytes]]:
    """Type and bytes of every variable in a run's model.keras: weights, seeds, optimizer."""
    found: dict[str, tuple[str, bytes]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (str(item.dtype), item[()].tobytes())

    with (
        zipfile.ZipFile(run / "model.keras") as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file,
    ):
        file.visititems(visit)
    return found


def results(run: Path) -> tuple[dict[str, Any], list[list[str]]]:
    """metrics.json and history.csv but for seconds and the run's own name."""
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["run"], metrics["seconds_per_epoch"], metrics["history"]["seconds"]
    with (run / "history.csv").open() as file:
        return metrics, [row[:-1] for row in csv.reader(file)]


def check_same(run: Path, other: Path, **settings: Any) -> None:
    """Both runs are finished, and equal bit for bit but for these settings."""
    assert sorted(p.name for p in run.iterdir()) == FINISHED
    assert not Path(f"{run}.unfinished").exists()
    found = variables(run)
    assert any("optimizer" in name for name in found)
    assert found == variables(other)
    metrics, history = results(other)
    assert results(run) == (metrics | settings, history)


KILLED = """
import os, signal, sys

def kill(happened, arguments):
    global count
    if happened == {event!r} and {name!r} in [os.path.basename(str(one)) for one in arguments]:
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

count = {count}
sys.addaudithook(kill)
"""


def killed_at(event: str, name: str, count: int, *arguments: str) -> str:
    """Run the command, which kills itself just before this system call; return what it said."""
    ended = run(*arguments, code=KILLED.format(event=event, name=name, count=count))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended.stderr
