"""Passes over a feed, whichever processes make them, and TensorFlow's from a state."""

import json
import pickle
from typing import Any

import pytest

import pixelprep
from pixelprep.dataset.passes import PassLog
from tests.dataset.test_ranks import labels_of
from tests.dataset.test_shards import numbered


def test_workers_agree_on_their_passes() -> None:
    """The passes of the same workers have one number each, whoever comes first, and in whatever
    order others begin; every other pass is another epoch.
    """
    log = PassLog(7)
    one, two, late = (pickle.loads(pickle.dumps(log)) for _ in range(3))
    assert log.is_empty()
    assert one.begin("a") == (7, None)
    assert two.begin("b") == (8, None)
    assert one.begin("b") == (8, None)
    assert one.begin("a") == (9, None)
    assert [late.begin(name) for name in "aab"] == [(7, None), (9, None), (10, None)]
    assert not log.is_empty()


def test_a_pass_goes_on_where_it_is_told_to() -> None:
    """All workers of the next pass, kept ones, too, have the epoch and the state that were given;
    the passes after it are the next epochs.
    """
    log = PassLog(0)
    kept = pickle.loads(pickle.dumps(log))
    assert kept.begin("a") == (0, None)
    log.go_on(5)
    assert kept.begin("a") == (5, None)
    log.go_on(3, {"batch": 4})
    new = pickle.loads(pickle.dumps(log))
    assert kept.begin("b") == new.begin("b") == (3, {"batch": 4})
    assert kept.begin("c") == (4, None)
    assert new.begin("d", epoch=9) == (9, None)  # by a state of its own
    assert log.begin("e") == (10, None)


def test_tensorflow_goes_on_from_a_state() -> None:
    """`to_tf` delivers what a state has left, in every pass, with its length; a state of another
    number of shards is refused.
    """
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    split = numbered(100)
    plan: dict[str, Any] = {"shuffle": True, "seed": 3}
    batches = split.batches(8, epoch=2, **plan)
    state = json.loads(json.dumps(batches.state(5)))
    rest = split.to_tf(8, state=state, **plan)
    assert len(rest) == 13 - 5
    for _ in range(2):
        found = [labels.numpy().tolist() for _, labels in rest]
        assert found == labels_of(batches)[5:]
    with pytest.raises(pixelprep.UsageError, match="of shard 0 of 1: expected as many shards"):
        split.to_tf(8, state=state, shard=(0, 2), **plan)
