"""Splits of whole groups: none is divided, every class stays, shares are near, and seeded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelprep.numerics.grouping import grouped_mask
from pixelprep.numerics.permutation import Stream, rounded_share, stratified_mask

rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=80)
fractions = st.sampled_from([0.05, 0.1, 0.2, 1 / 3, 0.5, 0.9])


@given(rows, fractions, st.integers(0, 3))
def test_no_group_is_divided_and_every_class_keeps_a_row(
    pairs: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    """Whatever the rows: those of a group are all taken, or none; each class has one that stays."""
    labels, groups = (np.array(column) for column in zip(*pairs, strict=True))
    taken = grouped_mask(labels, groups, fraction, seed, Stream.TEST)
    assert not set(groups[taken]) & set(groups[~taken])
    assert set(labels[~taken]) == set(labels)


@given(rows, fractions, st.integers(0, 3))
def test_no_single_group_more_or_less_would_be_nearer(
    pairs: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    """The squared distance to the rows wanted of each class grows if any group is added or left."""
    labels, groups = (np.array(column) for column in zip(*pairs, strict=True))
    taken = grouped_mask(labels, groups, fraction, seed, Stream.VAL)
    wanted = np.bincount(labels[stratified_mask(labels, fraction, 0, Stream.VAL)], minlength=5)
    total = np.bincount(labels, minlength=5)

    def distance(mask: np.ndarray) -> int:
        return int(((np.bincount(labels[mask], minlength=5) - wanted) ** 2).sum())

    for group in set(groups):
        other = taken ^ (groups == group)
        if (np.bincount(labels[other], minlength=5)[total > 0] < total[total > 0]).all():
            assert distance(other) >= distance(taken)


def test_groups_of_one_row_give_the_exact_shares() -> None:
    """Where each row is a group, each class gives what it gives without groups."""
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    taken = grouped_mask(labels, np.arange(100), 0.25, 7, Stream.TEST)
    assert taken.sum() == rounded_share(100, 0.25)
    ungrouped = stratified_mask(labels, 0.25, 7, Stream.TEST)
    np.testing.assert_array_equal(np.bincount(labels[taken]), np.bincount(labels[ungrouped]))


@pytest.mark.parametrize("other", [{"seed": 1}, {"stream": Stream.VAL}])
def test_seed_and_purpose_choose_other_groups(other: dict[str, int]) -> None:
    """The same seed gives the same rows; another, or the same for validation, gives others."""
    labels, groups = np.arange(400) % 4, np.arange(400) // 8
    how = {"seed": 0, "stream": Stream.TEST}
    taken = grouped_mask(labels, groups, 0.2, **how)  # type: ignore[arg-type]
    again = grouped_mask(labels, groups, 0.2, **how)  # type: ignore[arg-type]
    different = grouped_mask(labels, groups, 0.2, **how | other)  # type: ignore[arg-type]
    assert taken.sum() == 80
    np.testing.assert_array_equal(taken, again)
    assert (taken != different).any()
