"""Seeded, shuffled batches of NumPy arrays, streamed from an entry's files.

A shuffled epoch reads runs of neighbouring rows. A window of runs is in memory at a time, one from
each part of the split, so that it is a fair sample of all rows also where the split is sorted; its
rows are mixed and cut into batches (data/FORMAT.md, "A shuffled epoch").
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import UsageError, check_int
from pixelprep.format import reader
from pixelprep.numerics.permutation import MAX_SEED, Stream, permutation
from pixelprep.system import canonical

Pair = tuple[NDArray[Any], NDArray[np.int64]]
Window = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]  # and the rows' order

WINDOW_RUNS = 32  # runs that are mixed with each other


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """What an epoch delivers: a pure function of these values and the files' content.

    Parameters
    ----------
    batch_size : int
        Rows a batch, at least 1.
    shuffle : bool
        Whether rows come mixed; otherwise in file order.
    seed, epoch : int
        0 to 2**64 − 1: which mixed order. Equal values give equal batches, anywhere.
    drop_last : bool
        Whether a last batch of fewer rows is left out.
    shard : tuple of int
        (index, count): this of so many disjoint parts, which together are every row once.
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    drop_last: bool = False
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        # Plain ints, so that the state of a pass is JSON whatever numbers came.
        plain = {
            "batch_size": check_int("batch_size", self.batch_size, 1),
            "seed": check_int("seed", self.seed, 0, MAX_SEED),
            "epoch": check_int("epoch", self.epoch, 0, MAX_SEED),
        }
        if len(self.shard) != 2:
            raise UsageError(f"shard {self.shard}: expected (index, count)")
        count = check_int("shard count", self.shard[1], 1)
        plain["shard"] = (check_int("shard index", self.shard[0], 0, count - 1), count)  # type: ignore[assignment]
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def steps(self, rows: int) -> int:
        """How many batches so many rows are."""
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)


class Batches:
    """One epoch of batches; iterating again gives the same epoch again.

    Each item is ``(images, labels)``: images of the stored type (batch, H, W, C), labels int64
    (batch,).

    Parameters
    ----------
    parts : sequence of Part
        The split's files, in order.
    run_rows : int
        Neighbouring rows of a file that are read at once, at least 1.
    image_shape : tuple of int
        (H, W, C).
    dtype : dtype
        Of the stored images.
    plan : Plan
        What the epoch delivers.
    """

    def __init__(
        self,
        parts: Sequence[reader.EntryFile],
        run_rows: int,
        image_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        plan: BatchConfig,
    ) -> None:
        self.parts, self.run_rows, self.plan = parts, run_rows, plan
        self.image_shape, self.dtype = image_shape, dtype
        self._part_rows = np.array([part.rows for part in parts])
        self._part_ends = np.cumsum(-(-self._part_rows // run_rows))  # in runs
        mine = self._visited()[plan.shard[0] :: plan.shard[1]]
        self.rows = int(self._places(mine)[2].sum())
        self.windows = -(-len(mine) // WINDOW_RUNS)
        self._runs = _stratify_runs(mine, self.windows) if plan.shuffle else mine

    def __len__(self) -> int:
        return self.plan.steps(self.rows)

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self, 0)

    def resume(self, state: Mapping[str, Any]) -> "BatchIterator":
        """Go on where another pass of the same plan stood: the very batches that would have come.

        Parameters
        ----------
        state : mapping
            What `Pass.state` gave, also after a journey through JSON.

        Returns
        -------
        Pass
            An iterator over the rest.

        Raises
        ------
        UsageError
            When the state is of another plan or of other data.
        """
        expected = self.state(0)
        if {**state, "batch": 0} != expected:
            raise UsageError(f"cannot resume from {dict(state)}: expected the state of {expected}")
        return BatchIterator(self, check_int("state's batch", state.get("batch"), 0, len(self)))

    def state(self, batch: int) -> dict[str, Any]:
        """The state of a pass that has delivered `batch` batches."""
        plan = {**asdict(self.plan), "shard": list(self.plan.shard)}
        return {**plan, "data": self._fingerprint, "batch": batch}

    @cached_property
    def _fingerprint(self) -> str:
        """What tells these rows in this order of files from any others."""
        content = {part.path.name: part.sha256 for part in self.parts}
        return hashlib.sha256(canonical.dumps(content)).hexdigest()[:16]

    def at(self, epoch: int, shard: tuple[int, int] | None = None) -> "Batches":
        """The same of another epoch (and another shard)."""
        plan = replace(self.plan, epoch=epoch, shard=shard or self.plan.shard)
        return Batches(self.parts, self.run_rows, self.image_shape, self.dtype, plan)

    def blocks(self) -> Iterator[Pair]:
        """The same rows in the same order, a window at a time."""
        for images, labels, order in self.windows_from(0):
            yield images.take(order, axis=0), labels.take(order)

    def windows_from(self, first: int) -> Iterator[Window]:
        """The windows from number `first` on; each is valid until the next is asked for."""
        with reader.open_files() as opened:
            space = self.space(WINDOW_RUNS * self.run_rows)
            for number in range(first, self.windows):
                yield self._window(number, opened, space)

    def _window(self, number: int, opened: reader.HandleCache, space: Pair) -> Window:
        """Read a window into `space`: its images, its labels, and the order to hand them out in."""
        for part, runs in self._pieces(number + 1):
            opened.prefetch(part, runs)  # on its way from the disk while this one is used
        (images, labels), first = space, 0
        for part, runs in self._pieces(number):
            into = slice(first, first + sum(rows for _, rows in runs))
            opened.read(part, runs, images=images[into], labels=labels[into])
            first = into.stop
        return images[:first], labels[:first], self._order(number, first)

    def _pieces(self, number: int) -> list[tuple[reader.EntryFile, reader.Runs]]:
        """What is read for a window, file by file; nothing after the last one."""
        if number >= self.windows:
            return []
        places = zip(*(p.tolist() for p in self._places(self._window_runs(number))), strict=True)
        return [
            (self.parts[part], [(start, rows) for _, start, rows in runs])
            for part, runs in groupby(places, key=itemgetter(0))
        ]

    def locate(self, row: int) -> tuple[int, int]:
        """The window that holds this row of the epoch, and the row's number in it."""
        for number in range(self.windows):
            held = int(self._places(self._window_runs(number))[2].sum())
            if row < held:
                return number, row
            row -= held
        return self.windows, 0

    def space(self, rows: int) -> Pair:
        """Room for so many images and labels, no more than the epoch has."""
        rows = min(rows, self.rows)
        return np.empty((rows, *self.image_shape), self.dtype), np.empty(rows, np.int64)

    def _visited(self) -> NDArray[np.int64]:
        """The numbers of all shards' runs, in the order in which the epoch comes to them."""
        runs = int(self._part_ends[-1])
        if not self.plan.shuffle:
            return np.arange(runs)
        seed, epoch = self.plan.seed, self.plan.epoch
        return permutation(runs, seed=seed, epoch=epoch, stream=Stream.RUNS)

    def _window_runs(self, number: int) -> NDArray[np.int64]:
        if self.plan.shuffle:
            return self._runs[number :: self.windows]
        return self._runs[number * WINDOW_RUNS : (number + 1) * WINDOW_RUNS]

    def _places(self, runs: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Of each run the number of its file, its first row in the file, and how many rows."""
        part = np.searchsorted(self._part_ends, runs, side="right")
        before = np.append(0, self._part_ends)[part]
        start = (runs - before) * self.run_rows
        return part, start, np.minimum(self.run_rows, self._part_rows[part] - start)

    def _order(self, number: int, rows: int) -> NDArray[np.int64]:
        if not self.plan.shuffle:
            return np.arange(rows)
        # Shards mix their windows independently of each other.
        index = number * self.plan.shard[1] + self.plan.shard[0]
        seed, epoch = self.plan.seed, self.plan.epoch
        return permutation(rows, seed=seed, epoch=epoch, stream=Stream.ROWS, index=index)


def _stratify_runs(visited: NDArray[np.int64], windows: int) -> NDArray[np.int64]:
    """Put runs into an order of which every `windows`-th, from number w on, makes window w.

    In file order the runs are cut into parts of `windows` runs; window w has of each part the run
    that is visited as number w of that part. So it samples the whole file evenly.
    """
    in_file = np.empty_like(visited)
    in_file[np.argsort(visited)] = np.arange(len(visited))
    return visited[np.argsort(in_file // max(1, windows), kind="stable")]


class BatchIterator(Iterator[Pair]):
    """One pass over an epoch, which knows where it stands."""

    def __init__(self, batches: Batches, start: int) -> None:
        self._batches, self._done, self._process = batches, start, os.getpid()
        self._coming = _rebatch(batches, start * batches.plan.batch_size)

    def __next__(self) -> Pair:
        if self._process != os.getpid():  # open files are not carried over a fork
            self._coming = _rebatch(self._batches, self._done * self._batches.plan.batch_size)
            self._process = os.getpid()
        batch = next(self._coming)
        self._done += 1
        return batch

    def state(self) -> dict[str, Any]:
        """What `Batches.resume` needs to go on from here.

        Returns
        -------
        dict
            JSON values.
        """
        return self._batches.state(self._done)


def _rebatch(batches: Batches, row: int) -> Iterator[Pair]:
    """Cut the stream of rows into batches, from row number `row` of the epoch on."""
    size = batches.plan.batch_size
    first_window, start = batches.locate(row)
    filled, (images, labels) = 0, batches.space(size)
    for held, their_labels, order in batches.windows_from(first_window):
        while start < len(order):
            picked = order[start : start + size - filled]
            start += len(picked)
            into = slice(filled, filled + len(picked))
            held.take(picked, axis=0, out=images[into], mode="clip")  # other modes copy twice
            their_labels.take(picked, out=labels[into], mode="clip")
            filled = into.stop
            if filled == size:
                yield images, labels
                filled, (images, labels) = 0, batches.space(size)
        start = 0
    if filled and not batches.plan.drop_last:
        yield images[:filled], labels[:filled]
