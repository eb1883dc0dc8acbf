"""Seeded, shuffled batches of NumPy arrays, streamed from an entry's files.

A window of rows is in memory at a time, mixed as `epoch` says, and cut into batches.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import tee
from typing import Any  # JSON values

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.columns import Column, Columns
from pixelprep.dataset.epoch import (
    WINDOW_RUNS,
    BatchConfig,
    Dealt,
    Worlds,
    deal,
    delivered,
    order_of,
    reads_of,
)
from pixelprep.dataset.memory import Recycler
from pixelprep.dataset.reading import BLOCK_BYTES, LARGE_ROW, Step, read_each
from pixelprep.errors import UsageError, check_int
from pixelprep.format import reader
from pixelprep.numerics.permutation import MAX_SEED
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
        return BatchIterator(self)

    def resume(self, state: Mapping[str, Any]) -> "BatchIterator":
        """Continue where another pass stood, with the very batches that would have come.

        All shards are taken to have delivered as many batches as the one whose state it is. Of
        another number of shards, it is continued by dealing what they left to the present ones,
        batch by batch (data/FORMAT.md, section 5).

        Parameters
        ----------
        state : mapping
            What `BatchIterator.state` returned, also after a journey through JSON, of any shard.

        Returns
        -------
        BatchIterator
            An iterator over the rest.

        Raises
        ------
        UsageError
            When the state is of other options or of other data.
        """
        return self.part(state)

    def part(self, state: Mapping[str, Any], lane: tuple[int, int] = (0, 1)) -> "BatchIterator":
        """Return the rest; or of it, from the first on, every so many batches, as `lane` says."""
        self._check_resumed(state)
        shard = BatchConfig(1, shard=state.get("shard")).shard  # type: ignore[arg-type] # checked
        worlds = tuple((int(count), int(done)) for count, done in state.get("worlds", ()))
        of = self.with_epoch(self.config.epoch, shard)
        done = check_int("state's batch", state.get("batch"), 0, of.count(worlds))
        if shard[1] != self.config.shard[1]:
            worlds, done = (*worlds, (shard[1], done)), 0
        first, step = lane
        return BatchIterator(self, done + first, worlds, step)

    def _check_resumed(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of a pass of other options, or over other data."""
        _check_mapping(state)
        expected = self.state_at(0)
        names = (expected.keys() | state.keys()) - {"shard", "batch", "worlds"}
        differ = sorted(n for n in names if expected.get(n, n) != state.get(n))
        if not differ:
            return
        told = [f"{name} {state.get(name)}, expected {expected.get(name)}" for name in differ]
        hint = None
        if "data" in differ:
            hint = "`data` names the files: the state is of another split, or of another entry"
        raise UsageError(f"cannot resume: the state is of {'; '.join(told)}", hint)

    def state(self, batch: int) -> dict[str, Any]:
        """Return the state of a pass that has delivered `batch` batches.

        Parameters
        ----------
        batch : int
            0 to the number of batches.

        Returns
        -------
        dict
            JSON values, for `resume`.

        Raises
        ------
        UsageError
            When there is no such batch.
        """
        return self.state_at(check_int("batch", batch, 0, len(self)))

    def state_at(self, batch: int) -> dict[str, Any]:
        """Return the state of a pass that has delivered so many batches, of whatever number."""
        return {**self.config.to_state(), "data": self._content, "batch": batch}

    @cached_property
    def _content(self) -> str:
        return canonical.digest({file.path.name: file.sha256 for file in self.files})[:16]

    def with_epoch(self, epoch: int, shard: tuple[int, int] | None = None) -> "Batches":
        """Return the same of another epoch (and another shard)."""
        config = replace(self.config, epoch=epoch, shard=shard or self.config.shard)
        return replace(self, config=config)

    def at_epoch_of(self, state: Mapping[str, Any]) -> "Batches":
        """Return the same of the epoch that a state is of."""
        _check_mapping(state)
        return self.with_epoch(check_int("state's epoch", state.get("epoch"), 0, MAX_SEED))

    def left_by(self, worlds: Worlds) -> list[Dealt]:
        """Return the batches of this shard that earlier numbers of shards have left."""
        shards = [(j, worlds[0][0]) for j in range(worlds[0][0])]
        lengths = [len(self.with_epoch(self.config.epoch, shard)) for shard in shards]
        return deal(lengths, worlds, self.config.shard, self.config.even)

    def count(self, worlds: Worlds) -> int:
        """Return how many batches a pass has after these earlier ones of the epoch."""
        return len(self.left_by(worlds)) if worlds else len(self)

    def windows_of(self, numbers: Sequence[int]) -> Iterator[Window]:
        """Yield the windows with rows of these batches, ascending, and these rows' order.

        Each window is valid until the next one comes.
        """
        names = (*self.columns.of_images, "labels")
        buffer = self.columns.allocate(names, min(WINDOW_RUNS * self.run_rows, self.rows))
        read, mixed = tee(self._selected(numbers))
        steps = (
            (self.order.reads(n), partial(_first, self.order.size(n), buffer)) for n, _ in read
        )
        for (number, rows), window in zip(mixed, self._read(steps, scaled=False), strict=True):
            yield window, self.order.mixed(number)[rows]

    def _selected(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield the windows with rows of these batches, and which of their rows, in order."""
        size, end = self.config.batch_size, 0
        wanted = np.zeros(len(self) + 1, bool)  # and one for rows that `drop_last` leaves out
        wanted[numbers] = True
        for number in range(self.order.windows):
            begin, end = end, end + self.order.size(number)
            mine = wanted[begin // size : -(-end // size)]
            if mine.all():
                yield number, slice(None)
            elif mine.any():
                yield number, wanted[np.arange(begin, end) // size]

    def batches_of(self, numbers: Sequence[int]) -> Iterator[dict[str, Column]]:
        """Yield the batches of these numbers, ascending, each row read to its place in a batch."""
        return self._read(self._steps(numbers), scaled=True)

    def _read(self, steps: Iterator[Step], *, scaled: bool) -> Iterator[dict[str, Column]]:
        assert self.use is not None
        self.use.renew()  # the entry may have been replaced meanwhile
        at_random = self.config.shuffle
        return read_each(self.files, self.columns, steps, scaled=scaled, at_random=at_random)

    def _steps(self, numbers: Sequence[int]) -> Iterator[Step]:
        size, rows = self.config.batch_size, np.empty((0, 2), np.int64)
        memory = Recycler()
        for number, mine in self._selected(numbers):
            rows = np.concatenate([rows, delivered(self.order, number)[mine]])
            while len(rows) >= size:
                yield reads_of(rows[:size]), partial(self._room, size, memory)
                rows = rows[size:]
        if len(rows):
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


def _check_mapping(state: object) -> None:
    if not isinstance(state, Mapping):
        message = f"cannot resume: expected the state of a pass, got {type(state).__name__}"
        raise UsageError(message, "`json.loads` it first" if isinstance(state, str) else None)


def _first(rows: int, columns: dict[str, Column]) -> dict[str, Column]:
    return {name: column[:rows] for name, column in columns.items()}


class BatchIterator(Iterator[Pair]):
    """One pass over an epoch; it can report its state and be resumed from it.

    It begins at batch `start` of those that earlier `worlds` have left, and takes every `step`-th.
    """

    def __init__(
        self, batches: Batches, start: int = 0, worlds: Worlds = (), step: int = 1
    ) -> None:
        self._batches, self._worlds, self._process = batches, worlds, os.getpid()
        self._count = batches.count(worlds)
        self._numbers = range(start, self._count, step)
        self._stream = _stream(batches, worlds, self._numbers)

    def __len__(self) -> int:
        """Return how many batches are to come."""
        return len(self._numbers)

    def __next__(self) -> Pair:
        if self._process != os.getpid():  # open files are not carried over a fork
            self._stream = _stream(self._batches, self._worlds, self._numbers)
            self._process = os.getpid()
        batch = next(self._stream)
        self._numbers = self._numbers[1:]
        return batch

    @property
    def number(self) -> int:
        """The number of the next batch of the pass, or else how many it has."""
        return min(self._numbers.start, self._count)

    def state(self) -> dict[str, Any]:
        """Return what `Batches.resume` needs to continue from here.

        Returns
        -------
        dict
            JSON values.
        """
        state = self._batches.state_at(self.number)
        return state | ({"worlds": [list(w) for w in self._worlds]} if self._worlds else {})


def _stream(batches: Batches, worlds: Worlds, numbers: Sequence[int]) -> Iterator[Pair]:
    """Return the batches of these numbers, ascending, of those that earlier worlds have left.

    This knows no iterator that holds it: such a circle would keep the files open.
    """
    if worlds:
        return _dealt(batches, worlds, numbers)
    if not batches.reads_rows:
        return _rebatch(batches, numbers)
    return ((batch["images"], batch["labels"]) for batch in batches.batches_of(numbers))


def _dealt(batches: Batches, worlds: Worlds, numbers: Sequence[int]) -> Iterator[Pair]:
    """Yield batches of several shards in turn, each from a stream of its own."""
    left = batches.left_by(worlds)
    mine = [left[number] for number in numbers]
    count, epoch, streams = worlds[0][0], batches.config.epoch, dict[tuple[int, int], Any]()
    for lap, shard in {(lap, shard): None for lap, _, shard in mine}:
        of_shard = batches.with_epoch(epoch, (shard, count))
        own = [number for one, number, of in mine if (one, of) == (lap, shard)]
        streams[lap, shard] = _stream(of_shard, (), own)
    for lap, _, shard in mine:
        yield next(streams[lap, shard])


def _rebatch(batches: Batches, numbers: Sequence[int]) -> Iterator[Pair]:
    """Cut the stream of mixed windows into the batches of these numbers.

    Rows of several small batches are mixed at once, into one array of which each is a part.
    """
    size, memory = batches.config.batch_size, Recycler()
    most = size * -(-PIECE_BYTES // (size * batches.columns.row_bytes))  # rows
    filled, piece = 0, batches.allocate(most, memory)
    for window, order in batches.windows_of(numbers):
        start = 0
        while start < len(order):
            rows = order[start : start + most - filled]
            start += len(rows)
            into = slice(filled, filled + len(rows))
            batches.mix(window, rows, (piece[0][into], piece[1][into]))
            filled = into.stop
            if filled == most:
                yield from _cut(piece, filled, size)
                filled, piece = 0, batches.allocate(most, memory)
    yield from _cut(piece, filled, size)


def _cut(piece: Pair, rows: int, size: int) -> Iterator[Pair]:
    images, labels = piece
    for start in range(0, rows, size):
        batch = slice(start, min(start + size, rows))
        yield images[batch], labels[batch]
