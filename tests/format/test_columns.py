"""Several labels a row, and names of rows: stored, read, checked, exported as they are."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import pixelprep
from pixelprep import Arrays, SourceError
from tests.helpers import reference
from tests.helpers.malicious import forge
from tests.helpers.recipes import pair

CLASSES = ("a", "b", "ü")


def several(rows: int) -> np.ndarray:
    """Return labels of several classes a row, or of none."""
    return (np.arange(rows)[:, None] >> np.arange(3) & 1).astype(np.uint8)


def source_of(rows: int = 40, test: int = 9) -> Arrays:
    """Return rows with names and several classes."""
    images = {"train": pair(rows, "uint8")[0], "test": pair(test, "uint8")[0]}
    pairs: dict[str, Any] = {name: (x, several(len(x))) for name, x in images.items()}
    names = {n: [f"{n}/ö {i}.png" for i in range(len(x))] for n, x in images.items()}
    return Arrays("several", **pairs, class_names=CLASSES, task="multilabel", names=names)


@pytest.mark.parametrize(
    ("compression", "storage"),
    [
        ("none", "scaled"),
        ("gzip", "raw"),
        pytest.param("none", "raw", marks=pytest.mark.long),
        pytest.param("gzip", "scaled", marks=pytest.mark.long),
    ],
)
def test_labels_and_names_are_those_of_the_source(compression: str, storage: str) -> None:
    """In several files, with a validation split taken as a share of all rows: pixelprep and the
    page read the same, and `verify` finds nothing amiss.
    """
    source = source_of()
    options: dict[str, Any] = {"compression": compression, "storage": storage, "shard_rows": 10}
    entry = pixelprep.prepare(source, val_fraction=0.2, quiet=True, **options)
    raw = reference.Source(
        train=source.train,
        test=source.test,
        class_names=list(CLASSES),
        task="multilabel",
        names={name: list(rows) for name, rows in (source.names or {}).items()},
    )
    for name, wanted in reference.check_entry(entry.path, raw).splits.items():
        split = entry.splits[name]
        assert (split.labels == wanted.labels).all()
        assert split.read_names() is not None
        assert split.read_names().tolist() == wanted.names  # type: ignore[union-attr]
        assert split.name_of(2) == wanted.names[2].decode()  # type: ignore[index]
        assert entry.manifest.splits[name].class_counts == tuple(split.labels.sum(axis=0))
    assert len(entry.splits["val"]) == 8
    assert [result.problems for result in pixelprep.verify(entry, quiet=True)] == [()]


def test_batches_have_all_labels_of_a_row() -> None:
    """Shuffled, each image keeps its own."""
    train = pixelprep.prepare(source_of(), mode="center", quiet=True).train
    images, labels = train.to_numpy()
    right = {image.tobytes(): label.tobytes() for image, label in zip(images, labels, strict=True)}
    for x, y in train.batches(7, shuffle=True, seed=1):
        assert (str(y.dtype), *y.shape[1:]) == ("uint8", 3)
        assert all(right[a.tobytes()] == b.tobytes() for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("column", ["labels", "names"])
def test_a_forged_label_or_name_is_found(column: str) -> None:
    """Though all digests of files be right, those of the source are not."""
    entry = pixelprep.prepare(source_of(), quiet=True)
    with h5py.File(entry.path / "test.h5", "r+") as file:
        file[column][3] = file[column][4]
    forge(entry.path)
    [result] = pixelprep.verify(entry.path, quiet=True)
    assert any(f"test: its {column} are not those of the source" in one for one in result.problems)


def test_exports_have_labels_and_names(tmp_path: Path) -> None:
    """Of npz and hdf5-single; a picture, which lies in the folder of one class, cannot."""
    entry = pixelprep.prepare(source_of(), quiet=True)
    pixelprep.export(entry, tmp_path / "npz", "npz", quiet=True)
    with np.load(tmp_path / "npz" / "several.npz") as found:
        assert (found["y_train"] == several(40)).all()
        assert found["names_test"][1].decode() == "test/ö 1.png"
    pixelprep.export(entry, tmp_path / "h5", "hdf5-single", quiet=True)
    with h5py.File(tmp_path / "h5" / "several.h5") as file:
        assert file["train/names"].asstr()[39] == "train/ö 39.png"
    with pytest.raises(pixelprep.UsageError, match="`to=png`: a picture lies in one folder"):
        pixelprep.export(entry, tmp_path / "png", "png", quiet=True)


IMAGES = pair(8, "uint8")[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train": (IMAGES, several(8) * 2)}, r"are 0 to 2: expected 0 and 1, \(N, 3\)"),
        ({"train": (IMAGES, several(8)[:, :2])}, "expected 0 and 1, .N, 3., of 3 classes"),
        ({"train": (IMAGES, np.arange(8))}, r"labels are int64 \(8,\): expected 0 and 1"),
        ({"train": (IMAGES, several(8) / 2)}, "labels are float64"),
        ({"names": {"train": ["a"] * 7}}, "names are 7, labels 8"),
        ({"names": {"train": ["a"] * 7 + [""]}}, "a name is empty"),
        ({"names": {"train": ["a"] * 7 + ["\ud800"]}}, "a name is not valid text"),
        ({"names": {"train": ["a"] * 7 + ["x" * 5000]}}, "a name is longer than 4,096 bytes"),
        ({"task": "several"}, "unknown `task` 'several'"),
    ],
    ids=str,
)
def test_labels_and_names_that_cannot_be_are_refused(changes: dict[str, Any], reason: str) -> None:
    """Each is named."""
    given = {"train": (IMAGES, several(8)), "class_names": CLASSES, "task": "multilabel"} | changes
    with pytest.raises((SourceError, pixelprep.UsageError), match=reason):
        pixelprep.prepare(Arrays("bad", **given), quiet=True)
