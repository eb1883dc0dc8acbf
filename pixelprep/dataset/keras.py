"""Feed batches to Keras on any backend; no other framework is needed."""

import os
from pathlib import Path
from threading import Lock
from typing import Any  # Any: labels of whichever type

import keras
import numpy as np

from pixelprep.dataset.batches import Batches, BatchIterator, Pair
from pixelprep.dataset.epoch import Numbers, delivered
from pixelprep.dataset.feed_options import Form
from pixelprep.dataset.keras_checkpoint import KerasCheckpoint
from pixelprep.dataset.rows import Rows
from pixelprep.errors import UsageError, check_bool, check_int
from pixelprep.numerics.permutation import MAX_SEED

MAX_WINDOWS = 64  # whose order is kept


class KerasFeed(keras.utils.PyDataset):  # type: ignore[misc] # untyped
    """Batches of (images, labels) by number; each pass over all of them is the next epoch.

    Asked for one after the other, they are streamed; a batch that is asked for out of turn, as
    `fit` does unless it is told ``shuffle=False``, is read row by row, and is the same. Of an epoch
    that goes on where a checkpoint was made, batch 0 is the next one.
    """

    def __init__(self, first: Batches, form: Form, **options: Any) -> None:
        check_int("workers", options["workers"], 0)
        check_bool("use_multiprocessing", options["use_multiprocessing"])
        super().__init__(**options)
        backend = keras.config.backend()
        if (self.workers > 1 or self.use_multiprocessing) and backend != "tensorflow":
            # Keras 3.15 keeps batches that they fetched before it trains, and gives these again.
            several = f"workers={self.workers}" if self.workers > 1 else "use_multiprocessing=True"
            message = f"`{several}`: Keras on {backend} would repeat batches and omit others"
            raise UsageError(f"{message}: expected one worker, in this process", "none are needed")
        if not len(first):
            size, rows = first.config.batch_size, first.rows
            message = f"`batch_size={size}`: expected at least one batch, got {rows:,} rows"
            raise UsageError(message, "Keras fails without any: leave `drop_last` out")
        self.form, self.turns = form, True  # whether it goes on to the next epoch by itself
        self._rows = Rows(first.files, first.columns)
        self.begin(first)

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_lock", "_stream", "_next", "_given", "_orders")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.begin(self.batches, self.start)

    def begin(self, batches: Batches, start: int = 0) -> None:
        """Deliver this epoch from now on, from its batch number `start`."""
        self.batches, self.start, self._lock = batches, start, Lock()
        self._stream = BatchIterator(batches, start)
        self._next, self._given = 0, set[int]()
        self._orders = dict[int, Numbers]()  # the rows of windows, by their number

    @property
    def epoch(self) -> int:
        """The epoch that is delivered."""
        return self.batches.config.epoch

    def set_epoch(self, epoch: int) -> None:
        """Deliver this epoch from now on, from its first batch."""
        self.begin(self.batches.with_epoch(check_int("epoch", epoch, 0, MAX_SEED)))

    def __len__(self) -> int:
        return len(self.batches) - self.start

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index}: expected one of {len(self)}")
        with self._lock:
            self._given.add(index)
            if index == 0 != self._next:
                self._stream, self._next = BatchIterator(self.batches, self.start), 0
            if index == self._next:
                self._next += 1
                return self.form(*next(self._stream))
            numbers = self._numbers(self.start + index)
        return self.form(*self._rows.select(numbers))

    def _numbers(self, index: int) -> Numbers:
        """Return the rows of a batch, by their numbers in the split."""
        size = self.batches.config.batch_size
        window, start = self.batches.locate(index * size)
        numbers = self._order(window)[start : start + size]
        while len(numbers) < size and window + 1 < self.batches.order.windows:
            window += 1
            numbers = np.append(numbers, self._order(window)[: size - len(numbers)])
        return numbers

    def _order(self, window: int) -> Numbers:
        if window not in self._orders:
            if len(self._orders) == MAX_WINDOWS:
                del self._orders[next(iter(self._orders))]
            file, row = delivered(self.batches.order, window).T
            first = np.append(0, np.cumsum([one.rows for one in self.batches.files]))
            self._orders[window] = first[file] + row
        return self._orders[window]

    def on_epoch_end(self) -> None:
        """Go on to the next epoch once all of this one was delivered, as far as is known here.

        Keras also calls it after it has looked at a batch or two, before it trains.
        """
        if self.turns and (self.use_multiprocessing or len(self._given) == len(self)):
            self.begin(self.batches.with_epoch(self.epoch + 1))

    def checkpoint(
        self, path: str | os.PathLike[str], model: keras.Model, *, every: int = 100
    ) -> KerasCheckpoint:
        """Return a callback that saves a training within its epochs, and go on from what it saved.

        Keras's own `BackupAndRestore` goes on at the beginning of an epoch.

        Parameters
        ----------
        path : path
            The file, ``.npz``; what is in it already is loaded into model and feed.
        model : keras.Model
            Built and compiled.
        every : int
            Batches of an epoch from one time to the next; also after each epoch.

        Returns
        -------
        KerasCheckpoint
            For ``model.fit(feed, initial_epoch=epoch, epochs=epoch + 1, shuffle=False,
            callbacks=[checkpoint])`` of each `epoch` from ``checkpoint.epoch`` on: one call an
            epoch, as the first may be a part of one.

        Raises
        ------
        UsageError, TrainError
            When what was saved is of other options or other data; when it is damaged.
        """
        return KerasCheckpoint(self, Path(path), model, check_int("every", every, 1))
