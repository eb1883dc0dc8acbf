#!/usr/bin/env python3
"""Make the tiny entries in data/format-1/, which show format version 1.

Their raw pixels follow a formula, so that any reader can check the stored values: the pixel at
row h, column w, channel c of image i is (7·i + 31·h + 17·w + 101·c) mod 256, but image 3 of train
is all 200 (a constant image). Val, where the data has one, and test go on counting where train, or
val, ends. Labels are i mod 3 or, of several a row, 1 for class k where i // 2**k is odd. Rows that
have names are called CLASS/é-I.png.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pixelprep import Arrays, prepare
from pixelprep.sources import Provenance

ROOT = Path(__file__).parents[1] / "data" / "format-1"
ROWS, SHAPE = {"train": 20, "val": 5, "test": 6}, (4, 5, 2)
CLASSES = ("one", "zwei", "três")
ABOUT = Provenance("a formula (scripts/make_format_example.py)", "CC0 1.0")

# Each entry: the splits that the data has, its task, whether rows have names; options of `prepare`.
ENTRIES: list[tuple[tuple[str, ...], str, bool, dict[str, Any]]] = [
    (
        ("train", "test"),
        "classification",
        False,
        {"mode": "standardize", "per": "channel", "val_fraction": 0.25, "shard_rows": 8},
    ),
    (
        ("train", "test"),
        "classification",
        False,
        {"mode": "center", "per": "image", "dtype": "float16", "compression": "gzip"},
    ),
    (
        ("train", "val"),
        "classification",
        True,
        {"mode": "standardize", "per": "pixel", "storage": "raw", "shard_rows": 8},
    ),
    (("train",), "multilabel", True, {"mode": "normalize", "test_fraction": 0.3}),
    (
        ("train", "val", "test"),
        "multilabel",
        False,
        {"mode": "standardize", "per": "image", "storage": "raw", "compression": "gzip"},
    ),
]


def pixels(start: int, stop: int) -> np.ndarray:
    """Return images `start` to `stop`: uint8 (n, 4, 5, 2)."""
    i, h, w, c = np.ogrid[start:stop, : SHAPE[0], : SHAPE[1], : SHAPE[2]]
    images: np.ndarray = ((7 * i + 31 * h + 17 * w + 101 * c) % 256).astype(np.uint8)
    if start <= 3 < stop:
        images[3 - start] = 200
    return images


def labels(start: int, stop: int, task: str) -> np.ndarray:
    """Return the labels of these images: int64 (n,), or uint8 (n, 3)."""
    i = np.arange(start, stop)
    if task == "classification":
        return i % 3
    return (i[:, None] >> np.arange(3) & 1).astype(np.uint8)


def example(splits: tuple[str, ...], task: str, named: bool) -> Arrays:
    """Return a source of these splits."""
    made: dict[str, Any] = {}
    names, start = {}, 0
    for split in splits:
        stop = start + ROWS[split]
        made[split] = (pixels(start, stop), labels(start, stop, task))
        names[split] = [f"{CLASSES[i % 3]}/é-{i}.png" for i in range(start, stop)]
        start = stop
    options: dict[str, Any] = {"names": names} if named else {}
    return Arrays("example", **made, class_names=CLASSES, provenance=ABOUT, task=task, **options)


def examples() -> list[tuple[Arrays, dict[str, Any]]]:
    """Return the source of each entry, and the options of `prepare`."""
    return [(example(splits, task, named), options) for splits, task, named, options in ENTRIES]


def main() -> None:
    """Write all entries."""
    shutil.rmtree(ROOT, ignore_errors=True)
    with tempfile.TemporaryDirectory() as cache:
        for source, options in examples():
            entry = prepare(source, cache_dir=cache, quiet=True, **options)
            print(shutil.copytree(entry.path, ROOT / entry.path.name))


if __name__ == "__main__":
    main()
