"""Seeded, shuffled batches of NumPy arrays, streamed from an entry's files.

A window of rows is in memory at a time, mixed as `epoch` says, and cut into batches.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any  # JSON values

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.columns import Column, Columns
from pixelprep.dataset.epoch import WINDOW_RUNS, BatchConfig, delivered, order_of, reads_of
from pixelprep.dataset.memory import Recycler
from pixelprep.dataset.reading import BLOCK_BYTES, LARGE_ROW, Step, read_each
from pixelprep.errors import UsageError, check_int
from pixelprep.format import reader
from pixelprep.system import canonical
from pixelprep.system.locks import SharedLock

Pair = tuple[Column, Column]  # images and labels
Window = tuple[dict[str, Column], NDArray[np.int64]]  # stored columns, and the rows' order

PIECE_BYTES = 768 << 10  # of images that are mixed at once; a small batch that is kept keeps them


@dataclass(eq=False, repr=False)
class Batches:
    """One epoch of batches; iterating again gives the same epoch again.

    Each item is ``(images, labels)``: images (batch, H, W, C), labels int64 (batch,) or, of several
    a row, uint8 (batch, K). `run_rows` neighbouring rows of a file are read at once. Small batches
    are parts of one array of `PIECE_BYTES`, which lives as long as any of them.
    """

    files: Sequence[reader.EntryFile]  # of the split, in order
    run_rows: int
    columns: Columns
    config: BatchConfig
    use: SharedLock | None = None  # for which the entry stays in its cache, also between passes
    labels: Column | None = None  # of all rows, where classes are balanced

    def __post_init__(self) -> None:
        self.use = self.use or SharedLock(self.files[0].path)
        file_rows = [file.rows for file in self.files]
        self.order = order_of(self.config, file_rows, self.run_rows, self.labels)

    @property
    def rows(self) -> int:
        """The rows that are delivered."""
        return self.order.rows

    def __len__(self) -> int:
        return self.config.steps(self.rows)

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self, 0)

    def resume(self, state: Mapping[str, Any]) -> "BatchIterator":
        """Continue where another pass stood, with the very batches that would have come.

        Parameters
        ----------
        state : mapping
            What `BatchIterator.state` returned, also after a journey through JSON.

        Returns
        -------
        BatchIterator
            An iterator over the rest.

        Raises
        ------
        UsageError
            When the state is of other options or of other data.
        """
        expected = self.state(0)
        if {**state, "batch": 0} != expected:
            raise UsageError(f"cannot resume from {dict(state)}: expected the state of {expected}")
        return BatchIterator(self, check_int("state's batch", state.get("batch"), 0, len(self)))

    def state(self, batch: int) -> dict[str, Any]:
        """Return the state of a pass that has delivered `batch` batches."""
        config = self.config.to_state()
        content = {file.path.name: file.sha256 for file in self.files}
        return {**config, "data": canonical.digest(content)[:16], "batch": batch}

    def with_epoch(self, epoch: int, shard: tuple[int, int] | None = None) -> "Batches":
        """Return the same of another epoch (and another shard)."""
        config = replace(self.config, epoch=epoch, shard=shard or self.config.shard)
        return replace(self, config=config)

    def windows_from(self, first: int) -> Iterator[Window]:
        """Yield the windows from number `first` on; each is valid until the next one comes."""
        names = (*self.columns.of_images, "labels")
        buffer = self.columns.allocate(names, min(WINDOW_RUNS * self.run_rows, self.rows))
        numbers = range(first, self.order.windows)
        steps = (
            (self.order.reads(n), partial(_first, self.order.size(n), buffer)) for n in numbers
        )
        for number, window in zip(numbers, self._read(steps, scaled=False), strict=True):
            yield window, self.order.mixed(number)

    def batches_from(self, done: int) -> Iterator[dict[str, Column]]:
        """Yield the batches from number `done` on, each row read to its place in a batch."""
        steps = self._steps(*self.locate(done * self.config.batch_size))
        return self._read(steps, scaled=True)

    def _read(self, steps: Iterator[Step], *, scaled: bool) -> Iterator[dict[str, Column]]:
        assert self.use is not None
        self.use.renew()  # the entry may have been replaced meanwhile
        at_random = self.config.shuffle
        return read_each(self.files, self.columns, steps, scaled=scaled, at_random=at_random)

    def _steps(self, first: int, start: int) -> Iterator[Step]:
        size, rows = self.config.batch_size, np.empty((0, 2), np.int64)
        memory = Recycler()
        for number in range(first, self.order.windows):
            rows = np.concatenate([rows, delivered(self.order, number)[start:]])
            while len(rows) >= size:
                yield reads_of(rows[:size]), partial(self._room, size, memory)
                rows = rows[size:]
            start = 0
        if len(rows) and not self.config.drop_last:
            yield reads_of(rows), partial(self._room, len(rows), memory)

    def locate(self, row: int) -> tuple[int, int]:
        """Return the window that holds this row of the epoch, and the row's number in it."""
        for number in range(self.order.windows):
            rows = self.order.size(number)
            if row < rows:
                return number, row
            row -= rows
        return self.order.windows, 0

    def allocate(self, rows: int, memory: Recycler) -> Pair:
        """Allocate images and labels of so many rows, at most of those of the epoch."""
        return self.columns.allocate_delivered(min(rows, self.rows), memory)

    def _room(self, rows: int, memory: Recycler) -> dict[str, Column]:
        images, labels = self.allocate(rows, memory)
        return {"images": images, "labels": labels}

    def mix(self, window: dict[str, Column], rows: NDArray[np.int64], out: Pair) -> None:
        """Put these rows of a window into the images and labels that are delivered."""
        columns, (images, labels) = self.columns, out
        # Other modes than "clip" copy twice.
        window["labels"].take(rows, axis=0, out=labels, mode="clip")
        if columns.is_raw == columns.delivers_raw:
            window["images"].take(rows, axis=0, out=images, mode="clip")
            return
        for start in range(0, len(rows), step := columns.rows_in(BLOCK_BYTES)):
            block = rows[start : start + step]
            stored = {n: window[n].take(block, axis=0, mode="clip") for n in columns.of_images}
            columns.images(stored, images[start : start + step])

    @property
    def reads_rows(self) -> bool:
        """Whether each row is read by itself: one so large that a copy costs more than a read."""
        alone = not self.columns.is_packed or self.run_rows == 1
        return alone and self.columns.row_bytes >= LARGE_ROW


def _first(rows: int, columns: dict[str, Column]) -> dict[str, Column]:
    return {name: column[:rows] for name, column in columns.items()}


class BatchIterator(Iterator[Pair]):
    """One pass over an epoch; it can report its state and be resumed from it."""

    def __init__(self, batches: Batches, start: int) -> None:
        self._batches, self._done, self._process = batches, start, os.getpid()
        self._stream = _stream(batches, start)

    def __next__(self) -> Pair:
        if self._process != os.getpid():  # open files are not carried over a fork
            self._stream = _stream(self._batches, self._done)
            self._process = os.getpid()
        batch = next(self._stream)
        self._done += 1
        return batch

    def state(self) -> dict[str, Any]:
        """Return what `Batches.resume` needs to continue from here.

        Returns
        -------
        dict
            JSON values.
        """
        return self._batches.state(self._done)


def _stream(batches: Batches, done: int) -> Iterator[Pair]:
    """Return the batches from number `done` on.

    This knows no iterator that holds it: such a circle would keep the files open.
    """
    if not batches.reads_rows:
        return _rebatch(batches, done)
    return ((batch["images"], batch["labels"]) for batch in batches.batches_from(done))


def _rebatch(batches: Batches, done: int) -> Iterator[Pair]:
    """Cut the stream of mixed windows into batches, from number `done` on.

    Rows of several small batches are mixed at once, into one array of which each is a part.
    """
    size, memory = batches.config.batch_size, Recycler()
    most = size * -(-PIECE_BYTES // (size * batches.columns.row_bytes))  # rows
    first_window, start = batches.locate(done * size)
    filled, piece = 0, batches.allocate(most, memory)
    for window, order in batches.windows_from(first_window):
        while start < len(order):
            rows = order[start : start + most - filled]
            start += len(rows)
            into = slice(filled, filled + len(rows))
            batches.mix(window, rows, (piece[0][into], piece[1][into]))
            filled = into.stop
            if filled == most:
                yield from _cut(piece, filled, size)
                filled, piece = 0, batches.allocate(most, memory)
        start = 0
    rest = filled % size if batches.config.drop_last else 0
    yield from _cut(piece, filled - rest, size)


def _cut(piece: Pair, rows: int, size: int) -> Iterator[Pair]:
    images, labels = piece
    for start in range(0, rows, size):
        batch = slice(start, min(start + size, rows))
        yield images[batch], labels[batch]
