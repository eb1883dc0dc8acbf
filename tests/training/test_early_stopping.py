"""Stopping early, and checkpoints now and then: what is published does not depend on a kill."""

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
from tests.helpers.training import interrupted_at, listening, results, settings, variables


def stopping(run_dir: str, **options: Any) -> dict[str, Any]:
    """Return the settings of up to thirty epochs of which two may be worse than the best.

    Random images are learnt by heart: the validation loss rises after some epochs.
    """
    return settings(run_dir, **{"epochs": 30, "early_stopping": 2, **options})


def test_it_stops_when_the_loss_no_longer_improves(entry: Entry, whole: Path) -> None:
    """After so many epochs without a lower validation loss, and not before; what is published is,
    bit for bit, the model of a run that had ended with the best epoch. Patience and the best
    variables survive an interruption after the best epoch, and one after the last.
    """
    with interrupted_at("epoch 4/30"):
        train(entry, **stopping("run"))
    with interrupted_at("epoch 5/30"):
        resume("run")
    saved = RunFolder(Path("run").absolute()).load()
    assert (saved.state.epochs, len(saved.best)) == (5, len(saved.variables))
    with listening() as messages:
        metrics = resume("run")
    assert not any(one.startswith("epoch") and "loss" in one for one in messages)
    assert "epoch 3 of 5 was the best" in messages
    losses = [loss for loss in metrics.history["val_loss"] if loss is not None]
    assert (metrics.best_epoch, metrics.stopped_epoch, len(losses)) == (3, 5, 5)
    assert losses[2] == min(losses)
    short = results(whole)[0]
    assert (short["epochs"], short["best_epoch"]) == (3, None)
    assert variables(Path("run")) == variables(whole)
    assert metrics.test_loss == short["test_loss"]


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
def test_the_last_epoch_may_be_the_best(entry: Entry, whole: Path) -> None:
    """A run that comes to its last epoch has not stopped early, and keeps its best epoch. With
    `--checkpoint-every 2` it goes on after the second epoch and comes out the same; it may then
    have another number of epochs between checkpoints.
    """
    with interrupted_at("epoch 3/"):
        train(entry, **stopping("run", epochs=5, checkpoint_every=2))
    assert RunFolder(Path("run").absolute()).load().state.epochs == 2
    metrics = resume(Path("run"), epochs=3, checkpoint_every=1)
    assert metrics.settings.checkpoint_every == 1
    losses = [loss for loss in metrics.history["val_loss"] if loss is not None]
    assert (metrics.stopped_epoch, len(losses)) == (None, 3)
    assert metrics.best_epoch == 1 + losses.index(min(losses)) == 3
    assert variables(Path("run")) == variables(whole)


def test_a_known_set_without_validation_is_refused_before_it_is_prepared(cache: Path) -> None:
    """Whether it has one is known by its name: nothing is downloaded first."""
    with pytest.raises(pixelprep.UsageError, match="a validation split, which sample has not"):
        pixelprep.train("sample", early_stopping=3, quiet=True)
    assert not cache.exists()
