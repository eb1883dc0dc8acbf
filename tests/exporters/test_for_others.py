"""Exports for other libraries: what these read is the entry's raw pixels, labels and names."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.exporters import _pictures, format_names
from pixelprep.sources import Arrays
from pixelprep.sources.base import Provenance

CLASSES = ("a cat", "dog", "ox")
Rows = list[tuple[np.ndarray, Any, str | None]]  # pixels (H, W, C), label, name


def source(kind: str, rows: int = 40) -> Arrays:
    """Return images of random pixels: RGB; or 16 bits of grey, with names; or several classes."""
    random = np.random.default_rng(1)
    channels, dtype = (
        (3, "uint8") if kind == "rgb" else (1, "uint16" if kind == "deep" else "uint8")
    )

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        images = random.integers(0, np.iinfo(dtype).max, (count, 6, 5, channels), dtype, True)
        one, several = random.permutation(np.arange(count) % 3), random.integers(0, 2, (count, 3))
        return images, several if kind == "several" else one

    about: dict[str, Any] = {}
    if kind == "deep":
        about["names"] = {"train": [f"ä/{i}" for i in range(rows)], "test": [*"0123456789abcdef"]}
    if kind == "several":
        about["task"] = "multilabel"
    return Arrays("little", split(rows), split(16), CLASSES, **about)


def exported(kind: str, to: str, folder: Path, **options: Any) -> tuple[Entry, Path]:
    """Return an entry, and its export."""
    entry = pixelprep.prepare(source(kind), quiet=True, **options)
    return entry, pixelprep.export(entry, folder / to, to, quiet=True).path


def rows_of(entry: Entry, split: str) -> Rows:
    """Return what an entry was made of, row by row."""
    own = entry.splits[split]
    pixels = entry.scaling.invert(*own.to_numpy()[:1])
    names = [None] * len(own)
    if "names" in own.column_names:
        names = [name.decode() for name in own.read(0, len(own), "names").tolist()]
    return list(zip(pixels, own.labels.tolist(), names, strict=True))


def picture(content: bytes) -> np.ndarray:
    """Return the pixels (H, W, C) of a PNG file, by Pillow alone."""
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def same(found: Rows, wanted: Rows) -> None:
    """Compare rows, value by value."""
    assert [row[1:] for row in found] == [row[1:] for row in wanted]
    for (got, *_), (pixels, *_) in zip(found, wanted, strict=True):
        assert (got.dtype, got.shape) == (pixels.dtype, pixels.shape)
        assert np.array_equal(got, pixels)


def from_parquet(path: Path) -> Iterator[tuple[np.ndarray, Any, str | None]]:
    """By pyarrow alone."""
    from pyarrow import parquet

    for row in parquet.read_table(path).to_pylist():
        label = row.get("label")
        if label is None:
            label = [int(number in row["labels"]) for number in range(3)]
        yield picture(row["image"]["bytes"]), label, row["image"]["path"]


def from_tar(path: Path) -> Iterator[tuple[np.ndarray, Any, str | None]]:
    """By tarfile alone."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
            key, _, ending = member.name.partition(".")
            file = tar.extractfile(member)
            assert file is not None
            found.setdefault(key, {})[ending] = file.read()
    for parts in found.values():
        about = json.loads(parts.get("json", b"{}"))
        label = int(parts["cls"]) if "cls" in parts else about["label"]
        yield picture(parts["png"]), label, about.get("name")


READ = {"parquet": from_parquet, "webdataset": from_tar}
KINDS = ["rgb", "deep", "several"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", READ)
def test_pictures_are_the_raw_pixels(tmp_path: Path, to: str, kind: str) -> None:
    """Every row's pixels, label and name are the entry's; read by `prepare`, they make the same
    entry again, under the same key.
    """
    if to == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet is written by pyarrow")
    entry, folder = exported(kind, to, tmp_path)
    for split in entry.splits:
        found = [row for path in sorted(folder.glob(f"{split}-*")) for row in READ[to](path)]
        same(found, rows_of(entry, split))
    again = pixelprep.prepare(folder, cache_dir=tmp_path / "again", quiet=True)
    assert (again.key, again.class_names) == (entry.key, CLASSES)


@pytest.mark.parametrize("to", READ)
def test_files_are_of_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    """Where pictures take more than a file may have, there are several, in the order of rows."""
    if to == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet is written by pyarrow")
    monkeypatch.setattr(_pictures, "SHARD_BYTES", 2_000)
    monkeypatch.setattr(
        _pictures, "row_blocks", lambda _, rows: (rows[i : i + 4] for i in rows[::4])
    )
    entry, folder = exported("rgb", to, tmp_path)
    files = sorted(folder.glob("train-*"))
    last = f"train-{len(files) - 1:05}-of-{len(files):05}.parquet"
    assert files[-1].name == (last if to == "parquet" else f"train-{len(files) - 1:06}.tar")
    assert len(files) > 3
    found = [list(READ[to](path)) for path in files]
    assert all(len(rows) % 4 == 0 for rows in found)
    same([row for rows in found for row in rows], rows_of(entry, "train"))
    assert pixelprep.prepare(folder, cache_dir=tmp_path / "again", quiet=True).key == entry.key


def test_parquet_is_described_as_the_hub_has_it(tmp_path: Path) -> None:
    """Its schema has what `datasets` writes of pictures and of the names of classes."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet is written by pyarrow")
    classes: dict[str, Any] = {"names": [*CLASSES], "_type": "ClassLabel"}
    lists = {"feature": classes, "_type": "List"}
    for kind, label in (("rgb", {"label": classes}), ("several", {"labels": lists})):
        _, folder = exported(kind, "parquet", tmp_path)
        schema = parquet.read_schema(folder / "train-00000-of-00001.parquet")
        features = {"image": {"_type": "Image"}, **label}
        assert json.loads(schema.metadata[b"huggingface"]) == {"info": {"features": features}}
        folder.rename(tmp_path / kind)


@pytest.mark.parametrize("to", READ)
def test_pixels_that_png_lacks_are_refused(tmp_path: Path, to: str) -> None:
    """Floats and more channels are refused before anything is written, with what holds them."""
    if to == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet is written by pyarrow")
    for images in (np.zeros((8, 4, 4, 3), np.float32), np.zeros((8, 4, 4, 4), np.uint8)):
        pair = images, np.arange(8) % 2
        entry = pixelprep.prepare(Arrays("odd", pair, pair), quiet=True)
        with pytest.raises(pixelprep.UsageError, match=f"`to={to}`: images of") as caught:
            pixelprep.export(entry, tmp_path / "out", to)
        assert caught.value.hint == "export to npz or hdf5-single"
        assert not (tmp_path / "out").exists()


def test_classes_of_one_name_are_refused_of_parquet(tmp_path: Path) -> None:
    """`datasets` refuses to load two classes of one name; so none are written."""
    pytest.importorskip("pyarrow", reason="Parquet is written by pyarrow")
    pair = np.zeros((8, 4, 4, 3), np.uint8), np.arange(8) % 2
    entry = pixelprep.prepare(Arrays("odd", pair, pair, ("a", "a")), quiet=True)
    with pytest.raises(pixelprep.UsageError, match="two classes have the same name"):
        pixelprep.export(entry, tmp_path / "out", "parquet")


def test_an_export_of_other_rows_is_told(tmp_path: Path) -> None:
    """With a file of it gone, the rest is read as any tars, under another key, with a line."""
    entry, folder = exported("rgb", "webdataset", tmp_path)
    (folder / "test-000000.tar").unlink()
    with pytest.warns(pixelprep.PixelprepWarning, match="its rows are not all of it as they were"):
        again = pixelprep.prepare(folder, cache_dir=tmp_path / "again", quiet=True)
    assert again.key != entry.key
    assert again.class_names == CLASSES


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_datasets_loads_parquet(tmp_path: Path, kind: str) -> None:
    """`datasets.load_dataset`, of the folder or its files, has every row, and classes by name."""
    datasets = pytest.importorskip("datasets", reason="it is what is tried")
    entry, folder = exported(kind, "parquet", tmp_path)
    files = {split: str(folder / f"{split}-*.parquet") for split in entry.splits}
    for found in (
        datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "hf")),
        datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "hf")),
    ):
        for split in entry.splits:
            feature = found[split].features.get("label") or found[split].features["labels"].feature
            assert tuple(feature.names) == CLASSES
            raw = found[split].cast_column("image", datasets.Image(decode=False))
            rows = []
            for row in raw:
                label = row.get("label")
                if label is None:
                    label = [int(number in row["labels"]) for number in range(3)]
                rows.append((picture(row["image"]["bytes"]), label, row["image"]["path"]))
            same(rows, rows_of(entry, split))
            decoded = np.asarray(found[split][0]["image"])  # by datasets itself
            assert np.array_equal(decoded.reshape(rows[0][0].shape), rows[0][0])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_webdataset_and_datasets_read_tars(tmp_path: Path, kind: str) -> None:
    """The library webdataset, and the loader of `datasets`, have every row in its order."""
    webdataset = pytest.importorskip("webdataset", reason="it is what is tried")
    datasets = pytest.importorskip("datasets", reason="it is what is tried")
    entry, folder = exported(kind, "webdataset", tmp_path)
    for split in entry.splits:
        files = [str(path) for path in sorted(folder.glob(f"{split}-*.tar"))]
        rows = []
        for row in webdataset.WebDataset(files, shardshuffle=False):
            about = json.loads(row.get("json", b"{}"))
            label = about["label"] if "cls" not in row else int(row["cls"])
            rows.append((picture(row["png"]), label, about.get("name")))
        same(rows, rows_of(entry, split))
        decoded = next(iter(webdataset.WebDataset(files, shardshuffle=False).decode()))
        label = decoded["json"]["label"] if kind == "several" else decoded["cls"]
        assert label == rows[0][1]
        loaded = datasets.load_dataset(
            "webdataset", data_files={split: files}, cache_dir=str(tmp_path / "hf")
        )[split]
        rows = []
        for row in loaded:
            pixels, about = np.asarray(row["png"]), row.get("json") or {}
            pixels = pixels if pixels.ndim == 3 else pixels[..., None]
            label = about["label"] if kind == "several" else row["cls"]
            rows.append((pixels, label, about.get("name")))
        same(rows, rows_of(entry, split))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [None, 16])
def test_tfds_opens_a_folder(tmp_path: Path, kind: str, rows: int | None) -> None:
    """``tfds.builder_from_directory`` has every stored value, by split, and classes by name."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="it is what is tried")
    options: dict[str, Any] = {"per": "image", "dtype": "float16"} if kind == "rgb" else {}
    entry, folder = exported(kind, "tfrecord", tmp_path, shard_rows=rows, **options)
    builder = tfds.builder_from_directory(str(folder))
    assert (builder.name, str(builder.version)) == ("little", "1.0.0")
    if kind != "several":
        assert tuple(builder.info.features["label"].names) == CLASSES
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    for name, split in entry.splits.items():
        assert builder.info.splits[name].num_examples == len(split)
        found = list(builder.as_dataset(split=name, read_config=in_order).as_numpy_iterator())
        wanted = {"image": split.to_numpy()[0], "label": split.labels}
        if kind == "rgb":
            wanted |= {"mean": split.mean, "std": split.std}
        if kind == "deep":
            wanted["name"] = split.read(0, len(split), "names")
        assert found[0].keys() == wanted.keys()
        for key, values in wanted.items():
            got = np.array([row[key] for row in found])
            assert np.array_equal(got, values)
            assert got.dtype == values.dtype or key in ("label", "name")  # int64, and of any length
    pairs = builder.as_dataset(split="train[:4]", as_supervised=True, read_config=in_order)
    assert [len(pair) for pair in pairs] == [2] * 4


def test_tfrecord_tells_tfds_of_rows_and_classes(tmp_path: Path) -> None:
    """Beside its files are their rows, and the names of classes; names that a line cannot hold are
    left out, with a line.
    """
    pytest.importorskip("tensorflow", reason="TFRecord is written by TensorFlow")
    entry, folder = exported("rgb", "tfrecord", tmp_path, shard_rows=16)
    info = json.loads((folder / "dataset_info.json").read_text())
    assert [(one["name"], one["shardLengths"]) for one in info["splits"]] == [
        ("train", ["16", "16", "8"]),
        ("test", ["16"]),
    ]
    for split in entry.splits:
        size = sum(path.stat().st_size for path in folder.glob(f"{split}*.tfrecord"))
        assert str(size) in [one["numBytes"] for one in info["splits"] if one["name"] == split]
    assert (folder / "label.labels.txt").read_text().splitlines() == [*CLASSES]
    pair = np.zeros((8, 4, 4, 3), np.uint8), np.arange(8) % 2
    odd = pixelprep.prepare(Arrays("odd", pair, pair, ("a", " a")), quiet=True)
    with pytest.warns(pixelprep.PixelprepWarning, match="no such names of classes"):
        done = pixelprep.export(odd, tmp_path / "odd", "tfrecord", quiet=True)
    assert not (done.path / "label.labels.txt").exists()


NEEDS = {"parquet": "pyarrow", "tfrecord": "tensorflow"}


@pytest.mark.parametrize("to", [name for name in format_names() if name != "tfrecord"])
def test_croissant_lists_every_file(tmp_path: Path, to: str) -> None:
    """It has each file's size and digest, pictures as one set; terms, classes and splits."""
    if to in NEEDS:
        pytest.importorskip(NEEDS[to], reason="the format needs it")
    about = Provenance("Little", "CC-BY-4.0", "https://example.org", "Doe 2026")
    entry = pixelprep.prepare(replace(source("rgb"), provenance=about), quiet=True)
    folder = pixelprep.export(entry, tmp_path / to, to, quiet=True).path
    found = json.loads((folder / "croissant.json").read_text())
    files = {one["contentUrl"]: one for one in found["distribution"] if "contentUrl" in one}
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    assert files.keys() == {name for name in there if name[-4:] != ".png"} - {"croissant.json"}
    for name, one in files.items():
        content = there[name].read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        assert one["contentSize"] == f"{len(content)} B"
    assert (found["license"], found["citeAs"]) == ("CC-BY-4.0", "Doe 2026")
    assert (found["url"], found["version"]) == ("https://example.org", f"1.0.0+{entry.key}")
    sets = {one["@id"]: one for one in found["recordSet"]}
    assert [row["classes/name"] for row in sets["classes"]["data"]] == [*CLASSES]
    assert [row["splits/name"] for row in sets["splits"]["data"]] == ["train", "test"]
    assert ("default" in sets) == (to in ("parquet", "png"))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", format_names())
def test_mlcroissant_validates_and_reads(tmp_path: Path, to: str, kind: str) -> None:
    """It finds no error, and warns of nothing but what the data does not tell: when it was
    published and, here, how to cite it. Of Parquet and PNG it reads the rows.
    """
    mlcroissant = pytest.importorskip("mlcroissant", reason="it is what is tried")
    if to == "png" and kind == "several":
        pytest.skip("PNG files lie in one folder each")
    entry, folder = exported(kind, to, tmp_path)
    path = folder / "croissant.json"
    command = [sys.executable, "-m", "mlcroissant.scripts.validate", "--jsonld", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = [line for line in done.stderr.splitlines() if "  -  " in line]
    assert {line.split('"')[1].rpartition("/")[2] for line in told} == {"citeAs", "datePublished"}
    assert "not standard" not in done.stderr
    if to not in ("parquet", "png") or (to, kind) == ("png", "deep"):
        return
    rows: dict[str, Rows] = {split: [] for split in entry.splits}
    for row in mlcroissant.Dataset(jsonld=str(path)).records("default"):
        pixels, label = np.asarray(row["default/image"]), row.get("default/label")
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        if label is None:
            label = [int(number in row["default/labels"]) for number in range(3)]
        if to == "png":
            label = CLASSES.index(label.decode())
        name = row.get("default/name")
        rows[row["default/split"].decode()].append((pixels, label, name and name.decode()))
    for split, found in rows.items():
        wanted = rows_of(entry, split)
        if to == "png":  # in the order of paths
            wanted.sort(key=lambda row: CLASSES[row[1]])
        same(found, wanted)
