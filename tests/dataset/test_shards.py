"""Shards: every row once, or as many batches in each shard, as distributed training needs."""

from collections import Counter

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.epoch import EVEN, BatchConfig, shard_rows
from tests.helpers.data import arrays


def numbered(rows: int) -> pixelprep.Split:
    """Return a train split in several files whose labels are the numbers of the rows."""
    images = np.zeros((rows, 40, 40, 3), np.uint8)
    labels = np.arange(rows)
    source = pixelprep.Arrays("rows", (images, labels))
    return pixelprep.prepare(source, quiet=True, shard_rows=max(1, rows // 3)).train


def test_the_rule_holds_for_every_number_of_shards_rows_and_batches() -> None:
    """1 to 16 shards of 0 to 300 rows, in batches of 1 to 70: without `even` they have every row
    once; with it, equal numbers of rows and of batches, each row at most once (`drop`) or at least
    once (`pad`), and no more rows left out, or repeated, than must be.
    """
    for count in range(1, 17):
        for rows in range(301):
            parts = [shard_rows(rows, (i, count), None) for i in range(count)]
            assert [row for part in parts for r in part for row in r] == list(range(rows))
            for even in EVEN:
                shards = [shard_rows(rows, (i, count), even) for i in range(count)]
                (size,) = {sum(map(len, shard)) for shard in shards}
                seen = np.bincount(
                    [row for shard in shards for r in shard for row in r], None, rows
                )
                assert len(seen) == rows
                if even == "drop":
                    assert size == rows // count
                    assert not (seen > 1).any()
                else:
                    assert size == -(-rows // count)
                    assert (seen > 0).all()


@pytest.mark.parametrize("drop_last", [False, True])
def test_equal_rows_are_equal_batches(drop_last: bool) -> None:
    """The number of batches is a function of rows and batch size alone."""
    for size in range(1, 71):
        steps = BatchConfig(size, drop_last=drop_last).steps
        for rows in range(301):
            assert steps(rows) == len(range(0, rows, size)) - (drop_last and rows % size > 0)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("even", [None, *EVEN])
@pytest.mark.parametrize(("rows", "count"), [(500, 3), (500, 16), (7, 4), (2, 5), (130, 1)])
def test_shards_deliver_what_the_rule_says(
    rows: int, count: int, even: str | None, shuffle: bool
) -> None:
    """Read from files, the shards of an epoch have the rows that the rule gives them, in order
    without shuffling; their lengths are those that they tell.
    """
    split = numbered(rows)
    found, lengths = [], set()
    for i in range(count):
        options = {"shuffle": shuffle, "seed": 5, "epoch": 2, "shard": (i, count), "even": even}
        batches = split.batches(16, **options)  # type: ignore[arg-type] # of one TypedDict
        labels = [labels.tolist() for _, labels in batches]
        assert len(labels) == len(batches)
        lengths.add(len(batches))
        found.append([label for batch in labels for label in batch])
    seen = Counter(label for shard in found for label in shard)
    if even is None:
        assert seen == Counter(range(rows))
    else:
        assert len(lengths) == 1
        assert max(seen.values(), default=1) == 1 if even == "drop" else len(seen) == rows
    if not shuffle:
        expected = [
            [row for r in shard_rows(rows, (i, count), even) for row in r] for i in range(count)
        ]
        assert found == expected


def test_a_shard_of_a_shuffled_epoch_resumes() -> None:
    """A state saved in the middle of a padded shard continues with the very batches."""
    split = numbered(300)
    options = {"shuffle": True, "seed": 3, "shard": (2, 7), "even": "pad"}
    whole = [labels.tolist() for _, labels in split.batches(4, **options)]  # type: ignore[arg-type]
    batches = split.batches(4, **options)  # type: ignore[arg-type]
    one = iter(batches)
    first = [next(one)[1].tolist() for _ in range(5)]
    rest = [labels.tolist() for _, labels in batches.resume(one.state())]
    assert first + rest == whole


def test_even_is_one_of_its_values() -> None:
    """Another value is refused by name."""
    train = pixelprep.prepare(arrays(), quiet=True).train
    with pytest.raises(pixelprep.UsageError, match="unknown `even` 'both'"):
        train.batches(4, even="both")  # type: ignore[arg-type] # on purpose
