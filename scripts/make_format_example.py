#!/usr/bin/env python3
"""Make the tiny entries in data/format-1/, which show format version 1 and are never made again.

Their raw pixels follow a formula, so that any reader can check the stored values: the pixel at
row h, column w, channel c of image i is (7·i + 31·h + 17·w + 101·c) mod 256, but image 3 of train
is all 200 (a constant image). Test images go on counting where train ends. Labels are i mod 3.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from pixelprep import Arrays, prepare
from pixelprep.sources import Provenance

ROOT = Path(__file__).parents[1] / "data" / "format-1"
TRAIN, TEST, SHAPE = 20, 6, (4, 5, 2)


def pixels(start: int, stop: int) -> np.ndarray:
    """Return images `start` to `stop`: uint8 (n, 4, 5, 2)."""
    i, h, w, c = np.ogrid[start:stop, : SHAPE[0], : SHAPE[1], : SHAPE[2]]
    images: np.ndarray = ((7 * i + 31 * h + 17 * w + 101 * c) % 256).astype(np.uint8)
    if start <= 3 < stop:
        images[3 - start] = 200
    return images


def example() -> Arrays:
    """Return the source of both entries."""
    split = {
        "train": (pixels(0, TRAIN), np.arange(TRAIN) % 3),
        "test": (pixels(TRAIN, TRAIN + TEST), np.arange(TRAIN, TRAIN + TEST) % 3),
    }
    about = Provenance("a formula (scripts/make_format_example.py)", "CC0 1.0")
    return Arrays("example", **split, class_names=("one", "zwei", "três"), provenance=about)


def main() -> None:
    """Write both entries."""
    with tempfile.TemporaryDirectory() as cache:
        for options in (
            {"mode": "standardize", "per": "channel", "val_fraction": 0.25, "shard_rows": 8},
            {"mode": "center", "per": "image", "dtype": "float16", "compression": "gzip"},
        ):
            entry = prepare(example(), cache_dir=cache, quiet=True, **options)
            target = ROOT / entry.path.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(entry.path, target)
            print(target)


if __name__ == "__main__":
    main()
