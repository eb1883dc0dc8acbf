"""Augmentation: raw images are changed, then scaled; the same ones again after a resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.training import models
from tests.helpers.cli import failure, run
from tests.helpers.data import arrays
from tests.helpers.training import TINY, saved_at

AUGMENTERS = '''
import keras
import tensorflow as tf

flip = keras.layers.RandomFlip("horizontal", seed=5)
mixed = keras.Sequential([keras.layers.RandomRotation(0.2), keras.layers.RandomBrightness(0.3)])

def darker(images, seed):
    """Halve the brightness."""
    tf.debugging.assert_type(images, tf.float32)
    return images / 2

def seeded(images, seed):
    """Add noise to whole images."""
    return images + tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed, 0, 50)

def smaller(images, seed):
    """Crop."""
    return images[:, 1:]

def by_numpy(images, seed):
    """Copy."""
    return images.numpy().copy()

def nothing(images, seed):
    """Return nothing."""

number, kind = 3, keras.layers.RandomFlip
'''


@pytest.fixture(autouse=True)
def own(here: Path) -> None:
    """Put a module of the user's own into the current folder."""
    (here / "augmenters.py").write_text(AUGMENTERS)


def test_scaling_comes_behind_the_augmentation(entry: Entry) -> None:
    """The losses are those of Keras alone on raw batches that are changed and then scaled."""
    import keras

    plan: dict[str, Any] = {"batch_size": 50, "model": TINY, "quiet": True}
    result = pixelprep.train(entry, epochs=1, augment="augmenters:darker", **plan)
    keras.utils.set_random_seed(0)
    model = models.compiled(entry, TINY, 1)
    losses = []
    for raw, labels in entry.train.batches(50, shuffle=True, raw=True):
        pixels = raw.astype(np.float64) / 2
        scaled = ((pixels - entry.scaling.mean) / entry.scaling.std).astype(np.float32)
        losses += [model.train_on_batch(scaled, labels, return_dict=True)["loss"]] * len(labels)
        model.reset_metrics()
    assert result.history["loss"] == pytest.approx([np.mean(losses)], rel=1e-4)
    assert result.history["val_loss"][0] == pytest.approx(
        model.evaluate(*entry.val.to_numpy(), verbose=0)[0], rel=1e-4
    )
    assert result.settings.augment == "augmenters:darker"


@pytest.mark.parametrize("name", [pytest.param("mixed", marks=pytest.mark.long), "seeded"])
def test_a_resumed_run_sees_the_same_images(entry: Entry, name: str) -> None:
    """Bit for bit as if it had not been interrupted within the second epoch, with a layer and with
    a function.
    """
    options: dict[str, Any] = {
        "epochs": 2,
        "model": TINY,
        "augment": f"augmenters:{name}",
        "steps_per_execution": 1,
        "quiet": True,
    }
    whole = pixelprep.train(entry, run_dir="whole", **options)
    with saved_at(epoch=1, step=2):
        pixelprep.train(entry, run_dir="stopped", checkpoint_every="2steps", **options)
    resumed = pixelprep.resume("stopped", quiet=True)
    assert resumed.history["loss"] == whole.history["loss"]
    assert resumed.test_loss == whole.test_loss


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        ("flip", "--augment flip: expected module:function, or module:layer"),
        pytest.param(
            "augmenters:number",
            "--augment augmenters:number: expected a function or a Keras layer",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "augmenters:flop",
            "--augment augmenters:flop: module augmenters has no flop",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "augmenters:kind",
            "--augment augmenters:kind: expected a function or a Keras layer, got",
            marks=pytest.mark.long,
        ),
        ("augmenters:by_numpy", "--augment augmenters:by_numpy: fails on images of 8×8×8×1: "),
        pytest.param(
            "augmenters:nothing",
            "--augment augmenters:nothing: expected images, got NoneType",
            marks=pytest.mark.long,
        ),
        ("nowhere:flip", "--augment nowhere:flip: No module named 'nowhere'"),
        (
            "augmenters:smaller",
            "--augment augmenters:smaller: expected images of 8×8×8×1, got 8×7×8×1",
        ),
    ],
)
def test_what_is_no_augmentation_is_one_line(augment: str, expected: str) -> None:
    """Nothing is left of the run."""
    entry = pixelprep.prepare(arrays(40, 9, (8, 8, 1)), quiet=True)
    done = run("train", str(entry.path), "--augment", augment, "--epochs", "1", "--quiet")
    error, _ = failure(done, done.returncode)
    assert error.startswith(expected)
    assert not list(Path.cwd().rglob("runs/*"))
