"""The user's own images: every kind of file gives the same pixels, and bad ones are refused."""

import hashlib
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import arrays
from PIL import Image
from reference import permutation
from test_cli import idx

import pixelprep
from pixelprep import PixelprepError, SourceError, UsageError
from pixelprep.sources import KNOWN, Arrays
from pixelprep.sources.cifar import Cifar10
from pixelprep.sources.pictures import MOST_PIXELS

Pixels = np.ndarray[Any, Any]


def prepared(dataset: str | Path | Arrays, **options: Any) -> pixelprep.Entry:
    """The entry, quietly."""
    return pixelprep.prepare(dataset, quiet=True, **options)


def pixels(entry: pixelprep.Entry, split: str = "train") -> Pixels:
    """The raw pixels that a split was made of."""
    return entry.scaling.invert(entry.splits[split].to_numpy()[0])


def nothing_published(cache: Path) -> bool:
    """Whether the cache holds no entry and no work in progress."""
    return not list(cache.glob("[!.]*/*")) and not list(cache.glob(".tmp/*"))


def failure(command: list[str], status: int, **environment: str) -> str:
    """What a failing command says on its one line."""
    done = subprocess.run(
        [sys.executable, "-m", "pixelprep", *command],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == status, done.stderr
    assert [line.split(":")[0] for line in lines] in (["error"], ["error", "hint"]), done.stderr
    return lines[0]


# One dataset in every file that can hold it


def written_npz(path: Path, source: Arrays, **changes: Pixels) -> Path:
    """The arrays under Keras's names."""
    (x, y), (x2, y2) = source.train, source.test
    named: Any = {"x_train": x, "y_train": y, "x_test": x2, "y_test": y2}
    named.update(changes)
    np.savez_compressed(path, **named)
    return path


def written_hdf5(path: Path, source: Arrays, names: str = "{}/images {}/labels") -> Path:
    """The arrays under these keys, chunked and compressed."""
    with h5py.File(path, "w") as file:
        for split, pair in (("train", source.train), ("test", source.test)):
            for name, array in zip(names.split(), pair, strict=True):
                chunks = (7, *array.shape[1:])
                file.create_dataset(
                    name.format(split), data=array, chunks=chunks, compression="gzip"
                )
    return path


def written_idx(folder: Path, source: Arrays) -> Path:
    """The arrays as four IDX files."""
    folder.mkdir()
    for name, (images, labels) in (("train", source.train), ("t10k", source.test)):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))
    return folder


def test_equal_data_is_one_entry_whatever_file_it_came_in(tmp_path: Path) -> None:
    """Arrays, .npz, HDF5 and IDX of the same pixels have one source digest and equal files."""
    source = arrays(shape=(6, 5))
    (tmp_path / "one").mkdir()
    made = [
        prepared(replace(source, name="data")),
        prepared(written_npz(tmp_path / "data.npz", source)),
        prepared(written_hdf5(tmp_path / "data.h5", source)),
        prepared(written_idx(tmp_path / "data", source)),
    ]
    assert len({entry.manifest["source"]["digest"] for entry in made}) == 1
    assert len({entry.path for entry in made}) == 1
    assert (pixels(made[0])[..., 0] == source.train[0]).all()


@pytest.mark.parametrize("dtype", ["uint16", "int8", "float32", "float64", ">u2", ">f4"])
def test_numbers_of_every_kind_are_read(tmp_path: Path, dtype: str) -> None:
    """Types and byte orders of .npz and HDF5 files make no difference to the pixels."""
    random, native = np.random.default_rng(0), np.dtype(dtype).newbyteorder("=")
    x = random.integers(0, 100, (40, 6, 5, 3)).astype(dtype)
    y = np.arange(40) % 4
    source = Arrays("data", (x, y), (x[:8], y[:8]))
    made = [
        prepared(written_npz(tmp_path / "data.npz", source)),
        prepared(written_npz(tmp_path / "turned.npz", source, x_train=np.asfortranarray(x))),
        prepared(written_npz(tmp_path / "column.npz", source, y_train=y[:, None])),
        prepared(written_hdf5(tmp_path / "data.h5", source, "x_{} y_{}")),
    ]
    assert len({entry.manifest["source"]["digest"] for entry in made}) == 1
    assert made[0].scaling.raw_dtype == native.name
    assert np.allclose(pixels(made[1]), x, atol=1e-4)


def test_keys_of_ones_own(tmp_path: Path) -> None:
    """HDF5 keys may be anything; one array for all images gives a share of every class to test."""
    source = arrays(train=40, test=40)
    path = written_hdf5(tmp_path / "a.h5", source, "deep/{}/x deep/{}/y")
    keys = {"images_key": "deep/{split}/x", "labels_key": "deep/{split}/y"}
    assert (pixels(prepared(path, **keys)) == source.train[0]).all()
    keys = {"images_key": "deep/train/x", "labels_key": "deep/train/y"}
    with pytest.raises(UsageError, match="no test split"):
        prepared(path, **keys)
    made = prepared(path, **keys, test_fraction=0.25)
    assert np.bincount(made.test.labels).tolist() == [3, 2, 3, 2] or len(made.test) == 10
    both = np.concatenate([pixels(made), pixels(made, "test")])
    assert sorted(map(bytes, both)) == sorted(map(bytes, source.train[0]))


class Canary:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def npz_without(path: Path, canary: Path) -> Path:
    np.savez(path, x_train=np.zeros((4, 2, 2), np.uint8))
    return path


def npz_pickled(path: Path, canary: Path) -> Path:
    labels = np.array([Canary(canary)] * 40, dtype=object)
    return written_npz(path, arrays(), y_train=labels)


def npz_damaged(path: Path, canary: Path) -> Path:
    content = bytearray(written_npz(path, arrays()).read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    return path


def npz_promising(path: Path, canary: Path) -> Path:
    """An array whose header promises 10**12 images."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 2, 2), }"
    header += b" " * (118 - 1 - len(header)) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
            archive.writestr(f"{name}.npy", start + header + bytes(100))
    return path


def npz_no_zip(path: Path, canary: Path) -> Path:
    path.write_bytes(pickle.dumps(Canary(canary)))
    return path


def npz_mismatch(path: Path, canary: Path) -> Path:
    return written_npz(path, arrays(), y_train=np.arange(39) % 4)


def npz_nan(path: Path, canary: Path) -> Path:
    x = np.ones((40, 4, 4), np.float32)
    x[7, 1, 1] = np.nan
    return written_npz(path, arrays(shape=(4, 4)), x_train=x, x_test=x[:20] * 0)


def hdf5_linked(path: Path, canary: Path) -> Path:
    with h5py.File(written_hdf5(path, arrays()), "a") as file:
        file.move("train/images", "elsewhere")
        file["train/images"] = h5py.SoftLink("/elsewhere")
    return path


def hdf5_elsewhere(path: Path, canary: Path) -> Path:
    written_hdf5(path.with_suffix(".other.h5"), arrays())
    with h5py.File(written_hdf5(path, arrays()), "a") as file:
        del file["train/images"]
        file["train/images"] = h5py.ExternalLink(f"{path.stem}.other.h5", "train/images")
    return path


def hdf5_external(path: Path, canary: Path) -> Path:
    path.with_suffix(".raw").write_bytes(bytes(40 * 90))
    with h5py.File(written_hdf5(path, arrays()), "a") as file:
        del file["train/images"]
        where = [(f"{path.stem}.raw", 0, 40 * 90)]
        file.create_dataset("train/images", (40, 6, 5, 3), "u1", external=where)
    return path


def hdf5_virtual(path: Path, canary: Path) -> Path:
    with h5py.File(written_hdf5(path, arrays()), "a") as file:
        layout = h5py.VirtualLayout((40, 6, 5, 3), "u1")
        layout[:] = h5py.VirtualSource(file["train/images"])
        del file["train/images"]
        file.create_virtual_dataset("train/images", layout)
    return path


def hdf5_empty(path: Path, canary: Path) -> Path:
    with h5py.File(written_hdf5(path, arrays()), "a") as file:
        del file["train/images"]
        file.create_dataset("train/images", (10**9, 6, 5, 3), "u1", chunks=(100, 6, 5, 3))
    return path


def hdf5_words(path: Path, canary: Path) -> Path:
    with h5py.File(written_hdf5(path, arrays()), "a") as file:
        del file["train/labels"]
        file["train/labels"] = ["one"] * 40
    return path


def hdf5_cut(path: Path, canary: Path) -> Path:
    content = written_hdf5(path, arrays()).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def hdf5_without(path: Path, canary: Path) -> Path:
    return written_hdf5(path, arrays(), "pictures/{} names/{}")


BAD_FILES: dict[Callable[[Path, Path], Path], str] = {
    npz_without: "expected x_train, y_train, x_test, y_test; got x_train",
    npz_pickled: "y_train: holds pickled Python objects",
    npz_damaged: "not a readable .npz file",
    npz_promising: "the header promises 4,000,000,000,000 bytes",
    npz_no_zip: "not a readable .npz file",
    npz_mismatch: "40 images but 39 labels",
    npz_nan: "train: image 7 (counted from 0) holds nan",
    hdf5_linked: "train/images is a link",
    hdf5_elsewhere: "train/images is a link",
    hdf5_external: "train/images lies in other files",
    hdf5_virtual: "train/images lies in other files",
    hdf5_empty: "promises more than the file holds",
    hdf5_words: "train/labels is object: expected numbers",
    hdf5_cut: "not a readable HDF5 file",
    hdf5_without: "it holds names, pictures",
}


@pytest.mark.parametrize("make", BAD_FILES, ids=lambda make: make.__name__)
def test_a_bad_file_is_refused(
    tmp_path: Path, cache: Path, make: Callable[[Path, Path], Path]
) -> None:
    """What cannot be right is named with its file; nothing is unpickled, followed or published."""
    canary = tmp_path / "canary"
    path = make(tmp_path / f"bad.{'npz' if 'npz' in make.__name__ else 'h5'}", canary)
    with pytest.raises(SourceError) as caught:
        prepared(path)
    assert BAD_FILES[make] in caught.value.message
    assert not canary.exists()
    assert nothing_published(cache)


# Folders of images


def picture(random: np.random.Generator, shape: tuple[int, ...] = (9, 7, 3)) -> Pixels:
    """A random picture."""
    return random.integers(0, 256, shape, np.uint8)


def write_folder(top: Path, counts: dict[str, int], seed: int = 0) -> dict[str, Pixels]:
    """A folder of random PNG images, so many of each class; the pixels by relative path."""
    random, made = np.random.default_rng(seed), {}
    for name, count in counts.items():
        (top / name).mkdir(parents=True)
        for i in range(count):
            made[f"{name}/{i:03}.png"] = picture(random)
            Image.fromarray(made[f"{name}/{i:03}.png"]).save(top / name / f"{i:03}.png")
    return made


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Cats and dogs, with a test split."""
    write_folder(tmp_path / "pets" / "train", {"cat": 30, "dog": 20})
    write_folder(tmp_path / "pets" / "test", {"cat": 5, "dog": 5}, seed=1)
    return tmp_path / "pets"


def test_a_folder_comes_out_in_the_order_of_the_page(tmp_path: Path) -> None:
    """Rows are stored in the order of purpose 4 over classes and names, in both splits."""
    entry_rows = {}
    for index, split in enumerate(("train", "test")):
        counts = {"b": 12, "a": 9, "Ü": 5}
        made = write_folder(tmp_path / "f" / split, counts, seed=index)
        listed = sorted(made)
        order = permutation(len(listed), 0, 0, 4, index)
        entry_rows[split] = [(made[listed[i]], sorted(counts).index(listed[i][0])) for i in order]
    entry = prepared(tmp_path / "f")
    assert entry.class_names == ("a", "b", "Ü")
    for split, rows in entry_rows.items():
        assert (pixels(entry, split) == np.stack([image for image, _ in rows])).all()
        assert entry.splits[split].labels.tolist() == [label for _, label in rows]


def test_a_test_split_is_taken_class_by_class(tmp_path: Path) -> None:
    """--test-fraction takes the same share of every class; the seed says which, every time."""
    made = write_folder(tmp_path / "f", {"a": 20, "b": 10})
    one, again = (
        prepared(tmp_path / "f", test_fraction=0.2),
        prepared(tmp_path / "f", test_fraction=0.2, force=True),
    )
    other = prepared(tmp_path / "f", test_fraction=0.2, split_seed=1)
    assert np.bincount(one.test.labels).tolist() == [4, 2]
    assert one.manifest == again.manifest
    assert one.key != other.key
    both = np.concatenate([pixels(one), pixels(one, "test")])
    assert sorted(map(bytes, both)) == sorted(map(bytes, made.values()))
    taken = [sorted(map(bytes, pixels(entry, "test"))) for entry in (one, other)]
    assert taken[0] != taken[1]


@pytest.mark.parametrize(
    ("suffix", "options", "exact"),
    [
        ("png", {}, True),
        ("BMP", {}, True),
        ("tif", {"compression": "tiff_lzw"}, True),
        ("webp", {"lossless": True}, True),
        ("jpeg", {"quality": 95}, False),
    ],
)
@pytest.mark.parametrize("shape", [(9, 7, 3), (9, 7)])
def test_every_format_is_read(
    tmp_path: Path, suffix: str, options: dict[str, Any], exact: bool, shape: tuple[int, ...]
) -> None:
    """PNG, BMP, TIFF, WebP and JPEG come out as Pillow reads them; lossless ones exactly."""
    random = np.random.default_rng(0)
    smooth = np.linspace(0, 200, 9 * 7, dtype=np.uint8).reshape(9, 7)
    expected = []
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            image = picture(random, shape) if exact else np.broadcast_to(smooth.T, shape[::-1]).T
            path = tmp_path / split / name / f"x.{suffix}"
            Image.fromarray(np.ascontiguousarray(image)).save(path, **options)
            with Image.open(path) as read:
                mode = "L" if len(shape) == 2 and suffix != "webp" else "RGB"
                expected.append(np.asarray(read.convert(mode)))
    entry = prepared(tmp_path)
    rows = pixels(entry)[np.argsort(entry.train.labels)]
    assert (rows.reshape(2, *expected[0].shape) == np.stack(expected[:2])).all()


def test_sixteen_bits_of_grey_stay(tmp_path: Path) -> None:
    """16-bit PNG and TIFF images are uint16, to the last bit, also as three channels."""
    images = np.random.default_rng(0).integers(0, 65536, (4, 5, 6), np.uint16)
    for i, image in enumerate(images):
        for split in ("train", "test"):
            path = tmp_path / split / "ab"[i % 2] / f"{i}.{'png' if i < 2 else 'tiff'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    for color, channels in ((None, 1), ("rgb", 3)):
        entry = prepared(tmp_path, mode="center", color=color)
        assert entry.scaling.raw_dtype == "uint16"
        assert entry.train.shape == (4, 5, 6, channels)
        found = sorted(bytes(row[..., 0]) for row in pixels(entry))
        assert found == sorted(bytes(image) for image in images)


def test_size_and_color_make_images_equal(tmp_path: Path) -> None:
    """--size and --color give what Pillow's bilinear filter and conversion give."""
    random = np.random.default_rng(0)
    kinds = {"RGB": (20, 30, 3), "L": (10, 12), "RGBA": (9, 9, 4), "LA": (8, 8, 2)}
    expected = []
    for mode, shape in kinds.items():
        for split in ("train", "test"):
            path = tmp_path / split / ("a" if mode in ("RGB", "L") else "b") / f"{mode}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(random, shape)).save(path)
        with Image.open(path) as image:
            expected.append(
                np.asarray(image.convert("L").resize((5, 6), Image.Resampling.BILINEAR))
            )
    entries = [prepared(tmp_path, size=size, color="grey") for size in ((6, 5), "6x5")]
    assert entries[0] == entries[1]
    assert entries[0].test.shape == (4, 6, 5, 1)
    assert entries[0].manifest["source"]["decode"] == {
        "size": [6, 5],
        "resampling": "bilinear",
        "color": "grey",
    }
    found = sorted(bytes(row) for row in pixels(entries[0], "test"))
    assert found == sorted(bytes(image) for image in expected)


def test_what_is_no_image_is_left_alone(pets: Path) -> None:
    """Dot files, folders of no class and other files change nothing; odd names are fine."""
    before = prepared(pets)
    (pets / "train" / "cat" / ".DS_Store").write_bytes(b"x")
    (pets / "train" / "cat" / "notes.txt").write_bytes(b"x")
    (pets / ".hidden").mkdir()
    assert prepared(pets) == before
    source = pets / "train" / "cat" / "000.png"
    shutil.copyfile(source, pets / "train" / "dog" / os.fsdecode(b"\xff\n.PNG"))
    assert len(prepared(pets).train) == len(before.train) + 1


def test_a_hit_reads_no_image_and_a_change_is_seen(pets: Path) -> None:
    """The state of the files is enough for a hit; a file that changed is read again."""
    entry = prepared(pets)
    path = pets / "train" / "cat" / "000.png"
    content = path.read_bytes()
    path.chmod(0)  # were it read, root apart, it would fail
    path.chmod(0o644)
    assert prepared(pets).key == entry.key
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(path)
    assert prepared(pets).key != entry.key
    path.write_bytes(content)
    assert prepared(pets).key == entry.key


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG file, whatever is in it."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def spoil(pets: Path, how: str) -> tuple[str, str]:  # noqa: C901 - a case a line or two
    """Make a folder bad in one way; the path that must be named, and why."""
    path = pets / "train" / "cat" / "013.png"
    match how:
        case "noise":
            path.write_bytes(b"no picture at all")
            return str(path), "no picture"
        case "cut off":
            path.write_bytes(path.read_bytes()[:-60])
            return str(path), "cannot read the image"
        case "another size":
            Image.new("RGB", (8, 9)).save(path)
            return str(path), "is 9×8×3 uint8, but"
        case "grey among colours":
            Image.new("L", (7, 9)).save(path)
            return str(path), "is 9×7×1 uint8, but"
        case "16 bits among 8":
            Image.fromarray(np.zeros((9, 7), np.uint16)).save(path)
            return str(path), "is 9×7×1 uint16, but"
        case "16 bits of colour":
            path.write_bytes(png(7, 9, 16, 2, bytes(9 * (1 + 7 * 6))))
            return str(path), "more than 8 bits a colour"
        case "a bomb":
            side = int(MOST_PIXELS**0.5) + 2
            path.write_bytes(png(side, side, 8, 2, bytes(100)))
            return str(path), "pixels"
        case "an empty class":
            (pets / "train" / "emu").mkdir()
            (pets / "test" / "emu").mkdir()
            return str(pets / "train" / "emu"), "an empty class"
        case "one class":
            shutil.rmtree(pets / "train" / "dog")
            return str(pets), "two classes or more, found 1: cat"
        case "a class missing in test":
            shutil.rmtree(pets / "test" / "dog")
            return str(pets / "test"), "these differ: dog"
        case "a link out":
            (pets / "train" / "cat" / "a.png").symlink_to("/etc/passwd")
            return str(pets / "train" / "cat" / "a.png"), "a link that leaves"
        case "a class that is a link out":
            shutil.move(pets / "train" / "dog", pets.parent / "dog")
            (pets / "train" / "dog").symlink_to(pets.parent / "dog")
            return str(pets / "train" / "dog"), "a link that leaves"
        case "a link to nowhere":
            (pets / "train" / "cat" / "a.png").symlink_to("nowhere.png")
            return str(pets / "train" / "cat" / "a.png"), "leads nowhere"
    raise AssertionError(how)


SPOILT = (
    "noise",
    "cut off",
    "another size",
    "grey among colours",
    "16 bits among 8",
    "16 bits of colour",
    "a bomb",
    "an empty class",
    "one class",
    "a class missing in test",
    "a link out",
    "a class that is a link out",
    "a link to nowhere",
)


@pytest.mark.parametrize(
    ("how", "workers"), [*((how, 1) for how in SPOILT), ("noise", 2), ("another size", 2)]
)
def test_a_bad_folder_is_refused(pets: Path, cache: Path, how: str, workers: int) -> None:
    """The image or folder that is wrong is named, and nothing is published or left behind."""
    path, reason = spoil(pets, how)
    with pytest.raises(SourceError) as caught:
        prepared(pets, workers=workers)
    assert path in caught.value.message
    assert reason in caught.value.message
    assert nothing_published(cache)


def test_a_link_inside_the_folder_is_fine(pets: Path) -> None:
    """What a link within the folder leads to is read under the link's name."""
    (pets / "train" / "cat" / "link.png").symlink_to("../dog/000.png")
    assert len(prepared(pets).train) == 51


@pytest.mark.parametrize("first", [False, True])
def test_damaged_images_can_be_skipped_and_are_listed(pets: Path, first: bool) -> None:
    """--on-error skip leaves out what cannot be read, as if it were not there, and lists it."""
    before = prepared(pets)
    listed = sorted(path for path in (pets / "train").glob("*/*.png"))
    order = permutation(len(listed), 0, 0, 4, 0)
    gone = int(order[0] if first else order[20])
    listed[gone].write_bytes(b"no picture")
    with pytest.raises(SourceError, match="--on-error skip"):
        prepared(pets)
    entry = prepared(pets, on_error="skip")
    name = str(listed[gone].relative_to(pets))
    assert entry.manifest["source"]["decode"] == {"skipped": [name]}
    place = 0 if first else 20
    assert (pixels(entry) == np.delete(pixels(before), place, axis=0)).all()
    assert entry.train.labels.tolist() == np.delete(before.train.labels, place).tolist()
    shutil.copyfile(listed[gone - 1 if gone else 1], listed[gone])
    assert "skipped" not in prepared(pets, on_error="skip").manifest["source"]["decode"]


def test_a_class_of_damaged_images_is_refused(pets: Path) -> None:
    """Skipping may not empty a class."""
    for path in (pets / "test" / "dog").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(SourceError, match="test: no image of class dog"):
        prepared(pets, on_error="skip")


@pytest.mark.parametrize(
    "options",
    [
        ["./pets", "--images-key", "x"],
        ["./pets", "--test-fraction", "0.2"],  # it has a test split
        ["./pets", "--size", "3"],
        ["./pets", "--size", "0x3"],
        ["./pets", "--size", "axb"],
        ["./pets", "--color", "gray"],
        ["./pets", "--on-error", "ignore"],
        ["./k.npz", "--size", "3x3"],
        ["./k.npz", "--test-fraction", "0.2"],
        ["./k.h5", "--color", "grey"],
        ["./k.h5", "--images-key", "train/images"],  # without labels
        ["./k.h5", "--test-fraction", "1"],
        ["./k.h5", "--test-fraction", "nan"],
        ["mnist", "--size", "3x3"],
        ["sample", "--test-fraction", "0.5"],
    ],
)
def test_options_that_mean_nothing_are_wrong_usage(
    pets: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """An option that the source does not know, or a value that cannot be, exits 2 in one line."""
    monkeypatch.chdir(pets.parent)
    written_npz(Path("k.npz"), arrays())
    written_hdf5(Path("k.h5"), arrays())
    assert options[1] in failure(["prepare", *options], 2)
    assert nothing_published(cache)


def test_without_pillow_the_extra_is_named(pets: Path) -> None:
    """A folder of images needs the extra `images`, and says so."""
    code = (
        f"import sys; sys.modules['PIL'] = None; import pixelprep; pixelprep.prepare({str(pets)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "pixelprep[images]"' in done.stderr


# CIFAR-10, and datasets of other packages


def cifar(path: Path, rows: int, **evil: bytes) -> tuple[Cifar10, Pixels, Pixels]:
    """A small archive in the official layout, its members in another order."""
    import io
    import tarfile

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, rows, 32, 32, 3), np.uint8)
    labels = random.integers(0, 10, (6, rows), np.uint8)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-bin/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        contents = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n", **evil}
        for i in (3, 5, 0, 4, 1, 2):
            planes = images[i].transpose(0, 3, 1, 2).reshape(rows, -1)
            records = np.concatenate([labels[i][:, None], planes], axis=1)
            contents[f"cifar-10-batches-bin/{names[i]}"] = records.tobytes()
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    known = KNOWN["cifar10"]
    assert isinstance(known, Cifar10)
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    pin = replace(known.archive, size=len(content), sha256=sha256)
    return replace(known, archive=pin, batch_rows=rows), images, labels


def test_cifar10_is_streamed_from_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planes become H×W×C, files keep their numbers' order, other members touch nothing."""
    folder = tmp_path / "in"
    folder.mkdir()
    evil = {"../escaped": b"x", f"{tmp_path}/absolute": b"x"}
    known, images, labels = cifar(folder / "cifar-10-binary.tar.gz", 15, **evil)
    monkeypatch.setattr(sys.modules["pixelprep.sources.find"], "KNOWN", {**KNOWN, "cifar10": known})
    entry = prepared("cifar10", source=folder)
    assert entry.train.shape == (75, 32, 32, 3)
    assert (pixels(entry) == images[:5].reshape(75, 32, 32, 3)).all()
    assert (pixels(entry, "test") == images[5]).all()
    assert entry.train.labels.tolist() == labels[:5].reshape(-1).tolist()
    assert entry.manifest["provenance"]["citation"].startswith("Alex Krizhevsky")
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.rglob("absolute"))
    (folder / "cifar-10-binary.tar.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    with pytest.raises(SourceError, match="not the official cifar-10-binary"):
        prepared("cifar10", source=folder, mode="center")


@pytest.mark.parametrize(
    ("name", "size", "digest"),
    [
        (
            "cifar10",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
        ("kmnist", 18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
        (
            "fashion-mnist",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
    ],
)
def test_known_datasets_are_pinned(name: str, size: int, digest: str) -> None:
    """Each known dataset's first file has its official size and digest, and terms are stated."""
    pin = KNOWN[name].pins[0]
    assert (pin.size, pin.sha256) == (size, digest)
    assert KNOWN[name].provenance.licence


PLUGIN = """
import numpy as np
from pixelprep.sources import Arrays, Options, Provenance

def stripes(options: Options) -> Arrays:
    labels = np.arange(30) % 3
    images = np.broadcast_to(labels[:, None, None] * 50, (30, 4, 4)).astype(np.uint8)
    own = Provenance("stripes", "CC0 1.0")
    return Arrays("stripes", (images, labels), (images, labels), provenance=own)
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "stripes-for-pixelprep"
version = "1"
[project.entry-points."pixelprep.sources"]
stripes = "stripes:stripes"
broken = "stripes:nothing"
[tool.hatch.build.targets.wheel]
only-include = ["stripes.py"]
"""


def test_another_package_brings_a_dataset(tmp_path: Path) -> None:
    """Once a package with an entry point is installed, its dataset is prepared by its name."""
    project, installed = tmp_path / "project", tmp_path / "installed"
    project.mkdir()
    (project / "stripes.py").write_text(PLUGIN)
    (project / "pyproject.toml").write_text(PROJECT)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command = [*pip, "--no-build-isolation", "--target", str(installed), str(project)]
    subprocess.run(command, check=True, capture_output=True)
    environment = {"PYTHONPATH": str(installed)}

    def run(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "pixelprep", *arguments, "--json"]
        done = subprocess.run(
            command, capture_output=True, check=True, env=os.environ | environment
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    made = run("prepare", "stripes", "--mode", "normalize")
    assert (made["dataset"], made["splits"]["train"]["rows"]) == ("stripes", 30)
    names = {plugin["name"] for plugin in run("datasets")["plugins"]}
    assert names == {"stripes", "broken"}
    assert "its package's stripes:nothing" in failure(["prepare", "broken"], 1, **environment)
    assert "stripes" in failure(["prepare", "stripe"], 2, **environment)


def test_every_error_of_a_source_is_one_of_ours() -> None:
    """A worker's error comes back as the same class with the same words."""
    error = SourceError("where: what", "do this")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, PixelprepError)
    assert (again.message, again.hint) == (error.message, error.hint)
