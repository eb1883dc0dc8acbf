"""IDX files of every type code, under every name that MNIST's relatives have."""

from pathlib import Path

import numpy as np
import pytest

import pixelprep
from pixelprep import SourceError
from tests.helpers.data import idx, write_digits
from tests.helpers.raw_files import random_pairs
from tests.helpers.sources import check, prepared, raw_of, refused

PAIRS = random_pairs(shape=(5, 4))
TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # as LeCun's page has them
MNIST = "{}-{}-idx{}-ubyte"


def write(
    folder: Path, name: str = MNIST, kinds: tuple[int, int] = (8, 8), third: str = ""
) -> Path:
    """Return a folder of IDX files whose values have these types; `third` names a val split."""
    folder.mkdir(exist_ok=True)
    splits = ["t10k" if name == MNIST else "test", *filter(None, [third])]
    for split, pair in zip(("train", *splits), (*PAIRS, PAIRS[1]), strict=False):
        for role, array, kind in zip(("images", "labels"), pair, kinds, strict=True):
            content = idx(array.astype(TYPES[kind]), kind=kind)
            (folder / name.format(split, role, array.ndim)).write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_code_is_read(tmp_path: Path, kind: int) -> None:
    """Whatever the numbers' type, they are big-endian and keep their values."""
    if kind == 12:  # images of 32 bits are refused as everywhere, labels are not
        return check(prepared(write(tmp_path, kinds=(8, kind))), *PAIRS)
    (x, y), (x2, y2) = PAIRS
    native = np.dtype(TYPES[kind]).newbyteorder("=")
    entry = prepared(write(tmp_path, kinds=(kind, kind)))
    return check(entry, (x.astype(native), y), (x2.astype(native), y2))


@pytest.mark.parametrize(
    "name",
    [
        "{}-{}.idx{}-ubyte",
        "emnist-letters-{}-{}-idx{}-ubyte",
        "qmnist-{}-{}-idx{}-int",
        "{}_{}-idx{}-ubyte",
        "Own_{}-{}.idx{}",
    ],
)
def test_every_usual_name_is_found(tmp_path: Path, name: str) -> None:
    """The words for split, images and labels tell, whatever stands before them."""
    check(prepared(write(tmp_path, name)), *PAIRS)


def test_a_validation_split_is_read(tmp_path: Path) -> None:
    """Three splits are three, and one is enough."""
    entry = prepared(write(tmp_path / "three", "{}-{}-idx{}-ubyte", third="valid"))
    rows = {name: len(split) for name, split in entry.splits.items()}
    assert rows == {"train": 40, "val": 20, "test": 20}
    folder = write(tmp_path / "one")
    for path in folder.glob("t10k*"):
        path.unlink()
    check(prepared(folder), PAIRS[0], None)


def test_of_several_labels_a_row_the_first_is_the_class(tmp_path: Path) -> None:
    """QMNIST's labels: the class, then seven numbers about the writer, 32 bits each."""
    folder = write(tmp_path)
    for split, (_, y) in zip(("train", "t10k"), PAIRS, strict=True):
        (folder / f"{split}-labels-idx1-ubyte").unlink()
        more = np.arange(len(y) * 7).reshape(-1, 7)
        rows = np.concatenate([y[:, None], more], axis=1).astype(">i4")
        (folder / f"{split}-labels-idx2-int").write_bytes(idx(rows, kind=12))
    with pytest.warns(pixelprep.PixelprepWarning, match="40×8: the first of each row is taken"):
        check(prepared(folder), *PAIRS)


def test_images_on_their_side_are_told_and_turned(tmp_path: Path) -> None:
    """EMNIST's are as the file has them, with a line; `layout=nwh` gives them upright."""
    folder = write(tmp_path / "in", "emnist-digits-{}-{}-idx{}-ubyte")
    with pytest.warns(pixelprep.PixelprepWarning, match="on their side: `layout=nwh` turns them"):
        check(prepared(folder), *PAIRS)
    (x, y), (x2, y2) = PAIRS
    turned = (x.transpose(0, 2, 1), y), (x2.transpose(0, 2, 1), y2)
    check(prepared(folder, layout="nwh"), *turned, decode={"layout": "nwh"})


def test_several_datasets_in_a_folder_are_named(tmp_path: Path, cache: Path) -> None:
    """Which of them is meant, nobody knows."""
    write(tmp_path, "emnist-letters-{}-{}-idx{}-ubyte")
    error = refused(cache, write(tmp_path), tmp_path, "several datasets: emnist-letters, without")
    assert isinstance(error, SourceError)
    assert "a folder of its own" in str(error.hint)


def test_an_idx_file_of_colours_is_refused_with_the_way_on(tmp_path: Path) -> None:
    """Four dimensions are no images of MNIST's kind: the error says how to prepare them."""
    write_digits(tmp_path / "in")
    path = tmp_path / "in" / "train-images-idx3-ubyte"
    path.write_bytes(idx(np.zeros((40, 6, 6, 3), np.uint8)))
    with pytest.raises(SourceError, match="expected 3 dimensions, the header says 4") as caught:
        raw_of(tmp_path / "in")
    assert "pixelprep.Arrays('NAME', (images, labels))" in str(caught.value.hint)
