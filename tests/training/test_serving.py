"""`serving.keras`, `evaluate` and `predict`: raw pixels in, the training model's answers out."""

import json
import os
import sys
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pixelprep
from pixelprep import Entry, Scaling, TrainError, UsageError
from pixelprep.numerics.scaling import MODES, PER
from pixelprep.reports.results import TrainResult
from pixelprep.training import predict
from pixelprep.training.models import reference_cnn
from pixelprep.training.run_folder import load_finished
from pixelprep.training.serving import serving_model
from pixelprep.training.train import train
from tests.helpers.cli import failure, run
from tests.helpers.data import arrays
from tests.helpers.process import execute

keras = pytest.importorskip("keras", reason="the extra `train` is not installed")

SHAPE = (12, 11, 3)
RECIPES = [*product(MODES, PER)]


def raw_pixels(dtype: str, count: int = 40) -> NDArray[Any]:
    """Return random images of this type, one of them constant."""
    random = np.random.default_rng(3)
    if dtype.startswith("float"):
        images = random.normal(3, 2, (count, *SHAPE)).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        images = random.integers(limits.min, limits.max, (count, *SHAPE), dtype, endpoint=True)
    images[3] = images[3, 0, 0, 0]
    return images


def what_it_scales(scaling: Scaling, stored: str, folder: Path, raw: NDArray[Any]) -> NDArray[Any]:
    """Return what a serving model, loaded by plain Keras, hands to a model that changes nothing."""
    same = keras.Sequential(
        [keras.Input(SHAPE, dtype=stored), keras.layers.Activation("linear", dtype=stored)]
    )
    serving_model(same, scaling, SHAPE, stored).save(folder / "serving.keras")
    loaded = keras.saving.load_model(folder / "serving.keras", safe_mode=True)
    found: NDArray[Any] = loaded.predict_on_batch(raw)
    return found


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("mode", "per"), RECIPES)
def test_it_scales_as_the_entry_does(mode: str, per: str, dtype: str, tmp_path: Path) -> None:
    """For every mode and `per` the values are the stored ones, bit for bit in float32.

    Only what is 0 but for rounding, in an image of one value, may differ by that.
    """
    raw = raw_pixels(dtype)
    for rescale in {False, dtype == "uint8"}:
        scaling = Scaling.fit(raw, mode, per=per, rescale=rescale)
        found, wanted = what_it_scales(scaling, "float32", tmp_path, raw), scaling.apply(raw)
        assert found.dtype == wanted.dtype
        others = np.arange(len(raw)) != 3
        assert (found[others] == wanted[others]).all()
        assert np.abs(found[3] - wanted[3]).max() < 1e-7 * max(1, np.abs(raw[3]).max())


@pytest.mark.parametrize(("mode", "per"), RECIPES)
def test_it_scales_to_float16_as_the_entry_does(mode: str, per: str, tmp_path: Path) -> None:
    """In float16 too, where TensorFlow by itself would round twice; but for the last bit of what
    lies below 2**-14, where float16 has fewer.
    """
    raw = raw_pixels("int8", 1000)
    scaling = Scaling.fit(raw, mode, per=per)
    found = what_it_scales(scaling, "float16", tmp_path, raw)
    wanted = scaling.apply(raw, np.float16)
    assert found.dtype == wanted.dtype
    plain = np.abs(wanted) >= 2.0**-14
    plain[3] = False
    assert (found[plain] == wanted[plain]).all()
    assert np.abs(found[~plain] - wanted[~plain]).max() <= 2.0**-24


@pytest.mark.long
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_backends_scale_as_the_entry_does(backend: str, tmp_path: Path) -> None:
    """Keras on PyTorch or JAX gets the very values that are stored, too."""
    pytest.importorskip(backend, reason=f"the extra `{backend}` is not installed")
    raw = raw_pixels("uint8")
    np.save(tmp_path / "raw.npy", raw)
    for mode, per in RECIPES:
        scaling = Scaling.fit(raw, mode, per=per)
        np.save(tmp_path / f"{mode}-{per}.npy", scaling.apply(raw))
        same = keras.Sequential([keras.Input(SHAPE), keras.layers.Activation("linear")])
        serving_model(same, scaling, SHAPE, "float32").save(tmp_path / f"{mode}-{per}.keras")
    code = """
import keras, numpy as np, pathlib
raw = np.load("raw.npy")
for path in pathlib.Path().glob("*.keras"):
    found = keras.saving.load_model(path).predict(raw, verbose=0)
    assert (found == np.load(path.with_suffix(".npy"))).all(), path
print(keras.backend.backend())
"""
    settings = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1"}
    done = execute(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ | settings
    )
    assert done.stdout == f"{backend}\n"


def test_a_constant_image_is_harmless(tmp_path: Path) -> None:
    """An image of one value has no deviation; large ones, whose squares are not exact, neither."""
    raw = np.full((2, 300, 300, 1), 65_535, np.uint16)
    raw[1, 0, 0, 0] = 0
    same = keras.Sequential([keras.Input(raw.shape[1:]), keras.layers.Activation("linear")])
    scaling = Scaling.fit(raw, "standardize", per="image")
    found = serving_model(same, scaling, raw.shape[1:], "float32").predict(raw, verbose=0)
    assert np.abs(found[0]).max() < 1e-6
    assert np.allclose(found[1], scaling.apply(raw)[1], rtol=1e-6)


def small(**choices: Any) -> Entry:
    """Return a prepared entry of random images that are large enough for the CNN."""
    return pixelprep.prepare(arrays(200, 70, (12, 12, 1)), **choices)


def trained(entry: Entry, folder: Path, **settings: Any) -> TrainResult:
    """Return a short run."""
    return train(entry, epochs=1, run_dir=folder, quiet=True, **settings)


def raw_of(entry: Entry) -> NDArray[Any]:
    """Return the raw test images, as the entry gives them back."""
    images, _ = entry.test.to_numpy()
    own = (entry.test.mean, entry.test.std) if entry.per == "image" else ()
    return entry.scaling.invert(images, *own)


@pytest.mark.parametrize(("mode", "per"), RECIPES)
def test_it_answers_as_the_model_within(mode: str, per: str) -> None:
    """Given raw pixels its predictions are those of the model on scaled ones, to 1e-6."""
    entry = small(mode=mode, per=per)
    keras.utils.set_random_seed(0)
    # Pixels that are not divided by anything would leave nothing to chance.
    small_enough = keras.layers.Rescaling(1e-2 if mode == "center" else 1)
    cnn = reference_cnn((12, 12, 1), 4)
    model = keras.Sequential([keras.Input((12, 12, 1)), small_enough, cnn])
    serving = serving_model(model, entry.scaling, (12, 12, 1), entry.train.dtype)
    assert serving.inputs[0].dtype == "uint8"
    wanted = model.predict_on_batch(entry.test.to_numpy()[0])
    found = serving.predict_on_batch(raw_of(entry))
    assert np.abs(found - wanted).max() <= 1e-6
    assert np.ptp(wanted, axis=0).max() > 1e-3  # they depend on the image


def test_a_run_serves_what_it_has_trained(tmp_path: Path) -> None:
    """The two models of a run agree, once plain Keras has loaded them in its safe mode."""
    entry = small()
    trained(entry, tmp_path / "run")
    model, serving = (
        keras.saving.load_model(tmp_path / "run" / name, safe_mode=True)
        for name in ("model.keras", "serving.keras")
    )
    wanted = model.predict(entry.test.to_numpy()[0], verbose=0)
    found = serving.predict(raw_of(entry), verbose=0)
    assert np.abs(found - wanted).max() <= 1e-6


def test_plain_keras_loads_it(tmp_path: Path) -> None:
    """Nothing of pixelprep is in the file or needed to load it."""
    trained(small(), tmp_path / "run")
    path = tmp_path / "run" / "serving.keras"
    with zipfile.ZipFile(path) as file:
        assert "pixelprep" not in file.read("config.json").decode()
    code = f"""
import sys
sys.modules["pixelprep"] = None  # importing it fails
import keras, numpy as np
model = keras.saving.load_model({str(path)!r})
print(model.predict(np.zeros((2, 12, 12, 1), np.uint8), verbose=0).shape)
"""
    command = [sys.executable, "-c", code]
    done = execute(command, check=True)
    assert done.stdout == "(2, 4)\n"


# evaluate


def test_evaluating_gives_what_training_found(tmp_path: Path) -> None:
    """The same accuracy and loss, from raw pixels; recalls add up to it."""
    entry = small(per="image", val_fraction=0.2)
    metrics = trained(entry, tmp_path / "run")
    found = predict.evaluate(tmp_path / "run", quiet=True)
    assert found.accuracy == pytest.approx(metrics.test_accuracy, abs=1e-6)
    assert found.loss == pytest.approx(metrics.test_loss, rel=1e-5)
    assert (found.entry, found.key, found.split) == (entry.path, entry.key, "test")
    assert found.exact is True
    hits = sum(one.images * (one.recall or 0) for one in found.classes)
    assert hits / found.images == pytest.approx(found.accuracy)
    assert found.images == sum(one.images for one in found.classes) == 70
    assert predict.EvaluationResult.from_dict(found.to_dict()) == found
    assert predict.evaluate(tmp_path / "run", split="val", quiet=True).images == 40


def test_another_scaling_changes_nothing(tmp_path: Path) -> None:
    """The model is evaluated on the raw pixels, so an entry of any recipe gives the same."""
    trained(small(), tmp_path / "run")
    found = [
        predict.evaluate(tmp_path / "run", small(mode=mode, per=per).path, quiet=True)
        for mode, per in [("standardize", "channel"), ("center", "pixel"), ("normalize", "image")]
    ]
    assert found[0].accuracy == found[1].accuracy == found[2].accuracy
    assert found[0].loss == found[1].loss == found[2].loss


def test_evaluate_on_the_command_line(tmp_path: Path) -> None:
    """A table with each class, or JSON; an entry that the model does not know is refused."""
    entry = small()
    metrics = trained(entry, tmp_path / "run")
    done = run("evaluate", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert f"test accuracy {metrics.test_accuracy:.2%}" in done.stdout
    answer = json.loads(run("evaluate", str(tmp_path / "run"), entry.key, "--json").stdout)
    assert answer["accuracy"] == pytest.approx(metrics.test_accuracy, abs=1e-6)
    other = pixelprep.prepare(arrays(50, 20, (14, 12, 1)))
    error, _ = failure(run("evaluate", str(tmp_path / "run"), str(other.path)), 2)
    assert "expected images 12×12×1 uint8" in error
    assert error.endswith("found 14×12×1 uint8")
    error, hint = failure(run("evaluate", str(tmp_path / "run"), "--split", "tets"), 2)
    assert hint == "did you mean 'test'?"
    error, hint = failure(run("evaluate", str(tmp_path / "no")))
    assert error == f"{tmp_path / 'no'}: no finished run"


def test_a_moved_cache_is_found_by_the_key(tmp_path: Path, cache: Path) -> None:
    """Where the run's entry is no longer, the one of the same key in the cache is taken."""
    metrics = trained(small(), tmp_path / "run")
    there = cache.rename(tmp_path / "elsewhere")
    found = predict.evaluate(tmp_path / "run", cache_dir=there, quiet=True)
    assert found.accuracy == pytest.approx(metrics.test_accuracy, abs=1e-6)


# predict


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of images by class, of several sizes, prepared and trained on."""
    random = np.random.default_rng(0)
    for name, shade in (("dark", 40), ("light", 210)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(40):
            size = (14 + i % 5, 16 + i % 3, 3)
            pixels = np.clip(random.normal(shade, 20, size), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    entry = pixelprep.prepare(
        tmp_path / "photos", size="12x12", color="grey", test_fraction=0.2, quiet=True
    )
    train(entry, epochs=10, batch_size=8, run_dir=tmp_path / "run", quiet=True)
    return tmp_path / "photos"


def test_pictures_are_seen_as_the_data_was(photos: Path, tmp_path: Path) -> None:
    """Files and folders are resized and greyed as the training images, and classified by name."""
    result = predict.predict(tmp_path / "run", [photos / "light", photos / "dark/00.png"])
    assert predict.PredictResult.from_dict(result.to_dict()) == result
    told = result.images
    assert [Path(one.path).parent.name for one in told] == ["light"] * 40 + ["dark"]
    likeliest = [one.top[0].class_name for one in told]
    assert np.mean([found == "light" for found in likeliest[:-1]]) > 0.9
    for one in told:
        chances = [top.probability for top in one.top]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert {top.label for top in one.top} == {0, 1}
    picture = Image.open(photos / "dark/00.png").convert("L").resize((12, 12), 2)
    serving = keras.saving.load_model(tmp_path / "run" / "serving.keras")
    [wanted] = serving.predict(np.asarray(picture)[None, :, :, None], verbose=0)
    assert told[-1].top[0].probability == pytest.approx(wanted.max(), abs=1e-6)


def test_predict_on_the_command_line(photos: Path, tmp_path: Path) -> None:
    """A line an image, or JSON; what is no picture is named, and nothing else is said."""
    Image.open(photos / "dark/00.png").save(tmp_path / "one.jpg")
    done = run("predict", str(tmp_path / "run"), str(tmp_path / "one.jpg"))
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith(f"{tmp_path / 'one.jpg'}  ")
    answer = json.loads(
        run("predict", str(tmp_path / "run"), str(photos), "--top", "1", "--json").stdout
    )
    assert len(answer["images"]) == 80
    assert all(len(one["top"]) == 1 for one in answer["images"])
    (tmp_path / "not.png").write_text("text")
    error, hint = failure(run("predict", str(tmp_path / "run"), str(tmp_path / "not.png")))
    assert error == f"{tmp_path / 'not.png'}: cannot read the image: not an image"
    assert "--on-error" not in hint
    error, _ = failure(run("predict", str(tmp_path / "run"), str(tmp_path / "nope.png")))
    assert error == f"{tmp_path / 'nope.png'}: no such file"
    (tmp_path / "empty").mkdir()
    error, _ = failure(run("predict", str(tmp_path / "run"), str(tmp_path / "empty")), 2)
    assert error.startswith("no image was given")
    Image.fromarray(np.zeros((12, 12), np.uint16)).save(tmp_path / "deep.png")
    error, _ = failure(run("predict", str(tmp_path / "run"), str(tmp_path / "deep.png")))
    assert "is 12×12×1 uint16, but what" in error


def test_no_picture_has_two_channels(tmp_path: Path) -> None:
    """A model of what no image file can hold says so."""
    trained(pixelprep.prepare(arrays(100, 30, (12, 12, 2))), tmp_path / "run")
    with pytest.raises(UsageError, match="12×12×2 uint8, which no image file holds"):
        predict.predict(tmp_path / "run", [tmp_path / "a.png"])


# A run's model, trained further


def test_a_run_is_trained_further(tmp_path: Path) -> None:
    """`--model RUN` begins with the weights that the run ended with."""
    entry = small()
    first = trained(entry, tmp_path / "first")
    second = trained(entry, tmp_path / "second", model=str(tmp_path / "first"))
    before, after = first.history["loss"][0], second.history["loss"][0]
    assert before is not None
    assert after is not None
    assert after < before
    done = run("train", entry.key, "--model", str(tmp_path / "nothing"), "--epochs", "1")
    error, _ = failure(done, 2)
    assert error.endswith("expected module:function, or a run's folder")


@pytest.mark.parametrize("other", [{"mode": "center"}, {"per": "pixel"}, {"val_fraction": 0.5}])
def test_a_model_of_another_scaling_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    """Training further needs the very same scaling: mode, `per` and statistics."""
    trained(small(), tmp_path / "run")
    with pytest.raises(TrainError, match="has seen pixels scaled by standardize per channel"):
        trained(small(**other), tmp_path / "more", model=str(tmp_path / "run"))
    assert not list(tmp_path.glob("more*"))


@pytest.mark.parametrize("missing", ["metrics.json", "entry/manifest.json", "serving.keras"])
def test_a_run_that_is_not_whole_says_so(missing: str, tmp_path: Path) -> None:
    """One line names what cannot be read."""
    trained(small(), tmp_path / "run")
    (tmp_path / "run" / missing).unlink()
    error, _ = failure(run("evaluate", str(tmp_path / "run")))
    assert missing in error


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"test_accuracy": "high"}, "test_accuracy: expected float, got 'high'"),
        ({"epochs": 0}, "epochs=0"),
        ({"another": 1}, "unknown fields: another"),
    ],
)
def test_metrics_that_are_not_a_run_s_say_so(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    """What another program, or another version, wrote is refused with the field's name."""
    trained(small(), tmp_path / "run")
    path = tmp_path / "run" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TrainError, match="not a finished run, or one of an older") as refused:
        load_finished(tmp_path / "run")
    assert says in refused.value.message
