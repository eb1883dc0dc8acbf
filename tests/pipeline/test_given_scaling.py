"""`scaling_of`: new data scaled as an entry is, with nothing fitted."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import jsonschema
import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import Arrays, Entry, PixelprepWarning, SourceError, UsageError
from pixelprep.format import manifest
from pixelprep.format.recipe import recipe_key
from tests.helpers import second_reader
from tests.helpers.data import arrays
from tests.helpers.malicious import manifest_of, sign
from tests.helpers.packages import ROOT
from tests.helpers.sources import prepared
from tests.helpers.training import listening

SCHEMA = json.loads((ROOT / "data" / "manifest.schema.json").read_bytes())


@pytest.fixture(autouse=True)
def folder(here: Path) -> Path:
    """Return the current folder, which is empty."""
    return here


def alone(source: Arrays, path: str = "new.npz") -> Path:
    """Write the test split of a source, and nothing else, to a file."""
    images, labels = source.splits["test"]
    np.savez(path, x_test=images, y_test=labels)
    return Path(path)


def checked(entry: Entry) -> Entry:
    """Have `verify`, the second reader and the schema look at an entry."""
    [result] = pixelprep.verify(entry.path, quiet=True)
    assert result.ok, result.problems
    about = second_reader.read_manifest(entry.path)
    for name in about["splits"]:
        second_reader.summary(entry.path, about, name)
    jsonschema.Draft202012Validator(SCHEMA).validate(about)
    return entry


CASES: list[tuple[str, dict[str, Any]]] = [
    *(("uint8", {"mode": mode}) for mode in ("normalize", "center", "standardize")),
    ("uint8", {"mode": "standardize", "per": "dataset", "rescale": True, "storage": "raw"}),
    ("uint16", {"mode": "standardize", "rescale": True}),
    ("int16", {"mode": "center", "storage": "raw"}),
    *(("float32", {"mode": mode}) for mode in ("normalize", "standardize")),
    ("float64", {"mode": "normalize", "per": "dataset"}),
]


@pytest.mark.parametrize(("dtype", "options"), CASES, ids=str)
def test_a_test_split_alone_is_stored_as_it_was_beside_train(
    dtype: str, options: dict[str, Any]
) -> None:
    """The very file that the entry has of the same images, though no train split is there."""
    source = arrays(dtype=dtype if "int" in dtype else "uint8")
    if "float" in dtype:
        train, test = [(x.astype(dtype) / 7, y) for x, y in source.splits.values()]
        source = Arrays("little", train, test)
    known = prepared(source, **options)
    storage = {name: options[name] for name in ("storage",) if name in options}
    new = checked(prepared(alone(source), scaling_of=known, **storage))
    assert new.splits.keys() == {"test"}
    assert (new.path / "test.h5").read_bytes() == (known.path / "test.h5").read_bytes()
    raw, _ = source.splits["test"]
    assert np.array_equal(new.scaling.apply(raw), new.test.to_numpy()[0])
    if "int" in dtype:
        assert np.array_equal(new.scaling.invert(new.test.to_numpy()[0]), raw)
    again = prepared("./new.npz", scaling_of=known, **storage)
    assert again.cached


@pytest.mark.parametrize("keys", [("test/images", "test/labels"), ("x_test", "y_test")])
def test_hdf5_may_have_test_alone(keys: tuple[str, str]) -> None:
    """Under either of the usual pairs of keys, as an npz does."""
    source = arrays()
    images, labels = source.splits["test"]
    with h5py.File("new.h5", "w") as file:
        file[keys[0]], file[keys[1]] = images, labels
    new = prepared("./new.h5", scaling_of=prepared(source))
    assert new.splits.keys() == {"test"}
    assert np.array_equal(new.scaling.invert(new.test.to_numpy()[0]), images)


def test_a_value_is_what_the_formula_makes_of_it() -> None:
    """((x / 255) − shift) / divisor, in float64 and rounded once; the scaling tells the two."""
    known = prepared(arrays(), rescale=True)
    images = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 1, 8, 3)
    np.savez("other.npz", x_test=images, y_test=np.arange(5))
    new = prepared("./other.npz", scaling_of=known)
    shift, divisor = known.scaling.mean, known.scaling.std
    wanted = ((images / 255 - shift) / divisor).astype(np.float32)
    assert np.array_equal(new.test.to_numpy()[0], wanted)
    assert np.array_equal(new.scaling.mean, shift)
    assert np.array_equal(new.scaling.std, divisor)
    x = images[0].astype(np.float64)
    assert np.allclose(x * new.scaling.scale + new.scaling.offset, wanted[0])
    constants = new.manifest.recipe.constants
    assert constants is not None
    assert constants.shift == tuple(shift.tolist())
    record = new.manifest.scaling.to_dict()
    assert (record["mean"], record["minimum"], record["maximum"]) == (shift.tolist(), [], [])
    assert new.manifest.statistics.sum == int(images.sum())
    assert new.manifest.splits["test"].raw.maximum == 119


def test_the_key_depends_on_the_numbers_alone() -> None:
    """Neither on the path nor on the key or the data of the entry that the scaling is of."""
    source = arrays()
    known = prepared(source)
    new = prepared(alone(source), scaling_of=known)
    moved = Path(shutil.copytree(known.path, "elsewhere"))
    gzipped = prepared(source, compression="gzip", dtype="float16")
    again = [
        prepared("./new.npz", scaling_of=one, force=True) for one in (moved, gzipped, known.key)
    ]
    assert {one.key for one in again} == {new.key}
    other = prepared(arrays(seed=1, name="other"))
    assert prepared("./new.npz", scaling_of=other).key != new.key
    # Of a scaling that was taken over, the same can be taken over again.
    assert prepared("./new.npz", scaling_of=new).key == new.key
    assert pixelprep.find_entry("./new.npz", scaling_of=known, quiet=True).key == new.key


def test_data_with_a_train_split_is_scaled_alike() -> None:
    """Nothing is fitted to it, and fractions are taken of it as ever."""
    known, source = prepared(arrays()), arrays(seed=5, shape=(9, 4, 3), name="later")
    new = checked(prepared(Arrays("later", source.train), scaling_of=known, val_fraction=0.25))
    assert {name: len(split) for name, split in new.splits.items()} == {"train": 30, "val": 10}
    assert np.array_equal(new.scaling.mean, known.scaling.mean)
    raw = new.scaling.invert(new.train.to_numpy()[0])
    assert new.manifest.statistics.sum == int(raw.sum(dtype=np.int64))


def pictures(top: Path, names: tuple[str, ...] = ("cat", "dog"), rows: int = 3) -> Path:
    """Write noise into a folder for each class."""
    random = np.random.default_rng(len(names))
    for name in names:
        (top / name).mkdir(parents=True)
        for i in range(rows):
            pixels = random.integers(0, 256, (6, 5, 3), np.uint8)
            Image.fromarray(pixels).save(top / name / f"{i}.png")
    return top


def test_folders_without_splits_are_a_test_split() -> None:
    """So it is said, in one line; a folder of its own for test is one, too; a class of that name
    stays a class; and with a fraction there is train.
    """
    known = prepared(arrays())
    plain = pictures(Path("plain"))
    with listening() as said, pytest.warns(PixelprepWarning, match="plain: all of it is a test"):
        first = checked(prepared(plain, scaling_of=known))
    told = f"plain: standardize per channel as little/{known.path.name} has it, nothing is fitted"
    assert told in said
    assert {name: len(split) for name, split in first.splits.items()} == {"test": 6}
    divided = prepared(plain, scaling_of=known, test_fraction=0.5)
    assert {name: len(split) for name, split in divided.splits.items()} == {"train": 3, "test": 3}
    pictures(Path("alone/test"))
    own = checked(prepared("./alone", scaling_of=known))
    assert own.splits.keys() == {"test"}
    assert own.class_names == ("cat", "dog")
    classes = prepared(pictures(Path("words"), ("quiz", "test")), scaling_of=known)
    assert classes.class_names == ("quiz", "test")
    assert classes.splits.keys() == {"test"}


def test_what_is_of_each_place_is_refused() -> None:
    """Statistics of each place of an image are not for other images."""
    known = prepared(arrays(), mode="center", per="pixel")
    with pytest.raises(UsageError, match="is per pixel, of images of one size and place") as caught:
        prepared(alone(arrays()), scaling_of=known)
    assert caught.value.hint == "name an entry per channel, dataset or image"


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "standardize"},
        {"mode": "center", "rescale": True, "storage": "raw"},
        {"mode": "normalize", "limits": "data", "range": (-1, 1)},
    ],
    ids=str,
)
def test_what_is_of_each_image_needs_no_train(options: dict[str, Any]) -> None:
    """Nothing is fitted: the very file that the entry has, by its options or by its name."""
    options = options | {"per": "image"}
    known = prepared(arrays(), **options)
    test = (known.path / "test.h5").read_bytes()
    storage = {name: options[name] for name in ("storage",) if name in options}
    own, taken = (
        prepared(alone(arrays()), **options),
        prepared("./new.npz", scaling_of=known, **storage),
    )
    assert (taken.path, taken.cached) == (own.path, True)
    assert (checked(own).path / "test.h5").read_bytes() == test
    images, labels = arrays().splits["test"]
    np.savez("all.npz", images=images, labels=labels)  # without splits: all of it is test
    whole = checked(prepared("./all.npz", scaling_of=known, **storage))
    assert (whole.path / "test.h5").read_bytes() == test
    (whole.path / "test.h5").write_bytes(test[:-1])
    [repaired] = pixelprep.verify(whole.path, repair=True, quiet=True)
    assert repaired.repaired


def test_extremes_of_a_type_are_not_those_of_each_image() -> None:
    """`per` has no effect on integers normalized by their type: train is needed, and is said."""
    with pytest.raises(SourceError, match="expected a train split to fit"):
        prepared(alone(arrays()), mode="normalize", per="image")


def test_what_does_not_fit_the_entry_is_refused() -> None:
    """Another mode, other pixels, a data set without train where nothing is taken over."""
    known, new = prepared(arrays(), mode="center"), alone(arrays())
    with pytest.raises(UsageError, match="its mode is center, but normalize was given"):
        prepared(new, scaling_of=known, mode="normalize")
    with pytest.raises(UsageError, match="its rescale is False, but True was given"):
        prepared(new, scaling_of=known, rescale=True)
    deep = alone(arrays(dtype="uint16"), "deep.npz")
    of = f"as little/{known.path.name} was made from"
    with pytest.raises(SourceError, match="deep: expected 3 channels of uint8") as caught:
        prepared(deep, scaling_of=known)
    assert f"{of}, got 3 channels of uint16" in caught.value.message
    assert caught.value.hint == "convert the images to uint8 as those were"
    with pytest.raises(SourceError, match="got 1 channel of uint8"):
        prepared(alone(arrays(shape=(6, 5, 1)), "grey.npz"), scaling_of=known)
    with pytest.raises(SourceError, match="expected a train split to fit") as caught:
        prepared(new)
    assert caught.value.hint == "take over an entry's scaling: `scaling_of=ENTRY`"
    with pytest.raises(pixelprep.EntryError, match="no entry"):
        prepared(new, scaling_of="nowhere")


def test_there_is_no_train_split_to_use() -> None:
    """`Entry.train` says so; a report and exports of the rest are made."""
    known, new = prepared(arrays()), alone(arrays())
    entry = prepared(new, scaling_of=known)
    with pytest.raises(UsageError, match="has no train split, only test"):
        _ = entry.train
    page = pixelprep.report(entry, "page.json", format="json", quiet=True).path
    commands = json.loads(page.read_bytes())["commands"]
    assert commands["prepare"] == "pixelprep prepare ./new --scaling-of ENTRY"
    assert "entry.test" in commands["python"]
    assert "train" not in commands
    for form in ("npz", "hdf5-single", "png"):
        assert pixelprep.export(entry, form, form, quiet=True).files


def test_a_damaged_entry_is_made_again() -> None:
    """From the entry that its scaling is of, wherever `prepare` was called from."""
    known = prepared(arrays())
    entry = prepared(alone(arrays()), scaling_of=os.path.relpath(known.path))
    whole = (entry.path / "test.h5").read_bytes()
    (entry.path / "test.h5").write_bytes(whole[:-1] + b"?")
    [result] = pixelprep.verify(entry.path, repair=True, quiet=True)
    assert result.repaired, result.problems
    assert (entry.path / "test.h5").read_bytes() == whole


WRONG: list[Any] = [
    None, {}, {"shift": [0.5]}, {"shift": [0.5, 0.5, 0.5], "divisor": [1.0, 0.0, 1.0]},
    {"shift": [0.5], "divisor": [1.0]}, {"shift": [0, 0, 0], "divisor": [1.0, 1.0, 1.0]},
]  # fmt: skip


@pytest.mark.parametrize("constants", WRONG, ids=str)
def test_constants_that_are_none_are_refused(constants: Any, tmp_path: Path) -> None:
    """A recipe whose constants are not of each channel, or are not there without train, is no
    recipe; so are those that the manifest's scaling does not have.
    """
    known = prepared(arrays())
    values = manifest_of(prepared(alone(arrays()), scaling_of=known).path)
    assert sorted(values["recipe"]["constants"]) == ["divisor", "shift"]
    values["recipe"]["constants"] = constants
    values["key"] = recipe_key(values["recipe"])
    sign(tmp_path, values)
    with pytest.raises(pixelprep.EntryError, match="not a manifest"):
        manifest.read(tmp_path)
    with pytest.raises((second_reader.Refused, KeyError)):
        second_reader.read_manifest(tmp_path)


UNITS = {"0 to 1": (0, 1), "-1 to 1": (-1, 1), "0 to 2": (0, 2), "0 to 150": (0, 150)}


@pytest.mark.parametrize("unit", UNITS)
def test_floats_of_another_unit_are_refused_or_told(unit: str) -> None:
    """A scaling for 0 to 200 is not for what is scaled already: 0 to 1, or -1 to 1; of any other
    range that is 50 times as small it is told, of a similar one nothing.
    """
    low, high = UNITS[unit]
    labels = np.arange(8) % 2
    images = np.linspace(0, 1, 8 * 36, dtype=np.float32).reshape(8, 6, 6, 1)
    known = prepared(Arrays("known", (images * 200, labels)))
    new = Arrays("new", (images * np.float32(high - low) + np.float32(low), labels))
    asked = "new: pixels of 0 to 2, the scaling is for 0 to 200: are they of the same unit?"
    if high > 1:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert prepared(new, scaling_of=known).scaling.fixed
        assert (asked in [str(one.message) for one in told]) == (high == 2)
        return
    with pytest.raises(SourceError, match="they look scaled already") as caught:
        prepared(new, scaling_of=known)
    found = f"new: pixels of {unit}, the scaling is for 0 to 200: they look scaled already"
    assert caught.value.message == found
    assert caught.value.hint == "give the raw pixels as they were there, before any scaling"
    assert not (known.path.parents[1] / "new").exists()
