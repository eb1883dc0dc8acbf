"""Fit a model to an entry's training images, with checkpoints after epochs or within them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast  # Any: options, each of its own type; Keras

from pixelprep.dataset import keras_variables
from pixelprep.dataset.batches import Batches
from pixelprep.dataset.entry import Entry
from pixelprep.dataset.epoch import BatchOptions
from pixelprep.errors import TrainError
from pixelprep.reports.results import TrainSettings
from pixelprep.system import progress
from pixelprep.training import models
from pixelprep.training.augmentation import Augmentation
from pixelprep.training.run_folder import Checkpoint, RunFolder, TrainState, Variables
from pixelprep.training.tensorboard import EventWriter

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

LOG = logging.getLogger("pixelprep")


def train_batches(entry: Entry, settings: TrainSettings, epoch: int = 0) -> Batches:
    """Return the training batches of an epoch; of an augmented run they are raw."""
    balance: Any = settings.balance  # which was checked
    raw = settings.augment is not None
    order = {"shuffle": True, "seed": settings.seed, "epoch": epoch, "balance": balance, "raw": raw}
    return entry.train.batches(settings.batch_size, **cast(BatchOptions, order))


def fit(
    checkpointer: Checkpointer, entry: Entry, augmentation: Augmentation | None, *, quiet: bool
) -> None:
    """Train the epochs that are not finished, a begun one from where it was left."""
    state = checkpointer.state
    if state.step:
        models.build_metrics(checkpointer.model, next(iter(train_batches(entry, state.settings))))
        _fit(checkpointer, entry, augmentation, state.epochs + 1, quiet)
    if not checkpointer.state.stops_early:
        _fit(checkpointer, entry, augmentation, state.settings.epochs, quiet)


def _fit(
    checkpointer: Checkpointer,
    entry: Entry,
    augmentation: Augmentation | None,
    epochs: int,
    quiet: bool,
) -> None:
    """Train up to so many epochs; all but the first of them begin with their first batch."""
    settings, first = checkpointer.state.settings, checkpointer.state.epochs
    weights = entry.class_weight(settings.class_weight) if settings.class_weight else None
    # The model that is fitted scales, where batches are raw.
    raw = settings.augment is not None
    has_val = "val" in entry.splits
    callback = _callback(checkpointer, augmentation, quiet)
    with closing(callback):
        checkpointer.model.fit(
            _feed(entry, checkpointer.state, augmentation),
            epochs=epochs,
            initial_epoch=first,
            validation_data=entry.val.to_tf(settings.batch_size, raw=raw) if has_val else None,
            shuffle=False,  # the feed is shuffled already, and Keras warns if asked to do it again
            class_weight=weights,
            verbose=0,
            callbacks=[callback],
        )


def _feed(entry: Entry, state: TrainState, augmentation: Augmentation | None) -> tf.data.Dataset:
    """Return the batches from where a run stands; each pass over them is the next epoch."""
    from pixelprep.dataset.tensorflow import tf_dataset

    batches = train_batches(entry, state.settings, state.epochs)
    if not augmentation:
        return tf_dataset(batches, state.step)
    # A layer's random numbers follow from how often it was called: so it is called again.
    return augmentation.feed(tf_dataset(batches)).skip(state.step)


@dataclass(slots=True)
class Checkpointer:
    """What a run saves: its history, its variables, and the best ones."""

    model: keras.Model
    run: RunFolder
    state: TrainState  # how far the run is
    steps: int  # batches of an epoch
    best: Variables  # of the best epoch so far; none unless the run may stop early
    metrics: Variables  # of the model, where a begun epoch was left
    events: EventWriter | None  # of TensorBoard

    def after_step(self, step: int, seconds: float, logs: Mapping[str, float]) -> None:
        """Save how far the epoch is, where a checkpoint is due after so many of its steps."""
        every = self.state.settings.checkpoint_steps
        if not every or step // every == self.state.step // every or step >= self.steps:
            return
        self._check_finite(logs["loss"])
        self.state = replace(self.state, step=step, seconds=seconds)
        metrics = models.metric_values(self.model)
        self.run.save(
            Checkpoint(self.state, keras_variables.values(self.model), self.best, metrics)
        )

    def after_epoch(self, results: Mapping[str, float]) -> None:
        """Save what an epoch gave, and stop training in time."""
        self._check_finite(results["loss"])
        self.state = state = self.state.with_epoch(results)
        settings = state.settings
        improved = settings.early_stopping is not None and state.best_epoch == state.epochs
        if improved:
            self.best = keras_variables.values(self.model)
        is_last = state.stops_early or state.epochs == settings.epochs
        if is_last or state.epochs % settings.checkpoint_epochs == 0:
            best = () if improved else self.best
            self.run.save(Checkpoint(state, keras_variables.values(self.model), best))
            if self.events:
                self.events.follow(state.history)
        self.model.stop_training = state.stops_early

    def _check_finite(self, loss: float) -> None:
        """Stop a run that has diverged; what was saved of it before stays."""
        epoch = self.state.epochs + 1
        what = f"the loss of epoch {epoch} is {loss}"
        if math.isfinite(loss):  # as it was before the epoch's last step
            if models.are_weights_finite(self.model):
                return
            what = f"after epoch {epoch} the model has weights of nan or inf"
        saved = self.run.load().state if self.run.checkpoint.exists() else None
        hint = "check the model; pixels that are scaled to a small range help: `mode=standardize`"
        if saved and not saved.step:
            hint = f"what was trained before can be finished with `epochs={saved.epochs}`"
        raise TrainError(f"{self.run.final}: {what}: expected finite numbers", hint)

    def restore_best(self) -> None:
        """Set the model to what it was after the best epoch, where the run may stop early."""
        if self.best and self.state.best_epoch != self.state.epochs:
            LOG.info("epoch %d of %d was the best", self.state.best_epoch, self.state.epochs)
            keras_variables.restore(self.model, self.best, self.run.checkpoint)


def _callback(
    checkpointer: Checkpointer, augmentation: Augmentation | None, quiet: bool
) -> Any:  # of a class that exists only once Keras is imported
    """Make a Keras callback: a bar an epoch, checkpoints, and a line of results."""
    import keras

    epochs, steps = checkpointer.state.settings.epochs, checkpointer.steps

    class RunCallback(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
        bar: Any = None

        def close(self) -> None:
            if self.bar is not None:
                self.bar.close()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            state = checkpointer.state
            if augmentation:
                augmentation.begin(epoch)
            if state.step:  # Keras has just set them to zero
                models.restore_metrics(self.model, checkpointer.metrics)
            self.first, self.started = state.step, time.perf_counter() - state.seconds
            self.bar = progress.bar(f"epoch {epoch + 1}/{epochs}", steps, " steps", quiet)
            self.bar.update(state.step)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            # Keras counts the steps of its last execution in full, also where they ran out.
            step = min(self.first + batch + 1, steps)
            self.bar.update(step - self.bar.n)
            if logs:
                loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
                progress.set_postfix(self.bar, f"loss {loss:.3f}, {accuracy:.1%}")
                checkpointer.after_step(step, time.perf_counter() - self.started, {"loss": loss})

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.close()
            results = {**(logs or {}), "seconds": time.perf_counter() - self.started}
            checkpointer.after_epoch(results)
            line = "epoch {}/{}  loss {loss:.4f}  accuracy {accuracy:.2%}"
            if "val_loss" in results:
                line += "  val {val_loss:.4f}  {val_accuracy:.2%}"
            line += "  {seconds:.1f} s"
            LOG.info(line.format(epoch + 1, epochs, **results))

    return RunCallback()
