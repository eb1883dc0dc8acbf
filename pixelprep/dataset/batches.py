"""Seeded, shuffled batches of NumPy arrays, streamed from an entry's files.

A shuffled epoch reads runs of neighbouring rows. A window of runs is in memory at a time, one from
each part of the split, so that it is a fair sample of all rows also where the split is sorted; its
rows are mixed and cut into batches (data/FORMAT.md, "A shuffled epoch").
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import UsageError, check_int
from pixelprep.format import reader
from pixelprep.numerics.permutation import MAX_SEED, Stream, permutation
from pixelprep.system import canonical

Pair = tuple[NDArray[Any], NDArray[np.int64]]
Window = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]  # and the rows' order

WINDOW_RUNS = 32  # runs that are mixed with each other


class BatchOptions(TypedDict, total=False):
    """The keywords that `Split.batches` and all framework feeds share.

    Parameters
    ----------
    shuffle : bool
        Deliver rows mixed by (seed, epoch); default: in file order.
    seed, epoch : int
        0 to 2**64 − 1, default 0. Equal values give equal batches on any machine. Of a feed that
        counts its own epochs, `epoch` is that of the first pass.
    drop_last : bool
        Leave out a last batch of fewer rows; default: deliver it.
    shard : tuple of int
        (index, count): this of so many disjoint parts, which together are every row once; default:
        (0, 1), all of them.
    """

    shuffle: bool
    seed: int
    epoch: int
    drop_last: bool
    shard: tuple[int, int]


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """What an epoch delivers: a pure function of these values and the files' content."""

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    drop_last: bool = False
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        # Plain ints, so that the state of a pass is JSON whatever numbers came.
        plain = {"batch_size": check_int("batch_size", self.batch_size, 1)}
        for name in ("seed", "epoch"):
            plain[name] = check_int(name, getattr(self, name), 0, MAX_SEED)
        if len(self.shard) != 2:
            raise UsageError(f"shard {self.shard}: expected (index, count)")
        count = check_int("shard count", self.shard[1], 1)
        plain["shard"] = (check_int("shard index", self.shard[0], 0, count - 1), count)  # type: ignore[assignment]
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def steps(self, rows: int) -> int:
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)


@dataclass(eq=False, repr=False)
class Batches:
    """One epoch of batches; iterating again gives the same epoch again.

    Each item is ``(images, labels)``: images of the stored type (batch, H, W, C), labels int64
    (batch,). `run_rows` neighbouring rows of a file are read at once.
    """

    files: Sequence[reader.EntryFile]  # of the split, in order
    run_rows: int
    image_shape: tuple[int, ...]  # (H, W, C)
    dtype: np.dtype[Any]
    config: BatchConfig

    def __post_init__(self) -> None:
        self._file_rows = np.array([file.rows for file in self.files])
        self._file_ends = np.cumsum(-(-self._file_rows // self.run_rows))  # in runs
        # The numbers of all shards' runs, in the order in which the epoch visits them.
        runs, (index, count) = int(self._file_ends[-1]), self.config.shard
        visited = self._permutation(runs, Stream.RUNS) if self.config.shuffle else np.arange(runs)
        mine = visited[index::count]
        self.rows = int(self._locate_runs(mine)[2].sum())
        self.windows = -(-len(mine) // WINDOW_RUNS)
        self._runs = _stratify_runs(mine, self.windows) if self.config.shuffle else mine

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
        config = {**asdict(self.config), "shard": list(self.config.shard)}
        content = {file.path.name: file.sha256 for file in self.files}
        return {**config, "data": canonical.digest(content)[:16], "batch": batch}

    def with_epoch(self, epoch: int, shard: tuple[int, int] | None = None) -> "Batches":
        """Return the same of another epoch (and another shard)."""
        config = replace(self.config, epoch=epoch, shard=shard or self.config.shard)
        return replace(self, config=config)

    def windows_from(self, first: int) -> Iterator[Window]:
        """Yield the windows from number `first` on; each is valid until the next one comes."""
        with reader.open_files() as opened:
            images, labels = self.allocate(WINDOW_RUNS * self.run_rows)
            for number in range(first, self.windows):
                for file, runs in self._reads(number + 1):
                    opened.prefetch(file, runs)  # on its way from the disk while this one is used
                filled = 0
                for file, runs in self._reads(number):
                    into = slice(filled, filled + sum(rows for _, rows in runs))
                    opened.read(file, runs, images=images[into], labels=labels[into])
                    filled = into.stop
                yield images[:filled], labels[:filled], self._order(number, filled)

    def _reads(self, number: int) -> list[tuple[reader.EntryFile, reader.Runs]]:
        """Return what is read for a window, file by file; nothing after the last one."""
        if number >= self.windows:
            return []
        located = self._locate_runs(self._window_runs(number))
        runs = zip(*(values.tolist() for values in located), strict=True)
        return [
            (self.files[file], [(start, rows) for _, start, rows in group])
            for file, group in groupby(runs, key=itemgetter(0))
        ]

    def locate(self, row: int) -> tuple[int, int]:
        """Return the window that holds this row of the epoch, and the row's number in it."""
        for number in range(self.windows):
            rows = int(self._locate_runs(self._window_runs(number))[2].sum())
            if row < rows:
                return number, row
            row -= rows
        return self.windows, 0

    def allocate(self, rows: int) -> Pair:
        """Allocate arrays for so many images and labels, at most for those of the epoch."""
        rows = min(rows, self.rows)
        return np.empty((rows, *self.image_shape), self.dtype), np.empty(rows, np.int64)

    def _window_runs(self, number: int) -> NDArray[np.int64]:
        if self.config.shuffle:
            return self._runs[number :: self.windows]
        return self._runs[number * WINDOW_RUNS : (number + 1) * WINDOW_RUNS]

    def _locate_runs(self, runs: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Return each run's file (its number), first row in the file, and number of rows."""
        file = np.searchsorted(self._file_ends, runs, side="right")
        before = np.append(0, self._file_ends)[file]
        start = (runs - before) * self.run_rows
        return file, start, np.minimum(self.run_rows, self._file_rows[file] - start)

    def _order(self, number: int, rows: int) -> NDArray[np.int64]:
        """Return the order in which to deliver the rows of a window."""
        if not self.config.shuffle:
            return np.arange(rows)
        shard, shards = self.config.shard  # which mix their windows independently of each other
        return self._permutation(rows, Stream.ROWS, number * shards + shard)

    def _permutation(self, count: int, stream: Stream, index: int = 0) -> NDArray[np.int64]:
        seed, epoch = self.config.seed, self.config.epoch
        return permutation(count, seed=seed, epoch=epoch, stream=stream, index=index)


def _stratify_runs(visited: NDArray[np.int64], windows: int) -> NDArray[np.int64]:
    """Order runs such that every `windows`-th of them, from number w on, belongs to window w.

    In file order the runs are cut into parts of `windows` runs; window w takes from each part the
    run that is visited as number w of that part. So it samples the whole split evenly.
    """
    in_file = np.empty_like(visited)
    in_file[np.argsort(visited)] = np.arange(len(visited))
    return visited[np.argsort(in_file // max(1, windows), kind="stable")]


class BatchIterator(Iterator[Pair]):
    """One pass over an epoch; it can report its state and be resumed from it."""

    def __init__(self, batches: Batches, start: int) -> None:
        self._batches, self._done, self._process = batches, start, os.getpid()
        self._stream = _rebatch(batches, start)

    def __next__(self) -> Pair:
        if self._process != os.getpid():  # open files are not carried over a fork
            self._stream = _rebatch(self._batches, self._done)
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


def _rebatch(batches: Batches, done: int) -> Iterator[Pair]:
    """Cut the stream of rows into batches, from number `done` on.

    This knows no iterator that holds it: such a circle would keep the files open.
    """
    size = batches.config.batch_size
    first_window, start = batches.locate(done * size)
    filled, (images, labels) = 0, batches.allocate(size)
    for window_images, window_labels, order in batches.windows_from(first_window):
        while start < len(order):
            rows = order[start : start + size - filled]
            start += len(rows)
            into = slice(filled, filled + len(rows))
            # Other modes than "clip" copy twice.
            window_images.take(rows, axis=0, out=images[into], mode="clip")
            window_labels.take(rows, out=labels[into], mode="clip")
            filled = into.stop
            if filled == size:
                yield images, labels
                filled, (images, labels) = 0, batches.allocate(size)
        start = 0
    if filled and not batches.config.drop_last:
        yield images[:filled], labels[:filled]
