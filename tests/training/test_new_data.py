"""`evaluate` of new data: decoded and scaled as the run's, its classes matched by name."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pixelprep
from pixelprep import Arrays, Entry, SourceError, UsageError, evaluate
from pixelprep.training.evaluation_data import entry_of
from pixelprep.training.run_folder import load_finished
from tests.helpers.cli import run
from tests.helpers.data import arrays
from tests.helpers.training import TINY, listening

CLASSES = {"cat": 40, "dog": 120, "owl": 210}  # the shade of each


def draw(folder: Path, seed: int, classes: tuple[str, ...] = tuple(CLASSES), rows: int = 8) -> Path:
    """Write coloured pictures of several sizes into a folder for each class."""
    random = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(rows):
            size = (14 + i % 5, 16 + i % 3, 3)
            pixels = np.clip(random.normal(CLASSES[name], 40, size), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of train and test pictures; ``run`` beside it was trained on it."""
    top = tmp_path_factory.mktemp("photos")
    for seed, split in enumerate(("train", "test")):
        draw(top / "photos" / split, seed)
    options: dict[str, Any] = {"size": "12x12", "color": "grey", "cache_dir": top / "cache"}
    entry = pixelprep.prepare(top / "photos", quiet=True, **options)
    pixelprep.train(entry, model=TINY, epochs=2, batch_size=8, run_dir=top / "run", quiet=True)
    return top / "photos"


@pytest.fixture
def trained(photos: Path) -> Path:
    """Return the run's folder."""
    return photos.parent / "run"


def pixels_of(entry: Entry) -> dict[str, NDArray[Any]]:
    """Return the raw pixels of the test split by class and file."""
    raw = entry.scaling.invert(entry.test.to_numpy()[0])
    names = entry.test.names
    assert names is not None
    return {"/".join(Path(name).parts[-2:]): one for name, one in zip(names, raw, strict=True)}


def own_of(photos: Path) -> Entry:
    """Return the entry of the run."""
    return pixelprep.open(next((photos.parent / "cache" / "photos").iterdir()))


@pytest.mark.parametrize("layout", ["plain", "alone/test"])
def test_the_same_pictures_elsewhere_give_the_same(
    photos: Path, trained: Path, layout: str
) -> None:
    """Without splits, or with test alone: pixels bit for bit, and each class's recall, are those
    of the test split that the run had.
    """
    shutil.copytree(photos / "test", layout)
    own, new = (
        evaluate(trained, own_of(photos), quiet=True),
        evaluate(trained, "./" + layout.split("/")[0], quiet=True),
    )
    assert (new.split, new.images, new.accuracy) == ("test", 24, own.accuracy)
    assert new.classes == own.classes
    assert new.loss == pytest.approx(own.loss, rel=1e-5)
    found, wanted = pixels_of(pixelprep.open(new.entry)), pixels_of(own_of(photos))
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert pixelprep.open(new.entry).scaling.fixed
    again = evaluate(trained, Path(layout.split("/")[0]), quiet=True)
    assert again == new


def test_a_run_is_no_entry_but_names_its_own(photos: Path, trained: Path) -> None:
    """Where an entry is asked for, a run's folder leads to the one that it was trained on; a split
    may be called as data calls it.
    """
    cache = photos.parent / "cache"
    with pytest.raises(pixelprep.EntryError, match="a run of `train`, no entry") as caught:
        pixelprep.open(trained, cache_dir=cache)
    named = str(caught.value.hint).removeprefix("name its entry: ")
    assert pixelprep.open(named, cache_dir=cache).path == own_of(photos).path
    assert evaluate(trained, named, cache_dir=cache, split="Testing", quiet=True).split == "test"


@pytest.mark.long
def test_the_entry_of_a_run_is_prepared_again_as_the_hint_says(photos: Path, trained: Path) -> None:
    """Once it is gone, the command that makes it is given whole, but for where the data is."""
    shutil.copytree(trained, "carried")
    metrics = json.loads(Path("carried/metrics.json").read_text())
    Path("carried/metrics.json").write_text(json.dumps(metrics | {"entry": "/gone"}))
    with pytest.raises(pixelprep.EntryError, match="no entry there, and none of its key") as caught:
        evaluate("carried", cache_dir="empty", quiet=True)
    typed = str(caught.value.hint).partition("from the same data: pixelprep ")[2]
    typed = typed.replace("path/of/photos", str(photos))
    assert run(*typed.split(), "--cache-dir", "empty").returncode == 0
    assert evaluate("carried", cache_dir="empty", quiet=True).images == 24


def test_a_class_may_be_absent(trained: Path) -> None:
    """Labels are matched by name, so that those of the rest stay right; the absent are told."""
    draw(Path("lab"), 5, ("dog", "owl"))
    with listening() as said:
        found = evaluate(trained, "./lab", quiet=True)
    assert "lab: no image of cat" in said
    assert "./lab: decoded as in training: --size 12x12 --color grey" in said
    assert [(one.class_name, one.images) for one in found.classes] == [
        ("cat", 0), ("dog", 8), ("owl", 8)
    ]  # fmt: skip
    seen = pixelprep.predict(trained, ["lab/dog", "lab/owl"], top=1, quiet=True).images
    right = [one.top[0].class_name == Path(one.path).parent.name for one in seen]
    assert found.accuracy == np.mean(right)


def test_a_class_that_the_run_lacks_is_refused_by_name(trained: Path) -> None:
    """Whatever the model would say of it would be wrong."""
    draw(Path("zoo"), 6)
    shutil.move("zoo/owl", "zoo/yak")
    with pytest.raises(UsageError, match="expected classes cat, dog, owl, as") as caught:
        evaluate(trained, "./zoo", quiet=True)
    assert caught.value.message.endswith("was trained on, found yak, too")
    way = "leave their images out, or rename them: `class_map=FILE` with lines CLASS,NEW"
    assert caught.value.hint == way
    Path("map.csv").write_text("yak,owl\n")
    assert evaluate(trained, "./zoo", class_map="map.csv", quiet=True).images == 24


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("RGBA", "the training images had no transparency: lay these on a background first"),
        ("pages", "the training images had one page each: give files of one"),
        ("I;16", "convert the images to uint8 as those were"),
    ],
)
def test_hints_name_nothing_that_the_run_decides(trained: Path, kind: str, way: str) -> None:
    """`prepare` would be told how to read such pictures; `evaluate` takes no such option."""
    picture = Image.new("RGBA" if kind == "RGBA" else "I;16" if kind == "I;16" else "RGB", (12, 12))
    Path("lab/cat").mkdir(parents=True)
    picture.save("lab/cat/0.tif", save_all=True, append_images=[picture] * (kind == "pages"))
    with pytest.raises(SourceError) as caught:
        evaluate(trained, "./lab", quiet=True)
    assert caught.value.hint == way


def test_what_is_new_in_a_folder_counts(trained: Path) -> None:
    """It is read again, though there is an entry of it."""
    draw(Path("lab"), 7)
    assert evaluate(trained, "./lab", quiet=True).images == 24
    shutil.copy("lab/cat/0.png", "lab/cat/more.png")
    assert evaluate(trained, "./lab", quiet=True).images == 25


def test_the_data_of_training_keeps_its_splits(
    photos: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the run was trained on is never counted as test: its own entry is taken, and said; also
    where the folder's name is given without a slash.
    """
    cache = photos.parent / "cache"
    with listening() as said:
        found = evaluate(trained, photos, cache_dir=cache, quiet=True)
    assert found.entry == own_of(photos).path
    assert f"{photos}: {trained} was trained on it: its own splits are taken" in said
    monkeypatch.chdir(photos.parent)
    assert evaluate(trained, "photos", cache_dir=cache, quiet=True) == found


def test_arrays_in_another_order_of_classes(runs_on_arrays: tuple[Path, Arrays]) -> None:
    """Accuracy, loss and recalls are those of the same rows in the run's own entry, to the last
    bit: from an npz of test alone, and from arrays whose classes are numbered otherwise.
    """
    folder, source = runs_on_arrays
    images, labels = source.splits["test"]
    own = evaluate(folder, quiet=True)
    np.savez("new.npz", x_test=images, y_test=labels)
    new = evaluate(folder, "./new.npz", quiet=True)
    turned = Arrays("turned", (images, 3 - labels), class_names=("3", "2", "1", "0"))
    other = evaluate(folder, turned, quiet=True)
    for found in (new, other):
        assert (found.accuracy, found.loss, found.classes) == (own.accuracy, own.loss, own.classes)
        assert (found.images, found.split, found.exact) == (70, "test", True)


@pytest.fixture(scope="module")
def runs_on_arrays(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays]:
    """Return a run on arrays, and these."""
    top, source = tmp_path_factory.mktemp("arrays"), arrays(120, 70, (12, 12, 1))
    entry = pixelprep.prepare(source, cache_dir=top / "cache", mode="center", quiet=True)
    pixelprep.train(entry, model=TINY, epochs=1, run_dir=top / "run", quiet=True)
    return top / "run", source


def test_what_the_model_cannot_take_is_refused(runs_on_arrays: tuple[Path, Arrays]) -> None:
    """Scaled floats, arrays of another size, names of nothing: one line each."""
    folder, source = runs_on_arrays
    images, labels = source.splits["test"]
    np.savez("scaled.npz", x_test=images / 255, y_test=labels)
    with pytest.raises(SourceError, match="expected 1 channel of uint8") as caught:
        evaluate(folder, "./scaled.npz", quiet=True)
    assert caught.value.hint == "give the raw pixels as they were there, before any scaling"
    np.savez("small.npz", x_test=images[:, 2:], y_test=labels)
    with pytest.raises(UsageError, match="expected images 12×12×1 uint8"):
        evaluate(folder, "./small.npz", quiet=True)
    with pytest.raises(
        UsageError, match=r"'nothing': expected one of mnist, .* in all\)"
    ) as unknown:
        evaluate(folder, "nothing", quiet=True)
    assert unknown.value.hint == "a path to images of your own is written with a slash: ./nothing"


def test_a_scaling_of_each_place_is_not_for_other_data(
    runs_on_arrays: tuple[Path, Arrays],
) -> None:
    """The way on is an entry of the data's own, whose raw pixels the model gets."""
    folder, source = runs_on_arrays
    finished = load_finished(folder)
    other = pixelprep.prepare(source, per="pixel", quiet=True)
    with pytest.raises(UsageError, match="its scaling, per pixel, is not for other data") as caught:
        entry_of(replace(finished, manifest=other.manifest), arrays(seed=3), None, True, {})
    assert caught.value.hint == "prepare the data with a scaling of its own, and name the entry"
    own = pixelprep.prepare(Arrays("own", source.splits["test"]), mode="normalize", quiet=True)
    found = evaluate(folder, own.path, split="train", quiet=True)
    assert found.accuracy == evaluate(folder, quiet=True).accuracy


def test_a_scaling_of_each_image_is_for_new_data(runs_on_arrays: tuple[Path, Arrays]) -> None:
    """It fits nothing, so data that is a test split alone is scaled as the run's."""
    folder, source = runs_on_arrays
    other = pixelprep.prepare(source, per="image", quiet=True)
    finished = replace(load_finished(folder), folder=other.path, manifest=other.manifest)
    (finished.folder / "entry").symlink_to(".")
    images, labels = source.splits["test"]
    np.savez("late.npz", x_test=images, y_test=labels)
    found = entry_of(finished, "./late.npz", None, True, {})
    assert np.array_equal(found.test.to_numpy()[0], other.test.to_numpy()[0])


def test_new_data_is_read_by_options_of_prepare(trained: Path) -> None:
    """A damaged picture is left out when that is asked for; what the run decides is refused."""
    draw(Path("lab"), 5)
    Path("lab/cat/0.png").write_bytes(Path("lab/cat/0.png").read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"lab/cat/0.png") as caught:
        evaluate(trained, "./lab", quiet=True)
    assert str(caught.value.hint).endswith("`on_error=skip`")
    assert evaluate(trained, "./lab", on_error="skip", quiet=True).images == 23
    only = evaluate(trained, "./lab", classes="owl,dog", quiet=True)
    assert [one.images for one in only.classes] == [0, 8, 8]
    with pytest.raises(UsageError, match="`size`: the run decides it"):
        evaluate(trained, "./lab", size="8x8", quiet=True)
    with pytest.raises(UsageError, match=r"`on_error`: .* is prepared already"):
        evaluate(trained, on_error="skip", cache_dir=trained.parent / "cache", quiet=True)


def test_one_class_can_be_evaluated(photos: Path, trained: Path) -> None:
    """Of a single class there is nothing to fit, but to score: its recall is that among all.
    Nothing is advised that the run decides.
    """
    shutil.copytree(photos / "test" / "dog", "lab/dog")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = evaluate(trained, "./lab", quiet=True)
    assert found.classes[1] == evaluate(trained, own_of(photos), quiet=True).classes[1]
    assert not [one for one in told if "fit" in str(one.message) or "_" in str(one.message)]
    with pytest.raises(SourceError, match="two classes or more, found 1: dog"):
        pixelprep.prepare("./lab", size="12x12", quiet=True)


@pytest.mark.long
def test_merged_classes_and_left_out_pictures_are_as_in_training() -> None:
    """The class map and `on_error` of the run's entry hold for new data that its makers named."""
    draw(Path("a/train"), 1)
    draw(Path("a/test"), 2)
    draw(Path("b"), 3)
    for folder in ("a/train", "b"):
        Path(folder, "cat/0.png").write_bytes(b"no picture")
    options: dict[str, Any] = {"on_error": "skip", "class_map": {"cat": "pet", "dog": "pet"}}
    entry = pixelprep.prepare("./a", size="12x12", color="grey", quiet=True, **options)
    pixelprep.train(entry, model=TINY, epochs=1, run_dir="merged", quiet=True)
    with listening() as said:
        found = evaluate("merged", "./b", quiet=True)
    assert [(one.class_name, one.images) for one in found.classes] == [("owl", 8), ("pet", 15)]
    assert "b: classes as in training: cat is pet, dog is pet" in said
    shutil.move("merged", "carried")  # to another machine, whose cache has no record of it
    assert evaluate("carried", "./b", cache_dir="another", quiet=True).classes == found.classes
    Path("carried/entry/read_by.json").unlink()  # as in runs of before it was kept
    assert evaluate("carried", "./b", quiet=True).classes == found.classes
    Path("carried/entry/read_by.json").write_text("[1]")
    with pytest.raises(pixelprep.TrainError, match="carried: not a finished run"):
        evaluate("carried", "./b", quiet=True)


def test_floats_that_are_scaled_already_are_refused(tmp_path: Path) -> None:
    """A model of floats from 0 to 200 is not scored on the same from 0 to 1, wherever they come
    from: arrays, an entry of their own, TIFF; pictures as it was trained on are predicted alike.
    """
    tifffile = pytest.importorskip("tifffile", reason="the extra `scientific` is not installed")
    images = np.random.default_rng(1).uniform(0, 200, (40, 8, 8, 1)).astype(np.float32)
    labels = np.arange(40) % 2
    entry = pixelprep.prepare(Arrays("floats", (images, labels), (images, labels)), quiet=True)
    pixelprep.train(entry, model=TINY, epochs=1, run_dir="run", quiet=True)
    unit = Arrays("unit", (images / 200, labels))
    for given in (unit, pixelprep.prepare(unit, quiet=True)):
        with pytest.raises(SourceError, match=r"the scaling is for .* look scaled already"):
            evaluate("run", given, split="train" if isinstance(given, Entry) else None, quiet=True)
    for name, pixels in {"raw.tif": images[3], "unit.tif": images[3] / 200}.items():
        tifffile.imwrite(name, pixels[..., 0])
    [seen] = pixelprep.predict("run", "raw.tif", quiet=True).images
    expected = load_finished(Path("run")).model("model.keras").predict(entry.train.read(3, 4))
    found = {one.label: one.probability for one in seen.top}
    assert [found[0], found[1]] == pytest.approx(expected[0].tolist(), rel=1e-5)
    with pytest.raises(SourceError, match=r"unit.tif: pixels of .* look scaled already"):
        pixelprep.predict("run", "unit.tif", quiet=True)


@pytest.mark.long
def test_new_data_on_the_command_line(trained: Path) -> None:
    """A path is all it needs; JSON has what the library returns."""
    draw(Path("lab"), 8, ("cat", "owl"))
    done = run("evaluate", str(trained), "./lab", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [one["images"] for one in answer["classes"]] == [8, 0, 8]
    assert "lab: no image of dog" in done.stderr
    assert "all of it is a test split" in done.stderr
