"""The same picture in train and in another split, or with two labels, is found by its pixels."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import PixelprepWarning, SourceError, UsageError
from pixelprep.sources import Arrays, leaks
from tests.helpers.cli import run
from tests.helpers.raw_files import PAIRS, write_hdf5, write_npz
from tests.helpers.sources import check, nothing_is_left, prepared, refused

(X, Y), (X2, Y2) = PAIRS
LEAKING = X2.copy()
LEAKING[[3, 7]] = X[[11, 5]]
LABELS = Y2.copy()
LABELS[[3, 7]] = Y[[11, 5]]
STAY = np.setdiff1d(np.arange(len(X2)), [3, 7])
LINE = "data: 2 of 20 test images are in train, too: test 3 = train 11, test 7 = train 5"
SOURCE = Arrays("data", (X, Y), (LEAKING, LABELS))


def warnings(recwarn: pytest.WarningsRecorder) -> list[str]:
    """Return the warnings that were logged."""
    return [str(one.message) for one in recwarn if one.category is PixelprepWarning]


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32", "float64"])
def test_leaks_are_told(recwarn: pytest.WarningsRecorder, dtype: str) -> None:
    """One line has their number and examples; the data is stored as it is."""
    source = Arrays("data", (X.astype(dtype), Y), (LEAKING.astype(dtype), LABELS))
    check(prepared(source, mode="center"), source.train, source.test)
    assert warnings(recwarn) == [LINE]


@pytest.mark.parametrize("size", [1, 7, 8, 784, 1001])
def test_numbers_of_images_are_rarely_shared(size: int) -> None:
    """Images have numbers of their own, by all their bytes; equal images have the same."""
    images = np.random.default_rng(size).integers(0, 4, (1000, size), np.uint8)
    different, inverse = np.unique(images, axis=0, return_inverse=True)
    numbers = leaks.numbers_of(images.data, len(images))
    assert len(np.unique(numbers)) == len(different)
    assert (numbers == numbers[np.unique(inverse, return_index=True)[1]][inverse]).all()


def test_images_are_equal_by_their_digests(recwarn: pytest.WarningsRecorder) -> None:
    """Others that were made to have the same number are told apart."""
    first, second = (int(weight) for weight in leaks._weights(8)[:2])
    words = np.zeros((3, 8), np.uint64)  # 8×8 pixels each
    words[1, :2] = second, 2**64 - first  # first · second − second · first = 0
    words[2, 7] = 1
    images = words.view(np.uint8).reshape(3, 8, 8)
    assert [*np.bincount(leaks.numbers_of(images.data, 3) == 0)] == [1, 2]
    prepared(Arrays("data", (images, np.array([0, 1, 1])), (images[1:2], np.array([1]))))
    told = [line for line in warnings(recwarn) if " = " in line]
    assert told == ["data: 1 of 1 test images is in train, too: test 0 = train 1"]


def test_leaks_stop_or_are_dropped(recwarn: pytest.WarningsRecorder, cache: Path) -> None:
    """`on_leak=fail` makes nothing; `on_leak=drop` leaves the images out of test, and says so in
    the record of the data.
    """
    with pytest.raises(SourceError) as caught:
        prepared(replace(SOURCE, on_leak="fail"))
    assert str(caught.value) == f"{LINE} (`on_leak=drop` leaves them out)"
    assert nothing_is_left(cache)
    entry = prepared(replace(SOURCE, on_leak="drop"))
    dropped = {"dropped": {"test in train": 2}}
    check(entry, (X, Y), (LEAKING[STAY], LABELS[STAY]), decode=dropped)
    assert warnings(recwarn) == [f"{LINE}: left out"]


def test_files_take_the_option(tmp_path: Path, cache: Path) -> None:
    """Of .npz and HDF5 files leaks are refused or dropped, whatever was prepared before."""
    pairs = (X, Y), (LEAKING, LABELS)
    for path in (write_npz(tmp_path / "a.npz", pairs), write_hdf5(tmp_path / "b.h5", pairs)):
        refused(cache, path, "2 of 20 test images are in train", "", on_leak="fail")
    for path in tmp_path.glob("?.*"):
        assert len(prepared(path).test) == 20
        assert len(prepared(path, on_leak="drop").test) == 18


def test_val_is_compared_with_test(recwarn: pytest.WarningsRecorder) -> None:
    """An image of val in test is told, too; `on_leak=drop` leaves each where it is first: in train,
    else in val.
    """
    val, test = X2[:6].copy(), X2[6:].copy()
    val[1], test[[2, 5, 9]] = X[11], (X[11], val[3], val[4])
    labels = Y2[6:].copy()
    labels[[2, 5, 9]] = Y[11], Y2[3], Y2[4]
    source = Arrays("three", (X, Y), (test, labels), val=(val, Y2[:6]))
    prepared(source)
    found = ["1 of 6 val images is in train, too: val 1 = train 11"]
    found += ["1 of 14 test images is in train, too: test 2 = train 11"]
    found += ["2 of 14 test images are in val, too: test 5 = val 3, test 9 = val 4"]
    assert [one for one in warnings(recwarn) if "too:" in one] == [f"three: {one}" for one in found]
    with pytest.raises(SourceError, match="1 of 6 val images is in train"):
        prepared(replace(source, on_leak="fail"))
    entry = prepared(replace(source, on_leak="drop"))
    assert (len(entry.val), len(entry.test)) == (5, 11)
    raw = entry.scaling.invert(entry.test.to_numpy()[0])
    assert (raw == np.delete(test, [2, 5, 9], axis=0).reshape(raw.shape)).all()
    counts = {"val in train": 1, "test in train": 1, "test in val": 2}
    assert entry.manifest.source.decode == {"dropped": counts}


@pytest.mark.parametrize("kind", ["arrays", "file"])
def test_duplicates_are_recorded_with_the_entry(tmp_path: Path, kind: str) -> None:
    """The pairs of equal images and of contradicting labels are in `cache.describe`, and so in
    `--json` and reports: also of an entry that was found, not of a copy elsewhere.
    """
    labels = LABELS.copy()
    labels[3] = 3 - labels[3]
    path = write_npz(tmp_path / "data.npz", ((X, Y), (LEAKING, labels)))
    source = path if kind == "file" else Arrays("data", (X, Y), (LEAKING, labels))
    pairs = [["test 3", "train 11"], ["test 7", "train 5"]]
    conflicts = {"kind": "label conflicts", "images": 1, "equal": [["train 11", "test 3"]]}
    expected = [{"kind": "test in train", "images": 2, "equal": pairs}, conflicts]
    for cached in (False, True):
        entry = prepared(source)
        assert entry.cached == cached
        found = pixelprep.cache.describe(entry).duplicates
        assert [one.to_dict() for one in found] == [one | {"dropped": False} for one in expected]
    answer = json.loads(run("info", entry.key, "--json").stdout)
    assert [one["equal"] for one in answer["duplicates"]] == [one["equal"] for one in expected]
    copy = shutil.copytree(entry.path, tmp_path / entry.dataset / entry.path.name)
    assert pixelprep.cache.describe(copy).duplicates == ()
    told = pixelprep.report(entry, tmp_path / "facts.json", format="json", quiet=True)
    assert json.loads(told.path.read_bytes())["duplicates"] == answer["duplicates"]
    if kind == "file":
        again = json.loads(run("prepare", str(path), "--json").stdout)
        assert again["duplicates"] == answer["duplicates"]
        page = pixelprep.report(entry, tmp_path / "page.html", quiet=True).path.read_text()
        assert all(name in page for name in ("test in train: 2", "test 7", "train 5"))


def test_of_many_duplicates_a_thousand_are_recorded() -> None:
    """Their number is whole, and so is that of conflicts; the listing is cut."""
    many = np.arange(1500, dtype=np.uint16).repeat(4).reshape(1500, 2, 2)
    labels = np.arange(1500) % 2
    leaks, conflicts = pixelprep.cache.describe(
        prepared(Arrays("many", (many, labels), (many, 1 - labels)))
    ).duplicates
    assert (leaks.images, conflicts.images) == (1500, 1500)
    assert leaks.equal[-1] == ("test 999", "train 999")
    assert (len(leaks.equal), len(conflicts.equal)) == (1000, 1000)


def test_a_split_of_nothing_else_is_not_dropped(cache: Path) -> None:
    """Where all of test is in train, nothing would be left of it."""
    with pytest.raises(SourceError, match="20 of 20 test images are in train") as caught:
        prepared(Arrays("data", (X, Y), (X[:20], Y[:20]), on_leak="drop"))
    assert caught.value.hint == "nothing else is in it: leave the split out"
    assert nothing_is_left(cache)


def test_labels_that_contradict_are_told(recwarn: pytest.WarningsRecorder) -> None:
    """Equal images with different labels are told, within a split and across."""
    images, labels = X.copy(), Y.copy()
    images[8], labels[8], labels[2] = images[2], 1, 0
    prepared(Arrays("data", (images, labels), (X2, Y2)))
    assert warnings(recwarn) == ["data: 1 image has more than one label: train 2 = train 8"]


def test_files_are_named(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Images of a folder are equal by their pixels, whatever their files; their paths are told."""
    for split, number in (("train", 0), ("test", 1)):
        for kind in ("cat", "dog"):
            folder = tmp_path / "pets" / split / kind
            folder.mkdir(parents=True)
            value = 50 if kind == "cat" else 100 + number
            Image.fromarray(np.full((4, 4), value, np.uint8)).save(folder / f"{number}.png")
    Image.open(tmp_path / "pets/train/cat/0.png").save(tmp_path / "pets/test/cat/1.bmp")
    (tmp_path / "pets/test/cat/1.png").unlink()
    prepared(tmp_path / "pets")
    line = "1 of 2 test images is in train, too: test/cat/1.bmp = train/cat/0.png"
    assert [one for one in warnings(recwarn) if "in train" in one] == [f"pets: {line}"]


@pytest.mark.parametrize("options", [{}, {"workers": 2}], ids=str)
def test_different_images_raise_no_alarm(
    recwarn: pytest.WarningsRecorder, options: dict[str, Any]
) -> None:
    """The embedded part of MNIST has no picture twice, whoever looks."""
    prepared("sample", mode="center", **options)
    assert warnings(recwarn) == []


@pytest.mark.parametrize("on_leak", ["fail", "drop"])
def test_splits_that_are_taken_from_train_are_looked_at(
    recwarn: pytest.WarningsRecorder, cache: Path, on_leak: str
) -> None:
    """A picture that is in the data twice and was divided is told; it is part of the recipe, so
    that it cannot be dropped.
    """
    images, labels = np.concatenate([X, X]), np.concatenate([Y, Y])
    source = Arrays("twice", (images, labels))
    with pytest.raises(SourceError, match="of 8 test images are in train, too") as caught:
        prepared(replace(source, on_leak=on_leak), test_fraction=0.1)
    assert str(caught.value.hint).startswith("these splits are taken from train")
    assert nothing_is_left(cache)
    entry = prepared(source, test_fraction=0.1)
    rows = {image.tobytes() for image in entry.train.to_numpy()[0]}
    both = sum(image.tobytes() in rows for image in entry.test.to_numpy()[0])
    assert [f"twice: {both} of 8 test" in line for line in warnings(recwarn)] == [True]


def test_another_answer_is_refused() -> None:
    """Of what is done about leaks, there are three kinds."""
    with pytest.raises(UsageError, match="unknown `on_leak`"):
        prepared(replace(SOURCE, on_leak="ignore"))
    with pytest.raises(UsageError, match="unknown `on_leak`"):
        pixelprep.prepare("sample", on_leak="ignore")


def test_all_that_was_told_is_told_again(tmp_path: Path) -> None:
    """A second call says what the first did: of the data, and of the options, once each."""
    path = write_npz(tmp_path / "data.npz", ((X, Y), (LEAKING, LABELS)))
    for _ in range(2):
        with pytest.warns(PixelprepWarning) as caught:
            prepared(path, test_fraction=0.1)
        told = sorted(str(one.message) for one in caught)
        assert told == [
            "data: 2 of 20 test images are in train, too: test 3 = train 11, test 7 = train 5",
            "data: `test_fraction` is not used: the data has a test split of its own",
        ]
