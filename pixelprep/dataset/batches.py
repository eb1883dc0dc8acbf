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
from typing import Any, Literal, TypedDict  # Any: JSON values

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.columns import Column, Columns
from pixelprep.errors import UsageError, check_bool, check_int, unknown_choice
from pixelprep.format import reader
from pixelprep.numerics.permutation import MAX_SEED, Stream, permutation
from pixelprep.system import canonical
from pixelprep.system.locks import SharedLock

Pair = tuple[Column, Column]  # images and labels
Window = tuple[dict[str, Column], NDArray[np.int64]]  # stored columns, and the rows' order

WINDOW_RUNS = 32  # runs that are mixed with each other
EVEN = ("drop", "pad")


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
    even : {"drop", "pad"}, optional
        Give every shard the same number of rows, and so of batches, as distributed training needs:
        leave out what is too much for some, or repeat what is too little. Default: the numbers of
        rows differ by one where they must.
    """

    shuffle: bool
    seed: int
    epoch: int
    drop_last: bool
    shard: tuple[int, int]
    even: Literal["drop", "pad"] | None


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """What an epoch delivers: a pure function of these values and the files' content."""

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    drop_last: bool = False
    shard: tuple[int, int] = (0, 1)
    even: str | None = None

    def __post_init__(self) -> None:
        # Plain ints, so that the state of a pass is JSON whatever numbers came.
        plain = {"batch_size": check_int("batch_size", self.batch_size, 1)}
        for name in ("shuffle", "drop_last"):
            check_bool(name, getattr(self, name))
        for name in ("seed", "epoch"):
            plain[name] = check_int(name, getattr(self, name), 0, MAX_SEED)
        if not isinstance(self.shard, tuple | list) or len(self.shard) != 2:
            raise UsageError(f"`shard={self.shard}`: expected (index, count)")
        index, count = (check_int("shard", number, 0) for number in self.shard)
        if index >= count:
            raise UsageError(f"`shard=({index}, {count})`: expected an index below the count")
        plain["shard"] = (index, count)  # type: ignore[assignment]
        if self.even is not None and self.even not in EVEN:
            raise unknown_choice("even", str(self.even), EVEN)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def steps(self, rows: int) -> int:
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)


def shard_rows(rows: int, shard: tuple[int, int], even: str | None) -> list[range]:
    """Return which of all rows, in the order of an epoch, a shard has (data/FORMAT.md, section 5).

    Two ranges where a shard that is padded goes on from the first row.
    """
    index, count = shard
    if even is None:
        return [range(rows * index // count, rows * (index + 1) // count)]
    size = rows // count if even == "drop" else -(-rows // count)
    start = index * size % max(1, rows)
    stop = start + size
    return [range(start, stop)] if stop <= rows else [range(start, rows), range(stop - rows)]


@dataclass(eq=False, repr=False)
class Batches:
    """One epoch of batches; iterating again gives the same epoch again.

    Each item is ``(images, labels)``: images (batch, H, W, C), labels int64 (batch,) or, of several
    a row, uint8 (batch, K). `run_rows` neighbouring rows of a file are read at once.
    """

    files: Sequence[reader.EntryFile]  # of the split, in order
    run_rows: int
    columns: Columns
    config: BatchConfig
    use: SharedLock | None = None  # for which the entry stays in its cache, also between passes

    def __post_init__(self) -> None:
        self.use = self.use or SharedLock(self.files[0].path)
        file_rows = np.array([file.rows for file in self.files])
        file_ends = np.cumsum(-(-file_rows // self.run_rows))  # in runs
        # The runs in the order in which the epoch visits them: file, first row, number of rows.
        count, shuffle = int(file_ends[-1]), self.config.shuffle
        visited = self._permutation(count, Stream.RUNS) if shuffle else np.arange(count)
        file = np.searchsorted(file_ends, visited, side="right")
        first = (visited - np.append(0, file_ends)[file]) * self.run_rows
        rows = np.minimum(self.run_rows, file_rows[file] - first)
        mine = shard_rows(int(rows.sum()), self.config.shard, self.config.even)
        runs = np.stack([file, first, rows], axis=1)
        self._runs = np.concatenate([_select_rows(runs, part) for part in mine])
        self.rows = sum(map(len, mine))
        self.windows = -(-len(self._runs) // WINDOW_RUNS)
        if shuffle:
            self._runs = _stratify_runs(self._runs, self.windows)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (*self.columns.of_images, "labels")

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
        assert self.use is not None
        self.use.renew()  # the entry may have been replaced meanwhile
        with reader.open_files() as opened:
            columns = self.allocate(WINDOW_RUNS * self.run_rows)
            for number in range(first, self.windows):
                for file, runs in self._reads(number + 1):
                    opened.prefetch(file, runs)  # on its way from the disk while this one is used
                filled = 0
                for file, runs in self._reads(number):
                    into = slice(filled, filled + sum(rows for _, rows in runs))
                    opened.read(file, runs, **{name: c[into] for name, c in columns.items()})
                    filled = into.stop
                window = {name: column[:filled] for name, column in columns.items()}
                yield window, self._order(number, filled)

    def _reads(self, number: int) -> list[tuple[reader.EntryFile, reader.Runs]]:
        """Return what is read for a window, file by file; nothing after the last one."""
        if number >= self.windows:
            return []
        return [
            (self.files[file], [(first, rows) for _, first, rows in group])
            for file, group in groupby(self._window_runs(number).tolist(), key=itemgetter(0))
        ]

    def locate(self, row: int) -> tuple[int, int]:
        """Return the window that holds this row of the epoch, and the row's number in it."""
        for number in range(self.windows):
            rows = int(self._window_runs(number)[:, 2].sum())
            if row < rows:
                return number, row
            row -= rows
        return self.windows, 0

    def allocate(self, rows: int) -> dict[str, Column]:
        """Allocate the columns of so many rows, at most of those of the epoch."""
        return self.columns.allocate(self.names, min(rows, self.rows))

    def deliver(self, stored: dict[str, Column]) -> Pair:
        """Return images and labels of stored rows."""
        return self.columns.images(stored), stored["labels"]

    def _window_runs(self, number: int) -> NDArray[np.int64]:
        if self.config.shuffle:
            return self._runs[number :: self.windows]
        return self._runs[number * WINDOW_RUNS : (number + 1) * WINDOW_RUNS]

    def _order(self, number: int, rows: int) -> NDArray[np.int64]:
        """Return the order in which to deliver the rows of a window."""
        if not self.config.shuffle:
            return np.arange(rows)
        shard, shards = self.config.shard  # which mix their windows independently of each other
        return self._permutation(rows, Stream.ROWS, number * shards + shard)

    def _permutation(self, count: int, stream: Stream, index: int = 0) -> NDArray[np.int64]:
        seed, epoch = self.config.seed, self.config.epoch
        return permutation(count, seed=seed, epoch=epoch, stream=stream, index=index)


def _select_rows(runs: NDArray[np.int64], selected: range) -> NDArray[np.int64]:
    """Return the runs that have these rows, counted from run to run; cut the first and the last."""
    ends = np.cumsum(runs[:, 2])
    starts = ends - runs[:, 2]
    cut = np.maximum(selected.start - starts, 0)
    rows = np.minimum(ends, selected.stop) - starts - cut
    cuts = np.stack([np.zeros_like(cut), cut, rows - runs[:, 2]], axis=1)
    return np.asarray((runs + cuts)[rows > 0])


def _stratify_runs(visited: NDArray[np.int64], windows: int) -> NDArray[np.int64]:
    """Order runs such that every `windows`-th of them, from number w on, belongs to window w.

    In file order the runs are cut into parts of `windows` runs; window w takes from each part the
    run that is visited as number w of that part. So it samples the whole split evenly.
    """
    in_file = np.empty(len(visited), np.int64)
    in_file[np.lexsort((visited[:, 1], visited[:, 0]))] = np.arange(len(visited))
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
    filled, batch = 0, batches.allocate(size)
    for window, order in batches.windows_from(first_window):
        while start < len(order):
            rows = order[start : start + size - filled]
            start += len(rows)
            into = slice(filled, filled + len(rows))
            for name, column in window.items():
                # Other modes than "clip" copy twice.
                column.take(rows, axis=0, out=batch[name][into], mode="clip")
            filled = into.stop
            if filled == size:
                yield batches.deliver(batch)
                filled, batch = 0, batches.allocate(size)
        start = 0
    if filled and not batches.config.drop_last:
        yield batches.deliver({name: column[:filled] for name, column in batch.items()})
