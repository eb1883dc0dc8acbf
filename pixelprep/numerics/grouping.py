"""Take a split of whole groups: none of them is divided (data/FORMAT.md, section 5)."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pixelprep.numerics.permutation import Stream, largest_remainder, permutation


def grouped_mask(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, seed: int, stream: Stream
) -> NDArray[np.bool_]:
    """Select whole groups at random whose rows are near the same share of every class.

    Parameters
    ----------
    labels, groups : ndarray of int64, (N,)
        The class and the group of each row, each 0 or more.
    fraction : float
        The share of all rows to select.
    seed : int
        0 to 2**64 − 1.
    stream : Stream
        What the split is for.

    Returns
    -------
    ndarray of bool, (N,)
        The selected rows. Every class keeps a row that is not.
    """
    found, of_row = np.unique(groups, return_inverse=True)
    classes = int(labels.max()) + 1
    pairs, counts = np.unique(of_row * classes + labels, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(len(found) + 1) * classes).tolist()
    columns = (pairs % classes).tolist()
    total = np.bincount(labels, minlength=classes).tolist()
    over = [-count for count in largest_remainder(total, fraction)]  # selected less wanted
    room = [count - 1 for count in total]  # what may be selected still
    selected = np.zeros(len(found), bool)
    order = permutation(len(found), seed=seed, stream=stream, index=len(total)).tolist()
    cells = [
        list(zip(columns[a:b], counts[a:b].tolist(), strict=True)) for a, b in pairwise(starts)
    ]
    changed = True
    while changed:  # each change lessens the sum of squares of `over`, so it ends
        changed = False
        for group in order:
            sign = -1 if selected[group] else 1
            if sign > 0 and any(count > room[c] for c, count in cells[group]):
                continue
            if sum(count * (count + 2 * sign * over[c]) for c, count in cells[group]) < 0:
                for c, count in cells[group]:
                    over[c] += sign * count
                    room[c] -= sign * count
                selected[group], changed = not selected[group], True
    return selected[of_row]
