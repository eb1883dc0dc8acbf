"""A run's model in other runtimes: raw pixels in, the answers of `serving.keras` out."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import pixelprep
from pixelprep import Entry, MissingExtraError, Scaling, TrainError
from pixelprep.cli.app import app
from pixelprep.dataset.raw import raw_view
from pixelprep.installation import install_command
from pixelprep.numerics.modes import plain_modes
from pixelprep.numerics.scaling import PER
from pixelprep.training import MODEL_FORMATS
from pixelprep.training.serving import serving_model
from tests.exporters.test_readme import indented, ran
from tests.helpers.cli import failure, run
from tests.helpers.data import arrays
from tests.helpers.pages import programs
from tests.helpers.training import TINY

SHAPE = (12, 11, 3)


def train_on(entry: Entry, folder: Path | str, model: str = TINY) -> Path:
    """Return the folder of a run of this entry, of one epoch."""
    return pixelprep.train(entry, epochs=1, model=model, run_dir=folder, quiet=True).run


@pytest.fixture(scope="module")
def trained(entry: Entry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run, to be read only."""
    return train_on(entry, tmp_path_factory.mktemp("runs") / "run")


def raw_and_wanted(trained: Path, entry: Entry) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the raw test images, and what `serving.keras` answers to them."""
    import keras

    split = entry.test
    raw = raw_view(split, entry.scaling, clipped=True)[: len(split)]
    serving = keras.saving.load_model(trained / "serving.keras")
    return raw, serving.predict_on_batch(raw.astype(serving.inputs[0].dtype))


def in_float32(raw: NDArray[Any], scaling: Scaling, dtype: str) -> tuple[NDArray[Any], set[str]]:
    """Return raw pixels scaled in float32, and the types of all tensors on the way."""
    import tensorflow as tf

    from pixelprep.numerics.layers import keras_layer

    def scaled(pixels: Any) -> Any:
        return keras_layer.scaled(pixels, scaling, dtype, "float32")

    function = tf.function(scaled, autograph=False).get_concrete_function(
        tf.TensorSpec((None, *SHAPE), tf.float32)
    )
    kinds = {one.dtype.name for step in function.graph.get_operations() for one in step.outputs}
    return function(tf.constant(raw.astype(np.float32))).numpy(), kinds


def options() -> list[dict[str, Any]]:
    """List what scalings there are."""
    found: list[dict[str, Any]] = [{"mode": m, "per": p} for m, p in product(plain_modes(), PER)]
    found += [{"mode": "fixed", "preset": name} for name in ("imagenet", "keras-caffe")]
    found += [{"mode": "normalize", "range": (-1, 1)}]
    found += [{"mode": "robust", "quantiles": (0.01, 0.99), "clip": True}]
    return found


def test_scaling_in_float32_has_no_float64() -> None:
    """LiteRT's own operations have none. Values differ from the stored ones by eight roundings of
    the largest, at most.
    """
    small, large = (arrays(shape=SHAPE, dtype=kind).train[0] for kind in ("uint8", "uint16"))
    scalings = [Scaling.fit(small, mode, per=per) for mode, per in product(plain_modes(), PER)]
    rest = options()[len(scalings) :]
    scalings += [pixelprep.prepare(arrays(shape=SHAPE), quiet=True, **one).scaling for one in rest]
    scalings.append(Scaling.fit(large, "standardize", per="image"))
    for scaling in scalings:
        raw = small if scaling.raw_dtype == "uint8" else large
        wanted = scaling.apply(raw)
        found, kinds = in_float32(raw, scaling, "float32")
        assert "float64" not in kinds
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() <= 8 * 2.0**-24 * np.abs(wanted).max(), scaling


def test_scaling_in_float32_rounds_to_float16() -> None:
    """Of an entry of float16 the values are such, each of them one of the two nearest."""
    entry = pixelprep.prepare(arrays(shape=SHAPE), dtype="float16", quiet=True)
    raw = raw_view(entry.train, entry.scaling)[: len(entry.train)]
    wanted = entry.train.to_numpy()[0]
    found, _ = in_float32(raw, entry.scaling, "float16")
    assert found.dtype == np.float16
    assert (np.abs(found - wanted) <= np.spacing(np.abs(wanted))).all()


def test_a_saved_model_answers_as_serving_keras(trained: Path, entry: Entry, here: Path) -> None:
    """TensorFlow alone gets the same from it, of one image too; the names of classes are with it,
    and ``serving.json`` tells what was compared.
    """
    import tensorflow as tf

    done = pixelprep.export_model(trained, here / "out", "saved-model", quiet=True)
    assert sorted(path.name for path in done.path.iterdir()) == [
        "README.txt",
        "serving.json",
        done.model,
    ]
    raw, wanted = raw_and_wanted(trained, entry)
    loaded = tf.saved_model.load(done.path / done.model)
    for count in (1, 7, len(raw)):
        found = loaded.serve(tf.constant(raw[:count], tf.float32)).numpy()
        assert np.abs(found - wanted[:count]).max() <= 1e-6
    names = json.loads((done.path / done.model / "assets.extra" / "classes.json").read_text())
    assert tuple(names) == entry.class_names == done.class_names
    assert (done.split, done.images, done.other_class) == ("test", len(raw), 0)
    assert done.largest_difference <= 1e-6
    told = json.loads((done.path / "serving.json").read_text())
    assert told.items() <= done.to_dict().items()
    assert done.to_dict().keys() - told.keys() == {"path", "bytes", "seconds"}
    check_page(done.path)


def check_page(folder: Path) -> None:
    """README.txt has the program that asks the model, and it runs in the folder as it stands."""
    page = (folder / "README.txt").read_text("utf-8")
    about = json.loads((folder / "serving.json").read_text())
    (code,), (height, width, channels) = indented(page), about["shape"]
    names = ran(code, folder)
    assert names["classes"] == about["class_names"]
    assert names["probabilities"].shape == (1, len(about["class_names"]))
    takes = f"raw_pixels, float32 (N, {height}, {width}, {channels}):"
    assert all(told in page for told in (about["key"], takes, "Licence: "))
    assert about["decoding"]["size"] == [height, width]
    as_options = f"--size {height}x{width} --color grey --fit stretch --filter bilinear"
    assert f"Decoded as in training: {as_options}" in page


def test_images_are_not_changed_at_random() -> None:
    """A RandomFlip in the model is for training: where the model is called, as it is traced for
    an export, it does nothing; in a model of Keras's own it does.
    """
    raw = arrays(shape=SHAPE).train[0]
    assert isinstance(raw, np.ndarray)
    from tests.helpers import models

    model, pixels = models.flipped(SHAPE, 4), raw.astype(np.float32)
    scaling = Scaling.fit(raw, "standardize")
    serving = serving_model(model, scaling, SHAPE, "float32", ("a", "b", "c", "d"))
    wanted = model.predict_on_batch(scaling.apply(raw))
    assert np.abs(np.asarray(serving(pixels)) - wanted).max() <= 1e-6
    assert np.abs(np.asarray(model(scaling.apply(raw))) - wanted).max() > 1e-3


def test_a_run_is_exported_by_the_command(trained: Path, here: Path) -> None:
    """It goes into the run's folder, and says how far it is off."""
    shutil.copytree(trained, "run")
    done = CliRunner().invoke(app, ["export", "run", "--to", "saved-model"])
    path, line = done.stdout.splitlines()
    assert Path(path) == here / "run" / "saved-model" / "serving.saved-model"
    assert "read back: at most" in line
    assert "from serving.keras in a probability (70 images of test, the same classes)" in line
    error, hint = failure(run("export", "run", "--to", "onnx", "--out", "run"), 2)
    assert "run: already exists" in error
    assert hint == "name another DIR"
    assert failure(run("export", "nothing", "--to", "litert"))[0].endswith("no finished run")


@pytest.mark.parametrize(
    ("to", "module", "package"),
    [("onnx", "tf2onnx", "tf2onnx"), ("litert", "ai_edge_litert", "ai-edge-litert")],
)
def test_a_missing_package_is_named_at_once(
    to: str, module: str, package: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter, and the runtime that reads it back, are looked for before anything is done."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as refused:
        pixelprep.export_model(trained, "out", to)
    assert refused.value.message == f"export to {to} needs {package}, which is not installed"
    assert refused.value.hint == install_command("portable")
    assert not Path("out").exists()


# With the runtimes, which CI lacks


def in_tensorflow(path: Path) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return what TensorFlow makes of it, through Keras's layer."""
    import keras

    layer = keras.layers.TFSMLayer(path, call_endpoint="serve")
    return lambda raw: np.asarray(layer(raw))


def in_onnxruntime(path: Path) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return what ONNX Runtime makes of it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = session.get_modelmeta().custom_metadata_map["class_names"]
    assert json.loads(names) == ["0", "1", "2", "3"]
    return lambda raw: session.run(None, {"raw_pixels": raw})[0]


def in_litert(path: Path) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return what LiteRT makes of it."""
    from ai_edge_litert.interpreter import Interpreter

    with zipfile.ZipFile(path) as packed:
        assert json.loads(packed.read("classes.json")) == ["0", "1", "2", "3"]
    interpreter = Interpreter(str(path))

    def answer(raw: NDArray[Any]) -> NDArray[Any]:
        given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        interpreter.resize_tensor_input(given["index"], raw.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], raw)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(found["index"]))

    return answer


def of_type(dtype: str) -> pixelprep.Arrays:
    """Return a little data of this type; floats are from -1 to 1.55."""
    if dtype != "float32":
        return arrays(shape=SHAPE, dtype=dtype)
    (x, y), (x_test, y_test) = (arrays(n, seed=n, shape=SHAPE).train for n in (40, 20))
    train, test = (np.asarray(images, np.float32) / 100 - 1 for images in (x, x_test))
    return pixelprep.Arrays("floats", (train, np.asarray(y)), (test, np.asarray(y_test)))


NEEDED = dict(
    zip(MODEL_FORMATS, ((), ("tf2onnx", "onnxruntime"), ("ai_edge_litert",)), strict=True)
)
READERS = dict(zip(MODEL_FORMATS, (in_tensorflow, in_onnxruntime, in_litert), strict=True))


CASES = [("uint8", one) for one in [*options(), {"dtype": "float16"}]]
CASES += product(("uint16", "float32"), ({"mode": "standardize", "per": per} for per in PER))


@pytest.fixture(params=MODEL_FORMATS)
def to(request: pytest.FixtureRequest) -> str:
    """Return a format whose packages are there."""
    for module in NEEDED[request.param]:
        pytest.importorskip(module, reason="the extra `portable` is not installed")
    return str(request.param)


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "one"), CASES, ids=str)
def test_each_runtime_answers_as_serving_keras(
    dtype: str, one: dict[str, Any], to: str, here: Path
) -> None:
    """For every scaling, of batches of any size, within 0.00005 of a probability; the export has
    said by how much.
    """
    entry = pixelprep.prepare(of_type(dtype), quiet=True, **one)
    trained = train_on(entry, here / "run")
    done = pixelprep.export_model(trained, "out", to, quiet=True)
    raw, wanted = raw_and_wanted(trained, entry)
    answer = READERS[to](done.path / done.model)
    batches = np.split(raw.astype(np.float32), [1, 8])
    found = np.concatenate([answer(batch) for batch in batches])
    largest = np.abs(found - wanted).max()
    assert largest <= 5e-5
    assert done.largest_difference == pytest.approx(largest, abs=1e-5)


@pytest.mark.long
def test_programs_of_the_page(to: str, here: Path) -> None:
    """Each program of docs/serving.md gets what `serving.keras` answers, and the classes' names."""
    import keras

    trained = train_on(pixelprep.prepare("sample", quiet=True), here / "digits")
    pixelprep.export_model(trained, trained / to, to, quiet=True)
    names: dict[str, Any] = {}
    exec(programs("serving.md")[MODEL_FORMATS.index(to)], names)
    serving = keras.saving.load_model(trained / "serving.keras")
    wanted = serving.predict_on_batch(names["raw"].astype(np.float32))
    assert np.abs(names["probabilities"] - wanted).max() <= 5e-5
    assert names["classes"] == list("0123456789")
    check_page(trained / to)


@pytest.mark.long
def test_a_model_with_augmentation_answers_as_serving_keras(to: str, here: Path) -> None:
    """Keras's own export leaves RandomFlip at work, which ONNX has not at all."""
    entry = pixelprep.prepare(arrays(shape=SHAPE), quiet=True)
    trained = train_on(entry, here / "run", "tests.helpers.models:flipped")
    assert pixelprep.export_model(trained, "out", to, quiet=True).largest_difference <= 5e-5


@pytest.mark.long
def test_an_operation_that_a_format_lacks_is_named(to: str, here: Path) -> None:
    """Whether the converter finds it out or the runtime, it is one line, and nothing is there."""
    entry = pixelprep.prepare(arrays(shape=SHAPE), quiet=True)
    trained = train_on(entry, here / "run", "tests.helpers.models:inverse")
    if to == "saved-model":
        assert pixelprep.export_model(trained, "out", to, quiet=True).largest_difference <= 5e-5
        return
    with pytest.raises(TrainError, match=f"`to={to}` cannot have this model: it has no operation"):
        pixelprep.export_model(trained, "out", to, quiet=True)
    assert not Path("out").exists()


@pytest.mark.long
def test_what_needs_float64_is_refused(to: str, here: Path) -> None:
    """Pixels around a billion are alike for float32, so ONNX and LiteRT would answer otherwise: the
    difference is said, and nothing is there. A SavedModel has float64.
    """
    random = np.random.default_rng(5)
    labels = np.arange(120) % 3
    images = 1e9 + labels[:, None, None, None] + random.normal(0, 0.1, (120, 4, 4, 1))
    source = pixelprep.Arrays("far", (images, labels), (images[:60], labels[:60]))
    entry = pixelprep.prepare(source, quiet=True)
    trained = pixelprep.train(
        entry, epochs=10, batch_size=8, model=TINY, run_dir=here / "run", quiet=True
    ).run
    if to == "saved-model":
        assert pixelprep.export_model(trained, "out", to).largest_difference <= 1e-6
        return
    with pytest.raises(TrainError, match=r"differs from its serving\.keras by 0") as refused:
        pixelprep.export_model(trained, "out", to)
    assert "to=saved-model" in str(refused.value.hint)
    assert [path.name for path in here.iterdir() if "out" in path.name] == []
