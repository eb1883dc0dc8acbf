"""An entry in other shapes: equal to the last bit for whoever reads it, and there whole or not."""

import hashlib
import json
import re
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.exporters import format_names
from pixelprep.installation import install_command
from pixelprep.sources import Arrays
from pixelprep.system import locks, staging
from tests.helpers.cli import failure, run, start
from tests.helpers.data import arrays, flipped, write_digits
from tests.helpers.process import Process, seen
from tests.helpers.recipes import pair

Exporting = Callable[[str, Path], list[str]]  # a format and a place make a command
Columns = dict[str, np.ndarray]  # images and labels of a split, and each image's mean and std

NEEDS_TENSORFLOW = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
STORED = ["npz", "hdf5-single", pytest.param("tfrecord", marks=NEEDS_TENSORFLOW)]
NEEDS_PYARROW = pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed")
SLOW = {  # a process of TensorFlow's takes long to start, and so does packing thousands of pictures
    "tfrecord": [NEEDS_TENSORFLOW, pytest.mark.long],
    "parquet": [NEEDS_PYARROW, pytest.mark.long],
    "webdataset": [pytest.mark.long],
}
COMMANDED = [pytest.param(name, marks=SLOW.get(name, [])) for name in format_names()]


def prepared(source: Arrays | None = None, **options: Any) -> Entry:
    """Return an entry with a validation split and several files a split."""
    several: dict[str, Any] = {"val_fraction": 0.25, "shard_rows": 16, "quiet": True}
    return pixelprep.prepare(source or arrays(train=80, test=28), **several | options)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """Return such an entry, to read only."""
    return prepared(cache_dir=tmp_path_factory.mktemp("cache"))


def unsplit(classes: tuple[str, ...], labels: np.ndarray, rows: int = 8) -> Entry:
    """Return black images of these classes, the first of them for test."""
    images = np.zeros((len(labels), 4, 4), np.uint8)
    source = Arrays("named", (images, labels), (images[:rows], labels[:rows]), classes)
    return prepared(source, val_fraction=0.0, mode="center")


# Read back by the plain library


def from_npz(folder: Path, entry: Entry) -> dict[str, Columns]:
    """By ``np.load`` alone."""
    names = {"images": "x", "labels": "y", "mean": "mean", "std": "std"}
    with np.load(folder / f"{entry.dataset}.npz") as file:
        own = names if f"mean_{next(iter(entry.splits))}" in file.files else ("images", "labels")
        found = {s: {n: file[f"{names[n]}_{s}"] for n in own} for s in entry.splits}
        assert len(file.files) == len(own) * len(found)
    return found


def from_hdf5(folder: Path, entry: Entry) -> dict[str, Columns]:
    """By h5py alone."""
    with h5py.File(folder / f"{entry.dataset}.h5") as file:
        return {name: {key: found[key][:] for key in found} for name, found in file.items()}


def from_tfrecord(folder: Path, entry: Entry) -> dict[str, Columns]:
    """By TensorFlow alone."""
    import tensorflow as tf

    names = {"images": "image", "labels": "label"}
    if entry.per == "image":
        names |= {"mean": "mean", "std": "std"}
    kinds = {"images": entry.train.dtype, "mean": np.float64, "std": np.float64}
    features = {name: tf.io.FixedLenFeature((), tf.string) for name in names.values()}
    features["label"] = tf.io.FixedLenFeature((), tf.int64)
    splits = {}
    for split in entry.splits:
        paths = sorted(map(str, folder.glob(f"{split}*.tfrecord")))
        records = list(tf.data.TFRecordDataset(paths).as_numpy_iterator())
        found = tf.io.parse_example(records, features)
        columns: Columns = {"labels": found["label"].numpy()}
        for name in names.keys() - {"labels"}:
            shape = entry.train.shape[1:] if name == "images" else ()
            values = tf.io.decode_raw(found[names[name]], kinds[name]).numpy()
            columns[name] = values.reshape(len(records), *shape)
        splits[split] = columns
    # A file has the rows of one of the entry's, and its name.
    assert {path.stem for path in folder.glob("*.tfrecord")} == (
        {path.stem for path in entry.path.glob("*.h5")}
    )
    return splits


READ: dict[str, Callable[[Path, Entry], dict[str, Columns]]] = {
    "npz": from_npz,
    "hdf5-single": from_hdf5,
    "tfrecord": from_tfrecord,
}


@pytest.mark.parametrize("to", STORED)
@pytest.mark.parametrize(("dtype", "per"), [("float32", "channel"), ("float16", "image")])
def test_what_is_exported_equals_the_entry(tmp_path: Path, to: str, dtype: str, per: str) -> None:
    """Every split and column, read by the plain library, is the entry's, to the last bit."""
    entry = prepared(dtype=dtype, per=per)
    path = pixelprep.export(entry, tmp_path / "out", to, quiet=True).path
    found = READ[to](path, entry)
    assert set(found) == {"train", "val", "test"}
    for name, split in entry.splits.items():
        own = {"mean": split.mean, "std": split.std} if per == "image" else {}
        wanted = {"images": split.to_numpy()[0], "labels": split.labels, **own}
        assert found[name].keys() == wanted.keys()
        for column, values in wanted.items():
            got = found[name][column]
            assert (got.dtype, got.shape) == (values.dtype, values.shape)
            assert got.tobytes() == values.tobytes()


def test_one_hdf5_file_is_laid_out_as_the_entry(tmp_path: Path) -> None:
    """Its datasets have the entry's chunks, filters and attributes; the root has what is shared."""
    entry = prepared(compression="gzip", shard_rows=None)
    path = pixelprep.export(entry, tmp_path / "out", "hdf5-single", quiet=True).path
    with h5py.File(path / "little.h5") as one:
        for name in entry.splits:
            with h5py.File(entry.path / f"{name}.h5") as own:
                assert one[name].keys() == own.keys()
                for key in own:
                    assert one[name][key].fletcher32
                    for what in ("chunks", "compression", "shuffle", "dtype", "shape"):
                        assert getattr(one[name][key], what) == getattr(own[key], what)
                assert one[name].attrs.keys() == own.attrs.keys()
                for key, value in own.attrs.items():
                    assert np.array_equal(one[name].attrs[key], value)
                    assert key == "split" or np.array_equal(one.attrs[key], value)


# PNG: the raw pixels


def decoded(folder: Path) -> dict[str, tuple[np.ndarray, list[str]]]:
    """By Pillow alone: of each split the pixels (N, H, W, C) and class names, by row number."""
    splits = {}
    for top in (path for path in folder.iterdir() if path.is_dir()):
        files = sorted(top.glob("*/*.png"), key=lambda path: path.name)
        assert [int(path.stem) for path in files] == list(range(len(files)))
        pixels = np.array([np.asarray(Image.open(path)) for path in files])
        pixels = pixels if pixels.ndim == 4 else pixels[..., None]
        splits[top.name] = pixels, [path.parent.name for path in files]
    return splits


def rows_of(pairs: list[tuple[np.ndarray, Any]]) -> Counter[tuple[bytes, str]]:
    """Return images with their classes, whatever their order."""
    return Counter(
        (image.tobytes(), str(label))
        for images, labels in pairs
        for image, label in zip(images, labels, strict=True)
    )


@pytest.mark.parametrize(
    ("shape", "kind", "dtype", "per"),
    [
        ((6, 5, 1), "uint8", "float32", "pixel"),
        ((6, 5, 3), "uint8", "float32", "channel"),
        ((6, 5, 1), "uint8", "float16", "channel"),
        ((6, 5, 3), "uint8", "float16", "image"),
        ((6, 5, 1), "uint16", "float32", "image"),
    ],
    ids=str,
)
def test_png_files_hold_the_raw_pixels(
    tmp_path: Path, shape: tuple[int, ...], kind: str, dtype: str, per: str
) -> None:
    """Decoded they are what the entry was made of, below their classes, numbered by rows."""
    source = arrays(train=80, test=28, shape=shape, dtype=kind)
    path = pixelprep.export(
        prepared(source, dtype=dtype, per=per), tmp_path / "out", "png", quiet=True
    ).path
    found = decoded(path)
    assert set(found) == {"train", "val", "test"}
    pixels, classes = found["test"]
    assert pixels.dtype == source.splits["test"][0].dtype
    assert np.array_equal(pixels, source.splits["test"][0])
    assert classes == [str(label) for label in source.splits["test"][1]]
    assert rows_of([found["train"], found["val"]]) == rows_of([source.train])


def test_a_folder_of_png_files_is_prepared_again(tmp_path: Path) -> None:
    """`prepare` of the folder finds the same raw pixels and classes, `entry.json` or not."""
    source = arrays(train=80, test=28)
    path = pixelprep.export(
        prepared(source, val_fraction=0.0), tmp_path / "out", "png", quiet=True
    ).path
    again = pixelprep.prepare(path, mode="center", quiet=True)
    for name, wanted in (("train", source.train), ("test", source.splits["test"])):
        images, labels = again.splits[name].to_numpy()
        classes = [again.class_names[label] for label in labels]
        assert rows_of([(again.scaling.invert(images), classes)]) == rows_of([wanted])


NAMES = ("T-shirt/top", ".hidden", "", "a%2Fb", "a/b", "..", "\u00e4 \u00f6", "back\\slash\n")


def test_class_names_become_folders(tmp_path: Path) -> None:
    """Any class name becomes one folder of its own, that `prepare` finds; none leads elsewhere."""
    entry = unsplit(NAMES, np.arange(16) % 8)
    path = pixelprep.export(entry, tmp_path / "out", "png", quiet=True).path
    assert sorted(found.name for found in (path / "test").iterdir()) == [
        *("%", "%2E.", "%2Ehidden", "T-shirt%2Ftop", "a%252Fb", "a%2Fb", "back%5Cslash%0A"),
        "\u00e4 \u00f6",
    ]
    assert sorted(found.name for found in tmp_path.iterdir()) == ["cache", "out"]
    assert pixelprep.prepare(path, quiet=True).class_names == NAMES


def test_a_class_without_images_has_its_folder(tmp_path: Path) -> None:
    """Classes are the same in every split, also where one has no image of a class."""
    path = pixelprep.export(unsplit((), np.arange(8) % 4, rows=3), tmp_path / "out", "png").path
    for split in ("train", "test"):
        assert sorted(found.name for found in (path / split).iterdir()) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("dtype", "channels", "options", "message", "way_out"),
    [
        ("float32", 3, {}, "3 channels of float32", "npz"),
        ("int8", 3, {}, "3 channels of int8", "npz"),
        ("uint8", 2, {}, "2 channels of uint8", "npz"),
        ("uint8", 4, {}, "4 channels of uint8", "npz"),
        ("uint16", 3, {}, "3 channels of uint16", "npz"),
        ("uint16", 1, {"dtype": "float16", "rescale": True}, "exactly from float16", "=float32"),
    ],
)
def test_what_png_cannot_hold_is_refused(
    tmp_path: Path, dtype: str, channels: int, options: dict[str, Any], message: str, way_out: str
) -> None:
    """Pixels that no PNG file gives back exactly are refused, with what to do; nothing is left."""
    source = Arrays("odd", pair(40, dtype, channels), pair(15, dtype, channels))
    with pytest.raises(pixelprep.UsageError, match=message) as caught:
        pixelprep.export(prepared(source, **options), tmp_path / "out", "png")
    assert way_out in (caught.value.hint or "")
    assert nothing_but(tmp_path, "cache")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b" * 300)], ids=["equal", "long"])
def test_classes_that_no_folders_can_tell_are_refused(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Two classes of one name, or one too long for a file system, are refused before writing."""
    entry = unsplit(names, np.arange(8) % 2)
    with pytest.raises(pixelprep.UsageError, match="name"):
        pixelprep.export(entry, tmp_path / "out", "png")
    assert nothing_but(tmp_path, "cache")


# What is beside the files, and what the command says


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file, by its path below the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def nothing_but(folder: Path, *names: str) -> bool:
    """Return whether a folder holds these alone."""
    return {path.name for path in folder.iterdir()} == set(names)


@pytest.mark.parametrize("to", COMMANDED)
def test_the_command_tells_every_file(digits: str, tmp_path: Path, to: str) -> None:
    """One JSON object: path, format, entry, and each file with its size and digest; else two lines.

    `entry.json` is the entry's manifest, byte for byte, and equal entries export equal bytes.
    `--to` may stand between the names or not.
    """
    entry = pixelprep.prepare(digits, quiet=True)
    done = run("export", entry.key, "out", "--to", to, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert list(answer) == ["path", "to", "entry", "files", "bytes", "seconds"]
    assert answer["path"] == str(tmp_path / "out")
    assert (answer["to"], answer["entry"]) == (to, str(entry.path))
    assert {file["name"]: file["sha256"] for file in answer["files"]} == digests(Path("out"))
    sizes = {file["name"]: file["bytes"] for file in answer["files"]}
    assert sizes == {name: (Path("out") / name).stat().st_size for name in sizes}
    assert answer["bytes"] == sum(sizes.values())
    assert Path("out/entry.json").read_bytes() == (entry.path / "manifest.json").read_bytes()
    again = pixelprep.export(entry.path, "again", to, quiet=True).path
    assert digests(again) == digests(Path("out"))
    done = run("export", entry.key, "--to", to, "-o", "said", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    path, said = done.stdout.splitlines()
    assert path == str(tmp_path / "said")
    assert said.startswith(f"{len(sizes)} files, ")


# Refused before anything is written


@pytest.mark.parametrize(
    ("wrong", "meant"), [("nzp", "npz"), ("hdf5", "hdf5-single"), ("TFRecords", "tfrecord")]
)
def test_a_misspelt_format_is_understood(digits: str, wrong: str, meant: str) -> None:
    """The error names the formats, and the hint the one that is meant."""
    pixelprep.prepare(digits, quiet=True)
    error, hint = failure(run("export", "digits", "out", "--to", wrong), 2)
    assert error == f"unknown --to '{wrong}': expected one of {', '.join(format_names())}"
    assert hint == f"did you mean '{meant}'?"
    assert not Path("out").exists()


def test_a_damaged_entry_is_not_exported(tmp_path: Path) -> None:
    """A row that is no longer what was stored is found; neither a folder nor anything is left."""
    entry = prepared(val_fraction=0.0)
    damaged = entry.path / "test-00000-of-00002.h5"
    damaged.write_bytes(flipped(damaged.read_bytes(), -100))
    for to in ("npz", "png"):
        with pytest.raises(pixelprep.EntryError, match="test-00000"):
            pixelprep.export(entry, tmp_path / "out", to, quiet=True)
        assert nothing_but(tmp_path, "cache")


@pytest.mark.parametrize("name", ["file", "folder", "link"])
def test_what_is_there_is_never_replaced(digits: str, tmp_path: Path, name: str) -> None:
    """A DIR that is a file, or holds anything, or a link to one, is refused and stays as it is."""
    entry, place = pixelprep.prepare(digits, quiet=True), tmp_path / name
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("folder")
    before = sorted(tmp_path.rglob("[!.]*"))
    error, hint = failure(run("export", entry.key, str(place), "--to", "npz"), 2)
    assert error.endswith("already exists: expected a new or empty folder")
    assert hint == "name another DIR"
    assert sorted(tmp_path.rglob("[!.]*")) == before


@pytest.mark.parametrize(
    ("place", "said"), [("no/out", "no folder"), (".", "current folder"), ("o\0", "null")]
)
def test_a_place_that_cannot_be_is_refused(
    digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    """No parent folder, the folder that one is in, or no name at all: refused with what to do."""
    entry = pixelprep.prepare(digits, quiet=True)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir("empty")
    with pytest.raises(pixelprep.UsageError, match=said) as caught:
        pixelprep.export(entry, place, "npz", quiet=True)
    assert caught.value.hint
    assert list(Path().iterdir()) == []


def test_an_empty_folder_is_filled_and_keeps_its_rights(entry: Entry, tmp_path: Path) -> None:
    """An empty DIR is taken, also through a link; who may look into it stays as it was."""
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "out").symlink_to("mine")
    path = pixelprep.export(entry, tmp_path / "out", "npz", quiet=True).path
    assert path == tmp_path / "mine"
    assert path.stat().st_mode & 0o777 == 0o700
    beside = "README.txt", "croissant.json", "entry.json"
    assert nothing_but(tmp_path / "out", *beside, "little.npz")


@pytest.mark.parametrize(
    ("module", "to", "extra"), [("tensorflow", "tfrecord", "train"), ("PIL", "png", "images")]
)
def test_a_missing_package_is_named(
    entry: Entry, place: Path, monkeypatch: pytest.MonkeyPatch, module: str, to: str, extra: str
) -> None:
    """Where what a format needs is not installed, the error names the extra; nothing is left."""
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(pixelprep.MissingExtraError) as caught:
        pixelprep.export(entry, place, to, quiet=True)
    assert caught.value.hint == install_command(extra)
    assert nothing_but(place.parent)


# There whole, or not at all


@pytest.fixture(scope="module")
def exporting(tmp_path_factory: pytest.TempPathFactory) -> Exporting:
    """Return what makes a command to export an entry, which takes its time: of 6,000 images, or
    fewer where each is a file. The entry is known by its cache, so that it need not be hashed.
    """
    folder = tmp_path_factory.mktemp("many")

    @cache
    def entry(rows: int) -> Path:
        source = write_digits(folder / str(rows), rows, 500, 28)
        return pixelprep.prepare(source, cache_dir=folder / "cache", quiet=True).path

    def command(to: str, place: Path) -> list[str]:
        path = entry(1_000 if to == "png" else 6_000)
        return ["export", "--cache-dir", str(folder / "cache"), str(path), str(place), "--to", to]

    return command


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return where an export goes; nothing else is in its folder."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "out"


@pytest.mark.parametrize("to", COMMANDED)
def test_no_space_is_an_error_wherever_it_strikes(
    exporting: Exporting, place: Path, to: str
) -> None:
    """No byte or many: one error with a way out, no folder, nothing left; with space it works."""
    for space in (0, 50, 1_000_000) if to != "png" else (0, 50, 200):
        limits = {resource.RLIMIT_FSIZE: space}
        error, hint = failure(run(*exporting(to, place), limits=limits))
        assert error.startswith(f"cannot write {place}: ")
        assert hint == "free some space, or name another DIR"
        assert list(place.parent.iterdir()) == []
    assert run(*exporting(to, place)).returncode == 0
    assert nothing_but(place.parent, "out")


def test_a_place_without_room_is_refused_before_it_is_filled(
    entry: Entry, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk has less room than the entry takes, nothing is written."""
    free = shutil.disk_usage(place.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=1000))
    with pytest.raises(pixelprep.CacheError, match="not enough space") as caught:
        pixelprep.export(entry, place, "npz", quiet=True)
    assert caught.value.hint == "free some space, or name another DIR"
    assert list(place.parent.iterdir()) == []


def begun(process: Process, place: Path, size: int) -> Path:
    """Come back when so many bytes are in the private folder; the file or folder that is filled."""
    while process.poll() is None:
        for top in seen(place.parent, ".out.unfinished.*"):
            with suppress(FileNotFoundError):  # renamed meanwhile
                if sum(path.stat().st_size for path in seen(top, "**/*") if path.is_file()) >= size:
                    return top
        time.sleep(0.002)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("to", COMMANDED)
def test_interrupting_leaves_nothing(exporting: Exporting, place: Path, to: str) -> None:
    """Ctrl-C while it writes exits 130 with one line; no folder is there, and nothing is left."""
    process = start(*exporting(to, place))
    begun(process, place, 100_000)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, said) == (130, "error: interrupted\n")
    assert list(place.parent.iterdir()) == []


def spoil(top: Path, to: str) -> None:
    """Change something that is written already."""
    if to == "png":  # one good picture in the place of another
        first, second = sorted(top.glob("train/0/*.png"))[:2]
        shutil.copy(first, second)
        return
    (path,) = [path for path in top.iterdir() if path.stat().st_size > 100_000]
    with path.open("r+b") as file:
        file.seek(500_000)
        byte = file.read(1)
        file.seek(500_000)
        file.write(flipped(byte, 0))


@pytest.mark.parametrize("to", COMMANDED)
def test_a_byte_that_changes_before_the_check_is_found(
    exporting: Exporting, place: Path, to: str
) -> None:
    """A file that is changed while others are written is refused, and nothing is left of it."""
    process = start(*exporting(to, place))
    top = begun(process, place, 3_000_000 if to != "png" else 300_000)
    process.send_signal(signal.SIGSTOP)
    spoil(top, to)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate()
    error, hint = said.splitlines()
    assert process.returncode == 1
    assert error.startswith(f"error: {place}: read-back check failed: ")
    assert hint == "hint: export again; if it happens again, check the disk"
    assert list(place.parent.iterdir()) == []


def test_of_two_at_once_one_wins(exporting: Exporting, place: Path) -> None:
    """Two exports to one DIR do not mix: one is there whole, the other says so and is gone."""
    both = [start(*exporting(to, place)) for to in ("npz", "hdf5-single")]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode in (1, 2) for process in both) == [False, True]
    assert re.search("already exists|was created meanwhile", "".join(said))
    assert nothing_but(place.parent, "out")
    assert len(list(place.iterdir())) == 4


def test_only_what_dead_processes_left_is_removed(place: Path) -> None:
    """The private folders of the living, of other names, and of no process at all stay."""
    gone = "-".join([str(2**22 + 1), *locks.owner_tag().split("-")[1:]])
    tags = {"living": locks.owner_tag(), "gone": gone, "mine": "notes"}
    for tag in tags.values():
        (place.parent / f".out.unfinished.{tag}").mkdir()
    (place.parent / f".other.unfinished.{gone}").mkdir()
    with staging.sibling_staging(place) as private:
        assert private.is_dir()
    assert nothing_but(
        place.parent,
        f".out.unfinished.{tags['living']}",
        ".out.unfinished.notes",
        f".other.unfinished.{gone}",
    )


@pytest.mark.parametrize("length", [1, 255])
def test_a_name_of_any_length_has_a_private_folder(entry: Entry, place: Path, length: int) -> None:
    """Whatever name a file system takes for DIR, it takes the private one."""
    path = pixelprep.export(entry, place.with_name("a" * length), "npz", quiet=True).path
    assert nothing_but(place.parent, path.name)
