"""Check what is prepared from a source, or that it is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep import SourceError, UsageError
from pixelprep.sources import Arrays
from tests.helpers.reference import class_shares, permutation, source_digest, split_source

Pair = tuple[np.ndarray, np.ndarray]


SPLITS = ("train", "test")


NUMBERS = ("0", "1", "2", "3")  # the class names of what has none


def prepared(dataset: str | Path | Arrays, **options: Any) -> pixelprep.Entry:
    """Return the entry, quietly."""
    return pixelprep.prepare(dataset, quiet=True, **options)


def channels(images: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, C), of whichever of the two shapes they are."""
    return images if images.ndim == 4 else images[..., None]


def check(
    entry: pixelprep.Entry,
    train: Pair,
    test: Pair,
    class_names: tuple[str, ...] = NUMBERS,
    decode: Mapping[str, Any] | None = None,
) -> None:
    """Check that an entry is made of exactly these rows: by its digest, and by what it stores."""
    pairs = dict(zip(SPLITS, (train, test), strict=True))
    splits = {
        name: split_source(channels(images), labels) for name, (images, labels) in pairs.items()
    }
    digest = source_digest(splits, list(class_names), dict(decode or {}))
    for name, (images, labels) in pairs.items():
        stored, stored_labels = entry.splits[name].to_numpy()
        raw = entry.scaling.invert(stored)
        assert raw.shape == channels(images).shape
        assert stored_labels.tolist() == labels.reshape(-1).tolist()
        if images.dtype.kind in "ui":
            assert raw.dtype == images.dtype.newbyteorder("=")
            assert (raw == channels(images)).all()
        else:
            assert np.allclose(raw, channels(images), rtol=1e-3, atol=1e-3)
    assert entry.class_names == class_names
    assert entry.manifest.to_dict()["source"]["digest"] == digest


def nothing_is_left(cache: Path) -> bool:
    """Return whether the cache has no entry, whole or half, and no work in progress."""
    return not [*cache.glob("[!.]*"), *cache.glob(".tmp/*"), *cache.glob(".trash/*")]


def refused(
    cache: Path, dataset: Path, where: Path | str, reason: str, **options: Any
) -> pixelprep.PixelprepError:
    """Return the error that says in one line where and why a dataset is refused, and leaves
    nothing.
    """
    with pytest.raises((SourceError, UsageError)) as caught:
        prepared(dataset, **options)
    shown = " ".join(str(where).split())
    assert shown in caught.value.message
    assert reason in caught.value.message
    assert "\n" not in str(caught.value)
    assert nothing_is_left(cache)
    return caught.value


def taken(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return which rows the format gives to a test split that is taken from all, bool (N,)."""
    mask = np.zeros(len(labels), bool)
    rows = [np.flatnonzero(labels == number) for number in range(labels.max() + 1)]
    shares = class_shares([len(of_class) for of_class in rows], fraction)
    for number, (of_class, share) in enumerate(zip(rows, shares, strict=True)):
        mask[of_class[permutation(len(of_class), seed, 0, 5, number)[:share]]] = True
    return mask
