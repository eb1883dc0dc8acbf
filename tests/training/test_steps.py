"""Checkpoints within an epoch: going on from one gives the run that was never interrupted."""

from pathlib import Path
from typing import Any

import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.reports.results import TrainSettings
from pixelprep.training.run_folder import RunFolder, TrainState
from pixelprep.training.train import resume, train
from tests.helpers.training import (
    FIRST,
    check_same,
    interrupted_at,
    killed_at,
    saved_at,
    settings,
    variables,
)

STEPS = "3steps"  # of the 8 that an epoch of `entry` has


def state() -> TrainState:
    return RunFolder(Path("run").absolute()).load().state


def begin(entry: Entry, **options: Any) -> None:
    train(entry, **settings("run", checkpoint_every=STEPS, **options))


def test_a_run_goes_on_within_an_epoch(entry: Entry, whole: Path) -> None:
    """Stopped in the first epoch, and again in the third, a run with noise, dropout and batch
    normalization has the weights, losses and accuracies of one that nothing stopped.
    """
    with saved_at(epoch=0, step=3):
        begin(entry)
    assert (state().epochs, state().step) == (0, 3)
    with pytest.raises(pixelprep.UsageError, match=r"`epochs=0`"):
        resume("run", epochs=0)
    with saved_at(epoch=2, step=6):
        resume("run")
    before = state()
    assert (before.epochs, before.step) == (2, 6)
    with pytest.raises(pixelprep.UsageError, match="has finished 2 and begun the next"):
        resume("run", epochs=2)
    found = resume("run")
    assert (found.history["seconds"][2] or 0) > before.seconds > 0
    check_same(Path("run"), whole, checkpoint_every=STEPS)


@pytest.mark.long
def test_killed_within_an_epoch(entry: Entry, whole: Path) -> None:
    """SIGKILL before the second checkpoint of an epoch takes its name: the first one's run goes
    on. Its steps are run several at once, and that does not change the result.
    """
    several = ("--steps-per-execution", "2")
    asked = ("train", str(entry.path), *FIRST, *several, "--checkpoint-every", STEPS)
    killed_at("os.rename", "checkpoint.npz", 2, *asked)
    assert (state().epochs, state().step) == (0, 4)  # the first return to Python after three
    resume("run")
    check_same(Path("run"), whole, checkpoint_every=STEPS, steps_per_execution=2)


@pytest.mark.long
def test_a_run_that_stops_early_goes_on_within_an_epoch(entry: Entry) -> None:
    """The best epoch's model is kept over a checkpoint within a later epoch."""
    options = {"early_stopping": 1, "epochs": 6}
    once = train(entry, **settings("once", **options))
    assert once.stopped_epoch
    with saved_at(epoch=once.stopped_epoch - 1, step=6):
        begin(entry, **options)
    found = resume("run")
    assert (found.best_epoch, found.stopped_epoch) == (once.best_epoch, once.stopped_epoch)
    assert variables(Path("run")) == variables(Path("once"))


def test_steps_and_epochs_of_checkpoints_are_told_apart(entry: Entry) -> None:
    """A number is of epochs; anything else but ``Nsteps`` is refused in one line."""
    assert (TrainSettings().checkpoint_epochs, TrainSettings().checkpoint_steps) == (1, None)
    steps = TrainSettings(checkpoint_every="500steps")
    assert (steps.checkpoint_epochs, steps.checkpoint_steps) == (1, 500)
    for wrong in ("soon", "0steps", "-1", "1.5steps", "steps", 0, "0"):
        with pytest.raises(pixelprep.UsageError, match="`checkpoint_every="):
            train(entry, **settings("run", checkpoint_every=wrong))
    with saved_at(epoch=0, step=3):
        begin(entry)
    with interrupted_at("going on after epoch 0 of 3 and step 3 of 8"):
        resume("run", checkpoint_every="2")
    assert list(Path().glob("run")) == []
