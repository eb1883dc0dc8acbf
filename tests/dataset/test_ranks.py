"""Processes that train together: their ranks, and how they go on when their number changes."""

import json
import sys
from collections.abc import Iterator
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset import batches as module
from pixelprep.dataset.ranks import process_rank
from tests.dataset.test_shards import numbered

LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what a launcher or a framework says of this process."""
    for name in (name for pair in LAUNCHERS for name in pair):
        monkeypatch.delenv(name, raising=False)
    for name in ("torch.distributed", "jax"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def framework(monkeypatch: pytest.MonkeyPatch, name: str, index: int, count: int) -> None:
    """Let a framework's processes know each other."""
    one = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True)
    one.distributed, one.get_rank, one.get_world_size = one, lambda: index, lambda: count
    one.process_index, one.process_count = one.get_rank, one.get_world_size
    monkeypatch.setitem(sys.modules, name, one)


@pytest.mark.parametrize("names", LAUNCHERS, ids=str)
def test_a_launcher_says_the_rank(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables decide, and one line says which; without any, the process is alone."""
    with pytest.warns(pixelprep.PixelprepWarning, match="all rows: this process is no part of"):
        assert process_rank() == (0, 1)
    for name, value in zip(names, "25", strict=True):
        monkeypatch.setenv(name, value)
    with pytest.warns(pixelprep.PixelprepWarning, match=f"shard 2 of 5, by {' and '.join(names)}"):
        assert process_rank() == (2, 5)


@pytest.mark.parametrize("name", ["torch.distributed", "jax"])
def test_a_framework_knows_better(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework whose processes know each other is asked, in silence, and not the launcher."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    framework(monkeypatch, name, 1, 3)
    assert process_rank() == (1, 3)


def test_contradictions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two frameworks, or launchers that cannot be one in the other, name the ranks that they say;
    a node of the cluster that launches several processes is no contradiction.
    """
    framework(monkeypatch, "torch.distributed", 1, 3)
    framework(monkeypatch, "jax", 1, 4)
    said = "1 of 3 by torch.distributed and 1 of 4 by jax.distributed"
    with pytest.raises(pixelprep.UsageError, match=said):
        process_rank()
    for name in ("torch.distributed", "jax"):
        monkeypatch.delitem(sys.modules, name)
    for (rank, world), agree in {(5, 8): True, (2, 4): False, (0, 1): False, (1, 4): True}.items():
        for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
            monkeypatch.setenv(name, str(value))
        for name, value in (("SLURM_PROCID", 1), ("SLURM_NTASKS", 4)):
            monkeypatch.setenv(name, str(value))
        if agree:
            with pytest.warns(pixelprep.PixelprepWarning, match="by RANK and WORLD_SIZE"):
                assert process_rank() == (rank, world)
        else:
            with pytest.raises(pixelprep.UsageError, match="1 of 4 by SLURM_PROCID"):
                process_rank()


@pytest.mark.parametrize("rank", [None, "", "first"])
def test_half_of_a_rank_is_refused(rank: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lightning's processes have it before they know each other, a world without a rank."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(pixelprep.UsageError, match=f"RANK={rank}, WORLD_SIZE=2: expected"):
        process_rank()


def test_ranks_are_equal_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """With "auto" all shards have as many rows, unless the call says something else."""
    split = numbered(50)
    framework(monkeypatch, "torch.distributed", 1, 4)
    for even, rows in (("drop", 12), ("pad", 13), (None, 13)):
        options: dict[str, Any] = {} if even == "drop" else {"even": even}
        found = split.batches(5, shard="auto", **options)
        wanted: dict[str, Any] = {"shard": (1, 4), "even": even}
        assert found.state(0) == split.batches(5, **wanted).state(0)
        assert found.rows == rows or even is None


def labels_of(batches: Any) -> list[list[int]]:
    """Return the labels of each batch, which are the numbers of its rows."""
    return [labels.tolist() for _, labels in batches]


@pytest.mark.parametrize("large_row", [1, 1 << 30])
@pytest.mark.parametrize("plan", [{}, {"drop_last": True}, {"balance": "oversample"}], ids=str)
def test_workers_deliver_every_so_many_batches(
    plan: dict[str, Any], large_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turn, they give the very batches of the pass, from its start or from any state, whether
    rows are read in windows or alone.
    """
    monkeypatch.setattr(module, "LARGE_ROW", large_row)
    batches = numbered(430).batches(16, shuffle=True, seed=2, **plan)
    whole = labels_of(batches)
    for done in (0, 5, len(whole)):
        for workers in (1, 2, 3, 40):
            state = batches.state(done)
            lanes = [batches.part(state, (w, workers)) for w in range(workers)]
            assert sum(map(len, lanes)) == len(whole) - done
            turns = zip_longest(*map(labels_of, lanes))
            assert [b for turn in turns for b in turn if b is not None] == whole[done:]


def dealt(left: list[Any], world: int, even: str | None) -> list[list[Any]]:
    """Deal what is left as cards are dealt, in rounds; the last one whole, or short, or none."""
    rounds = [left[i : i + world] for i in range(0, len(left), world)]
    if rounds and len(rounds[-1]) < world and even:
        missing = world - len(rounds.pop())
        cards = left * world
        rounds += [cards[len(left) - world + missing :][:world]] if even == "pad" else []
    return [[turn[rank] for turn in rounds if rank < len(turn)] for rank in range(world)]


@pytest.mark.parametrize("even", [None, "drop", "pad"])
@pytest.mark.parametrize("worlds", [(4, 2), (4, 3), (4, 1), (1, 3), (2, 5), (4, 3, 2), (3, 3, 4)])
def test_another_number_of_processes_goes_on(worlds: tuple[int, ...], even: str | None) -> None:
    """What the old shards left, step by step and in each step rank by rank, is dealt to the new
    ones in turn, after every change of their number: every row once (`drop`: but the last steps,
    which not all have; `pad`: some twice). Any rank's state will do, also after JSON.
    """
    split = numbered(331)
    plan: dict[str, Any] = {"shuffle": True, "seed": 4, "epoch": 1, "even": even}
    first, *others = worlds

    def of(world: int) -> Iterator[Any]:
        return (split.batches(8, shard=(rank, world), **plan) for rank in range(world))

    passes = [iter(batches) for batches in of(first)]
    steps = zip_longest(*(labels_of(batches) for batches in of(first)))
    left = [batch for step in steps for batch in step if batch is not None]
    for done, world in enumerate(others, 2):
        left = left[len(passes) * done :]
        for passing in passes:
            for _ in range(done):
                next(passing)
        shards = dealt(left, world, even)
        state = json.loads(json.dumps(passes[-1].state()))
        passes = [batches.resume(state) for batches in of(world)]
        assert [len(passing) for passing in passes] == list(map(len, shards))
    assert [labels_of(passing) for passing in passes] == shards
    rows = np.bincount(np.concatenate([b for shard in shards for b in shard]))
    assert rows.max() == 1 or even == "pad"


def test_states_of_no_such_batch_are_refused() -> None:
    """Of another number of shards, too, a state has a batch that there is."""
    batches = numbered(100).batches(8)
    state = {**batches.state(0), "shard": [1, 3]}
    assert len(batches.resume({**state, "batch": 5})) == 0
    for wrong in ({"batch": 6}, {"batch": None}, {"shard": [3, 3]}, {"shard": None}):
        with pytest.raises(pixelprep.UsageError):
            batches.resume({**state, **wrong})
