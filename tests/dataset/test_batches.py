"""Batches: every row once, shards that are disjoint, and passes that go on where they stood."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pixelprep
from pixelprep.dataset import batches, epoch
from pixelprep.dataset.entry import Entry
from tests.helpers.data import arrays
from tests.helpers.process import execute
from tests.helpers.reference import balanced_order, same

ROWS = 700


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of three chunks, so that little data has many of them."""
    for module in (batches, epoch):
        monkeypatch.setattr(module, "WINDOW_RUNS", 3)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Return images whose first pixels are their row number, in files of 45 rows."""
    rows = np.arange(ROWS, dtype=np.uint16)
    images = np.zeros((ROWS, 3, 2, 1), np.uint16)
    images[:, 0, 0, 0] = rows
    source = pixelprep.Arrays("rows", (images, rows % 5), (images[:9], rows[:9] % 5))
    cache = tmp_path_factory.mktemp("cache")
    return pixelprep.prepare(source, mode="center", shard_rows=45, cache_dir=cache)


def row_numbers(entry: Entry, images: np.ndarray) -> list[int]:
    """Return which rows a batch holds."""
    return [int(x) for x in entry.scaling.invert(images)[:, 0, 0, 0]]


def test_entries_and_splits_say_what_they_are(entry: Entry) -> None:
    """A notebook shows the splits, classes and folder."""
    rows, shape = len(entry.train), "×".join(map(str, entry.train.shape[1:]))
    said = f"{rows} images {shape} {entry.train.dtype}"
    assert repr(entry.train) == f"<Split train: {said}>"
    first, *_, classes, last = repr(entry).splitlines()
    assert first == f"<Entry {entry.dataset}, {entry.mode} per {entry.per}, key {entry.key}"
    assert f"  train {said}" in repr(entry)
    assert classes.startswith(f"  {len(entry.class_names)} classes: {entry.class_names[0]}, ")
    assert last == f"  {entry.path}>"


@given(st.data())
def test_resumed_batches_are_those_that_would_have_come(entry: Entry, data: st.DataObject) -> None:
    """From any point of any epoch, `resume` delivers the very rest, also through JSON."""
    count = data.draw(st.integers(1, 3))
    plan: dict[str, Any] = {
        "shuffle": data.draw(st.booleans()),
        "seed": data.draw(st.integers(0, 2**64 - 1)),
        "epoch": data.draw(st.integers(0, 5)),
        "drop_last": data.draw(st.booleans()),
        "shard": (data.draw(st.integers(0, count - 1)), count),
    }
    plan["balance"] = data.draw(st.sampled_from([None, "oversample"])) if plan["shuffle"] else None
    batches = entry.train.batches(data.draw(st.integers(1, 300)), **plan)
    whole = [(images.tobytes(), labels.tolist()) for images, labels in batches]
    stop = data.draw(st.integers(0, len(whole)))
    begun = iter(batches)
    for _ in range(stop):
        next(begun)
    state = json.loads(json.dumps(begun.state()))
    rest = [(images.tobytes(), labels.tolist()) for images, labels in batches.resume(state)]
    assert rest == whole[stop:]


def test_resuming_something_else_is_refused(entry: Entry) -> None:
    """A state of another seed, size, split or layout of the same rows, which is another order, is
    not taken; nor one of no batch that there is.
    """
    one, again = (pixelprep.prepare(arrays(100, 20), shard_rows=rows).train for rows in (30, 20))
    batches = one.batches(8, shuffle=True, seed=1)
    state = iter(batches).state()
    for other in (
        one.batches(8, shuffle=True, seed=2),
        one.batches(9, shuffle=True, seed=1),
        entry.test.batches(8, shuffle=True, seed=1),
        again.batches(8, shuffle=True, seed=1),
    ):
        with pytest.raises(pixelprep.UsageError, match="cannot resume"):
            other.resume(state)
    for batch in (-1, 14, 10**6, None):
        with pytest.raises(pixelprep.UsageError, match="batch"):
            batches.resume({**state, "batch": batch})
    with pytest.raises(pixelprep.UsageError, match="cannot resume"):
        batches.resume({})


@pytest.fixture(scope="module", params=["none", "gzip"])
def unequal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Return classes of 100, 7, 0 and 33 images, in files of 45 rows, plain and packed."""
    labels = np.repeat([0, 1, 3], [100, 7, 33])
    images = np.arange(140, dtype=np.uint16).reshape(140, 1, 1, 1)
    order = np.random.default_rng(0).permutation(140)
    source = pixelprep.Arrays("unequal", (images, labels[order]), class_names=tuple("abcd"))
    cache, packing = tmp_path_factory.mktemp("cache"), request.param
    return pixelprep.prepare(source, shard_rows=45, compression=packing, cache_dir=cache)


@given(st.integers(0, 2**64 - 1), st.integers(0, 3), st.integers(1, 200), st.integers(1, 4))
@example(0, 0, 64, 1)
def test_a_balanced_epoch_is_that_of_the_page(
    unequal: Entry, seed: int, epoch: int, size: int, shards: int
) -> None:
    """Every class comes as often as the largest, each row of it as often as any other or once more,
    in the order of data/FORMAT.md; the shards are its parts.
    """
    rows, labels = [], []
    for shard in range(shards):
        plan: dict[str, Any] = {
            "shuffle": True,
            "seed": seed,
            "epoch": epoch,
            "shard": (shard, shards),
        }
        batches = unequal.train.batches(size, balance="oversample", **plan)
        found = [(row_numbers(unequal, images), y.tolist()) for images, y in batches]
        assert len(batches) == len(found)
        rows += [row for images, _ in found for row in images]
        labels += [label for _, y in found for label in y]
    stored = unequal.train.labels.tolist()
    assert rows == balanced_order(stored, seed, epoch)
    assert labels == [stored[row] for row in rows]
    assert np.bincount(labels, minlength=4).tolist() == [100, 100, 0, 100]
    times = np.bincount(rows, minlength=140)
    for label in (0, 1, 3):
        own = times[np.array(stored) == label]
        assert own.max() - own.min() <= 1


def test_balance_needs_one_class_a_row_and_a_shuffled_epoch(entry: Entry) -> None:
    """Without these it means nothing, and is refused."""
    with pytest.raises(pixelprep.UsageError, match="expected a shuffled epoch"):
        entry.train.batches(8, balance="oversample")
    with pytest.raises(pixelprep.UsageError, match="expected one of oversample"):
        entry.train.batches(8, shuffle=True, balance="smote")  # type: ignore[arg-type]
    both = np.eye(2, dtype=np.uint8)[np.arange(20) % 2] | 1
    several = pixelprep.prepare(
        pixelprep.Arrays("several", (np.zeros((20, 2, 2, 1), np.uint8), both), task="multilabel")
    )
    with pytest.raises(pixelprep.UsageError, match="expected one class a row, found several"):
        several.class_weight()
    with pytest.raises(pixelprep.UsageError, match="expected one class a row, found several"):
        several.train.batches(8, shuffle=True, balance="oversample")


def test_class_weights_are_those_of_scikit_learn(unequal: Entry) -> None:
    """Balanced: n / (classes · n of the class), of the classes that train has."""
    from sklearn.utils.class_weight import compute_class_weight

    assert unequal.class_counts == {"train": (100, 7, 0, 33)}
    labels = unequal.train.labels
    classes = np.unique(labels)
    expected = compute_class_weight("balanced", classes=classes, y=labels)
    assert unequal.class_weight() == dict(zip(classes.tolist(), expected, strict=True))
    with pytest.raises(pixelprep.UsageError, match="expected one of balanced"):
        unequal.class_weight("even")


def test_batches_belong_to_who_took_them(entry: Entry) -> None:
    """A batch stays as it was while later ones are made, and may be changed."""
    taken = [(images, images.copy()) for images, _ in entry.train.batches(7, shuffle=True)]
    assert all((now == then).all() for now, then in taken)
    for images, _ in entry.train.batches(7):
        images += 1
    assert row_numbers(entry, entry.train.read(0, 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("compression", "dtype"), [("none", "float32"), ("gzip", "float16"), ("lzf", "float32")]
)
def test_every_way_of_storing_is_read_alike(compression: str, dtype: str) -> None:
    """Rows read past libhdf5 are those read through it, for every start and length; none, too."""
    source = arrays(30, 20)
    plain = pixelprep.prepare(source, dtype=dtype, per="image")
    other = pixelprep.prepare(
        source, dtype=dtype, per="image", compression=compression, shard_rows=7
    )
    whole = {name: plain.train.read(0, 30, name) for name in ("images", "labels", "mean", "std")}
    for start, stop in [(0, 30), (0, 1), (3, 5), (6, 22), (7, 14), (12, 12), (13, 29), (29, 30)]:
        for name, rows in whole.items():
            assert same(plain.train.read(start, stop, name), rows[start:stop])
            assert same(other.train.read(start, stop, name), rows[start:stop])


def test_a_changed_file_is_not_read(tmp_path: Path) -> None:
    """A file that was cut or written to after it was checked gives an error; made again with
    the same bytes (by `--force`) it is read.
    """
    entry = pixelprep.prepare(arrays())
    path = entry.train._files[0].path
    content = path.read_bytes()
    for change in (content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(change)
        with pytest.raises(pixelprep.EntryError, match="changed after it was checked"):
            entry.train.to_numpy()
    again = pixelprep.prepare(arrays())
    assert not again.cached
    assert (again.train.to_numpy()[0] == entry.train.to_numpy()[0]).all()
    pixelprep.prepare(arrays(), force=True)
    assert (again.train.to_numpy()[0] == entry.train.to_numpy()[0]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size=0`: expected 1 or more"),
        ({"batch_size": 64, "shuffle": "no"}, "`shuffle='no'`: expected True or False"),
        ({"batch_size": 64, "shard": (4, 4)}, r"`shard=\(4, 4\)`: expected an index below"),
        ({"batch_size": 1.5}, "`batch_size=1.5`: expected a whole number"),
        ({"batch_size": 1, "seed": -1}, "`seed=-1`: expected 0 to"),
        ({"batch_size": 1, "seed": 0.5}, "`seed=0.5`: expected a whole number"),
        ({"batch_size": 1, "epoch": 2**64}, "`epoch=18446744073709551616`: expected 0 to"),
        ({"batch_size": 1, "shard": (2, 2)}, "shard"),
        ({"batch_size": 1, "shard": (-1, 2)}, "shard"),
    ],
)
def test_impossible_plans_are_refused(entry: Entry, options: dict[str, Any], message: str) -> None:
    """Sizes, seeds and shards out of range are refused at the call, not in the loop."""
    with pytest.raises(pixelprep.UsageError, match=message):
        entry.train.batches(**options)


def test_no_descriptor_stays_open(entry: Entry) -> None:
    """A pass closes its files, finished or broken off; more than 32 files are no trouble."""
    entry.train.to_numpy()
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - a count
    for _ in entry.train.batches(64, shuffle=True):
        pass
    for _ in entry.train.batches(64, shuffle=True):
        break
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208 - a count


def test_a_pass_goes_on_after_a_fork() -> None:
    """A forked process that takes over a pass gets the batches that would have come."""
    whole = [labels.tolist() for _, labels in pixelprep.prepare(arrays(900)).train.batches(64)]
    code = (
        "import os, sys, pixelprep\n"
        "passing = iter(pixelprep.open(sys.argv[1]).train.batches(64)); next(passing)\n"
        "if os.fork() == 0:\n"
        "    print([labels.tolist() for _, labels in passing], flush=True); os._exit(0)\n"
        "os.wait()"
    )
    path = str(pixelprep.prepare(arrays(900)).path)
    command = [sys.executable, "-W", "ignore", "-c", code, path]
    done = execute(command)
    assert done.stdout == f"{whole[1:]}\n", done.stderr


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_split_that_there_is_not_says_how_to_take_one(name: str) -> None:
    """`Entry.val` and `Entry.test` raise where there is none; `splits` has those that there are."""
    (images, labels) = arrays().train
    entry = pixelprep.prepare(pixelprep.Arrays("alone", (images, labels)), quiet=True)
    assert (list(entry.splits), entry.held_out) == (["train"], None)
    with pytest.raises(pixelprep.UsageError, match=f"has no {name} split") as caught:
        getattr(entry, name)
    assert f"`{name}_fraction=" in str(caught.value.hint)
