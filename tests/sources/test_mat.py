"""MATLAB files of versions before 7.3: read as MATLAB shows them, whatever holds what."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

import pixelprep
from pixelprep import SourceError
from tests.helpers.known_sets import mat_bytes
from tests.helpers.raw_files import random_pairs
from tests.helpers.sources import check, prepared, raw_of, refused

PAIRS = random_pairs(shape=(6, 5, 3))
TURNED = {"layout": "ncwh"}


def as_matlab(images: np.ndarray) -> np.ndarray:
    """Return images as MATLAB has them, H×W×C×N."""
    return np.moveaxis(images, 0, -1)


def mat_file(path: Path, labels: np.ndarray, **more: Any) -> np.ndarray:
    """Write a MATLAB file of version 5 like SVHN's, and return its images."""
    images = np.random.default_rng(1).integers(0, 256, (len(labels), 5, 7, 3), np.uint8)
    path.write_bytes(mat_bytes(images, labels, **more))
    return images


def test_a_matlab_file_is_read_as_matlab_shows_it(tmp_path: Path) -> None:
    """H×W×C×N becomes N×H×W×C, and labels that count from 1 are said to do so."""
    labels = np.array([1, 2, 3, 3, 2, 1])
    images = mat_file(tmp_path / "own.mat", labels)
    with pytest.warns(pixelprep.PixelprepWarning, match="labels_from=1"):
        entry = prepared(tmp_path / "own.mat", mode="normalize")
    assert (entry.scaling.invert(entry.train.to_numpy()[0]) == images).all()
    assert entry.manifest.source.decode == {"layout": "ncwh"}


def test_all_splits_of_a_file_are_read(tmp_path: Path) -> None:
    """X_train, y_train, X_test and y_test: the test split is there, by guess and by {split}, and
    rows of characters name the classes.
    """
    (x, y), (x2, y2) = PAIRS
    path = tmp_path / "own.mat"
    held = {"X_train": as_matlab(x), "y_train": y, "X_test": as_matlab(x2), "y_test": y2}
    scipy.io.savemat(path, held | {"class_names": np.array(["a", "bee", "c", "d"])})
    names = ("a", "bee", "c", "d")
    check(prepared(path), *PAIRS, names, decode=TURNED)
    keys = {"images_key": "X_{split}", "labels_key": "y_{split}"}
    check(prepared(path, **keys), *PAIRS, names, decode=TURNED)


def test_a_file_a_split_is_one_dataset(tmp_path: Path, cache: Path) -> None:
    """SVHN's two files: their folder and a path with {split} give both; one alone is refused with
    what gives both.
    """
    (folder := tmp_path / "in").mkdir()
    for split, (x, y) in zip(("train", "test"), PAIRS, strict=True):
        held = {"X": as_matlab(x), "y": y[:, None]}
        scipy.io.savemat(folder / f"{split}_32x32.mat", held)
    family = folder / "{split}_32x32.mat"
    error = refused(cache, folder / "train_32x32.mat", "train_32x32.mat", "is one split")
    assert str(family) in str(error.hint)
    check(prepared(folder), *PAIRS, decode=TURNED)
    check(prepared(family), *PAIRS, decode=TURNED)


def test_what_is_not_used_is_told_and_keys_can_be_named(tmp_path: Path, cache: Path) -> None:
    """Under other names, the error lists what there is, and the options name it; the rest is
    told.
    """
    own = {"kind": [1.0, 2, 3, 1], "faces": np.zeros((8, 8, 4), np.uint16), "more": [1.0]}
    path = tmp_path / "own.mat"
    scipy.io.savemat(path, own)
    refused(cache, path, path, "it holds faces (8, 8, 4) uint16, kind (1, 4) double")
    names = {"images_key": "faces", "labels_key": "kind"}
    with pytest.warns(pixelprep.PixelprepWarning, match="arrays not used: more"):
        entry = prepared(path, labels_from=1, **names)
    assert entry.train.shape == (4, 8, 8, 1)
    assert entry.train.labels.tolist() == [0, 1, 2, 0]
    assert entry.class_names == ("1", "2", "3")


def test_flat_rows_take_a_shape(tmp_path: Path, cache: Path) -> None:
    """N×64 are rows of pixels, as MATLAB shows them: `shape` makes images of them."""
    x, y = random_pairs(shape=(8, 8))[0]
    path = tmp_path / "flat.mat"
    scipy.io.savemat(path, {"X": x.reshape(len(x), 64), "y": y})
    assert refused(cache, path, path, "flat rows").hint == "if they are square: `shape=8x8`"
    check(prepared(path, shape="8x8"), (x, y), None)


def test_cells_of_text_are_labels(tmp_path: Path) -> None:
    """Labels may be text, a cell each, and another cell array say the order of the classes."""
    x, y = PAIRS[0]
    names = np.array(["d", "c", "bee", "a"], object)
    path = tmp_path / "text.mat"
    scipy.io.savemat(path, {"X": as_matlab(x), "y": names[y], "classes": names})
    given = {**TURNED, "class_order": "given"}
    check(prepared(path), (x, y), None, tuple(names), decode=given)


def test_cells_of_images_are_refused_with_the_way_on(tmp_path: Path, cache: Path) -> None:
    """Images in cells are no array: MATLAB makes one of them."""
    path = tmp_path / "own.mat"
    cells = np.empty((1, 2), object)
    cells[0, 0] = cells[0, 1] = np.zeros((3, 4, 3))
    scipy.io.savemat(path, {"X": cells, "y": [0, 1]})
    error = refused(cache, path, path, "X: expected numbers, got cell")
    assert error.hint == "in MATLAB: X = cat(4, X{:})"


def test_a_matlab_file_that_breaks_off_is_refused_by_name(tmp_path: Path, cache: Path) -> None:
    """SciPy's error for it, an OSError without a number, is that of a file, not of the system."""
    path = tmp_path / "own.mat"
    scipy.io.savemat(path, {"X": as_matlab(PAIRS[0][0]), "y": PAIRS[0][1]})
    path.write_bytes(path.read_bytes()[:500])
    error = refused(cache, path, f"{path}: not a readable MATLAB file", "could not read bytes")
    assert error.hint == "get it again"


@pytest.mark.parametrize(("first", "names"), [(None, "0123456789"), (1, "1234567890")])
def test_ten_is_the_digit_0_in_files_of_svhn(tmp_path: Path, first: int | None, names: str) -> None:
    """In files of SVHN's names whose labels are 1 to 10 the last is the digit 0, as published."""
    (folder := tmp_path / "in").mkdir()
    labels = np.resize(np.arange(10, 0, -1), 30)
    images = {split: mat_file(folder / f"{split}_32x32.mat", labels) for split in ("train", "test")}
    raw = raw_of(folder, labels_from=first)
    assert raw.class_names == tuple(names)
    assert [int(names[label]) for label in raw.splits["test"].labels[:]] == (labels % 10).tolist()
    assert (raw.splits["train"].images[:] == images["train"]).all()
    assert raw.decode["labels"] == "10 is 0"
    mat_file(tmp_path / "scores.mat", labels)
    assert len(raw_of(tmp_path / "scores.mat").class_names) == 11


@pytest.mark.long
@pytest.mark.parametrize("keep", [0, 100, 200, 300])
def test_a_damaged_matlab_file_is_refused(tmp_path: Path, keep: int) -> None:
    """A file that breaks off anywhere is refused by its name, in one line."""
    path = tmp_path / "own.mat"
    mat_file(path, np.array([0, 1]))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError) as caught:
        prepared(path, mode="normalize")
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)
