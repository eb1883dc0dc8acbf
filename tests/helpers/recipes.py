"""One small dataset of each kind of source, and the entries that every option makes of it."""

import hashlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import pixelprep
from pixelprep import Arrays

Pair = tuple[NDArray[Any], NDArray[np.int64]]
MODES = ("normalize", "center", "standardize")
PER = ("dataset", "channel", "pixel", "image")


def pair(rows: int, dtype: str, channels: int = 3) -> Pair:
    """Return images (rows, 6, 5, C) and labels that follow from a formula."""
    index = np.arange(rows * 30 * channels, dtype=np.int64).reshape(rows, 6, 5, channels)
    mixed = index * 2654435761 % 1000003
    if dtype.startswith("float"):
        return (mixed / 1000003 * 7 - 3).astype(dtype), np.arange(rows) % 4
    limits = np.iinfo(dtype)
    return (mixed % (limits.max - limits.min) + limits.min).astype(dtype), np.arange(rows) % 4


def arrays(dtype: str) -> Arrays:
    """Return a source in memory of images of this type."""
    return Arrays(dtype, pair(40, dtype), pair(15, dtype))


def write_npz(path: Path) -> None:
    """Write an archive as Keras has them."""
    (x, y), (x_test, y_test) = pair(40, "uint8"), pair(15, "uint8")
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)


def write_hdf5(path: Path) -> None:
    """Write a file with a group for each split."""
    with h5py.File(path, "w") as file:
        for name, rows in {"train": 40, "test": 15}.items():
            file[f"{name}/images"], file[f"{name}/labels"] = pair(rows, "uint16")


def write_folder(path: Path) -> None:
    """Write PNG images of four classes."""
    for name, rows in {"train": 24, "test": 8}.items():
        for number, (image, label) in enumerate(zip(*pair(rows, "uint8"), strict=True)):
            file = path / name / f"class{label}" / f"{number:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


def recipes(folder: Path) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """List each entry: its name, its dataset (files are made in this folder) and its options."""
    write_npz(folder / "archive.npz")
    write_hdf5(folder / "file.h5")
    write_folder(folder / "pictures")
    for mode, per, dtype in product(MODES, PER, ("float32", "float16")):
        options = {"mode": mode, "per": per, "dtype": dtype}
        yield f"uint8 {mode} {per} {dtype}", arrays("uint8"), options
    for kind, mode, per in product(("int16", "uint16", "float32"), MODES, ("channel", "image")):
        yield f"{kind} {mode} {per}", arrays(kind), {"mode": mode, "per": per}
    extra: dict[str, dict[str, Any]] = {
        "rescaled": {"rescale": True},
        "validation": {"val_fraction": 0.25, "split_seed": 7},
        "files": {"shard_rows": 7, "per": "image", "val_fraction": 0.2},
        "gzip": {"compression": "gzip"},
        "lzf": {"compression": "lzf", "dtype": "float16"},
        "lz4": {"compression": "lz4", "shard_rows": 16},
        "zstd": {"compression": "zstd"},
    }
    for name, changed in extra.items():
        yield name, arrays("uint8"), changed
    yield "npz", f"{folder}/archive.npz", {}
    yield "hdf5", f"{folder}/file.h5", {"mode": "center"}
    yield "hdf5 divided", f"{folder}/file.h5", {"test_fraction": 0.3, "images_key": "train/images",
                                                "labels_key": "train/labels"}  # fmt: skip
    yield "folder", f"{folder}/pictures", {}
    yield "folder resized", f"{folder}/pictures", {"size": (4, 3), "color": "grey"}
    yield "sample", "sample", {"mode": "standardize"}


def digests(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Make each entry in a cache below this folder, and digest its files, the manifest included."""
    for name, dataset, options in recipes(folder):
        entry = pixelprep.prepare(dataset, **options, quiet=True, cache_dir=folder / "cache")
        files = sorted(entry.path.iterdir())
        found = {f.name: hashlib.sha256(f.read_bytes()).hexdigest()[:16] for f in files}
        yield name, {"entry": f"{entry.dataset}/{entry.path.name}", **found}
