"""Feed batches to Keras on any backend; no other framework is needed."""

from collections.abc import Iterator
from threading import Lock
from typing import Any  # Any: labels of whichever type

import keras
import numpy as np

from pixelprep.dataset.batches import Batches, Pair
from pixelprep.dataset.epoch import Numbers, delivered
from pixelprep.dataset.feed_options import Form
from pixelprep.dataset.rows import Rows
from pixelprep.errors import UsageError

MAX_WINDOWS = 64  # whose order is kept


class KerasFeed(keras.utils.PyDataset):  # type: ignore[misc] # untyped
    """Batches of (images, labels) by number; each pass over all of them is the next epoch.

    Asked for one after the other, they are streamed; a batch that is asked for out of turn, as
    `fit` does unless it is told ``shuffle=False``, is read row by row, and is the same.
    """

    def __init__(self, first: Batches, form: Form, **options: Any) -> None:
        super().__init__(**options)
        backend = keras.config.backend()
        if (self.workers > 1 or self.use_multiprocessing) and backend != "tensorflow":
            # Keras 3.15 keeps batches that they fetched before it trains, and gives these again.
            message = f"`workers={self.workers}`: Keras on {backend} would repeat batches and omit"
            raise UsageError(f"{message} others: expected 1, in this process", "none are needed")
        self.form = form
        self._rows = Rows(first.files, first.columns)
        self._begin(first)

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_lock", "_stream", "_next", "_given", "_orders")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin(self.batches)

    def _begin(self, batches: Batches) -> None:
        """Deliver this epoch from now on."""
        self.batches, self._lock = batches, Lock()
        self._stream: Iterator[Pair] = iter(batches)
        self._next, self._given = 0, set[int]()
        self._orders = dict[int, Numbers]()  # the rows of windows, by their number

    @property
    def epoch(self) -> int:
        """The epoch that is delivered."""
        return self.batches.config.epoch

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index}: expected one of {len(self)}")
        with self._lock:
            self._given.add(index)
            if index == 0 != self._next:
                self._stream, self._next = iter(self.batches), 0
            if index == self._next:
                self._next += 1
                return self.form(*next(self._stream))
            numbers = self._numbers(index)
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
        if self.use_multiprocessing or len(self._given) == len(self):
            self._begin(self.batches.with_epoch(self.epoch + 1))
