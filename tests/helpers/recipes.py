"""Recipes of every mode, `per`, type and layout, and of every kind of source; what they give.

``python -m tests.helpers.recipes`` writes ``tests/format/bytes.json`` anew: for another format, or
for another recipe.
"""

import hashlib
import json
from importlib.metadata import version
from importlib.util import find_spec
from itertools import cycle, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import pixelprep
from pixelprep import Arrays

Pair = tuple[NDArray[Any], NDArray[np.int64]]
Json = dict[str, Any]
HELD = Path(__file__).parents[1] / "format" / "bytes.json"
MODES = ("normalize", "center", "standardize")
PER = ("dataset", "channel", "pixel", "image")


def pair(rows: int, dtype: str, channels: int = 3) -> Pair:
    """Return images (rows, 6, 5, C) and labels that follow from a formula.

    One image is constant, and so is one place; floats are far from 0.
    """
    index = np.arange(rows * 30 * channels, dtype=np.int64).reshape(rows, 6, 5, channels)
    mixed = index * 2654435761 % 1000003
    if dtype.startswith("float"):
        images = (300 + mixed / 1000003 * 7).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        images = (mixed % (limits.max - limits.min) + limits.min).astype(dtype)
    images[5], images[:, 1, 2] = 77, 9
    return images, np.arange(rows) % 4


def arrays(dtype: str) -> Arrays:
    """Return a source in memory of images of this type."""
    return Arrays(dtype, pair(40, dtype), pair(15, dtype))


def in_memory() -> dict[str, tuple[str, Json]]:
    """Name recipes: raw type and options."""
    found: list[tuple[str, Json]] = []
    for mode, per, dtype in product(MODES[1:], PER, ("float32", "float16")):
        found.append(("uint8", {"mode": mode, "per": per, "dtype": dtype}))
    for kind, dtype in product(("uint8", "int8", "int16", "uint16"), ("float32", "float16")):
        found.append((kind, {"mode": "normalize", "per": "pixel", "dtype": dtype}))
    kinds = cycle(["int8", "uint16", "int16"])
    for mode, per, rescale in product(MODES[1:], PER, (False, True)):
        found.append((next(kinds), {"mode": mode, "per": per, "rescale": rescale}))
    kinds = cycle(["float32", "float64", "float16"])
    found += [(next(kinds), {"mode": mode, "per": per}) for mode, per in product(MODES, PER)]
    both = {"val_fraction": 0.3, "shard_rows": 7}
    found += [
        ("uint8", {"rescale": True}),
        ("float64", {"rescale": True}),
        ("float32", {"mode": "normalize", "per": "image", "compression": "gzip", **both}),
        ("float64", {"mode": "normalize", "per": "pixel", "dtype": "float16", **both}),
        ("uint8", {"val_fraction": 0.25, "split_seed": 2**64 - 1}),
        ("uint16", {"mode": "center", "per": "pixel", "rescale": True, **both}),
        ("uint8", {"mode": "center", "per": "image", "compression": "gzip", **both}),
        ("uint8", {"compression": "lzf", "shard_rows": 10, "dtype": "float16"}),
        ("uint8", {"compression": "lz4", "per": "image", "shard_rows": 16}),
        ("uint8", {"compression": "zstd"}),
    ]
    return {
        " ".join([kind, *map(str, options.values())]): (kind, options) for kind, options in found
    }


def write_folder(path: Path) -> None:
    """Write PNG images of four classes."""
    for name, rows in {"train": 24, "test": 8}.items():
        for number, (image, label) in enumerate(zip(*pair(rows, "uint8"), strict=True)):
            file = path / name / f"class{label}" / f"{number:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


def in_files(folder: Path) -> dict[str, tuple[Path | str, Json]]:
    """Name recipes of files, which are made in this folder: the dataset, and options."""
    (x, y), (x_test, y_test) = pair(40, "uint8"), pair(15, "uint8")
    np.savez(folder / "archive.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    with h5py.File(folder / "file.h5", "w") as file:
        for name, rows in {"train": 40, "test": 15}.items():
            file[f"{name}/images"], file[f"{name}/labels"] = pair(rows, "uint16")
    write_folder(folder / "pictures")
    keys = {"images_key": "train/images", "labels_key": "train/labels"}
    return {
        "npz": (folder / "archive.npz", {}),
        "hdf5": (folder / "file.h5", {"mode": "center"}),
        "hdf5 divided": (folder / "file.h5", {"test_fraction": 0.3, **keys}),
        "folder": (folder / "pictures", {}),
        "folder resized": (folder / "pictures", {"size": (4, 3), "color": "grey"}),
        "sample": ("sample", {"mode": "standardize"}),
    }


def made_with() -> Json:
    """Return the versions that the bytes of compressed images depend on."""
    return {name: version(name) for name in ("h5py", "hdf5plugin") if find_spec(name)}


def digests(entry: pixelprep.Entry) -> dict[str, str]:
    """Return an entry's name, and the digests of its files, the manifest included."""
    files = sorted(entry.path.iterdir())
    found = {f.name: hashlib.sha256(f.read_bytes()).hexdigest()[:16] for f in files}
    return {"entry": f"{entry.dataset}/{entry.path.name}", **found}


def main() -> None:
    """Write what every recipe gives now, a line each."""
    lines = {"made with": made_with()}
    with TemporaryDirectory() as place:
        every: Json = {name: (arrays(kind), o) for name, (kind, o) in in_memory().items()}
        for name, (dataset, options) in (every | in_files(Path(place))).items():
            cache = Path(place) / "cache"
            lines[name] = digests(
                pixelprep.prepare(dataset, **options, quiet=True, cache_dir=cache)
            )
    shown = [f" {json.dumps(name)}: {json.dumps(found)}" for name, found in lines.items()]
    HELD.write_text("{\n" + ",\n".join(shown) + "\n}\n")


if __name__ == "__main__":
    main()
