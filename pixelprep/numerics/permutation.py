"""Make the pseudo-random orders that are part of the format (data/FORMAT.md, "Random order").

NumPy's ``Generator`` methods may change between versions (NEP 19), but the raw output of its bit
generators may not; so every order here is a stable argsort of raw Philox output.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from pixelprep.numerics.lazy import np

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

MAX_SEED = 2**64 - 1


class Stream(IntEnum):
    """The purposes of an order: equal seeds give unrelated orders in different streams."""

    RUNS = 1  # the order in which a shuffled epoch visits runs of neighbouring rows
    ROWS = 2  # the order of the rows within one window of runs
    VAL = 3  # which rows of a class go to the validation split
    SOURCE = 4  # the stored order of a source that comes sorted by class
    TEST = 5  # which rows of a class go to a test split that a source does not have
    OVERSAMPLE = 6  # which rows of a class come once more than others in a balanced epoch
    BALANCED = 7  # the order of the rows of a balanced epoch


def permutation(
    n: int, *, seed: int, stream: Stream, epoch: int = 0, index: int = 0
) -> NDArray[np.int64]:
    """Return the permutation of ``range(n)`` for this seed, epoch, stream and index: int64, (n,).

    Seed and epoch are the two words of the Philox4x64-10 key, the stream is the highest word of the
    initial counter, and the index (a window's or a class's number) the next; 0 to 2**64 − 1 each.
    """
    counter = np.array([0, 0, index, stream], dtype=np.uint64)
    bits = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64), counter=counter)
    return stable_argsort(bits.random_raw(n))


def stable_argsort(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Sort keys, (n,), of which few are equal in their high bits: NumPy's `sort` is vectorized.

    Each key's low bits make room for its number. Where the others do not tell two apart, all of
    them are sorted as a whole.
    """
    low = np.uint64((1 << len(keys).bit_length()) - 1)
    numbered = np.sort(keys & ~low | np.arange(len(keys), dtype=np.uint64))
    high = numbered & ~low
    if (high[1:] == high[:-1]).any():
        return np.argsort(keys, kind="stable")
    return (numbered & low).view(np.int64)


def rounded_share(rows: int, fraction: float) -> int:
    """Return ``floor(fraction × rows + 1/2)``, reading the fraction as it is written in decimal."""
    from fractions import Fraction  # most recipes take no share

    return int(_decimal(fraction) * rows + Fraction(1, 2))


def _decimal(fraction: float) -> Fraction:
    from fractions import Fraction

    return Fraction(repr(float(fraction)))  # 0.1 is exactly one tenth here


def largest_remainder(counts: Sequence[int], fraction: float) -> list[int]:
    """Return how many rows of each class to take for `fraction` of all rows together.

    Each class gives the whole part of its quota. What is then missing from `rounded_share` of all
    rows comes, one row each, from the classes that keep another, those with the largest remainders
    first (the lower class where equal), and so on again. Where no class has two rows left, the
    last ones are taken.
    """
    quotas = [_decimal(fraction) * count for count in counts]
    taken = [int(quota) for quota in quotas]
    missing = rounded_share(sum(counts), fraction) - sum(taken)
    by_remainder = sorted(range(len(counts)), key=lambda i: (taken[i] - quotas[i], i))
    for kept in (1, 0):
        while giving := [i for i in by_remainder if taken[i] + kept < counts[i]][:missing]:
            for i in giving:
                taken[i] += 1
            missing -= len(giving)
    return taken


def stratified_mask(
    labels: NDArray[np.int64], fraction: float, seed: int, stream: Stream
) -> NDArray[np.bool_]:
    """Select the same share of every class at random: a mask (N,) from labels (N,), 0 or more."""
    selected = np.zeros(len(labels), dtype=bool)
    class_counts = np.bincount(labels).tolist()
    for label, count in enumerate(largest_remainder(class_counts, fraction)):
        rows = np.flatnonzero(labels == label)
        order = permutation(len(rows), seed=seed, stream=stream, index=label)
        selected[rows[order[:count]]] = True
    return selected
