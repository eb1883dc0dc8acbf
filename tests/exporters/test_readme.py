"""README.txt of an export: its program reads the folder, and gives raw pixels back."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.exporters import _readme, format_names, get_exporter
from pixelprep.exporters.base import array_content
from pixelprep.sources import Arrays
from pixelprep.training import MODEL_FORMATS, portable
from tests.exporters.test_for_others import source
from tests.helpers.data import arrays
from tests.helpers.packages import ROOT
from tests.helpers.pages import programs

PAGE = (ROOT / "docs" / "exports.md").read_text()
PROGRAMS = programs("exports.md")
LIBRARIES = {"tfrecord": "tensorflow", "parquet": "datasets", "webdataset": "webdataset"}
SLOW = [pytest.param(to, marks=pytest.mark.long) for to in LIBRARIES]
READ_BY = [to for to in format_names() if to not in LIBRARIES] + SLOW
SCALINGS: dict[str, dict[str, Any]] = {
    "per-channel": {},
    "per-image": {"per": "image", "dtype": "float16"},
    "per-pixel": {"per": "pixel", "mode": "normalize", "range": (-1, 1)},
    "center-per-image": {"per": "image", "mode": "center", "rescale": True},
    "turned": {"mode": "fixed", "preset": "keras-caffe"},
}


def indented(text: str) -> list[str]:
    """Return what is set off by four spaces in a page, a block each."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    return [re.sub("^    ", "", one, flags=re.MULTILINE).strip("\n") + "\n" for one in found]


def ran(code: str, folder: Path, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the variables that a program leaves, run in a folder."""
    names, place = names or {}, Path.cwd()
    os.chdir(folder)
    try:
        exec(code, names)
    finally:
        os.chdir(place)
    return names


def exported(entry: Entry, to: str, folder: Path) -> tuple[Path, str]:
    """Return the folder of an export, and its page."""
    path = pixelprep.export(entry, folder / to, to, quiet=True).path
    return path, (path / "README.txt").read_text("utf-8")


@pytest.mark.parametrize("to", READ_BY)
def test_its_program_reads_the_rows(tmp_path: Path, to: str) -> None:
    """Run in the folder by the format's usual library, it has a row's picture and its class."""
    if to in LIBRARIES:
        pytest.importorskip(LIBRARIES[to], reason="it is what is tried")
    entry = pixelprep.prepare(source("rgb"), quiet=True)
    path, page = exported(entry, to, tmp_path)
    names = ran(indented(page)[0], path)
    stored, labels = entry.train.to_numpy()
    raw = entry.scaling.invert(stored)
    if to == "png":  # in the order of paths: by class, and then by row
        order = np.lexsort((np.arange(len(labels)), labels))
        assert np.array_equal(names["images"], raw[order])
        assert names["labels"] == [entry.class_names[label] for label in labels[order]]
    elif to in ("parquet", "webdataset"):
        assert np.array_equal(np.asarray(names["image"]), raw[0])
        assert names["label"] == labels[0]
    else:
        assert names["images"].tobytes() == stored.tobytes()
        assert np.array_equal(names["labels"], labels)


@pytest.mark.parametrize(
    ("to", "scaling"),
    [*(("npz", one) for one in SCALINGS), ("hdf5-single", "per-image"), ("tfrecord", "per-image")],
)
def test_its_program_gives_raw_pixels_back(tmp_path: Path, to: str, scaling: str) -> None:
    """Whatever was scaled, to the last value, from what the program before it has read."""
    data = arrays()
    entry = pixelprep.prepare(data, quiet=True, **SCALINGS[scaling])
    path, page = exported(entry, to, tmp_path)
    read, raw = indented(page)[:2]
    names = ran(read, path)
    found = ran(raw, path, names)["raw"]
    own = [entry.train.mean, entry.train.std] if entry.per == "image" else []
    wanted = entry.scaling.invert(names["images"], *own)
    assert found.dtype == np.uint8
    assert np.array_equal(found, wanted)
    raw_images = data.train[0]
    assert isinstance(raw_images, np.ndarray)
    assert np.array_equal(np.sort(found, None), np.sort(raw_images, None))


def test_what_cannot_be_had_back_is_said(tmp_path: Path) -> None:
    """Of clipped pixels there is no program; of floats it rounds nothing, and says so."""
    clipped: dict[str, Any] = {"mode": "robust", "quantiles": (0.1, 0.9), "clip": True}
    _, page = exported(pixelprep.prepare(arrays(), quiet=True, **clipped), "npz", tmp_path)
    assert len(indented(page)) == 2  # to read it, and to prepare it
    assert "Not to be had: pixels were clipped" in page
    random = np.random.default_rng(0)
    floats = random.normal(size=(8, 3, 3, 1)).astype(np.float32), np.arange(8) % 2
    entry = pixelprep.prepare(Arrays("floats", floats, floats), quiet=True)
    path, page = exported(entry, "hdf5-single", tmp_path)
    assert "Not exactly" in page
    read, raw = indented(page)[:2]
    found = ran(raw, path, ran(read, path))["raw"]
    assert found.dtype == np.float32
    assert np.allclose(found, entry.scaling.invert(entry.train.to_numpy()[0]), atol=1e-6)


def test_equal_entries_have_equal_pages(tmp_path: Path) -> None:
    """It names no time, host or path; what the data and its classes are, it does."""
    entry = pixelprep.prepare(source("rgb"), quiet=True)
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pages.append(exported(entry, "npz", tmp_path / name)[1])
    assert pages[0] == pages[1]
    assert str(tmp_path) not in pages[0]
    assert f"from the entry little/standardize-{entry.key}." in pages[0]
    for told in ("train 40, test 16 images.", "\n1: dog\n", "6×5×3", "Licence: not stated"):
        assert told in pages[0]


def test_a_column_of_names_has_the_type_that_numpy_names() -> None:
    """Which counts bytes, not bits."""
    few = arrays(4, 2)
    names = {"train": ["a", "bc", "d", "e" * 27], "test": ["f", "g"]}
    entry = pixelprep.prepare(Arrays("named", few.train, few.test, names=names), quiet=True)
    assert array_content("names", entry.train, "names").type == "S27 (4,)"
    assert array_content("images", entry.train, "images").type == "float32 (4, 6, 5, 3)"


def test_the_page_of_docs_has_the_same_programs() -> None:
    """docs/exports.md has of each format what README.txt of `sample` has."""
    entry = pixelprep.prepare("sample", quiet=True)
    wanted = [_readme.program(entry, get_exporter(to)) for to in format_names()]
    wanted += [portable.program(to, (28, 28, 1)) for to in MODEL_FORMATS]
    wanted += [indented(_readme.raw_pixels(entry, get_exporter("npz")))[0]]
    assert sorted(PROGRAMS) == sorted(wanted)
    assert {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")} == (
        {*format_names(), *MODEL_FORMATS}
    )


@pytest.mark.parametrize("to", ["npz", "png"])
def test_an_export_is_taken_back_beside_its_page(tmp_path: Path, to: str) -> None:
    """`prepare` takes the folder for the very data, and has nothing to say of README.txt."""
    entry = pixelprep.prepare(source("rgb"), quiet=True)
    path, _ = exported(entry, to, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pixelprep.PixelprepWarning)
        again = pixelprep.prepare(path, quiet=True)
    assert again.manifest.source.digest == entry.manifest.source.digest
