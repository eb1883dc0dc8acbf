"""Classes of unequal size: weighed in the loss, or delivered equally often."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.training import models
from tests.helpers.cli import failure, run
from tests.helpers.training import TINY


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Return 90 images of class 0, 10 of class 1, and none of class 2, all unalike."""
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), np.uint8)
    labels = np.repeat([0, 1], [90, 10])
    cache = tmp_path_factory.mktemp("unequal")
    source = pixelprep.Arrays("unequal", (images, labels), class_names=("a", "b", "c"))
    return pixelprep.prepare(source, cache_dir=cache, quiet=True)


def losses(entry: Entry, epochs: list[Any], weights: dict[int, float]) -> list[float]:
    """Train the same model by Keras alone, on these batches; return the loss of each epoch."""
    import keras

    keras.utils.set_random_seed(0)
    model = models.compiled(entry, TINY, 1)
    found = []
    for batches in epochs:
        sums = [0.0, 0]
        for images, labels in batches:
            sample_weight = np.array([weights[label] for label in labels.tolist()])
            logs = model.train_on_batch(images, labels, sample_weight, return_dict=True)
            model.reset_metrics()
            sums = [sums[0] + logs["loss"] * len(labels), sums[1] + len(labels)]
        found.append(sums[0] / sums[1])
    return found


PLAIN = pytest.param({}, marks=pytest.mark.long)


@pytest.mark.parametrize("how", [{"class_weight": "balanced"}, {"balance": "oversample"}, PLAIN])
def test_training_makes_up_for_unequal_classes(unequal: Entry, how: dict[str, Any]) -> None:
    """The run's losses are those of Keras alone with the weights of scikit-learn's formula, or on
    the balanced epochs; the settings are in the metrics.
    """
    result = pixelprep.train(unequal, epochs=2, batch_size=16, model=TINY, quiet=True, **how)
    weights = {0: 100 / 180, 1: 100 / 20} if "class_weight" in how else {0: 1.0, 1: 1.0}
    balance = how.get("balance")
    plans: list[Any] = [{"shuffle": True, "epoch": i, "balance": balance} for i in (0, 1)]
    epochs = [unequal.train.batches(16, **plan) for plan in plans]
    rows = 180 if balance else 100
    assert result.steps_per_epoch == -(-rows // 16) == len(epochs[0])
    assert result.history["loss"] == pytest.approx(losses(unequal, epochs, weights), rel=1e-4)
    shown = result.to_dict()
    assert {name: shown[name] for name in ("class_weight", "balance")} == {
        "class_weight": how.get("class_weight"),
        "balance": balance,
    }


def test_one_cure_is_enough(unequal: Entry, here: Path) -> None:
    """Both at once would count the smaller classes twice; an unknown kind is named."""
    both = ("--class-weight", "balanced", "--balance", "oversample")
    error, _ = failure(run("train", str(unequal.path), *both), 2)
    expected = "expected one of them: each makes up for all of it"
    assert error == f"--class-weight balanced and --balance oversample: {expected}"
    error, _ = failure(run("train", str(unequal.path), "--class-weight", "sqrt"), 2)
    assert error == "unknown --class-weight 'sqrt': expected one of balanced"
    assert not list(here.iterdir())
