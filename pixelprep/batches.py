"""Seeded, shuffled batches of NumPy arrays, streamed from an entry's files.

An epoch visits the chunks in a seeded order, mixes the rows of a window of chunks, and cuts the
stream of mixed rows into batches. At most one window (16 chunks of about 1 MiB) is in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import store
from pixelprep.errors import UsageError
from pixelprep.order import MAX_SEED, Purpose, permutation

Pair = tuple[NDArray[Any], NDArray[np.int64]]

WINDOW = 16  # chunks that are mixed with each other


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows `start` to `stop` of one file: what is read at once."""

    path: Path
    start: int
    stop: int


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
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: expected 1 or more")
        for name in ("seed", "epoch"):
            if not 0 <= getattr(self, name) <= MAX_SEED:
                raise UsageError(f"{name} {getattr(self, name)}: expected 0 to 2**64 - 1")

    def steps(self, rows: int) -> int:
        """How many batches an epoch of so many rows has."""
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)


class Batches:
    """One epoch of batches; iterating again gives the same epoch again.

    Each item is ``(images, labels)``: images of the stored type (batch, H, W, C), labels int64
    (batch,).
    """

    def __init__(self, chunks: Sequence[Chunk], plan: Plan) -> None:
        self.chunks, self.plan = chunks, plan

    def __len__(self) -> int:
        return self.plan.steps(sum(chunk.stop - chunk.start for chunk in self.chunks))

    def __iter__(self) -> Iterator[Pair]:
        size = self.plan.batch_size
        images, labels = _NOTHING
        for window in windows(self.chunks, self.plan):
            images, labels = window if not len(labels) else _joined((images, labels), window)
            whole = len(labels) - len(labels) % size
            for start in range(0, whole, size):
                yield images[start : start + size], labels[start : start + size]
            images, labels = images[whole:], labels[whole:]
        if len(labels) and not self.plan.drop_last:
            yield images, labels


_NOTHING: Pair = (np.empty(0), np.empty(0, np.int64))


def _joined(first: Pair, second: Pair) -> Pair:
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def windows(chunks: Sequence[Chunk], plan: Plan) -> Iterator[Pair]:
    """The rows of an epoch in their order, a window of chunks at a time."""
    seed, epoch = plan.seed, plan.epoch
    if plan.shuffle:
        visit = permutation(len(chunks), seed=seed, epoch=epoch, purpose=Purpose.CHUNKS)
        chunks = [chunks[i] for i in visit]
    with store.reading() as files:
        for index, first in enumerate(range(0, len(chunks), WINDOW)):
            images, labels = _read(files, chunks[first : first + WINDOW])
            if plan.shuffle:
                mixed = permutation(
                    len(labels), seed=seed, epoch=epoch, purpose=Purpose.ROWS, index=index
                )
                images, labels = images[mixed], labels[mixed]
            yield images, labels


def _read(files: store.Files, chunks: Sequence[Chunk]) -> Pair:
    columns = [
        np.concatenate([files.rows(c.path, c.start, c.stop, name) for c in chunks])
        for name in ("images", "labels")
    ]
    return columns[0], columns[1]
