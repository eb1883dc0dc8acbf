"""The pseudo-random orders that are part of the format (data/FORMAT.md, "Random order").

NumPy's ``Generator`` methods may change between versions (NEP 19), the raw output of its bit
generators may not; so every order here is a stable argsort of raw Philox output.
"""

from collections.abc import Sequence
from enum import IntEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

MAX_SEED = 2**64 - 1


class Stream(IntEnum):
    """What an order is for: equal seeds give unrelated orders for different purposes."""

    RUNS = 1  # the order in which a shuffled epoch visits runs of neighbouring rows
    ROWS = 2  # the order of the rows within one window of runs
    SPLIT = 3  # which rows of a class go to the validation split
    SOURCE = 4  # the stored order of a source that comes sorted by class
    TEST = 5  # which rows of a class go to a test split that a source does not have


def permutation(
    n: int, *, seed: int, stream: Stream, epoch: int = 0, index: int = 0
) -> NDArray[np.int64]:
    """The permutation of ``range(n)`` for this seed, epoch, stream and index.

    Parameters
    ----------
    n : int
        How many elements.
    seed, epoch : int
        0 to 2**64 − 1; the two words of the Philox4x64-10 key.
    stream : Purpose
        The highest word of the counter's start.
    index : int
        0 to 2**64 − 1; the next word of the counter's start (a window's or a class's number).

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    counter = np.array([0, 0, index, stream], dtype=np.uint64)
    bits = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64), counter=counter)
    return np.argsort(bits.random_raw(n), kind="stable")


def rounded_share(rows: int, fraction: float) -> int:
    """``floor(fraction × rows + 1/2)``, the fraction taken as the decimal it is written as."""
    return int(_decimal(fraction) * rows + Fraction(1, 2))


def _decimal(fraction: float) -> Fraction:
    return Fraction(repr(float(fraction)))  # 0.1 is exactly one tenth here


def largest_remainder(counts: Sequence[int], fraction: float) -> list[int]:
    """How many of each class to take so that together they are ``fraction`` of all.

    Largest remainders: each class gives the whole part of its share; what is then missing from
    `whole_share` of them all comes, one row each, from the classes whose shares were cut most
    (the lower class first where equal).
    """
    wanted = [_decimal(fraction) * count for count in counts]
    taken = [int(share) for share in wanted]
    missing = rounded_share(sum(counts), fraction) - sum(taken)
    by_remainder = sorted(range(len(counts)), key=lambda i: (taken[i] - wanted[i], i))
    for i in by_remainder[:missing]:
        taken[i] += 1
    return taken


def stratified(
    labels: NDArray[np.int64], fraction: float, seed: int, stream: Stream = Stream.SPLIT
) -> NDArray[np.bool_]:
    """Which rows go to the validation or test split: the same share of every class, seeded.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        Classes, 0 or more.
    fraction : float
        0 to 1.
    seed : int
        0 to 2**64 − 1.
    stream : Purpose
        SPLIT or TEST.

    Returns
    -------
    ndarray of bool, shape (N,)
        True where the row is taken.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    counts = np.bincount(labels).tolist()
    for label, share in enumerate(largest_remainder(counts, fraction)):
        rows = np.flatnonzero(labels == label)
        mixed = permutation(len(rows), seed=seed, stream=stream, index=label)
        chosen[rows[mixed[:share]]] = True
    return chosen
