"""Training: the reference CNN, exact step counts, streamed files, a whole run folder."""

import csv
import json
import shutil
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

import pixelprep
from pixelprep.dataset.batches import BatchConfig
from pixelprep.dataset.entry import Entry
from pixelprep.pipeline.prepare import prepare_or_open
from pixelprep.sources.registered import embedded
from pixelprep.training.models import reference_cnn
from pixelprep.training.run_folder import load_finished
from pixelprep.training.train import train
from tests.helpers.cli import run
from tests.helpers.data import arrays

pytest.importorskip("tensorflow", reason="the extra `train` is not installed")


def test_reference_cnn_is_the_one_described() -> None:
    """Layers, filters, activations and the number of weights are the tutorial's."""
    model = reference_cnn((28, 28, 1), 10)
    found = [
        (type(layer).__name__, getattr(layer, "filters", getattr(layer, "units", None)))
        for layer in model.layers
    ]
    assert found == [
        ("Conv2D", 32),
        ("MaxPooling2D", None),
        ("Conv2D", 64),
        ("MaxPooling2D", None),
        ("Flatten", None),
        ("Dense", 64),
        ("Dense", 10),
    ]
    activations = [layer.activation.__name__ for layer in model.layers if layer.weights]
    assert activations == ["relu", "relu", "relu", "softmax"]
    assert [tuple(model.layers[i].kernel_size) for i in (0, 2)] == [(3, 3), (3, 3)]
    assert model.count_params() == 121_930


def test_mnist_has_938_and_157_steps() -> None:
    """Batches of 64: 60,000 images are 938 steps, 10,000 are 157."""
    assert BatchConfig(64).steps(60_000) == 938
    assert BatchConfig(64).steps(10_000) == 157


def test_run_folder_is_whole(small: Entry, tmp_path: Path) -> None:
    """A run leaves the model, for scaled and for raw pixels, the entry's manifest, the history, the
    metrics with the entry's key, and the picture.
    """
    run = tmp_path / "run"
    metrics = train(small, epochs=2, run_dir=run, quiet=True)
    assert sorted(p.name for p in run.iterdir()) == [
        "entry",
        "history.csv",
        "metrics.json",
        "model.keras",
        "run.html",
        "serving.keras",
        "training.png",
    ]
    assert json.loads((run / "metrics.json").read_text()) == metrics.to_dict()
    for name in ("manifest.json", "manifest.sha256"):
        assert (run / "entry" / name).read_bytes() == (small.path / name).read_bytes()
    assert load_finished(run).result == metrics
    assert metrics.key == small.key
    assert metrics.run == run
    assert (metrics.steps_per_epoch, metrics.test_steps) == (4, 2)
    assert 0 <= metrics.test_accuracy <= 1
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert set(rows[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert (run / "training.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".run")] == []


def test_saved_model_is_the_trained_one(small: Entry, tmp_path: Path) -> None:
    """model.keras loads in plain Keras in safe mode and scores what metrics.json says: by Keras's
    own evaluation to the last bit.
    """
    import keras

    metrics = train(small, epochs=1, run_dir=tmp_path / "run", quiet=True)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras", safe_mode=True)
    images, labels = small.test.to_numpy()
    assert np.mean(model.predict(images, verbose=0).argmax(axis=1) == labels) == pytest.approx(
        metrics.test_accuracy
    )
    scores = model.evaluate(small.test.to_tf(64), verbose=0, return_dict=True)
    assert (scores["loss"], scores["accuracy"]) == (metrics.test_loss, metrics.test_accuracy)


def test_exact_steps_and_no_warnings(small: Entry, tmp_path: Path) -> None:
    """The optimizer makes steps × epochs steps, whatever `steps_per_execution`; nobody warns."""
    import keras

    for together in (1, 3, 32):
        run = tmp_path / f"run{together}"
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # what Keras warns of data with
            warnings.simplefilter("error", RuntimeWarning)
            train(small, epochs=2, run_dir=run, steps_per_execution=together, quiet=True)
        model = keras.saving.load_model(run / "model.keras", safe_mode=True)
        assert int(model.optimizer.iterations) == 2 * 4


def test_same_seed_same_result(small: Entry, tmp_path: Path) -> None:
    """Two runs of one seed agree; another seed gives other weights."""
    found = [
        train(small, epochs=1, seed=seed, run_dir=tmp_path / str(i), quiet=True)
        for i, seed in enumerate((5, 5, 6))
    ]
    losses = [metrics.history["loss"] for metrics in found]
    assert losses[0] == losses[1] != losses[2]


def test_each_epoch_has_its_own_order(small: Entry) -> None:
    """Each pass over `to_tf` is the next epoch of `batches`, row by row."""
    feed = small.train.to_tf(64, shuffle=True, seed=3)
    assert int(feed.cardinality()) == len(small.train.batches(64)) == 4
    for epoch in range(3):
        expected = small.train.batches(64, shuffle=True, seed=3, epoch=epoch)
        for (images, labels), (x, y) in zip(feed, expected, strict=True):
            assert (images.numpy() == x).all()
            assert (labels.numpy() == y).all()


def test_to_tf_keeps_types_and_drops_the_last_on_demand(small: Entry) -> None:
    """Shapes and types are declared; `drop_last` leaves a short batch out."""
    feed = small.train.to_tf(100, drop_last=True)
    images, labels = feed.element_spec
    assert images.shape.as_list() == [100, 12, 12, 1]
    assert (images.dtype.name, labels.dtype.name) == ("float32", "int64")
    assert [len(y) for _, y in feed] == [100, 100]


def test_batches_are_streamed() -> None:
    """An epoch holds a few windows of chunks, not the split."""
    entry = pixelprep.prepare(arrays(60_000, 10, (28, 28, 1)), quiet=True)
    split = entry.train.shape[0] * 28 * 28 * 4
    tracemalloc.start()
    try:
        for _ in entry.train.batches(64, shuffle=True):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < split / 3


OWN = """
import keras

def linear(input_shape, classes):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(),
        keras.layers.Dense(classes, activation="softmax"),
    ])

def narrow(input_shape, classes):
    return linear(input_shape, classes - 1)

def nothing(input_shape, classes):
    return None

def chatty(input_shape, classes):
    print("hello")
    start = keras.initializers.Constant(float("nan"))
    return keras.Sequential([
        keras.layers.Flatten(), keras.layers.Dense(classes, kernel_initializer=start),
    ])
"""


@pytest.fixture
def own(here: Path) -> str:
    """Return a module with models in the current folder."""
    (here / "own_models.py").write_text(OWN)
    (here / "failing.py").write_text("import json; json.nothing")
    return "own_models"


def test_own_model_is_trained(small: Entry, own: str, tmp_path: Path) -> None:
    """`--model module:function` is found in the current folder and used."""
    import keras

    train(small, epochs=1, model=f"{own}:linear", run_dir=tmp_path / "run", quiet=True)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras", safe_mode=True)
    assert [type(layer).__name__ for layer in model.layers] == ["Flatten", "Dense"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("own_models:narrow", r"expected input .* and output \(4,\)"),
        ("own_models:nothing", "expected a Keras model, got NoneType"),
        ("own_models:missing", "missing"),
        ("failing:linear", "`model=failing:linear`: .* has no attribute 'nothing'$"),
        ("own_models:linaer", r"did you mean own_models:linear\?"),
        ("own_models.py:linear", r"did you mean own_models:linear\?"),
        ("no_such_module:f", "no_such_module"),
        ("own_models", "expected module:function"),
    ],
)
def test_wrong_models_are_refused(
    small: Entry, own: str, tmp_path: Path, model: str, message: str
) -> None:
    """A model that cannot be found or does not fit says so and leaves no run folder."""
    with pytest.raises(pixelprep.PixelprepError, match=message):
        train(small, epochs=1, model=model, run_dir=tmp_path / "run", quiet=True)
    assert [p.name for p in tmp_path.glob("*run*")] == []


def test_a_run_is_never_overwritten(small: Entry, tmp_path: Path) -> None:
    """A folder that is there already is refused before any training."""
    (tmp_path / "run").mkdir()
    with pytest.raises(pixelprep.TrainError, match="exists already"):
        train(small, epochs=1, run_dir=tmp_path / "run", quiet=True)


def test_small_images_need_a_model_of_their_own(tmp_path: Path) -> None:
    """Images below 10×10 do not fit the reference CNN; the error says what to do."""
    entry = pixelprep.prepare(arrays())
    with pytest.raises(pixelprep.TrainError, match="10×10 or more, got 6×5"):
        train(entry, epochs=1, run_dir=tmp_path / "run", quiet=True)


def test_train_alone_prepares_first(cache: Path, tmp_path: Path) -> None:
    """On an empty machine `train` prepares, trains, evaluates; stdout is one JSON object."""
    done = run("train", "sample", "--epochs", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["epochs"] == 1
    assert (metrics["steps_per_epoch"], metrics["test_steps"]) == (94, 16)
    assert Path(metrics["run"]).parent == tmp_path / "runs"
    assert pixelprep.open(metrics["entry"]).key == metrics["key"]
    for line in ("94 steps of 64", "16 steps of 64", "first batch 64×28×28×1 float32"):
        assert line in done.stderr


def test_train_takes_an_entry(small: Entry, tmp_path: Path) -> None:
    """`train` takes an entry by key; an option that contradicts it is refused."""
    asked = ("train", small.key, "--epochs", "1", "--run-dir", "run", "--quiet")
    done = run(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "test accuracy" in done.stdout
    for option, value in (("--mode", "center"), ("--val-fraction", "0"), ("--source", ".")):
        refused = run("train", small.key, option, value, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: {small.key} is an entry ")
    again = run("train", small.key, "--mode", "standardize", "--epochs", "0", cwd=tmp_path)
    assert again.stderr.startswith("error: --epochs 0")


@pytest.mark.long
@pytest.mark.parametrize("mode", ["normalize", "center", "standardize"])
def test_mnist_is_learnt(mode: str, mnist: Path, tmp_path: Path) -> None:
    """Five epochs on real MNIST reach more than the tutorial's 98.07%, in every mode."""
    entry = pixelprep.prepare("mnist", mode=mode, source=mnist, quiet=True)
    metrics = train(entry, run_dir=tmp_path / "run", quiet=True)
    assert (metrics.steps_per_epoch, metrics.test_steps) == (938, 157)
    assert metrics.test_accuracy > 0.9807


def test_a_model_that_prints_and_diverges_leaves_json(
    small: Entry, own: str, tmp_path: Path
) -> None:
    """What a model prints goes to standard error; a loss that is no number is null."""
    asked = ("train", small.key, "--epochs", "1", "--model", f"{own}:chatty", "--json")
    done = run(*asked, "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stderr
    metrics = json.loads(done.stdout, parse_constant=pytest.fail)
    assert metrics["test_loss"] is None
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics


def test_a_known_name_is_a_dataset_whatever_lies_here(small: Entry, tmp_path: Path) -> None:
    """A plain word is a known name though a folder of that name is an entry; an entry that is
    not there says so.
    """
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "manifest.json").write_text("{}")
    done = run("train", "sample", "--epochs", "1", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("train", "sample/center-000000000000", cwd=tmp_path)
    assert done.stderr.startswith("error: sample/center-000000000000: no entry")


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


def test_the_bar_ends_where_the_epoch_ends(
    small: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar counts real steps: it never goes past the last, however many run at once."""
    seen: list[tuple[float, float]] = []

    class Recorded(tqdm):  # type: ignore[type-arg] # generic in the stubs only
        def update(self, n: float | None = 1) -> bool | None:
            done = super().update(n)
            seen.append((self.n, self.total or 0))
            return done

    def bar(what: str, total: int, unit: str, quiet: bool) -> Any:
        return Recorded(desc=what, total=total, file=(tmp_path / "bar").open("w"))

    monkeypatch.setattr("pixelprep.system.progress.bar", bar)
    train(small, epochs=1, run_dir=tmp_path / "run", steps_per_execution=3)
    assert [n for n, _ in seen] == [3, 4]
    assert {total for _, total in seen} == {4}


def test_an_entry_asks_for_no_network(small: Entry) -> None:
    """An entry is opened whatever is said of the network, as the environment may for good."""
    found = prepare_or_open(str(small.path), offline=True, mirror="http://127.0.0.1:9/", quiet=True)
    assert found.key == small.key
