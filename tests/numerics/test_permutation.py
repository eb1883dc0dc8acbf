"""The random orders of the format and the batches made of them, against a plain Philox."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pixelprep import Arrays, Split, prepare
from pixelprep.format.reader import MAX_OPEN_FILES
from pixelprep.numerics.permutation import (
    MAX_SEED,
    Stream,
    largest_remainder,
    permutation,
    rounded_share,
    stable_argsort,
    stratified_mask,
)
from tests.helpers import reference

words = st.one_of(st.integers(0, 9), st.integers(0, MAX_SEED), st.just(MAX_SEED))
purposes = st.sampled_from(Stream)
fractions = st.one_of(
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 999).map(lambda thousandths: thousandths / 1000),
)


# The permutation


def test_philox_gives_the_published_numbers() -> None:
    """Random123's known answers for Philox4x64-10: all bits zero, all one, the digits of π."""
    ones = reference.WORD
    assert reference.philox([0, 0, 0, 0], (0, 0)) == (
        *(0x16554D9ECA36314C, 0xDB20FE9D672D0FDC),
        *(0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    )
    assert reference.philox([ones] * 4, (ones, ones)) == (
        *(0x87B092C3013FE90B, 0x438C3C67BE8D0224),
        *(0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    )
    pi = [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89]
    assert reference.philox(pi, (0x452821E638D01377, 0xBE5466CF34E90C6C)) == (
        *(0xA528F45403E61D95, 0x38C72DBD566E9788),
        *(0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    )


@given(st.integers(0, 300), words, words, purposes, words)
@example(0, 0, 0, Stream.RUNS, 0)
@example(1, 0, 0, Stream.ROWS, MAX_SEED)
@example(4, MAX_SEED, MAX_SEED, Stream.SOURCE, MAX_SEED)
def test_a_permutation_is_a_stable_sort_of_philox(
    n: int, seed: int, epoch: int, purpose: Stream, index: int
) -> None:
    """NumPy's raw output, sorted, is that of the generator written out in plain Python."""
    found = permutation(n, seed=seed, epoch=epoch, stream=purpose, index=index)
    assert found.tolist() == reference.permutation(n, seed, epoch, purpose, index)
    assert sorted(found.tolist()) == list(range(n))


@given(st.lists(st.one_of(st.integers(0, 20), words, st.just(1 << 40)), max_size=60))
def test_keys_that_are_alike_are_sorted_stably(keys: list[int]) -> None:
    """Equal keys, and those equal in all but their low bits, come in the order of a stable sort."""
    expected = sorted(range(len(keys)), key=keys.__getitem__)
    assert stable_argsort(np.array(keys, np.uint64)).tolist() == expected


def test_purposes_are_the_numbers_of_the_page() -> None:
    """1 runs, 2 rows of a window, 3 validation, 4 a sorted source, 5 a test split; of a balanced
    epoch 6 the rows of a class, 7 all.
    """
    numbers = {purpose.name: purpose.value for purpose in Stream}
    known = {"RUNS": 1, "ROWS": 2, "VAL": 3, "SOURCE": 4, "TEST": 5}
    assert numbers == known | {"OVERSAMPLE": 6, "BALANCED": 7}


# The validation split

counts_of_classes = st.lists(st.integers(0, 400), min_size=1, max_size=30)


@given(counts_of_classes, fractions)
@example([10, 10, 10], 0.15)
@example([5, 5], 0.1)
@example([1] * 10, 0.45)
@example([100], 0.29)  # 0.29 × 100 is 28.999999999999996 in float64
def test_shares_add_up_and_are_fair(counts: list[int], fraction: float) -> None:
    """Together floor(f·n + ½); of each class less than one row more or less than its share, but
    where a class would lose its last row: that stays, unless all classes are down to one.
    """
    f = Fraction(repr(fraction))
    found = largest_remainder(counts, fraction)
    assert sum(found) == math.floor(f * sum(counts) + Fraction(1, 2))
    assert sum(found) == rounded_share(sum(counts), fraction)
    keeps = all(share < count for share, count in zip(found, counts, strict=True) if count)
    assert keeps == (sum(found) <= sum(count - 1 for count in counts if count))
    whole = [math.floor(f * count) for count in counts]
    may_differ = any(0 < count <= least + 1 for count, least in zip(counts, whole, strict=True))
    for share, count in zip(found, counts, strict=True):
        assert may_differ or abs(share - f * count) < 1
        assert 0 <= share <= count
    assert found == reference.class_shares(counts, fraction)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=300), fractions, words)
def test_stratified_takes_the_rows_of_the_page(
    labels: list[int], fraction: float, seed: int
) -> None:
    """The rows are those of the reference; every class gives its share."""
    array = np.array(labels, np.int64)
    taken = stratified_mask(array, fraction, seed, Stream.VAL)
    assert taken.dtype == np.bool_
    expected = reference.taken_rows(array, max(labels) + 1, fraction, seed, 3)
    assert np.flatnonzero(taken).tolist() == expected
    counts = np.bincount(array)
    of_each = np.bincount(array[taken], minlength=len(counts))
    assert of_each.tolist() == largest_remainder(counts.tolist(), fraction)


# Batches


@contextmanager
def numbered(rows: int, shard_rows: int | None = None) -> Iterator[Split]:
    """Provide a prepared split whose image i is the number i, its label i mod 7."""
    images = np.arange(rows, dtype=np.uint16).reshape(rows, 1, 1, 1)
    pair = (images, np.arange(rows) % 7)
    with TemporaryDirectory() as cache:
        yield prepare(
            Arrays("numbered", pair, (images[:1], pair[1][:1])),
            mode="normalize",
            shard_rows=shard_rows,
            cache_dir=cache,
            quiet=True,
        ).train


def delivered(split: Split, size: int, **plan: object) -> list[list[int]]:
    """Return the numbers of the rows in each batch of an epoch."""
    batches = split.batches(size, **plan)  # type: ignore[arg-type]
    found = []
    for images, labels in batches:
        rows = np.rint(images.astype(np.float64).reshape(-1) * 65535).astype(int)
        assert images.dtype == np.float32
        assert images.shape == (len(labels), 1, 1, 1)
        assert labels.dtype == np.int64
        assert np.array_equal(labels, rows % 7)
        found.append(rows.tolist())
    assert len(batches) == len(found)
    return found


def cut(rows: list[int], size: int, drop_last: bool) -> list[list[int]]:
    """Return rows in batches, from the start."""
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches[:-1] if drop_last and batches and len(batches[-1]) < size else batches


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int | None, int]:
    """Rows, rows a file (at most 12 files) and rows a run (at most some 150 runs)."""
    rows = draw(st.one_of(st.integers(1, 40), st.integers(1, 2000)))
    shard_rows = draw(st.none() | st.integers(max(1, -(-rows // 12)), rows))
    run_rows = draw(st.integers(max(1, rows // 150), rows))
    return rows, shard_rows, run_rows


@given(layouts(), st.integers(1, 2100), words, words, st.booleans(), st.integers(1, 5))
@example((67, None, 2), 4, 0, 0, False, 1)  # 34 runs: two windows, the last part has no second run
@example((1, None, 1), 1, 0, 0, True, 2)
@example((2000, 170, 13), 64, 1, 2, True, 3)
def test_batches_are_the_rows_of_the_page(
    layout: tuple[int, int | None, int],
    size: int,
    seed: int,
    epoch: int,
    drop_last: bool,
    shards: int,
) -> None:
    """Shuffled, each row comes once in the reference's order; else in file order.

    Whatever the number of rows, files, runs, windows and shards and the size of a batch; the
    length is right; a last batch of fewer rows is left out on demand only.
    """
    rows, shard_rows, run_rows = layout
    files = reference.file_rows(rows, shard_rows or rows)
    with numbered(rows, shard_rows) as stored:
        for split in (stored, replace(stored, _run_rows=run_rows)):
            every = []
            for shard in ((index, shards) for index in range(shards)):
                mixed = reference.epoch_order(files, split._run_rows, seed, epoch, shard)
                plan = {"seed": seed, "epoch": epoch, "drop_last": drop_last, "shard": shard}
                assert delivered(split, size, shuffle=True, **plan) == cut(mixed, size, drop_last)
                every += mixed
            assert sorted(every) == list(range(rows))
            plain = delivered(split, size, drop_last=drop_last)
            assert plain == cut(list(range(rows)), size, drop_last)


@pytest.mark.parametrize(("compression", "rows", "run"), [("lzf", 130, 4), ("none", 34, 1)])
def test_runs_of_the_real_size(compression: str, rows: int, run: int) -> None:
    """Images of 256 KiB lie 4 to a chunk: a quarter of it is a run, all of it when compressed."""
    images = np.empty((rows, 256, 512, 1), np.uint8)
    images[:] = np.arange(rows).reshape(-1, 1, 1, 1)
    pair = (images, np.arange(rows))
    source = Arrays("large", pair, (images[:1], pair[1][:1]))
    split = prepare(
        source, mode="center", dtype="float16", compression=compression, quiet=True
    ).train
    assert split._run_rows == run
    found = [row for _, labels in split.batches(8, shuffle=True, seed=5) for row in labels]
    assert found == reference.epoch_order([rows], run, 5, 0)
    assert sorted(found) == list(range(rows))


def test_a_shuffled_epoch_mixes_the_whole_split() -> None:
    """Rows move as far as in a full permutation, and neighbours seldom stay in one batch.

    In a full permutation a row moves by a third of all rows on average; of two neighbours in a
    run, 63 of 2,047 are in one batch of 64. A batch of rows sorted by ten classes has of each
    class what a random sample of 64 has: a tenth, give or take 3.75 percentage points.
    """
    rows = 30_000
    with numbered(rows) as stored:
        split = replace(stored, _run_rows=64)
        epoch = [np.array(b) for b in delivered(split, 64, shuffle=True, seed=1, drop_last=True)]
    order = np.concatenate(epoch)
    assert 0.31 < np.abs(order - np.arange(len(order))).mean() / rows < 0.36
    batch = np.full(rows, -1)
    batch[order] = np.arange(len(order)) // 64
    assert 0.02 < (batch[1:] == batch[:-1]).mean() < 0.04
    shares = np.array([np.bincount(b * 10 // rows, minlength=10) / 64 for b in epoch])
    assert 0.03 < np.sqrt(((shares - 0.1) ** 2).mean()) < 0.045


def test_more_files_than_are_held_open() -> None:
    """A split of more files than are open at once still gives every row, shuffled or not."""
    rows = MAX_OPEN_FILES + 5
    with numbered(rows, 1) as split:
        assert delivered(split, rows) == [list(range(rows))]
        assert delivered(split, rows, shuffle=True) == [reference.epoch_order([1] * rows, 1, 0, 0)]
