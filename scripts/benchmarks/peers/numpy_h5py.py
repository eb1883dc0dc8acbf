"""Preparing MNIST with NumPy and h5py as it is commonly written. SOURCE TARGET."""

import gzip
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

source, target = map(Path, sys.argv[1:])


def load(kind: str) -> Any:
    """Return images as float32 (N, 28, 28, 1) and labels as int64 (N,)."""
    with gzip.open(source / f"{kind}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16)
    with gzip.open(source / f"{kind}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images.reshape(-1, 28, 28, 1).astype(np.float32), labels.astype(np.int64)


x_train, y_train = load("train")
x_test, y_test = load("t10k")
mean, std = x_train.mean(), x_train.std()
for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
    with h5py.File(target / f"{name}.h5", "w") as file:
        file.create_dataset("images", data=(x - mean) / std)
        file.create_dataset("labels", data=y)
