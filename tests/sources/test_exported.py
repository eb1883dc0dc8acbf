"""Exports of pixelprep's own, given back as data: taken as raw, exactly, or refused."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import SourceError, UsageError
from pixelprep.sources import Arrays
from tests.helpers.data import arrays
from tests.helpers.sources import prepared

SCALED = ["npz", "hdf5-single"]
RNG = np.random.default_rng(5)


def exported(entry: pixelprep.Entry, folder: Path, to: str) -> Path:
    """Return the file of an export."""
    folder.mkdir(exist_ok=True)
    path = pixelprep.export(entry, folder / "out", to, quiet=True).path
    (found,) = [one for one in path.iterdir() if one.suffix in (".npz", ".h5")]
    return found


def multilabel() -> Arrays:
    """Return images of several classes each, or of none; with a val split and names."""
    images = RNG.integers(-128, 128, (20, 5, 4), np.int8)
    labels = (np.arange(60).reshape(20, 3) % 4 == 0).astype(int)
    pairs = (images, labels), (images[:4] + np.int8(1), labels[:4])
    names = {"train": [f"é{i}" for i in range(20)], "val": ["a", "b", "c", "d"]}
    classes = ("red", "blue", "round")
    return Arrays(
        "many", pairs[0], val=pairs[1], class_names=classes, task="multilabel", names=names
    )


SOURCES: dict[str, tuple[Arrays, dict[str, Any]]] = {
    "colour": (arrays(), {"mode": "standardize", "per": "pixel"}),
    "16 bits": (arrays(dtype="uint16", shape=(6, 5)), {"mode": "normalize"}),
    "float16": (arrays(), {"mode": "center", "dtype": "float16", "rescale": True}),
    "per image": (arrays(), {"mode": "standardize", "per": "image", "storage": "raw"}),
    "several labels": (multilabel(), {"mode": "center", "per": "image", "compression": "gzip"}),
}


@pytest.mark.parametrize(
    ("kind", "to"),
    [*((kind, "npz") for kind in SOURCES), ("several labels", "hdf5-single")],
)
def test_an_export_is_the_very_data_of_its_entry(
    tmp_path: Path, to: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Types, pixels, labels, names, classes: the source digest is the same; and a line says so."""
    source, options = SOURCES[kind]
    entry = prepared(source, **options)
    path = exported(entry, tmp_path, to)
    with caplog.at_level(logging.INFO, "pixelprep"):
        again = prepared(path, cache_dir=tmp_path / "again", **options)
    assert again.manifest.source == entry.manifest.source
    assert again.key == entry.key
    undone = (
        f"{path}: is an export of {entry.dataset}/{entry.mode}-{entry.key}: its scaling is undone"
    )
    assert undone in caplog.messages


def test_an_export_of_a_folder_keeps_how_it_was_decoded(tmp_path: Path) -> None:
    """Paths and options of decoding are the original's; the export's folder does as well."""
    for number in range(8):
        path = tmp_path / "digits" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (7, 6), np.uint8)).save(path)
    entry = prepared(tmp_path / "digits", size=(9, 8))
    path = exported(entry, tmp_path, "npz")
    again = prepared(path.parent, mode="center", cache_dir=tmp_path / "again")
    assert again.manifest.source == entry.manifest.source
    assert again.manifest.source.decode["size"] == [9, 8]
    options = {"mode": "center"}
    items = pixelprep.cache.list(cache_dir=tmp_path / "again")
    (item,) = (one for one in items if one.entry is not None)
    assert item.entry is not None
    assert item.entry.options == options
    with pytest.raises(UsageError, match=r"`layout`: does not apply to an export of pixelprep"):
        prepared(path, layout="nchw")


def test_the_layout_that_was_turned_is_not_turned_again(tmp_path: Path) -> None:
    """An option that the pixels were read with may be given again: they are as they were."""
    turned = Arrays("turned", (RNG.integers(0, 256, (9, 3, 5, 4), np.uint8), np.arange(9) % 3))
    entry = prepared(replace(turned, layout="nchw"))
    path = exported(entry, tmp_path, "npz")
    again = prepared(path, layout="nchw", cache_dir=tmp_path / "again")
    assert again.manifest.source == entry.manifest.source
    with pytest.raises(UsageError, match=r"`layout`: does not apply to an export of pixelprep"):
        prepared(path, layout="nwh")


ODD = ("zwei/2", "10", ".hid", "", "A", "b", "train", "x y", "é", "%")  # not all fit for a disk


def ten_classes(**options: Any) -> Arrays:
    """Return ten classes, not in the order of their folders; a val split, and names of any text."""
    x, y = RNG.integers(0, 256, (40, 4, 3, 3), np.uint8), np.arange(40) % 10
    names = {"train": [f'é/{i}, "x"\n.jpg' for i in range(40)]}
    names |= {"val": [f" v{i}" for i in range(20)], "test": [f"{i}" for i in range(20)]}
    pairs = (x, y), (x[:20] + np.uint8(1), y[:20]), (x[:20] + np.uint8(2), y[:20])
    given = {"names": names, "val": pairs[2], **options}
    return Arrays("ten", pairs[0], pairs[1], class_names=ODD, **given)


def as_png(source: Arrays, folder: Path, **options: Any) -> tuple[pixelprep.Entry, Path]:
    """Return an entry, and the folder of its pictures."""
    entry = prepared(source, **options)
    return entry, pixelprep.export(entry, folder, "png", quiet=True).path


@pytest.mark.parametrize(
    "source",
    [ten_classes(), arrays(dtype="uint16", shape=(6, 5))],
    ids=["colour, val, names, odd classes", "16 bits of grey"],
)
def test_pictures_of_an_export_are_the_very_data_of_its_entry(
    tmp_path: Path, source: Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    """Pixels, order, labels, names, classes, decoding: the source digest is the same, so that the
    entry is found where it is there; and a line says so.
    """
    entry, path = as_png(source, tmp_path / source.name)
    with caplog.at_level(logging.INFO, "pixelprep"):
        again = prepared(path, cache_dir=tmp_path / "again")
    assert again.manifest.source == entry.manifest.source
    assert again.key == entry.key
    own = f"{entry.dataset}/{entry.mode}-{entry.key}: rows, names and classes are its own"
    assert f"{path}: is an export of {own}" in caplog.messages
    assert prepared(path).cached


def test_the_names_of_rows_lie_beside_the_pictures(tmp_path: Path) -> None:
    """A table that any program reads has each picture's row name; without names there is none."""
    entry, path = as_png(ten_classes(), tmp_path / "out")
    with (path / "names.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [split.name_of(row) for split in entry.splits.values() for row in range(len(split))]
    assert [row["name"] for row in rows] == names
    assert (rows[0]["picture"], len(rows)) == ("train/zwei%2F2/0000000.png", 80)
    assert not (as_png(arrays(), tmp_path / "unnamed")[1] / "names.csv").exists()


def test_pictures_of_an_export_may_lie_in_an_archive(tmp_path: Path) -> None:
    """A zip or tar of the folder, or of what is in it, is the same data."""
    entry, path = as_png(ten_classes(), tmp_path / "out")
    files = [
        shutil.make_archive(str(tmp_path / "packed"), "zip", path),
        shutil.make_archive(str(tmp_path / "packed"), "gztar", tmp_path, "out"),
    ]
    for file in files:
        again = prepared(file, cache_dir=tmp_path / "again")
        assert again.manifest.source == entry.manifest.source


def test_pictures_keep_how_they_were_decoded(tmp_path: Path) -> None:
    """What was done to the pixels is recorded as it was, and may be asked for again; with more, the
    pictures are read as those of any folder.
    """
    for number in range(8):
        path = tmp_path / "digits" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (7, 6), np.uint8)).save(path)
    entry = prepared(tmp_path / "digits", size=(9, 8), filter="box")
    path = pixelprep.export(entry, tmp_path / "out", "png", quiet=True).path
    for options in ({}, {"size": "9x8", "color": "grey", "filter": "box"}):
        again = prepared(path, mode="center", cache_dir=tmp_path / "again", **options)
        assert again.manifest.source == entry.manifest.source
        assert again.manifest.source.decode["filter"] == "box"
    with pytest.warns(pixelprep.PixelprepWarning, match="any folder of pictures: `size` asks for"):
        again = prepared(path, size=4, cache_dir=tmp_path / "again")
    assert again.train.shape == (8, 4, 4, 1)
    assert again.manifest.source.decode["size"] == [4, 4]


def test_classes_are_chosen_of_an_export(tmp_path: Path) -> None:
    """Rows of other classes are left out; the others stay in their order, with their names."""
    source = ten_classes()
    _, path = as_png(source, tmp_path / "out")
    entry = prepared(path, classes=("é", "A"), cache_dir=tmp_path / "again")
    assert entry.train.labels.tolist() == [1, 0] * 4  # of 4 and 8, by turns
    images, _ = source.train
    raw = entry.scaling.invert(entry.train.to_numpy()[0])
    assert np.array_equal(raw, images[[4, 8, 14, 18, 24, 28, 34, 38]])
    assert entry.train.name_of(1) == 'é/8, "x"\n.jpg'


def test_pictures_of_splits_that_were_drawn_are_splits(tmp_path: Path) -> None:
    """What was drawn from train comes back as a split of its own; rows, order and names stay."""
    entry, path = as_png(ten_classes(val=None, names=None), tmp_path / "out", val_fraction=0.25)
    again = prepared(path, mode="center", cache_dir=tmp_path / "again")
    assert again.class_names == ODD
    assert again.manifest.recipe.splits == dict.fromkeys(("train", "val", "test"), "source")
    for name, split in entry.splits.items():
        raw = entry.scaling.invert(split.to_numpy()[0])
        assert np.array_equal(again.scaling.invert(again.splits[name].to_numpy()[0]), raw)
        assert np.array_equal(again.splits[name].labels, split.labels)


def repaint(path: Path) -> None:
    Image.new("RGB", (3, 4)).save(path / "train" / "A" / "0000004.png")


def move(path: Path) -> None:
    (path / "train" / "A" / "0000004.png").rename(path / "train" / "b" / "0000004.png")


def remove(path: Path) -> None:
    (path / "val" / "A" / "0000014.png").unlink()


def add(path: Path) -> None:
    shutil.copy(path / "train" / "A" / "0000004.png", path / "train" / "A" / "new.png")


def unname(path: Path) -> None:
    (path / "names.csv").unlink()


CHANGES: dict[str, tuple[Callable[[Path], object], str, list[int]]] = {
    "repainted": (repaint, "train has other pixels or names", [40, 20, 20]),
    "moved": (move, "train has some in other classes", [40, 20, 20]),
    "removed": (remove, "val lacks 1 of 20", [40, 19, 20]),
    "added": (add, "train/A/new.png is none of it", [41, 20, 20]),
    "unnamed": (unname, "names.csv has not all names", [40, 20, 20]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_export_with_other_pictures_is_a_folder_as_any(tmp_path: Path, change: str) -> None:
    """Pictures that were changed, moved, removed or added since count as they are now, which a line
    says; classes keep their names and numbers.
    """
    entry, path = as_png(ten_classes(), tmp_path / "out")
    make, why, rows = CHANGES[change]
    make(path)
    with pytest.warns(pixelprep.PixelprepWarning, match=f"read as any folder of pictures: {why}"):
        again = prepared(path, cache_dir=tmp_path / "again")
    assert again.class_names == entry.class_names
    assert [len(split) for split in again.splits.values()] == rows
    assert again.train.names is not None
    assert sorted(again.train.names)[0] == "train/%/0000003.png"


def test_a_damaged_picture_of_an_export_is_skipped_as_of_any_folder(tmp_path: Path) -> None:
    """Without the option it stops, as ever; with it, the rest is a folder as any."""
    _, path = as_png(ten_classes(), tmp_path / "out")
    (path / "train" / "A" / "0000004.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"0000004\.png: "):
        prepared(path, cache_dir=tmp_path / "again")
    with pytest.warns(pixelprep.PixelprepWarning, match="train has some that cannot be read"):
        again = prepared(path, on_error="skip", cache_dir=tmp_path / "again")
    assert again.manifest.source.decode["skipped"] == ["train/A/0000004.png"]
    assert len(again.train) == 39


def test_a_renamed_class_leaves_the_folders_alone(tmp_path: Path) -> None:
    """Where the classes are no more those of the manifest, it tells nothing."""
    _, path = as_png(ten_classes(), tmp_path / "out")
    for folder in path.glob("*/b"):
        folder.rename(folder.with_name("c"))
    names = {"zwei%2F2", "10", "%2Ehid", "%", "A", "c", "train", "x y", "é", "%25"}
    with pytest.warns(pixelprep.PixelprepWarning, match="c/0000005.png is none of it"):
        assert set(prepared(path, cache_dir=tmp_path / "again").class_names) == names


def test_splits_taken_from_train_are_splits_of_an_export(tmp_path: Path) -> None:
    """What was drawn from train comes back as a split of its own, with the same raw images."""
    source = arrays()
    entry = prepared(source, val_fraction=0.2)
    again = prepared(exported(entry, tmp_path, "npz"), cache_dir=tmp_path / "again", mode="center")
    for name, split in entry.splits.items():
        raw = entry.scaling.invert(split.to_numpy()[0])
        assert np.array_equal(again.scaling.invert(again.splits[name].to_numpy()[0]), raw)
        assert np.array_equal(again.splits[name].labels, split.labels)
    assert set(again.splits) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("source", "options", "why"),
    [
        (arrays(dtype="uint16"), {"dtype": "float16", "rescale": True}, "uint16 pixels cannot"),
        (
            Arrays("floats", (RNG.random((9, 4, 4)), np.arange(9) % 3)),
            {},
            "float64 pixels cannot be recovered exactly from float32",
        ),
    ],
)
def test_pixels_that_scaling_has_rounded_are_refused(
    tmp_path: Path, source: Arrays, options: dict[str, Any], why: str
) -> None:
    """What cannot be recovered to the last bit is not taken for raw."""
    path = exported(prepared(source, **options), tmp_path, "npz")
    with pytest.raises(SourceError, match=f"scaled these images already, and {why}") as refused:
        prepared(path)
    assert refused.value.hint == "give the raw data; open an entry by its folder"


@pytest.mark.parametrize("to", SCALED)
def test_an_export_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path, to: str) -> None:
    """Without its manifest, with that of other data, or with a pixel changed, it is not undone."""
    path = exported(prepared(arrays()), tmp_path, to)
    other = exported(prepared(arrays(seed=1)), tmp_path / "other", to)
    manifest = path.parent / "entry.json"
    alone = shutil.copy(path, tmp_path / path.name)
    with pytest.raises(SourceError, match="has scaled these images already") as refused:
        prepared(alone)
    assert refused.value.hint is not None
    assert "an export with its entry.json beside it" in refused.value.hint
    kept = manifest.read_bytes()
    of_other = (other.parent / "entry.json").read_bytes()
    for content in (b"{}", of_other) if to == "npz" else ():
        manifest.write_bytes(content)
        with pytest.raises(SourceError, match="has scaled these images already"):
            prepared(path)
    manifest.write_bytes(kept)
    if to == "hdf5-single":
        with h5py.File(path, "r+") as file:
            file["test/images"][3, 2, 1] += np.float32(1e-3)
        with pytest.raises(SourceError, match=r"otherwise than its entry\.json says"):
            prepared(path)


def test_what_lies_beside_other_data_is_not_looked_at(tmp_path: Path) -> None:
    """A file called entry.json says nothing of arrays that pixelprep has not written."""
    x, y = np.arange(60, dtype=np.uint8).reshape(5, 4, 3), np.arange(5) % 2
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y)
    (tmp_path / "entry.json").write_text(json.dumps({"format": "another"}))
    entry = prepared(tmp_path / "own.npz", mode="center")
    assert np.array_equal(entry.scaling.invert(entry.train.to_numpy()[0])[..., 0], x)


@pytest.mark.parametrize("source", [arrays(), multilabel()], ids=["one", "several"])
def test_an_export_that_is_not_read_back_is_named(source: Arrays, tmp_path: Path) -> None:
    """A folder of TFRecord files with a manifest is told from one of images."""
    entry = prepared(source)
    folder = tmp_path / "out"
    folder.mkdir()
    shutil.copy(entry.path / "manifest.json", folder / "entry.json")
    (folder / "train.tfrecord").write_bytes(b"")
    with pytest.raises(SourceError, match="out: an export to tfrecord, which is not") as refused:
        prepared(folder)
    assert f"of {entry.dataset}/standardize-{entry.key}: expected parquet" in str(refused.value)
