"""Seeded, shuffled batches of NumPy arrays, streamed from an entry's files.

An epoch visits the chunks in a seeded order, mixes the rows of a window of chunks, and cuts the
stream of mixed rows into batches (data/FORMAT.md, "A shuffled epoch"). Two windows are in memory:
one is handed out while a thread reads the next.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import files, store
from pixelprep.errors import UsageError, whole
from pixelprep.order import MAX_SEED, Purpose, permutation

Pair = tuple[NDArray[Any], NDArray[np.int64]]

WINDOW = 16  # chunks that are mixed with each other


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows `start` to `stop` of one file: what is read at once."""

    part: store.Part
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Plan:
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
            "batch_size": whole("batch size", self.batch_size, 1),
            "seed": whole("seed", self.seed, 0, MAX_SEED),
            "epoch": whole("epoch", self.epoch, 0, MAX_SEED),
        }
        if len(self.shard) != 2:
            raise UsageError(f"shard {self.shard}: expected (index, count)")
        count = whole("shard count", self.shard[1], 1)
        plain["shard"] = (whole("shard index", self.shard[0], 0, count - 1), count)  # type: ignore[assignment]
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
    chunks : sequence of Chunk
        Of the whole split, in file order.
    plan : Plan
        What the epoch delivers.
    image_shape : tuple of int
        (H, W, C).
    dtype : dtype
        Of the stored images.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        plan: Plan,
        image_shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self.chunks, self.plan, self.image_shape, self.dtype = chunks, plan, image_shape, dtype
        visited = list(chunks)
        if plan.shuffle:
            order = permutation(
                len(chunks), seed=plan.seed, epoch=plan.epoch, purpose=Purpose.CHUNKS
            )
            visited = [chunks[i] for i in order]
        mine = visited[plan.shard[0] :: plan.shard[1]]
        self.rows = sum(map(len, mine))
        self._windows = [mine[i : i + WINDOW] for i in range(0, len(mine), WINDOW)]

    def __len__(self) -> int:
        return self.plan.steps(self.rows)

    def __iter__(self) -> "Pass":
        return Pass(self, 0)

    def resume(self, state: Mapping[str, Any]) -> "Pass":
        """Go on where another pass of the same plan stood: the very batches that would have come.

        Parameters
        ----------
        state : mapping
            What `Pass.state` gave, also after a journey through JSON.

        Raises
        ------
        UsageError
            When the state is of another plan or of other data.
        """
        expected = self.state(0)
        if {**state, "batch": 0} != expected:
            raise UsageError(f"cannot resume from {dict(state)}: expected the state of {expected}")
        return Pass(self, whole("state's batch", state.get("batch"), 0, len(self)))

    def state(self, batch: int) -> dict[str, Any]:
        """The state of a pass that has delivered `batch` batches."""
        plan = {**asdict(self.plan), "shard": list(self.plan.shard)}
        return {**plan, "data": self._fingerprint(), "batch": batch}

    def _fingerprint(self) -> str:
        """What tells these rows in this order of chunks from any others."""
        parts = {chunk.part.path.name: chunk.part.sha256 for chunk in self.chunks}
        return hashlib.sha256(files.canonical_json(parts)).hexdigest()[:16]

    def at(self, epoch: int, shard: tuple[int, int] | None = None) -> "Batches":
        """The same of another epoch (and another shard)."""
        plan = replace(self.plan, epoch=epoch, shard=shard or self.plan.shard)
        return Batches(self.chunks, plan, self.image_shape, self.dtype)

    def blocks(self) -> Iterator[Pair]:
        """The same rows in the same order, a window at a time."""
        for window in self.windows(0):
            yield window.rows(0, len(window))

    def windows(self, first: int) -> Iterator["Window"]:
        """The windows from number `first` on; each is valid until the next is asked for."""
        most = max((sum(map(len, chunks)) for chunks in self._windows), default=0)
        spaces = [self._space(most), self._space(most)]
        with store.reading() as opened, ThreadPoolExecutor(1) as reader:
            coming = None
            for number in range(first, len(self._windows)):
                ready = coming or reader.submit(self._read, opened, number, spaces[number % 2])
                window = ready.result()
                if number + 1 < len(self._windows):
                    coming = reader.submit(self._read, opened, number + 1, spaces[1 - number % 2])
                yield window

    def skip(self, rows: int) -> tuple[int, int]:
        """The window that holds this row of the epoch, and the row's number in it."""
        for number, chunks in enumerate(self._windows):
            held = sum(map(len, chunks))
            if rows < held:
                return number, rows
            rows -= held
        return len(self._windows), 0

    def _space(self, rows: int) -> Pair:
        return np.empty((rows, *self.image_shape), self.dtype), np.empty(rows, np.int64)

    def _read(self, opened: store.Files, number: int, space: Pair) -> "Window":
        first = 0
        for chunk in self._windows[number]:
            rows = slice(first, first + len(chunk))
            opened.read(chunk.part, chunk.start, space[0][rows], "images")
            opened.read(chunk.part, chunk.start, space[1][rows], "labels")
            first = rows.stop
        order = None
        if self.plan.shuffle:
            seed, epoch = self.plan.seed, self.plan.epoch
            # Shards mix their windows independently of each other.
            index = number * self.plan.shard[1] + self.plan.shard[0]
            order = permutation(first, seed=seed, epoch=epoch, purpose=Purpose.ROWS, index=index)
        return Window(space[0][:first], space[1][:first], order)


@dataclass(frozen=True, slots=True)
class Window:
    """Some chunks in memory, and the order in which their rows are handed out."""

    images: NDArray[Any]
    labels: NDArray[np.int64]
    order: NDArray[np.int64] | None  # None: as they are

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, start: int, stop: int) -> Pair:
        """Copies of the rows from `start` to `stop` in that order."""
        if self.order is None:
            return self.images[start:stop].copy(), self.labels[start:stop].copy()
        picked = self.order[start:stop]
        return self.images.take(picked, axis=0), self.labels.take(picked)


class Pass(Iterator[Pair]):
    """One pass over an epoch, which knows where it stands."""

    def __init__(self, batches: Batches, start: int) -> None:
        self._batches, self._done, self._process = batches, start, os.getpid()
        self._coming = _cut(batches, start * batches.plan.batch_size)

    def __next__(self) -> Pair:
        if self._process != os.getpid():  # a fork has neither the thread nor the files
            self._coming = _cut(self._batches, self._done * self._batches.plan.batch_size)
            self._process = os.getpid()
        batch = next(self._coming)
        self._done += 1
        return batch

    def state(self) -> dict[str, Any]:
        """What `Batches.resume` needs to go on from here: JSON values."""
        return self._batches.state(self._done)


def _cut(batches: Batches, skip: int) -> Iterator[Pair]:
    """Cut the stream of rows into batches, from row number `skip` of the epoch on."""
    size, rest = batches.plan.batch_size, None
    number, start = batches.skip(skip)
    for window in batches.windows(number):
        if rest is not None:  # a batch that began in the window before
            stop = min(size - len(rest[1]), len(window))
            rest, start = _joined(rest, window.rows(0, stop)), stop
            if len(rest[1]) == size:
                yield rest
                rest = None
        while start + size <= len(window):
            yield window.rows(start, start + size)
            start += size
        if start < len(window):
            rest = window.rows(start, len(window))
        start = 0
    if rest is not None and not batches.plan.drop_last:
        yield rest


def _joined(first: Pair, second: Pair) -> Pair:
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
