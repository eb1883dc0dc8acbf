"""Save a training with Keras, on any backend, to the last bit, and go on from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any  # Any: Keras is not typed; the feed, which knows this class

import keras
import numpy as np

from pixelprep.dataset import keras_variables
from pixelprep.errors import TrainError
from pixelprep.system import fs


class KerasCheckpoint(keras.callbacks.Callback):  # type: ignore[misc] # untyped
    """Saves a model, its optimizer and the place in a feed, as `KerasFeed.checkpoint` says.

    The file is replaced whole, so that a process may be killed at any time.
    """

    def __init__(self, feed: Any, path: Path, model: keras.Model, every: int) -> None:
        super().__init__()
        self.feed, self.path, self.every = feed, path, every
        self._first, self._saved = feed.epoch, 0
        feed.turns = False  # from now on epochs end where Keras ends them
        if path.exists():
            self._restore(model)

    @property
    def epoch(self) -> int:
        """The epoch that is to be trained next, counted from 0 as Keras counts them."""
        return int(self.feed.epoch - self._first)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin to count the batches of an epoch."""
        self._saved = self.feed.start

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save where that is due; Keras may have run several batches since it was called last."""
        done = self.feed.start + batch + 1
        if done // self.every > self._saved // self.every and done < len(self.feed.batches):
            self._save(done)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Let the feed go on to the next epoch, and save that."""
        self.feed.begin(self.feed.batches.with_epoch(self.feed.epoch + 1))
        self._save(0)

    def _save(self, done: int) -> None:
        self._saved = done
        place = np.array(json.dumps(self.feed.batches.state(done)))
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            with new.open("wb") as file:
                np.savez(file, *keras_variables.values(self.model), place=place)
            fs.fsync(new)
            new.replace(self.path)
        finally:
            new.unlink(missing_ok=True)

    def _restore(self, model: keras.Model) -> None:
        try:
            with np.load(self.path) as saved:
                place = json.loads(str(saved["place"]))
                variables = [saved[f"arr_{i}"] for i in range(len(saved.files) - 1)]
        except Exception as error:  # NumPy, zipfile, zlib and json each say it in their own way
            message = f"{self.path}: not a checkpoint, or a damaged one: {error!r}"
            raise TrainError(message, "delete it and train from the start") from error
        batches = self.feed.batches.at_epoch_of(place)
        start = batches.resume(place).number
        keras_variables.restore(model, variables, self.path)
        self.feed.begin(batches, start)
