"""`serving.keras`, `evaluate` and `predict`: raw pixels in, the training model's answers out."""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pixelprep
from pixelprep import Arrays, Entry, Scaling, TrainError, UsageError
from pixelprep.numerics.modes import plain_modes
from pixelprep.numerics.scaling import PER, fixed_scaling
from pixelprep.reports.results import TrainResult
from pixelprep.training import predict
from pixelprep.training.evaluation_data import labels_of_run
from pixelprep.training.run_folder import load_finished
from pixelprep.training.serving import serving_model
from pixelprep.training.train import train
from tests.helpers.cli import failure, run
from tests.helpers.data import arrays
from tests.helpers.process import execute
from tests.helpers.training import TINY

SHAPE = (12, 11, 3)
RECIPES = [*product(plain_modes(), PER)]
NAMES = ("a cat/dog", 'a "ü" \\', "1")


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
    import keras

    same = keras.Sequential(
        [keras.Input(SHAPE, dtype=stored), keras.layers.Activation("linear", dtype=stored)]
    )
    serving_model(same, scaling, SHAPE, stored, NAMES).save(folder / "serving.keras")
    loaded = keras.saving.load_model(folder / "serving.keras", safe_mode=True)
    found: NDArray[Any] = loaded.predict_on_batch(raw)
    return found


def cases() -> Iterator[Any]:
    """Yield types of raw and of stored pixels, and recipes; long ones are those that compute
    nothing that the others do not.
    """
    kinds = ("uint8", "float32"), ("uint16", "float32"), ("float32", "float32"), ("int8", "float16")
    for (raw, stored), (mode, per) in product(kinds, RECIPES):
        telling = raw == "uint8" or (mode == "standardize" and per in ("pixel", "image"))
        yield pytest.param(raw, stored, mode, per, marks=[] if telling else pytest.mark.long)


@pytest.mark.parametrize(("dtype", "stored", "mode", "per"), list(cases()))
def test_it_scales_as_the_entry_does(
    dtype: str, stored: str, mode: str, per: str, tmp_path: Path
) -> None:
    """For every mode and `per` the values are the stored ones, bit for bit; in float16 too, where
    TensorFlow by itself would round twice, but for the last bit of what lies below 2**-14, where
    float16 has fewer. What is 0 but for rounding, in an image of one value, may differ by that.
    """
    raw = raw_pixels(dtype, 1000 if stored == "float16" else 40)
    for rescale in {False, dtype == "uint8"}:
        scaling = Scaling.fit(raw, mode, per=per, rescale=rescale)
        found, wanted = what_it_scales(scaling, stored, tmp_path, raw), scaling.apply(raw, stored)
        assert found.dtype == wanted.dtype
        exact = (stored != "float16") | (np.abs(wanted) >= 2.0**-14)
        off = 2.0**-24 if stored == "float16" else 1e-7 * max(1, np.abs(raw[3]).max())
        exact[3] = False
        assert (found[exact] == wanted[exact]).all()
        assert np.abs(found[~exact] - wanted[~exact]).max() <= off


def test_it_scales_as_an_entry_of_a_given_scaling_does(tmp_path: Path) -> None:
    """Shift and divisor that were given are those of each mode, bit for bit."""
    raw = raw_pixels("uint8")
    for mode in ("center", "normalize"):
        scaling = fixed_scaling(mode, "dataset", 255, "uint8", [0.3], [0.7])
        found = what_it_scales(scaling, "float32", tmp_path, raw)
        assert np.array_equal(found, ((raw / 255 - 0.3) / 0.7).astype(np.float32))
        assert np.array_equal(found, scaling.apply(raw))


MORE: list[dict[str, Any]] = [
    *({"mode": "fixed", "preset": name} for name in ("imagenet", "keras-tf", "keras-caffe", "raw")),
    {"mode": "normalize", "range": (-1, 1)},
    {"mode": "normalize", "range": (0.1, 0.7), "limits": "data", "per": "image"},
    {"mode": "robust", "quantiles": (0.01, 0.99), "clip": True},
    {"mode": "robust", "per": "dataset", "dtype": "float16"},
]


@pytest.mark.parametrize("options", MORE, ids=lambda one: "-".join(map(str, one.values())))
def test_it_follows_constants_ranges_and_quantiles(options: dict[str, Any], tmp_path: Path) -> None:
    """It takes raw RGB, and turns, clips and maps it itself: the stored values, bit for bit."""
    raw = raw_pixels("uint8", 200)
    source = Arrays("little", (raw, np.arange(len(raw)) % 2))
    entry = pixelprep.prepare(source, quiet=True, **options)
    wanted = entry.train.to_numpy()[0]
    found = what_it_scales(entry.scaling, str(wanted.dtype), tmp_path, raw)
    assert found.dtype == wanted.dtype
    smallest = 2.0**-14 if wanted.dtype == np.float16 else 0.0  # below, the last bit may differ
    assert (found == wanted)[np.abs(wanted) >= smallest].all()


def test_presets_equal_those_of_keras() -> None:
    """Keras's `preprocess_input` in its three modes, of float64 and rounded once, is what is
    stored, bit for bit, for every value. In float32, as Keras does with integers, its roundings
    show: at most two, eight and three halves of the last bit of numbers below 2, 4 and 256.
    """
    from keras.applications.imagenet_utils import preprocess_input

    x = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=-1)
    x[..., 1] = x[::-1, ..., 1]
    source = Arrays("values", (x, np.arange(256) % 2))
    for mode, halves, last in (("tf", 2, 2.0**-23), ("torch", 8, 2.0**-22), ("caffe", 3, 2.0**-16)):
        entry = pixelprep.prepare(source, mode="fixed", preset=f"keras-{mode}", quiet=True)
        stored = entry.train.to_numpy()[0]
        keras64 = preprocess_input(x.astype(np.float64), "channels_last", mode)
        assert np.array_equal(keras64.astype(np.float32), stored)
        keras32 = preprocess_input(x.copy(), "channels_last", mode)
        assert np.abs(keras32.astype(np.float64) - stored).max() <= halves * last / 2


@pytest.mark.long
def test_a_clipped_run_is_evaluated_on_its_own_entry(tmp_path: Path) -> None:
    """The stored images are taken, whose raw pixels are gone: the training's very accuracy."""
    entry = pixelprep.prepare(
        arrays(shape=SHAPE), mode="robust", quantiles=(0.05, 0.95), clip=True, quiet=True
    )
    result = train(entry, epochs=1, model=TINY, run_dir=tmp_path / "run", quiet=True)
    again = pixelprep.evaluate(tmp_path / "run", entry, quiet=True)
    assert again.exact
    assert again.accuracy == pytest.approx(result.test_accuracy, abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_plain_keras_scales_as_the_entry_does(backend: str, tmp_path: Path) -> None:
    """Keras alone, also on PyTorch or JAX, gets the very values that are stored, too."""
    pytest.importorskip(backend, reason=f"the extra `{backend}` is not installed")
    import keras

    raw = raw_pixels("uint8")
    np.save(tmp_path / "raw.npy", raw)
    for mode, per in RECIPES:
        scaling = Scaling.fit(raw, mode, per=per)
        np.save(tmp_path / f"{mode}-{per}.npy", scaling.apply(raw))
        same = keras.Sequential([keras.Input(SHAPE), keras.layers.Activation("linear")])
        serving_model(same, scaling, SHAPE, "float32", NAMES).save(tmp_path / f"{mode}-{per}.keras")
    code = """
import sys
sys.modules["pixelprep"] = None  # importing it fails
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


def test_it_takes_any_number_as_it_is(tmp_path: Path) -> None:
    """Nothing is cut to whole numbers or wrapped at the raw type's limits; names of classes with a
    slash, a quote or an accent come back from plain Keras.
    """
    import keras

    raw = raw_pixels("uint8")
    scaling = Scaling.fit(raw, "standardize")
    odd = np.full((1, *SHAPE), 100.9, np.float32)
    odd[0, 0, :4, 0] = 0.999, 1000, -3, 70_000
    wanted = ((odd.astype(np.float64) - scaling.mean) / scaling.std).astype(np.float32)
    assert (what_it_scales(scaling, "float32", tmp_path, odd) == wanted).all()
    loaded = keras.saving.load_model(tmp_path / "serving.keras", safe_mode=True)
    assert json.loads(loaded.output_names[0]) == list(NAMES)
    for dtype in ("int16", "uint16", "int64", "float16"):
        assert (loaded.predict(raw.astype(dtype), verbose=0) == scaling.apply(raw)).all()


def test_a_constant_image_is_harmless(tmp_path: Path) -> None:
    """An image of one value has no deviation; large ones, whose squares are not exact, neither."""
    import keras

    raw = np.full((2, 300, 300, 1), 65_535, np.uint16)
    raw[1, 0, 0, 0] = 0
    same = keras.Sequential([keras.Input(raw.shape[1:]), keras.layers.Activation("linear")])
    scaling = Scaling.fit(raw, "standardize", per="image")
    serving = serving_model(same, scaling, raw.shape[1:], "float32", NAMES)
    found = serving.predict(raw, verbose=0)
    assert np.abs(found[0]).max() < 1e-6
    assert np.allclose(found[1], scaling.apply(raw)[1], rtol=1e-6)


def prepared(**choices: Any) -> Entry:
    """Return a prepared entry of the same images as `entry`'s."""
    return pixelprep.prepare(arrays(300, 70, (12, 12, 1)), **choices)


@pytest.fixture(scope="module")
def trained(entry: Entry, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Return a run of the reference CNN."""
    return train(entry, epochs=1, run_dir=tmp_path_factory.mktemp("runs") / "run", quiet=True)


def raw_of(entry: Entry) -> NDArray[Any]:
    """Return the raw test images, as the entry gives them back."""
    images, _ = entry.test.to_numpy()
    own = (entry.test.mean, entry.test.std) if entry.per == "image" else ()
    return entry.scaling.invert(images, *own)


def test_a_run_serves_what_it_has_trained(entry: Entry, trained: TrainResult) -> None:
    """The two models of a run agree, once plain Keras has loaded them in its safe mode; nothing of
    pixelprep is in the file.
    """
    import keras

    model, serving = (
        keras.saving.load_model(trained.run / name, safe_mode=True)
        for name in ("model.keras", "serving.keras")
    )
    wanted = model.predict(entry.test.to_numpy()[0], verbose=0)
    found = serving.predict(raw_of(entry), verbose=0)
    assert serving.inputs[0].dtype == "float32"
    assert json.loads(serving.output_names[0]) == list(entry.class_names)
    assert np.abs(found - wanted).max() <= 1e-6
    assert np.ptp(wanted, axis=0).max() > 1e-3  # they depend on the image
    with zipfile.ZipFile(trained.run / "serving.keras") as file:
        assert "pixelprep" not in file.read("config.json").decode()


# evaluate


def test_evaluating_gives_what_training_found(entry: Entry, trained: TrainResult) -> None:
    """The same accuracy and loss, from raw pixels; recalls add up to it."""
    found = predict.evaluate(trained.run, quiet=True)
    assert found.accuracy == pytest.approx(trained.test_accuracy, abs=1e-6)
    assert found.loss == pytest.approx(trained.test_loss, rel=1e-5)
    assert (found.entry, found.key, found.split) == (entry.path, entry.key, "test")
    assert found.exact is True
    hits = sum(one.images * (one.recall or 0) for one in found.classes)
    assert hits / found.images == pytest.approx(found.accuracy)
    assert found.images == sum(one.images for one in found.classes) == 70
    assert predict.EvaluationResult.from_dict(found.to_dict()) == found
    assert predict.evaluate(trained.run, split="val", quiet=True).images == 60


def test_a_split_that_is_not_there_is_named_as_typed(trained: TrainResult) -> None:
    """The splits that there are, are listed."""
    plain = prepared()
    with pytest.raises(UsageError, match="`split` 'validation': expected one of train, test") as no:
        predict.evaluate(trained.run, plain.path, split="validation", quiet=True)
    assert no.value.hint == f"leave it out: {plain.path}: it has train, test"


def test_another_scaling_changes_nothing(trained: TrainResult) -> None:
    """The model is evaluated on the raw pixels, so an entry of any recipe gives the same."""
    recipes = [("standardize", "channel"), ("center", "pixel"), ("normalize", "image")]
    entries = [prepared(mode=mode, per=per) for mode, per in recipes]
    found = [predict.evaluate(trained.run, entry.path, quiet=True) for entry in entries]
    assert len({(one.accuracy, one.loss) for one in found}) == 1


def test_evaluate_on_the_command_line(entry: Entry, trained: TrainResult) -> None:
    """A table with each class, or JSON; an entry that the model does not know is refused."""
    folder = str(trained.run)
    done = run("evaluate", folder)
    assert done.returncode == 0, done.stderr
    assert f"test accuracy {trained.test_accuracy:.2%}" in done.stdout
    answer = json.loads(run("evaluate", folder, str(entry.path), "--json").stdout)
    assert answer["accuracy"] == pytest.approx(trained.test_accuracy, abs=1e-6)
    other = pixelprep.prepare(arrays(50, 20, (14, 12, 1)))
    error, _ = failure(run("evaluate", folder, str(other.path)), 2)
    assert "expected images 12×12×1 uint8" in error
    assert error.endswith("found 14×12×1 uint8")
    error, hint = failure(run("evaluate", folder, "--split", "tets"), 2)
    assert hint == "did you mean 'test'?"
    error, hint = failure(run("evaluate", "no"))
    assert error == f"{Path('no').absolute()}: no finished run"


def test_a_moved_cache_is_found_by_the_key(entry: Entry, trained: TrainResult) -> None:
    """Where the run's entry is no longer, the one of the same key in the cache is taken."""
    shutil.copytree(trained.run, "run")
    metrics = json.loads(Path("run/metrics.json").read_text())
    Path("run/metrics.json").write_text(json.dumps(metrics | {"entry": "/nowhere"}))
    cache = entry.path.parent.parent
    assert predict.evaluate("run", cache_dir=cache, quiet=True).entry == entry.path


@pytest.mark.long
def test_a_large_offset_loses_nothing() -> None:
    """Pixels around a billion, which float32 rounds to multiples of 64, are told apart by
    `evaluate` as they were in training.
    """
    random = np.random.default_rng(5)
    labels = np.arange(120) % 3
    images = 1e9 + labels[:, None, None, None] + random.normal(0, 0.1, (120, 4, 4, 1))
    source = pixelprep.Arrays("far", (images, labels), (images[:60], labels[:60]))
    trained = train(source, epochs=30, batch_size=8, model=TINY, run_dir="run", quiet=True)
    found = predict.evaluate("run", quiet=True)
    assert found.accuracy == pytest.approx(trained.test_accuracy, abs=1e-6)
    assert found.accuracy > 0.9
    assert found.loss == pytest.approx(trained.test_loss, rel=1e-5)


def test_pixels_that_are_scaled_already_are_refused(trained: TrainResult) -> None:
    """An entry of floats from 0 to 1 is not what a model of integers takes; the hint says why."""
    source = arrays(80, 40, (12, 12, 1))
    assert source.test
    (x, y), (x_test, y_test) = source.train, source.test
    unit = np.float32(255)
    scaled = pixelprep.Arrays("little", (x / unit, y), (x_test / unit, y_test))
    other = pixelprep.prepare(scaled, quiet=True)
    with pytest.raises(UsageError, match="expected images 12×12×1 uint8") as refused:
        predict.evaluate(trained.run, other, quiet=True)
    assert refused.value.hint == "its pixels, 0 to 1, look scaled already: prepare the raw ones"


def test_what_is_no_probability_is_never_shown(entry: Entry, trained: TrainResult) -> None:
    """A run of another pixelprep whose model ends without softmax is refused."""
    import keras

    shutil.copytree(trained.run, "run")
    last = keras.layers.Dense(4, kernel_initializer="ones")
    layers = keras.Input((12, 12, 1)), keras.layers.Flatten(), last
    keras.Sequential(layers).save("run/model.keras")
    with pytest.raises(TrainError, match="its outputs are no probabilities"):
        predict.evaluate("run", entry, quiet=True)


# predict


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images by class, of several sizes; ``run`` beside it was trained on it."""
    random, top = np.random.default_rng(0), tmp_path_factory.mktemp("pictures")
    for name, shade in (("dark", 40), ("light", 210)):
        folder = top / "photos" / name
        folder.mkdir(parents=True)
        for i in range(40):
            size = (14 + i % 5, 16 + i % 3, 3)
            pixels = np.clip(random.normal(shade, 20, size), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    options: dict[str, Any] = {"size": "12x12", "color": "grey", "test_fraction": 0.2}
    entry = pixelprep.prepare(top / "photos", quiet=True, cache_dir=top / "cache", **options)
    train(entry, epochs=10, batch_size=8, model=TINY, run_dir=top / "run", quiet=True)
    return top / "photos"


def test_pictures_are_seen_as_the_data_was(photos: Path) -> None:
    """Files and folders are resized and greyed as the training images, and classified by name."""
    import keras

    result = predict.predict(photos.parent / "run", [photos / "light", photos / "dark/00.png"])
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
    serving = keras.saving.load_model(photos.parent / "run" / "serving.keras")
    [wanted] = serving.predict(np.asarray(picture)[None, :, :, None], verbose=0)
    assert told[-1].top[0].probability == pytest.approx(wanted.max(), abs=1e-6)


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_predict_reads_archives_and_names_without_endings(photos: Path, kind: str) -> None:
    """Pictures in an archive, and those whose names have no ending, are predicted as files are."""
    folder = Path("some")
    folder.mkdir()
    shutil.copy(photos / "dark/00.png", folder / "a.png")
    shutil.copy(photos / "light/00.png", folder / "b")
    (folder / "LICENSE").write_text("text")
    wanted = predict.predict(
        photos.parent / "run", [photos / "dark/00.png", photos / "light/00.png"]
    )
    archive = shutil.make_archive("more", kind, folder)
    for top in (str(folder), archive):
        found = predict.predict(photos.parent / "run", top)
        assert [one.path for one in found.images] == [f"{top}/a.png", f"{top}/b"]
        assert [one.top for one in found.images] == [one.top for one in wanted.images]


@pytest.mark.long
def test_predict_on_the_command_line(photos: Path) -> None:
    """A line an image, or JSON; what is no picture is named, and nothing else is said."""
    asked = ("predict", str(photos.parent / "run"))
    Image.open(photos / "dark/00.png").save("one.jpg")
    done = run(*asked, "one.jpg")
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith("one.jpg  ")
    answer = json.loads(run(*asked, str(photos), "--top", "1", "--json").stdout)
    assert len(answer["images"]) == 80
    assert all(len(one["top"]) == 1 for one in answer["images"])
    Path("some/.ipynb_checkpoints").mkdir(parents=True)
    for name in ("a.png", "._a.png", ".ipynb_checkpoints/a-checkpoint.png"):
        shutil.copy(photos / "dark/00.png", Path("some", name))
    assert len(run(*asked, "some").stdout.splitlines()) == 1  # what is hidden is left out
    Path("not.png").write_text("text")
    error, hint = failure(run(*asked, "not.png"))
    assert error == "not.png: cannot read the image: not an image"
    assert "--on-error" not in hint
    assert failure(run(*asked, "nope.png"))[0] == "nope.png: no such file"
    Path("empty").mkdir()
    assert failure(run(*asked, "empty"), 2)[0].startswith("no image was given")
    Image.fromarray(np.zeros((12, 12), np.uint16)).save("deep.png")
    assert "is 12×12×1 uint16, but what" in failure(run(*asked, "deep.png"))[0]


def test_long_lists_of_classes_are_cut_in_errors() -> None:
    """Of many classes that are not those of the run, the first few and the first odd one show."""
    images = np.arange(200, dtype=np.uint16).repeat(4).reshape(200, 2, 2)
    names = [f"kind {i}" for i in range(200)]
    given = [names, [*names[:150], "odd", *names[151:]]]
    made = [
        pixelprep.prepare(
            Arrays("many", (images, np.arange(200)), class_names=tuple(one)), quiet=True
        )
        for one in given
    ]
    run_of: Any = SimpleNamespace(manifest=made[0].manifest, folder=Path("run"), read_by={})
    with pytest.raises(UsageError, match=r"kind 4, … \(200 in all\)") as caught:
        labels_of_run(run_of, made[1], "train", Path())
    assert caught.value.message.endswith("found odd, too")
    assert len(caught.value.message) < 400


def test_a_damaged_picture_stops_no_folder(photos: Path) -> None:
    """The others are predicted; it is named on the command line and in the result, with why."""
    shutil.copytree(photos / "dark", "some")
    Path("some/05.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save("some/99.png")
    asked = ("predict", str(photos.parent / "run"), "some")
    done = run(*asked)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 39
    told = "not predicted: 2 of 41 images, such as some/05.png: cannot read the image: not an image"
    assert told in done.stderr
    answer = json.loads(run(*asked, "--json").stdout)
    assert len(answer["images"]) == 39
    assert [one["path"] for one in answer["unread"]] == ["some/05.png", "some/99.png"]
    assert answer["unread"][1]["reason"] == "has transparency, alpha 0 to 0"
    result = predict.predict(photos.parent / "run", "some", quiet=True)
    assert predict.PredictResult.from_dict(result.to_dict()) == result
    error, hint = failure(run(*asked[:2], "some/99.png"))
    assert error == "some/99.png: has transparency, alpha 0 to 0"
    assert hint == "the training images had no transparency: lay these on a background first"


@pytest.mark.parametrize(
    ("decode", "expected"),
    [
        ({"orientation": "followed", "alpha": "white"}, ("follow", "white", None, "grey")),
        ({"orientation": "ignored", "alpha": "dropped"}, ("ignore", "drop", None, "grey")),
        ({"alpha": "opaque", "page": "first"}, ("follow", None, "first", "grey")),
        ({}, ("follow", None, None, "grey")),
        (
            {"size": [6, 6], "fit": "crop", "filter": "box"},
            ("follow", None, None, "grey", "crop", "box"),
        ),
    ],
)
def test_pictures_are_decoded_as_the_data_was(
    photos: Path, decode: dict[str, Any], expected: tuple[str | None, ...]
) -> None:
    """What the manifest has of how files were decoded holds for predicting too."""
    finished = load_finished(photos.parent / "run")
    source = replace(finished.manifest.source, decode=decode)
    changed = replace(finished, manifest=replace(finished.manifest, source=source))
    decoder = predict._decoder(changed)
    found = decoder.orientation, decoder.alpha, decoder.page, decoder.color
    fit = expected[4:] or ("stretch", "bilinear")
    assert (*found, decoder.fit, decoder.filter) == (*expected[:4], *fit)


def test_numbers_of_scientific_files_are_decoded_as_the_data_was(photos: Path) -> None:
    """A model of 13 bands of floats takes files of these: no colours are made of them."""
    finished = load_finished(photos.parent / "run")
    manifest = finished.manifest
    manifest = replace(
        manifest,
        source=replace(manifest.source, decode={"orientation": "followed"}),
        scaling=replace(manifest.scaling, raw_dtype="float32"),
        splits={"train": replace(manifest.splits["train"], shape=(9, 12, 12, 13))},
    )
    decoder = predict._decoder(replace(finished, manifest=manifest))
    assert (str(decoder.format), decoder.color) == ("12×12×13 float32", None)


def test_a_kept_alpha_is_given_to_the_model(tmp_path: Path) -> None:
    """A model of four channels, trained with `alpha=keep`, takes pictures with transparency."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "icons" / name).mkdir(parents=True)
        for i in range(6):
            pixels = random.integers(0, 256, (12, 12, 4), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "icons" / name / f"{i}.png")
    entry = pixelprep.prepare(tmp_path / "icons", alpha="keep", test_fraction=0.5, quiet=True)
    finished = train(entry, epochs=1, model=TINY, run_dir="icons-run", quiet=True)
    result = predict.predict(finished.run, tmp_path / "icons", quiet=True)
    assert (len(result.images), result.unread) == (12, ())
    Image.fromarray(pixels[..., :3]).save("opaque.png")
    assert len(predict.predict(finished.run, "opaque.png", quiet=True).images) == 1


def test_no_picture_has_two_channels(trained: TrainResult) -> None:
    """A model of what no PNG can hold names it; `test_floats_…` in test_new_data has a TIFF."""
    shutil.copytree(trained.run, "run")
    other = pixelprep.prepare(arrays(shape=(12, 12, 2)))
    for name, content in other.manifest.to_files().items():
        Path("run/entry", name).write_bytes(content)
    Image.new("L", (12, 12)).save("a.png")
    with pytest.raises(pixelprep.SourceError, match="12×12×2 uint8"):
        predict.predict("run", ["a.png"])


# A run's model, trained further


def test_a_run_is_trained_further(entry: Entry, trained: TrainResult) -> None:
    """`--model RUN` begins with the weights that the run ended with."""
    second = train(entry, epochs=1, model=trained.run, run_dir="second", quiet=True)
    before, after = trained.history["loss"][0], second.history["loss"][0]
    assert before is not None
    assert after is not None
    assert after < before
    error, _ = failure(run("train", str(entry.path), "--model", "nothing", "--epochs", "1"), 2)
    assert error.endswith("expected module:function, or a run's folder")


@pytest.mark.parametrize("other", [{"mode": "center"}, {"per": "pixel"}, {"val_fraction": 0.5}])
def test_a_model_of_another_scaling_is_refused(other: dict[str, Any], trained: TrainResult) -> None:
    """Training further needs the very same scaling: mode, `per` and statistics."""
    with pytest.raises(TrainError, match="has seen pixels scaled by standardize per channel"):
        train(prepared(**other), model=trained.run, run_dir="more")
    assert not list(Path().glob("more*"))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("metrics.json", None, "metrics.json"),
        ("entry/manifest.json", None, "entry/manifest.json"),
        ("model.keras", None, "model.keras: cannot load the model"),
        ("metrics.json", {"test_accuracy": "high"}, "test_accuracy: expected float, got 'high'"),
        ("metrics.json", {"epochs": 0}, "epochs=0"),
        ("metrics.json", {"another": 1}, "unknown fields: another"),
    ],
)
def test_what_is_not_a_whole_run_says_so(
    name: str, change: dict[str, Any] | None, says: str, trained: TrainResult
) -> None:
    """What is missing is named; so is the field of what another program, or version, wrote."""
    shutil.copytree(trained.run, "run")
    path = Path("run", name)
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(TrainError, match=says) as refused:
        predict.evaluate("run", quiet=True)
    older = "not a finished run, or one of an older"
    assert (older in refused.value.message) is (name != "model.keras")
