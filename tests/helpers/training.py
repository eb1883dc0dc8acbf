"""Training runs: start, interrupt, kill and compare them."""

import csv
import io
import json
import logging
import signal
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest

from pixelprep.dataset.entry import Entry
from pixelprep.training.train import train
from tests.helpers.cli import run

FINISHED = [
    "entry",
    "history.csv",
    "metrics.json",
    "model.keras",
    "run.html",
    "serving.keras",
    "training.png",
]


MODELS = """
import keras

class Noise(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(7)

    def call(self, x, training=False):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds) if training else x

class Secretive(keras.layers.Layer):
    def call(self, x):
        return x

    def get_config(self):
        raise NotImplementedError("Secretive has no config")

def random(input_shape, classes, *more):
    return keras.Sequential([
        keras.Input(input_shape), Noise(), *more, keras.layers.Conv2D(4, 3),
        keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dropout(0.4),
        keras.layers.Dense(classes, activation="softmax"),
    ])

def secretive(input_shape, classes):
    return random(input_shape, classes, Secretive())

def larger(input_shape, classes):
    return random(input_shape, classes, keras.layers.Conv2D(4, 3))
"""


class Press(logging.Handler):
    """Ctrl-C when a message that begins so is given out."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def emit(self, record: logging.LogRecord) -> None:
        """Interrupt, as Python does on SIGINT."""
        if record.getMessage().startswith(self.message):
            raise KeyboardInterrupt


@contextmanager
def interrupted_at(message: str) -> Iterator[None]:
    """Interrupt what is done here when it says this."""
    log, press = logging.getLogger("pixelprep"), Press(message)
    level = log.level
    log.addHandler(press)
    log.setLevel(logging.INFO)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        log.removeHandler(press)
        log.setLevel(level)


def settings(run_dir: str, **options: Any) -> dict[str, Any]:
    """Return three quiet epochs into this folder, unless told otherwise."""
    return {"epochs": 3, "seed": 4, "run_dir": Path(run_dir), "quiet": True, **options}


def stopped(entry: Entry, run: str, **options: Any) -> Path:
    """Return the folder of a run that was interrupted after its first epoch."""
    with interrupted_at("epoch 1/"):
        train(entry, **settings(run, **options))
    return Path(f"{run}.unfinished")


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


def check_same(run: Path, other: Path) -> None:
    """Both runs are finished, and equal bit for bit."""
    assert sorted(p.name for p in run.iterdir()) == FINISHED
    assert not Path(f"{run}.unfinished").exists()
    found = variables(run)
    assert any("optimizer" in name for name in found)
    assert found == variables(other)
    assert results(run) == results(other)


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


FIRST = ("--epochs", "3", "--seed", "4", "--run-dir", "run")


TINY_MODELS = """
import keras

def tiny(input_shape, classes):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(),
        keras.layers.Dense(classes, activation="softmax"),
    ])
"""
