"""Rows read in threads, a step ahead: the same rows, in memory that is used again."""

import shutil
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep import Arrays
from pixelprep.dataset import batches as module
from pixelprep.dataset.memory import ALIGNMENT, LARGE_BYTES, Recycler
from tests.helpers.data import content
from tests.helpers.recipes import pair

PLANS: list[dict[str, Any]] = [
    {},
    {"shuffle": True, "seed": 3},
    {"shuffle": True, "drop_last": True, "epoch": 2},
    {"shuffle": True, "shard": (1, 3), "even": "pad"},
    {"shuffle": True, "balance": "oversample"},
    {"shuffle": True, "raw": True},
]


@pytest.mark.parametrize("options", PLANS, ids=str)
@pytest.mark.parametrize("storage", ["scaled", "raw"])
def test_rows_read_by_themselves_are_those_of_windows(
    options: dict[str, Any], storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether rows are read alone or in windows, a pass gives the same batches, resumed too."""
    source = Arrays("numbers", pair(700, "uint8"), pair(15, "uint8"))
    entry = pixelprep.prepare(source, shard_rows=300, storage=storage, per="image", quiet=True)
    found = []
    for large_row in (1, 1 << 30):
        monkeypatch.setattr(module, "LARGE_ROW", large_row)
        plan = entry.train.batches(48, **options)
        assert plan.reads_rows == (large_row == 1)
        stream = iter(plan)
        begun = [next(stream) for _ in range(3)]
        found.append(content(begun) + content(plan.resume(stream.state())))
    assert found[0] == found[1]


@pytest.mark.parametrize("storage", ["scaled", "raw"])
@pytest.mark.parametrize("options", [{}, {"raw": True}, {"drop_last": True}])
def test_batches_mixed_at_once_are_those_mixed_one_by_one(
    storage: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many batches are parts of one array changes no bit of any, also after a resumption."""
    images = np.random.default_rng(2).integers(0, 256, (700, 5, 3, 3), np.uint8)
    source = Arrays("pieces", (images, np.arange(700) % 10))
    train = pixelprep.prepare(source, storage=storage, quiet=True).train
    found = []
    for size in (1, 6000, module.PIECE_BYTES):  # one batch, several, all
        monkeypatch.setattr(module, "PIECE_BYTES", size)
        plan = train.batches(48, shuffle=True, **options)
        stream = iter(plan)
        begun = [next(stream) for _ in range(3)]
        found.append(content(begun) + content(stream))
        assert found[-1] == content(begun) + content(plan.resume({**plan.state(0), "batch": 3}))
        assert len(begun[0][0]) == 48
    assert found[0] == found[1] == found[2]


def test_memory_is_used_again_when_nobody_holds_it() -> None:
    """A large array's memory comes back with the last view of it, and never before."""
    memory, shape = Recycler(), (LARGE_BYTES // 8, 8)
    first = memory.empty(shape, np.dtype(np.uint8))
    place = first.ctypes.data
    assert place % ALIGNMENT == 0
    row = first[3].reshape(2, 4)[1]
    row[:] = 7
    del first
    second = memory.empty(shape, np.dtype(np.uint8))
    assert second.ctypes.data != place
    second[:] = 0
    assert row.tolist() == [7] * 4
    del row
    assert memory.empty(shape, np.dtype(np.uint8)).ctypes.data == place


def test_batches_that_are_kept_stay_as_they_are() -> None:
    """Large batches that a user keeps are not filled again by later ones."""
    images = np.random.default_rng(1).integers(0, 256, (300, 128, 128, 1), np.uint8)
    source = Arrays("large", (images, np.arange(300) % 10))
    entry = pixelprep.prepare(source, quiet=True)
    for storage in ("scaled", "raw"):
        train = pixelprep.prepare(source, storage=storage, quiet=True).train
        kept = list(train.batches(90))
        assert kept[0][0].nbytes >= LARGE_BYTES
        assert (np.concatenate([x for x, _ in kept]) == entry.scaling.apply(images)).all()


def test_an_entry_that_is_gone_is_told_as_such() -> None:
    """A new pass over an entry that was removed says so, once, and what brings it back."""
    entry = pixelprep.prepare(Arrays("numbers", pair(40, "uint8"), pair(15, "uint8")), quiet=True)
    shutil.rmtree(entry.path)
    with pytest.raises(pixelprep.EntryError) as caught:
        list(entry.train.batches(8))
    assert caught.value.hint == "prepare the dataset again"
    assert str(caught.value).startswith(f"{entry.path / 'train.h5'}: the file is gone")
