"""Decide which rows an epoch delivers, and in what order (data/FORMAT.md, section 5).

Rows are read a window at a time, and mixed within it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, Protocol, TypedDict  # Any: JSON values

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import UsageError, check_bool, check_int, unknown_choice
from pixelprep.format import reader
from pixelprep.numerics.permutation import MAX_SEED, Stream, permutation

Reads = list[tuple[int, reader.Runs]]  # the number of a file, and what is read of it
Numbers = NDArray[np.int64]
Worlds = tuple[tuple[int, int], ...]  # numbers of shards, and of batches that each delivered so
Dealt = tuple[int, int, int]  # the lap, the number of a batch, the shard that it is of

WINDOW_RUNS = 32  # runs that are mixed with each other
EVEN = ("drop", "pad")
BALANCE = ("oversample",)


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
    shard : tuple of int or "auto"
        (index, count): this of so many disjoint parts, which together are every row once; default:
        (0, 1), all of them. "auto": as torch.distributed or jax.distributed number this process, or
        the variables of torchrun, Open MPI or SLURM.
    even : {"drop", "pad"}, optional
        Give every shard the same number of rows, and so of batches, as distributed training needs:
        leave out what is too much for some, or repeat what is too little. Default: "drop" with
        ``shard="auto"``; else the numbers of rows differ by one where they must.
    balance : {"oversample"}, optional
        Deliver as many rows of each class as the largest has: those of smaller ones several times,
        as evenly as can be. Only shuffled. Rows are then read one by one, which is slower, most of
        all where images are compressed. Default: every row once.
    raw : bool
        Deliver raw pixels, of `Scaling.raw_dtype`, to be augmented and then scaled by
        `Scaling.apply` or `Scaling.layer`; floats are recovered up to rounding. Default: scaled.
    """

    shuffle: bool
    seed: int
    epoch: int
    drop_last: bool
    shard: tuple[int, int] | Literal["auto"]
    even: Literal["drop", "pad"] | None
    balance: Literal["oversample"] | None
    raw: bool


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
    balance: str | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        # Plain ints, so that the state of a pass is JSON whatever numbers came.
        plain = {"batch_size": check_int("batch_size", self.batch_size, 1)}
        for name in ("shuffle", "drop_last", "raw"):
            check_bool(name, getattr(self, name))
        for name in ("seed", "epoch"):
            plain[name] = check_int(name, getattr(self, name), 0, MAX_SEED)
        if not isinstance(self.shard, tuple | list) or len(self.shard) != 2:
            raise UsageError(f"`shard={self.shard}`: expected (index, count), or auto")
        index, count = (check_int("shard", number, 0) for number in self.shard)
        if index >= count:
            raise UsageError(f"`shard=({index}, {count})`: expected an index below the count")
        plain["shard"] = (index, count)  # type: ignore[assignment]
        for name, choices in (("even", EVEN), ("balance", BALANCE)):
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise unknown_choice(name, str(value), choices)
        if self.balance and not self.shuffle:
            message = f"`balance={self.balance}`: expected a shuffled epoch"
            raise UsageError(message, "add `shuffle=True`")
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def steps(self, rows: int) -> int:
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def to_state(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {**asdict(self), "shard": list(self.shard)}

    def permutation(self, count: int, stream: Stream, index: int = 0) -> Numbers:
        """Return the permutation of so many things in this epoch."""
        return permutation(count, seed=self.seed, epoch=self.epoch, stream=stream, index=index)


class Order(Protocol):
    """The rows of an epoch, a window at a time."""

    rows: int  # that are delivered
    windows: int

    def size(self, number: int) -> int:
        """Return how many rows a window delivers."""

    def reads(self, number: int) -> Reads:
        """Return what is read for a window, file by file; nothing after the last one."""

    def mixed(self, number: int) -> Numbers:
        """Return in which order to deliver the rows of a window, numbered as they are read."""


def order_of(
    config: BatchConfig, file_rows: list[int], run_rows: int, labels: Numbers | None
) -> Order:
    """Return the order of an epoch of a split, of files of so many rows.

    `run_rows` neighbouring rows of a file are read at once; `labels` (N,) are needed to balance.
    """
    if config.balance:
        assert labels is not None
        return BalancedOrder(config, file_rows, run_rows, labels)
    return RunOrder(config, file_rows, run_rows)


class RunOrder:
    """Every row once; a shuffled epoch reads runs of neighbouring rows.

    A window of runs is in memory at a time, one from each part of the split, so that it is a fair
    sample of all rows also where the split is sorted.
    """

    def __init__(self, config: BatchConfig, file_rows: list[int], run_rows: int) -> None:
        self.config = config
        ends = np.cumsum(-(-np.array(file_rows) // run_rows))  # in runs
        # The runs in the order in which the epoch visits them: file, first row, number of rows.
        count = int(ends[-1])
        visited = config.permutation(count, Stream.RUNS) if config.shuffle else np.arange(count)
        file = np.searchsorted(ends, visited, side="right")
        first = (visited - np.append(0, ends)[file]) * run_rows
        rows = np.minimum(run_rows, np.array(file_rows)[file] - first)
        mine = shard_rows(int(rows.sum()), config.shard, config.even)
        runs = np.stack([file, first, rows], axis=1)
        self._runs = np.concatenate([_select_rows(runs, part) for part in mine])
        self.rows = sum(map(len, mine))
        self.windows = -(-len(self._runs) // WINDOW_RUNS)
        if config.shuffle:
            self._runs = _stratify_runs(self._runs, self.windows)

    def size(self, number: int) -> int:
        return int(self._window(number)[:, 2].sum())

    def reads(self, number: int) -> Reads:
        if number >= self.windows:
            return []
        return _by_file(self._window(number))

    def mixed(self, number: int) -> Numbers:
        rows = self.size(number)
        if not self.config.shuffle:
            return np.arange(rows)
        shard, shards = self.config.shard  # which mix their windows independently of each other
        return self.config.permutation(rows, Stream.ROWS, number * shards + shard)

    def _window(self, number: int) -> Numbers:
        if self.config.shuffle:
            return self._runs[number :: self.windows]
        return self._runs[number * WINDOW_RUNS : (number + 1) * WINDOW_RUNS]


class BalancedOrder:
    """As many rows of each class as the largest has, mixed over the whole epoch."""

    def __init__(
        self, config: BatchConfig, file_rows: list[int], run_rows: int, labels: Numbers
    ) -> None:
        self._ends = np.cumsum(file_rows)
        counts = np.bincount(labels)
        repeats = counts.max() // np.maximum(counts, 1)  # of every row of a class
        times = repeats[labels]
        by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
        for label, rows in enumerate(by_class):
            if more := int(counts.max() % max(1, len(rows))):
                order = config.permutation(len(rows), Stream.OVERSAMPLE, label)
                times[rows[order[:more]]] += 1
        every = np.repeat(np.arange(len(labels)), times)
        order = every[config.permutation(len(every), Stream.BALANCED)]
        mine = shard_rows(len(order), config.shard, config.even)
        self._order = np.concatenate([order[part.start : part.stop] for part in mine])
        self._step = WINDOW_RUNS * run_rows
        self.rows, self.windows = len(self._order), -(-len(self._order) // self._step)

    def size(self, number: int) -> int:
        return len(self._window(number))

    def reads(self, number: int) -> Reads:
        rows = np.unique(self._window(number))
        file = np.searchsorted(self._ends, rows, side="right")
        return reads_of(np.stack([file, rows - np.append(0, self._ends)[file]], axis=1))

    def mixed(self, number: int) -> Numbers:
        return np.unique(self._window(number), return_inverse=True)[1].reshape(-1)

    def _window(self, number: int) -> Numbers:
        return self._order[number * self._step : (number + 1) * self._step]


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


def deal(
    lengths: list[int], worlds: Worlds, shard: tuple[int, int], even: str | None
) -> list[Dealt]:
    """Return the batches of a shard that earlier numbers of shards have left (data/FORMAT.md).

    `lengths` are those of the shards of the first world. In a second lap are batches that come
    again, where shards are padded.
    """
    (_, first), *later = worlds
    shards = range(len(lengths))
    left = [(n, of) for n in range(first, max(lengths)) for of in shards if n < lengths[of]]
    for count, done in later:
        left = left[count * done :]
    index, count = shard
    whole = len(left) // count * count
    padded = -(-len(left) // count) * count
    places = range(index, {"drop": whole, "pad": padded}.get(even or "", len(left)), count)
    return [(place // len(left), *left[place % len(left)]) for place in places]


def delivered(order: Order, number: int) -> Numbers:
    """Return the file and the row in it, (n, 2), of all that a window delivers, in this order."""
    runs = [(file, *run) for file, group in order.reads(number) for run in group]
    read = np.empty((sum(rows for _, _, rows, _ in runs), 2), np.int64)
    for file, first, rows, place in runs:
        read[place : place + rows, 0] = file
        read[place : place + rows, 1] = np.arange(first, first + rows)
    return read[order.mixed(number)]


def reads_of(rows: Numbers) -> Reads:
    """Return what reads these, (n, 2) of file and row, in this order; neighbours as one run."""
    file, row = rows.T
    begins = np.flatnonzero((np.diff(row, prepend=-2) != 1) | (np.diff(file, prepend=-1) != 0))
    lengths = np.diff(begins, append=len(rows))
    return _by_file(np.stack([file[begins], row[begins], lengths], axis=1))


def _by_file(runs: Numbers) -> Reads:
    """Group runs, each (file, first row, number of rows), by file; they go one behind the other."""
    places = np.cumsum(runs[:, 2]) - runs[:, 2]
    in_files = np.argsort(runs[:, 0], kind="stable")
    placed = np.column_stack([runs, places])[in_files].tolist()
    groups: Iterator[tuple[int, Any]] = groupby(placed, key=itemgetter(0))
    return [
        (file, [(first, rows, place) for _, first, rows, place in group]) for file, group in groups
    ]


def _select_rows(runs: Numbers, selected: range) -> Numbers:
    """Return the runs that have these rows, counted from run to run; cut the first and the last."""
    ends = np.cumsum(runs[:, 2])
    starts = ends - runs[:, 2]
    cut = np.maximum(selected.start - starts, 0)
    rows = np.minimum(ends, selected.stop) - starts - cut
    cuts = np.stack([np.zeros_like(cut), cut, rows - runs[:, 2]], axis=1)
    return np.asarray((runs + cuts)[rows > 0])


def _stratify_runs(visited: Numbers, windows: int) -> Numbers:
    """Order runs such that every `windows`-th of them, from number w on, belongs to window w.

    In file order the runs are cut into parts of `windows` runs; window w takes from each part the
    run that is visited as number w of that part. So it samples the whole split evenly.
    """
    in_file = np.empty(len(visited), np.int64)
    in_file[np.lexsort((visited[:, 1], visited[:, 0]))] = np.arange(len(visited))
    return visited[np.argsort(in_file // max(1, windows), kind="stable")]
