"""Stopping early, and checkpoints now and then: what is published does not depend on a kill."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.reports.results import TrainSettings
from pixelprep.training.run_folder import RunFolder, TrainState
from pixelprep.training.train import resume, train
from tests.helpers.cli import run
from tests.helpers.data import arrays
from tests.helpers.training import (
    FIRST,
    check_same,
    interrupted_at,
    killed_at,
    results,
    settings,
    variables,
)

pytest.importorskip("tensorflow", reason="the extra `train` is not installed")


def stopping(run_dir: str, **options: Any) -> dict[str, Any]:
    """Return the settings of up to thirty epochs of which two may be worse than the best.

    Random images are learnt by heart: the validation loss rises after some epochs.
    """
    return settings(run_dir, **{"epochs": 30, "early_stopping": 2, **options})


def test_it_stops_when_the_loss_no_longer_improves(entry: Entry, whole: Path) -> None:
    """After so many epochs without a lower validation loss, and not before; what is published is,
    bit for bit, the model of a run that had ended with the best epoch.
    """
    metrics = train(entry, **stopping("run"))
    losses = [loss for loss in metrics.history["val_loss"] if loss is not None]
    best, stopped = metrics.best_epoch, metrics.stopped_epoch
    assert best is not None
    assert losses[best - 1] == min(losses)
    assert stopped == len(losses) == best + 2 < 30
    for epoch in range(3, stopped):
        assert min(losses[epoch - 2 : epoch]) < min(losses[: epoch - 2])
    short = results(whole)[0]
    assert short["epochs"] == best, "the run to compare with has another number of epochs"
    assert variables(Path("run")) == variables(whole)
    assert (metrics.test_loss, short["best_epoch"]) == (short["test_loss"], None)


@pytest.mark.parametrize(
    ("losses", "best", "over"),
    [
        ((3.0, 2.0, 2.0), 2, False),
        ((3.0, 2.0, 2.0, 2.5), 2, True),
        ((math.nan, 4.0, math.nan), 2, False),
        ((math.nan, math.nan, math.nan), 1, True),
        ((math.inf, 1.0, 3.0, 0.5), 4, False),
        ((1.0,), 1, False),
    ],
)
def test_what_counts_as_better(losses: tuple[float, ...], best: int, over: bool) -> None:
    """Only a lower loss is better: an equal one is not, and one that is no number never."""
    history = {"loss": losses, "val_loss": losses}
    patient, endless = (
        TrainState("entry", "key", TrainSettings(early_stopping=patience), history)
        for patience in (2, None)
    )
    assert (patient.best_epoch, patient.stops_early, endless.stops_early) == (best, over, False)


@pytest.mark.long
def test_interrupted_after_every_epoch_is_the_same(entry: Entry) -> None:
    """Patience and the best variables survive: interrupted after each epoch, and killed when it
    has stopped, a run comes out bit for bit as one that never was.
    """
    whole = train(entry, **stopping("whole"))
    stopped = whole.stopped_epoch
    assert stopped is not None
    with interrupted_at("epoch 1/"):
        train(entry, **stopping("run"))
    for epoch in range(2, stopped + 1):
        with interrupted_at(f"epoch {epoch}/"):
            resume(Path("run"))
    saved = RunFolder(Path("run").absolute()).load()
    assert (saved.state.epochs, len(saved.best)) == (stopped, len(saved.variables))
    killed_at("os.rename", "run", 1, "train", "--resume", "run")
    said = run("train", "--resume", "run")
    assert said.returncode == 0, said.stderr
    assert not any(line.startswith("epoch") and "loss" in line for line in said.stderr.splitlines())
    assert f"epoch {whole.best_epoch} of {stopped} was the best" in said.stderr
    check_same(Path("run"), Path("whole"))


def test_stopping_early_needs_a_validation_split(entry: Entry) -> None:
    """Without one, a single line says which option makes it, and nothing is left."""
    plain = pixelprep.prepare(arrays(60, 20, (12, 12, 1)))
    said = run("train", plain.key, "--early-stopping", "2", "--run-dir", "run")
    assert said.returncode == 2
    error, hint = said.stderr.splitlines()
    assert error.startswith("error: --early-stopping 2: expected a validation split")
    assert "--val-fraction" in hint
    assert list(Path().glob("run*")) == []
    for wrong in ({"early_stopping": 0}, {"checkpoint_every": 0}):
        with pytest.raises(pixelprep.UsageError, match="expected 1 or more"):
            train(entry, **stopping("run", **wrong))


@pytest.mark.long
def test_checkpoints_now_and_then(entry: Entry) -> None:
    """With `--checkpoint-every 2` of five epochs the second, fourth and last are kept; killed
    before the second of these, the run goes on after epoch 2 and comes out the same.
    """
    asked = ("train", str(entry.path), *FIRST, "--epochs", "5", "--checkpoint-every", "2")
    said = killed_at("os.rename", "checkpoint.npz", 2, *asked)
    assert "epoch 3/5" in said
    assert RunFolder(Path("run").absolute()).load().state.epochs == 2
    said = killed_at("os.rename", "run", 1, "train", "--resume", "run")
    assert "going on after epoch 2 of 5" in said
    assert RunFolder(Path("run").absolute()).load().state.epochs == 5
    resume(Path("run"))
    train(entry, **settings("whole", epochs=5, checkpoint_every=2))
    check_same(Path("run"), Path("whole"))
    metrics = json.loads(Path("run", "metrics.json").read_text())
    assert metrics["checkpoint_every"] == 2


def test_the_last_epoch_may_be_the_best(entry: Entry) -> None:
    """A run that comes to its last epoch has not stopped early, and keeps its best epoch. It goes
    on after its last checkpoint, and may then have another number of epochs between them.
    """
    with interrupted_at("epoch 3/"):
        train(entry, **stopping("run", epochs=4, early_stopping=5, checkpoint_every=2))
    assert RunFolder(Path("run").absolute()).load().state.epochs == 2
    metrics = resume(Path("run"), checkpoint_every=1)
    assert metrics.settings.checkpoint_every == 1
    losses = [loss for loss in metrics.history["val_loss"] if loss is not None]
    assert (metrics.stopped_epoch, len(losses)) == (None, 4)
    assert metrics.best_epoch == 1 + losses.index(min(losses))
