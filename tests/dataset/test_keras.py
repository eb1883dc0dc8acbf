"""Keras's feed: what `fit` is given, in whichever order it asks, on whichever backend."""

import os
import pickle
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset import batches
from pixelprep.dataset import epoch as epoch_orders
from pixelprep.dataset.entry import Entry
from tests.helpers.packages import ROOT
from tests.helpers.process import execute
from tests.helpers.reference import same

pytestmark = pytest.mark.skipif(
    find_spec("keras") is None, reason="the extra `train` is not installed"
)
ROWS, SIZE = 100, 16


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of two runs, so that little data has many of them, and few whose order is kept."""
    for module in (batches, epoch_orders):
        monkeypatch.setattr(module, "WINDOW_RUNS", 2)
    monkeypatch.setattr("pixelprep.dataset.keras.MAX_WINDOWS", 2)


@pytest.fixture
def entry() -> Entry:
    """Return images in files of 15 rows; each is of a class of its own."""
    rows = np.arange(ROWS, dtype=np.uint8)
    images = np.repeat(rows, 2).reshape(ROWS, 2, 1)
    return pixelprep.prepare(pixelprep.Arrays("rows", (images, rows)), shard_rows=15)


def fitted(feed: Any, **options: Any) -> tuple[list[list[int]], Any]:
    """Return the labels of each batch that `fit` trains on, and the model."""
    import keras

    given: list[list[int]] = []

    def loss(labels: Any, predicted: Any) -> Any:
        with suppress(Exception):  # before it trains, JAX has tracers in place of numbers
            given.append(keras.ops.convert_to_numpy(labels).reshape(-1).astype(int).tolist())
        return keras.ops.mean(predicted)

    dense = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten(), dense])
    model.compile("sgd", loss, run_eagerly=True)
    model.fit(feed, verbose=0, **options)
    steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    return given[-steps:], model


def epochs(entry: Entry, count: int, size: int = SIZE, **options: Any) -> list[list[int]]:
    """Return the labels of the batches of the first epochs."""
    passes = (entry.train.batches(size, epoch=epoch, **options) for epoch in range(count))
    return [labels.tolist() for one in passes for _, labels in one]


def test_fit_is_given_epoch_after_epoch(entry: Entry) -> None:
    """`fit` trains on our shuffled epochs, one after the other, with exactly `len` steps each; the
    next call goes on with the next.
    """
    options: dict[str, Any] = {"shuffle": True, "seed": 5}
    feed = entry.train.to_keras(SIZE, **options)
    given, _ = fitted(feed, epochs=2, shuffle=False)
    assert len(given) == 2 * len(feed) == 2 * 7
    assert given == epochs(entry, 2, **options)
    given, _ = fitted(feed, shuffle=False)
    assert given == epochs(entry, 3, **options)[2 * 7 :]


def test_an_order_of_keras_gives_the_same_batches(entry: Entry) -> None:
    """Where Keras shuffles the batches' numbers, an epoch has the very batches, in that order."""
    given, _ = fitted(entry.train.to_keras(SIZE, shuffle=True), epochs=2, shuffle=True)
    wanted = epochs(entry, 2, shuffle=True)
    assert given != wanted
    assert sorted(given[:7]) == sorted(wanted[:7])
    assert sorted(given[7:]) == sorted(wanted[7:])


@pytest.mark.long
def test_parts_of_an_epoch_go_on(entry: Entry) -> None:
    """With `steps_per_epoch` Keras's epochs are parts of ours: every row once, then the next."""
    feed = entry.train.to_keras(10, shuffle=True)
    given, _ = fitted(feed, epochs=4, steps_per_epoch=5, shuffle=False)
    assert given == epochs(entry, 2, 10, shuffle=True)


@pytest.mark.parametrize(
    "plan", [{}, {"shuffle": True}, {"shuffle": True, "balance": "oversample"}]
)
def test_any_batch_is_the_one_of_its_number(entry: Entry, plan: dict[str, Any]) -> None:
    """Batch k is batch k of the epoch, whatever was asked for before, also after a journey."""
    feed, wanted = (
        entry.train.to_keras(SIZE, seed=3, **plan),
        list(entry.train.batches(SIZE, seed=3, **plan)),
    )
    for index in (3, 0, 1, 6, 2, 2, 5, 0, 4, 1):
        for one in (feed, pickle.loads(pickle.dumps(feed))):
            images, labels = one[index]
            assert same(images, wanted[index][0])
            assert (labels == wanted[index][1]).all()
    with pytest.raises(IndexError):
        feed[7]


@pytest.mark.long
def test_evaluate_and_predict_take_a_feed(entry: Entry) -> None:
    """`evaluate` measures all rows and `predict` takes the images alone, in file order."""
    feed = entry.train.to_keras(SIZE)
    _, model = fitted(entry.train.to_keras(SIZE), shuffle=False, validation_data=feed)
    [kernel, bias] = model.get_weights()
    images, labels = entry.train.to_numpy()
    wanted = images.reshape(ROWS, 2) @ kernel + bias
    predicted = model.predict(feed, verbose=0)
    np.testing.assert_allclose(predicted, wanted, rtol=1e-5)
    model.compile(loss="mse")
    mean = ((wanted[:, 0] - labels) ** 2).mean()
    np.testing.assert_allclose(model.evaluate(feed, verbose=0), mean, rtol=1e-4)


@pytest.mark.long
def test_workers_are_refused_where_keras_repeats_batches(entry: Entry) -> None:
    """More than one worker is taken on TensorFlow alone; there each epoch has every row once."""
    import keras

    if keras.config.backend() == "tensorflow":
        given, _ = fitted(entry.train.to_keras(SIZE, workers=2), epochs=2, shuffle=False)
        assert given == epochs(entry, 2)
        return
    with pytest.raises(pixelprep.UsageError, match="would repeat batches and omit others"):
        entry.train.to_keras(SIZE, workers=2)


TRAINING = """
import os, signal, sys
import keras, numpy as np, pixelprep
from pathlib import Path

entry, path, stop = sys.argv[1:]
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(8),
    keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(1)])
model.compile("adam", "mse")

class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if f"{feed.epoch},{feed.start + batch + 1}" == stop:
            os.kill(os.getpid(), signal.SIGKILL)

feed = pixelprep.open(entry).train.to_keras(16, shuffle=True, seed=3)
checkpoint = feed.checkpoint(path, model, every=2)
for epoch in range(checkpoint.epoch, 3):
    model.fit(feed, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0,
        callbacks=[checkpoint, Kill()])
"""


@pytest.mark.long
def test_a_training_goes_on_within_an_epoch(entry: Entry, tmp_path: Path) -> None:
    """Killed in the second epoch, and again in the third, a training has the very weights, moments
    and draws of dropout of one that nothing stopped; a checkpoint of other data is refused.
    """
    import keras

    def train(name: str, stop: str = "") -> int:
        code: list[str | Path] = [sys.executable, "-c", TRAINING]
        return execute([*code, entry.path, tmp_path / name, stop], cwd=ROOT).returncode

    assert train("whole.npz") == 0
    assert [train("stopped.npz", stop) for stop in ("1,5", "2,3", "")] == [-9, -9, 0]
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "stopped.npz") as found:
        assert len(whole.files) > 10
        assert all(same(found[name], whole[name]) for name in whole.files)
    assert len(list(tmp_path.glob("*.npz*"))) == 2
    other = entry.train.to_keras(16, shuffle=True, seed=4)
    model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(pixelprep.UsageError, match="the state is of seed 3, expected 4"):
        other.checkpoint(tmp_path / "stopped.npz", model)
    with pytest.raises(pixelprep.TrainError, match="are not those of the model"):
        entry.train.to_keras(16, shuffle=True, seed=3).checkpoint(tmp_path / "stopped.npz", model)
    (tmp_path / "stopped.npz").write_text("{}")
    with pytest.raises(pixelprep.TrainError, match="not a checkpoint, or a damaged one"):
        other.checkpoint(tmp_path / "stopped.npz", model)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_all_of_this_is_so_without_tensorflow(backend: str, tmp_path: Path) -> None:
    """The tests of this file pass on JAX and on PyTorch, where TensorFlow cannot be imported."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    hidden = "import sys; sys.modules['tensorflow'] = None; import pytest; "
    options = [
        __file__,
        "-q",
        "-k",
        "not without_tensorflow",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    code = f"{hidden}sys.exit(pytest.main({[*options, f'--basetemp={tmp_path}/base']}))"
    settings = os.environ | {"KERAS_BACKEND": backend}
    done = execute([sys.executable, "-c", code], env=settings, cwd=ROOT)
    assert done.returncode == 0, done.stdout
