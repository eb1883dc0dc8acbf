"""Preparing MNIST with Hugging Face `datasets`, in its NumPy format. SOURCE TARGET."""

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Array3D, Dataset, DatasetDict, Features, Value

source, target = map(Path, sys.argv[1:])


def features(dtype: str) -> Any:
    """Describe a row."""
    return Features({"image": Array3D((28, 28, 1), dtype), "label": Value("int64")})


def load(kind: str) -> Any:
    """Return images as uint8 (N, 28, 28, 1) and labels (N,)."""
    with gzip.open(source / f"{kind}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16)
    with gzip.open(source / f"{kind}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images.reshape(-1, 28, 28, 1), labels.astype(np.int64)


arrays = {"train": load("train"), "test": load("t10k")}
mean, std = arrays["train"][0].mean(), arrays["train"][0].std()


def scaled(batch: Any) -> Any:
    """Return a batch of rows with float32 images."""
    return {"image": ((batch["image"] - mean) / std).astype(np.float32)}


splits = {}
for name, (x, y) in arrays.items():
    raw = Dataset.from_dict({"image": x, "label": y}, features=features("uint8"))
    splits[name] = raw.with_format("numpy").map(scaled, batched=True, features=features("float32"))
DatasetDict(splits).save_to_disk(target / "scaled")
