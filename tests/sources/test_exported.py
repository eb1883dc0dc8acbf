"""Exports of pixelprep's own, given back as data: taken as raw, exactly, or refused."""

import json
import logging
import shutil
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
    options = {"mode": "center"}  # `size` would be refused, as the pixels have it already
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


def test_a_folder_of_png_files_keeps_classes_and_splits(tmp_path: Path) -> None:
    """Classes have the names and numbers of the entry, whose order is not that of their folders;
    splits and each image's label are the same; the order of images is the folder's own. Where a
    class was renamed since, the folders alone count.
    """
    x, y = RNG.integers(0, 256, (24, 4, 4), np.uint8), np.arange(24) % 3
    source = Arrays("digits", (x, y), class_names=("zwei/2", "10", "a"))
    entry = prepared(source, val_fraction=0.25)
    path = pixelprep.export(entry, tmp_path / "out", "png", quiet=True).path
    again = prepared(path, mode="center", cache_dir=tmp_path / "again")
    assert again.class_names == ("zwei/2", "10", "a")
    for name, split in entry.splits.items():
        own, other = entry.scaling.invert(split.to_numpy()[0]), again.splits[name]
        found = zip(again.scaling.invert(other.to_numpy()[0]), other.labels, strict=True)
        labels = dict(zip(map(bytes, own), split.labels.tolist(), strict=True))
        assert {bytes(image): label for image, label in found} == labels
    for folder in path.glob("*/a"):
        folder.rename(folder.with_name("b"))
    assert prepared(path, cache_dir=tmp_path / "again").class_names == ("10", "b", "zwei%2F2")


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
    with pytest.raises(SourceError, match=f"has scaled these images already, and {why}"):
        prepared(path)


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
