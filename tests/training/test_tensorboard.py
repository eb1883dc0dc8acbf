"""Event files for TensorBoard: each epoch once, whatever happened to the run."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.training.train import resume, train
from tests.helpers.cli import run
from tests.helpers.training import interrupted_at, killed_at, settings

tf = pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
pytestmark = pytest.mark.usefixtures("folder")


OWN = {"model": "models:random", "tensorboard": "logs"}


def shown(run: str) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values by folder and tag, in the order in which TensorBoard reads them."""
    found = defaultdict(list)
    for file in sorted(Path("logs", run).rglob("events.out.tfevents.*")):
        for event in events(file):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                number = float(tf.make_ndarray(value.tensor))
                found[f"{file.parent.name}/{value.tag}"].append((event.step, number))
    return dict(found)


def events(file: Path) -> Iterator[Any]:
    """Yield what a file holds, up to where it is cut short."""
    with suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(file)):
            yield tf.compat.v1.Event.FromString(record.numpy())


def expected(history: Mapping[str, Sequence[float | None]]) -> dict[str, list[tuple[int, float]]]:
    """Return what is to be shown of a history: its values in float32, counted from 1."""
    tags = {
        "loss": "train/epoch_loss",
        "accuracy": "train/epoch_accuracy",
        "seconds": "train/epoch_seconds",
        "val_loss": "validation/epoch_loss",
        "val_accuracy": "validation/epoch_accuracy",
    }
    return {
        tag: [(epoch, float(np.float32(value))) for epoch, value in enumerate(history[name], 1)]
        for name, tag in tags.items()
    }


def test_every_epoch_is_shown(small: Entry) -> None:
    """Loss, accuracy and seconds of train, and those of validation that there are, by epoch."""
    metrics = train(small, **settings("run", **OWN))
    assert shown("run") == expected(metrics.history)
    assert metrics.settings.tensorboard == str(Path("logs").absolute())


def test_a_resumed_run_goes_on_in_its_place(small: Entry) -> None:
    """Interrupted and resumed with another epoch count, each epoch is there once."""
    with interrupted_at("epoch 2/"):
        train(small, **settings("run", **OWN))
    assert [step for step, _ in shown("run")["train/epoch_loss"]] == [1, 2]
    metrics = resume(Path("run"), epochs=4)
    assert shown("run") == expected(metrics.history)


def test_killed_between_checkpoint_and_event(small: Entry) -> None:
    """What a kill kept from being written, or cut short, is written by going on."""
    asked = ("train", small.key, "--epochs", "3", "--run-dir", "run", "--tensorboard", "logs")
    killed_at("os.rename", "checkpoint.npz", 2, *asked)
    (validation,) = Path("logs/run/validation").iterdir()
    validation.unlink()
    (cut,) = Path("logs/run/train").iterdir()
    cut.write_bytes(cut.read_bytes()[:-5])
    assert "train/epoch_seconds" not in shown("run")
    metrics = resume(Path("run"))
    assert shown("run") == expected(metrics.history)


def test_event_files_may_come_later(small: Entry) -> None:
    """A run that is resumed with `--tensorboard` shows the epochs before, too."""
    with interrupted_at("epoch 2/"):
        train(small, **settings("run", model="models:random"))
    metrics = resume(Path("run"), tensorboard="logs")
    assert shown("run") == expected(metrics.history)


def test_events_of_another_run_are_left_alone(small: Entry) -> None:
    """A new run does not mix its events with what is there; a folder that cannot be made says so,
    and nothing is left of the run.
    """
    Path("logs/run").mkdir(parents=True)
    with pytest.raises(pixelprep.TrainError, match=r"logs/run: exists already \(name another"):
        train(small, **settings("run", **OWN))
    Path("file").touch()
    asked = ("train", small.key, "--run-dir", "run", "--tensorboard", "file")
    said = run(*asked)
    assert said.returncode == 1
    error, hint = [line for line in said.stderr.splitlines() if line.startswith(("error", "hint"))]
    assert error.startswith(f"error: {Path('file/run').absolute()}: cannot write for TensorBoard")
    assert hint.startswith("hint: choose another folder with --tensorboard")
    assert list(Path().glob("run*")) == []
