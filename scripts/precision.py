#!/usr/bin/env python3
"""Measure how far off means and deviations are, as libraries compute them, per channel.

    scripts/precision.py

The images are RGB of 32×32, random, of differing brightness; the truth is a sum of integers. Prints
the table of docs/statistics.md, in Markdown; it takes some minutes and 5 GB of memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Figures = tuple[Any, Any]  # mean and deviation by channel

COUNTS, TYPES = (4_000, 50_000), ("uint8", "float32", "uint16")
FIRST_AXES = (0, 1, 2)
BATCH = 64


def drawn(count: int, dtype: str) -> Array:
    """Return images whose brightness and contrast differ, by image and by channel."""
    random = np.random.default_rng(0)
    light = random.normal(120, 40, (count, 1, 1, 1)) + random.normal(0, 30, (1, 1, 1, 3))
    images = np.empty((count, 32, 32, 3), dtype)
    for rows in np.array_split(np.arange(count), 100):
        pixels = light[rows] + random.normal(0, 25, (len(rows), 32, 32, 3))
        images[rows] = np.round(pixels.clip(0, 255) * (257 if dtype == "uint16" else 1))
    return images


def truth(images: Array) -> Figures:
    """Return the figures from sums of integers."""
    total, squares = [0, 0, 0], [0, 0, 0]
    for block in np.array_split(images, 100):
        whole = block.astype(np.int64)
        total = [a + int(b) for a, b in zip(total, whole.sum(FIRST_AXES), strict=True)]
        squares = [a + int(b) for a, b in zip(squares, (whole**2).sum(FIRST_AXES), strict=True)]
    count = images.size // 3
    mean = [Fraction(one, count) for one in total]
    variance = [Fraction(one, count) - m * m for one, m in zip(squares, mean, strict=True)]
    return [float(one) for one in mean], [float(one) ** 0.5 for one in variance]


def ours(images: Array) -> Figures:
    """As `prepare` and `stats` do."""
    from pixelprep import Scaling

    scaling = Scaling.fit(images, "standardize")
    return scaling.mean, scaling.std


def with_numpy(images: Array) -> Figures:
    """Call mean and std over all axes but the channels'."""
    return images.mean(FIRST_AXES), images.std(FIRST_AXES)


def normalization(images: Array) -> Figures:
    """Adapt Keras's layer."""
    import keras

    layer = keras.layers.Normalization(axis=-1)
    layer.adapt(images)
    mean, variance = (np.ravel(keras.ops.convert_to_numpy(x)) for x in (layer.mean, layer.variance))
    return mean, variance.astype(np.float64) ** 0.5


def generator(images: Array) -> Figures:
    """Fit Keras's ImageDataGenerator."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    fitted = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    fitted.fit(images)
    return np.ravel(fitted.mean), np.ravel(fitted.std)


def torch_whole(images: Array) -> Figures:
    """Take mean and std of one float32 tensor."""
    import torch

    pixels = torch.from_numpy(images.astype(np.float32))
    return pixels.mean(FIRST_AXES), pixels.std(FIRST_AXES, correction=0)


def loader_loop(images: Array) -> Figures:
    """Add up each image's mean and std over a DataLoader's batches, as is often pasted."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    mean, std, count = torch.zeros(3), torch.zeros(3), 0
    whole = images if images.dtype != np.uint16 else images.astype(np.float32)
    for (batch,) in DataLoader(TensorDataset(torch.from_numpy(whole)), batch_size=BATCH):
        pixels = batch.float().permute(0, 3, 1, 2).reshape(len(batch), 3, -1)
        mean += pixels.mean(2).sum(0)
        std += pixels.std(2).sum(0)
        count += len(batch)
    return mean / count, std / count


WAYS: dict[str, tuple[Callable[[Array], Figures], dict[str, str]]] = {
    "`x.mean((0, 1, 2))`, `x.std(…)`": (with_numpy, {}),
    "Keras `Normalization.adapt`, TensorFlow": (normalization, {}),
    "Keras `Normalization.adapt`, JAX": (normalization, {"KERAS_BACKEND": "jax"}),
    "Keras `ImageDataGenerator.fit`": (generator, {}),
    "`tensor.float().mean((0, 1, 2))`, `.std(…)`": (torch_whole, {}),
    "the DataLoader loop: each image's mean and std": (loader_loop, {}),
    "pixelprep": (ours, {}),
}


def off_by(found: list[float], true: list[float]) -> str:
    """Format how far off the worst channel is, of the true figure."""
    worst = max(abs(a - b) / b for a, b in zip(found, true, strict=True))
    return f"{worst:.2%}" if worst >= 1e-4 else f"{worst:.0e}" if worst else "0"


def found_by(name: str, file: str) -> list[list[float]]:
    """Return mean and deviation of the images of a file, computed by a process of its own."""
    command = [sys.executable, __file__, "--one", name, file]
    env = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", **os.environ, **WAYS[name][1]}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(name: str, file: str) -> None:
    """Print the mean and deviation of the images of a file."""
    found = WAYS[name][0](np.load(file))
    print(json.dumps([np.asarray(part, np.float64).tolist() for part in found]))


def table(counts: list[int]) -> Iterator[str]:
    """Yield the lines of the table."""
    columns = [(count, dtype) for count in counts for dtype in TYPES]
    yield "| mean, std off by |" + "".join(f" {n:,} {dtype} |" for n, dtype in columns)
    yield "|---|" + "---|" * len(columns)
    cells: dict[str, list[str]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/images.npy"
        for column in columns:
            np.save(file, images := drawn(*column))
            true = truth(images)
            for name, of_name in cells.items():
                pairs = zip(found_by(name, file), true, strict=True)
                of_name.append(", ".join(off_by(*pair) for pair in pairs))
    yield from (f"| {name} | {' | '.join(of_name)} |" for name, of_name in cells.items())


def main() -> None:
    """Print the table, and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, nargs="+", default=COUNTS)
    given = parser.parse_args()
    if given.one:
        one(*given.one)
        return
    for line in table(given.images):
        print(line)
    used = ("numpy", "keras", "tensorflow", "jax", "torch", "pixelprep")
    print("\n" + ", ".join(f"{name} {metadata.version(name)}" for name in used))


if __name__ == "__main__":
    main()
