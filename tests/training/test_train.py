"""Training: the reference CNN, exact step counts, streamed files, a whole run folder."""

import csv
import json
import logging
import math
import os
import shutil
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.pipeline.prepare import prepare_or_open
from pixelprep.reports.results import TrainResult
from pixelprep.sources.known.registered import embedded
from pixelprep.training.fitting import Checkpointer
from pixelprep.training.models import reference_cnn
from pixelprep.training.run_folder import RunFolder, load_finished
from pixelprep.training.train import resume, train
from tests.helpers.cli import failure, run
from tests.helpers.data import arrays
from tests.helpers.training import FINISHED, SUBCLASSED, TINY, interrupted_at, listening


def test_reference_cnn_is_the_one_described() -> None:
    """Layers, filters, activations and the number of weights are the tutorial's."""
    model = reference_cnn((28, 28, 1), 10)
    sizes = [getattr(one, "filters", getattr(one, "units", "")) for one in model.layers]
    found = [f"{type(one).__name__} {size}" for one, size in zip(model.layers, sizes, strict=True)]
    assert [one.strip() for one in found] == [
        *("Conv2D 32", "MaxPooling2D", "Conv2D 64", "MaxPooling2D"),
        *("Flatten", "Dense 64", "Dense 10"),
    ]
    activations = [layer.activation.__name__ for layer in model.layers if layer.weights]
    assert activations == ["relu", "relu", "relu", "softmax"]
    assert [tuple(model.layers[i].kernel_size) for i in (0, 2)] == [(3, 3), (3, 3)]
    assert model.count_params() == 121_930


@pytest.fixture(scope="module")
def trained(entry: Entry, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Return a run of two epochs of the reference CNN, of which nobody warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what Keras warns of data with
        warnings.simplefilter("error", RuntimeWarning)
        return train(entry, epochs=2, run_dir=tmp_path_factory.mktemp("runs") / "run", quiet=True)


def test_run_folder_is_whole(entry: Entry, trained: TrainResult) -> None:
    """A run leaves the model, for scaled and for raw pixels, the entry's manifest, the history, the
    metrics with the entry's key, and the picture.
    """
    run, metrics = trained.run, trained
    assert sorted(p.name for p in run.iterdir()) == FINISHED
    assert json.loads((run / "metrics.json").read_text()) == metrics.to_dict()
    for name in ("manifest.json", "manifest.sha256"):
        assert (run / "entry" / name).read_bytes() == (entry.path / name).read_bytes()
    assert load_finished(run).result == metrics
    assert metrics.key == entry.key
    assert (metrics.steps_per_epoch, metrics.test_steps) == (4, 2)
    assert metrics.test_accuracy is not None
    assert 0 <= metrics.test_accuracy <= 1
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert (run / "training.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in run.parent.iterdir()] == ["run"]


def test_saved_model_is_the_trained_one(entry: Entry, trained: TrainResult) -> None:
    """model.keras loads in plain Keras in safe mode, has made steps × epochs steps, and scores what
    metrics.json says: by Keras's own evaluation to the last bit.
    """
    import keras

    model = keras.saving.load_model(trained.run / "model.keras", safe_mode=True)
    assert int(model.optimizer.iterations) == 2 * 4
    images, labels = entry.test.to_numpy()
    assert np.mean(model.predict(images, verbose=0).argmax(axis=1) == labels) == pytest.approx(
        trained.test_accuracy
    )
    scores = model.evaluate(entry.test.to_tf(64), verbose=0, return_dict=True)
    assert (scores["loss"], scores["accuracy"]) == (trained.test_loss, trained.test_accuracy)


def test_each_epoch_has_its_own_order(entry: Entry) -> None:
    """Each pass over `to_tf` is the next epoch of `batches`, row by row. Shapes and types are
    declared; `drop_last` leaves a short batch out.
    """
    feed = entry.train.to_tf(64, shuffle=True, seed=3)
    assert int(feed.cardinality()) == len(entry.train.batches(64)) == 4
    for epoch in range(3):
        expected = entry.train.batches(64, shuffle=True, seed=3, epoch=epoch)
        for (images, labels), (x, y) in zip(feed, expected, strict=True):
            assert (images.numpy() == x).all()
            assert (labels.numpy() == y).all()
    feed = entry.train.to_tf(100, drop_last=True)
    images, labels = feed.element_spec
    assert images.shape.as_list() == [100, 12, 12, 1]
    assert (images.dtype.name, labels.dtype.name) == ("float32", "int64")
    assert [len(y) for _, y in feed] == [100, 100]


def test_tensors_keep_their_values() -> None:
    """Tensors that are kept do not change when TensorFlow is given more windows: memory is used
    again only where nobody holds it. Here in nine windows of 6 MB.
    """
    split = pixelprep.prepare(arrays(1000, 10, (64, 64, 3)), quiet=True).train
    expected = list(split.batches(50, shuffle=True))
    assert sum(images.nbytes for images, _ in expected) > 8 * 6_000_000
    for (images, labels), (x, y) in zip(list(split.to_tf(50, shuffle=True)), expected, strict=True):
        assert (images.numpy() == x).all()
        assert (labels.numpy() == y).all()


def test_batches_are_streamed() -> None:
    """An epoch holds a few windows of chunks, not the split."""
    entry = pixelprep.prepare(arrays(15_000, 10, (28, 28, 1)), quiet=True)
    split = entry.train.shape[0] * 28 * 28 * 4
    tracemalloc.start()
    try:
        for _ in entry.train.batches(64, shuffle=True):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < split / 3


@pytest.fixture
def own(folder: Path) -> None:
    """Have modules with models in the current folder."""
    code = "from tests.helpers.models import *; linear = tiny\n"
    (folder / "own_models.py").write_text(code)
    (folder / "failing.py").write_text("import json; json.nothing")


def test_probabilities_by_chance_are_not_published(entry: Entry, own: None) -> None:
    """A model without softmax that begins with sums of 1 is found out once it is trained."""
    message = r"own_models:chance: its outputs are no probabilities: .*softmax"
    with pytest.raises(pixelprep.TrainError, match=message):
        train(entry, epochs=1, model="own_models:chance", run_dir="run", quiet=True)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("own_models:narrow", r"expected input .* and output \(4,\)"),
        ("own_models:logits", r"own_models:logits: its outputs are no probabilities: .*softmax"),
        ("own_models:bytewise", "its input is of uint8, which would cut the scaled pixels"),
        ("own_models:diverging", "run: the loss of epoch 1 is nan: expected finite numbers"),
        ("own_models:nothing", "expected a Keras model, got NoneType"),
        ("own_models:missing", "missing"),
        ("failing:linear", "`model=failing:linear`: .* has no attribute 'nothing'$"),
        ("own_models:linaer", r"did you mean own_models:linear\?"),
        ("own_models.py:linear", r"did you mean own_models:linear\?"),
        ("no_such_module:f", "no_such_module"),
        ("own_models", "expected module:function"),
    ],
)
def test_wrong_models_are_refused(entry: Entry, own: None, model: str, message: str) -> None:
    """A model that cannot be found or does not fit says so and leaves no run folder."""
    with pytest.raises(pixelprep.PixelprepError, match=message):
        train(entry, epochs=1, model=model, run_dir="run", quiet=True)
    assert list(Path().glob("*run*")) == []


def test_a_run_is_never_overwritten(entry: Entry) -> None:
    """A folder that is there already is refused before any training."""
    Path("run").mkdir()
    with pytest.raises(pixelprep.TrainError, match="already exists"):
        train(entry, epochs=1, run_dir="run", quiet=True)


def test_small_images_get_a_reference_cnn_that_fits(caplog: pytest.LogCaptureFixture) -> None:
    """For images of any size below 10×10 its layers are padded, and a line says so."""
    with caplog.at_level(logging.INFO, "pixelprep"):
        for shape in ((1, 1, 1), (8, 8, 1), (2, 40, 3)):
            found = reference_cnn(shape, 3)(np.ones((2, *shape), np.float32))
            assert np.allclose(found.numpy().sum(axis=1), 1)
    assert "images of 8×8: the reference CNN pads its layers, as below 10×10" in caplog.messages


@pytest.mark.parametrize("shape", [(28, 28, 1), (10, 10, 3)])
def test_from_10x10_on_no_layer_is_padded(shape: tuple[int, int, int]) -> None:
    """Of one seed, weights and outputs are those of the layers that Keras makes by default."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(3)
    plain = keras.Sequential(
        [
            *(keras.Input(shape), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten()),
            *(layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")),
        ]
    )
    keras.utils.set_random_seed(3)
    model = reference_cnn(shape, 10)
    pairs = zip(plain.get_weights(), model.get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
    images = np.random.default_rng(0).random((4, *shape), np.float32)
    assert np.array_equal(plain(images), model(images))


def test_train_alone_prepares_first(folder: Path) -> None:
    """On an empty machine `train` prepares, trains, evaluates; stdout is one JSON object. A plain
    word is a known name though a folder of that name is an entry; an entry that is not there says
    so.
    """
    Path("sample").mkdir()
    Path("sample", "manifest.json").write_text("{}")
    done = run("train", "sample", "--epochs", "1", "--model", TINY, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["epochs"] == 1
    assert (metrics["steps_per_epoch"], metrics["test_steps"]) == (94, 16)
    assert Path(metrics["run"]).parent == folder / "runs"
    assert pixelprep.open(metrics["entry"]).key == metrics["key"]
    for line in ("94 steps of 64", "16 steps of 64", "first batch 64×28×28×1 float32"):
        assert line in done.stderr
    done = run("train", "sample/center-000000000000")
    assert done.stderr.startswith("error: sample/center-000000000000: no entry")


def test_train_takes_an_entry(small: Entry, trained: TrainResult) -> None:
    """`train` takes an entry by key; another seed gives another result; an option that contradicts
    the entry is refused.
    """
    done = run("train", small.key, "--epochs", "1", "--seed", "6", "--run-dir", "run", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "test accuracy" in done.stdout
    assert load_finished(Path("run")).result.history["loss"][0] != trained.history["loss"][0]
    for option, value in (("--mode", "center"), ("--val-fraction", "0"), ("--source", ".")):
        refused = run("train", small.key, option, value)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: {small.key} is an entry ")
    again = run("train", small.key, "--mode", "standardize", "--epochs", "0")
    assert again.stderr.startswith("error: --epochs 0")


@pytest.mark.long
@pytest.mark.parametrize("mode", ["normalize", "center", "standardize"])
def test_mnist_is_learnt(mode: str, mnist: Path) -> None:
    """Five epochs on real MNIST reach more than the tutorial's 98.07%, in every mode."""
    entry = pixelprep.prepare("mnist", mode=mode, source=mnist, quiet=True)
    metrics = train(entry, run_dir="run", quiet=True)
    assert (metrics.steps_per_epoch, metrics.test_steps) == (938, 157)
    assert (metrics.test_accuracy or 0) > 0.9807


@pytest.mark.long
def test_a_model_that_prints_leaves_json(entry: Entry, own: None) -> None:
    """`--model module:function` is found in the current folder and used. What a model prints goes
    to standard error.
    """
    import keras

    asked = ("train", str(entry.path), "--epochs", "1", "--model", "own_models:chatty", "--json")
    done = run(*asked, "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stderr
    metrics = json.loads(done.stdout, parse_constant=pytest.fail)
    assert json.loads(Path("run/metrics.json").read_text()) == metrics
    model = keras.saving.load_model("run/model.keras", safe_mode=True)
    assert [type(layer).__name__ for layer in model.layers] == ["Flatten", "Dense"]


def test_a_diverging_run_keeps_what_was_saved(
    entry: Entry, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the loss is no longer finite, the run is not published; the hint tells how to finish
    the epochs before, and does.
    """
    found = Checkpointer.after_epoch
    diverged = {"loss": math.inf, "accuracy": 0.0, "val_loss": 0.0, "val_accuracy": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "after_epoch", lambda self, _: found(self, diverged))
        with pytest.raises(pixelprep.TrainError, match="the loss of epoch 2 is inf") as refused:
            resume(unfinished)
    assert refused.value.hint == "what was trained before can be finished with `epochs=1`"
    assert refused.value.resume_command == "pixelprep train --resume run.unfinished"
    assert not Path("run").exists()
    assert len(resume(unfinished, epochs=1).history["loss"]) == 1


def test_weights_that_the_last_step_spoils_are_not_published() -> None:
    """The loss of a run's only step is of before it: that is finite, the weights afterwards are
    not. Nothing is published or saved, though there is no split to evaluate on.
    """
    from tests.helpers import models

    x, y = np.ones((20, 4, 4), np.uint8), np.arange(20) % 2
    entry = pixelprep.prepare(pixelprep.Arrays("alone", (x, y)), mode="normalize")
    model, message = f"{models.__name__}:root", "after epoch 1 the model has weights of nan or inf"
    with pytest.raises(pixelprep.TrainError, match=message):
        train(entry, epochs=1, model=model, run_dir="run", quiet=True)
    assert list(Path().glob("run*")) == []


@pytest.mark.long
def test_a_subclassed_model_is_trained(entry: Entry) -> None:
    """Of a subclass of `keras.Model` no shape is known before it is called; it is trained, saved
    and evaluated like any other.
    """
    trained = train(entry, epochs=1, model=SUBCLASSED, run_dir="run", quiet=True)
    assert pixelprep.evaluate("run", quiet=True).accuracy == pytest.approx(trained.test_accuracy)


@pytest.fixture
def keras_settings() -> Iterator[Any]:
    """Give Keras's settings, which are as they were afterwards."""
    import keras

    before = keras.config.floatx(), keras.config.image_data_format()
    yield keras.config
    keras.config.set_floatx(before[0])
    keras.config.set_image_data_format(before[1])


@pytest.mark.long
def test_settings_of_the_users_own(entry: Entry, keras_settings: Any) -> None:
    """With channels_first in keras.json the reference CNN is the same, and a function is told in a
    line; half precision for everything is refused.
    """
    wanted = reference_cnn((12, 12, 1), 4).get_config()["layers"][1]["config"]["data_format"]
    keras_settings.set_image_data_format("channels_first")
    layers = reference_cnn((12, 12, 1), 4).layers
    assert {one.data_format for one in layers if hasattr(one, "data_format")} == {wanted}
    with listening() as said:
        train(entry, epochs=1, model=TINY, run_dir="run", quiet=True)
    assert f"Keras is set to channels_first; `{TINY}` gets images (H, W, C)" in said
    keras_settings.set_floatx("float16")
    with pytest.raises(pixelprep.TrainError, match="needs Keras's floatx to be float32, and it is"):
        train(entry, epochs=1, run_dir="second", quiet=True)
    with pytest.raises(pixelprep.TrainError, match="floatx"):
        pixelprep.evaluate("run", quiet=True)


@pytest.mark.long
def test_another_backend_is_one_line(entry: Entry) -> None:
    """Keras on something else than TensorFlow, installed or not, is refused with the way out."""
    asked, settings = ("train", str(entry.path), "--run-dir", "run"), {"KERAS_BACKEND": "torch"}
    error, hint = failure(run(*asked, cold=True, env=os.environ | settings))
    assert error.startswith("training needs Keras on TensorFlow, and it is set to ")
    assert hint == "set KERAS_BACKEND=tensorflow"
    assert list(Path().glob("run*")) == []


def test_bytes_of_a_known_dataset_keep_their_licence(tmp_path: Path) -> None:
    """The same files as a folder of one's own are another entry than the known dataset's."""
    shutil.copytree(embedded("sample"), tmp_path / "sample")
    mine = pixelprep.prepare(tmp_path / "sample")
    known = pixelprep.prepare("sample", source=tmp_path / "sample")
    assert mine.key == known.key
    assert (mine.dataset, known.dataset) == ("sample-own", "sample")
    assert known.manifest.to_dict()["provenance"]["licence"] == "CC0 1.0"
    with pytest.raises(pixelprep.UsageError, match="known dataset"):
        pixelprep.prepare(arrays(name="mnist"))


@pytest.mark.long
def test_the_bar_ends_where_the_epoch_ends(
    entry: Entry, trained: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar counts real steps: it never goes past the last, however many run at once. That
    changes nothing else: from the same seed comes the same result.
    """
    seen: list[tuple[float, float]] = []

    class Recorded(tqdm):  # type: ignore[type-arg] # generic in the stubs only
        def update(self, n: float | None = 1) -> bool | None:
            done = super().update(n)
            seen.append((self.n, self.total or 0))
            return done

    def bar(what: str, total: int, unit: str, quiet: bool) -> Any:
        return Recorded(desc=what, total=total, file=Path("bar").open("w"))

    monkeypatch.setattr("pixelprep.system.progress.bar", bar)
    with interrupted_at("epoch 1/"):
        train(entry, epochs=2, run_dir="run", steps_per_execution=3)
    assert [n for n, _ in seen] == [3, 4]
    assert {total for _, total in seen} == {4}
    checkpoint = RunFolder(Path("run").absolute()).load()
    assert checkpoint.state.history["loss"][0] == trained.history["loss"][0]
    assert 4 in [int(one) for one in checkpoint.variables if one.shape == ()]  # the steps


def test_an_entry_asks_for_no_network(entry: Entry) -> None:
    """An entry is opened whatever is said of the network, as the environment may for good."""
    found = prepare_or_open(str(entry.path), offline=True, mirror="http://127.0.0.1:9/", quiet=True)
    assert found.key == entry.key
