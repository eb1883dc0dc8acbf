"""Check what is prepared from a source, or that it is refused."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep import SourceError, UsageError, sources
from pixelprep.format.options import PrepareOptions
from pixelprep.sources import Options, Raw, RawSplit, SourceContext, find_source
from tests.helpers.reference import Source, divided, rows_of_splits

Pair = tuple[np.ndarray, np.ndarray]


SPLITS = ("train", "test")


IMAGE_FACTS = {"orientation": "followed", "alpha": "opaque", "class_order": "code points"}
NUMBERS = ("0", "1", "2", "3")  # the class names of what has none


def prepared(dataset: str | Path | sources.Source, **options: Any) -> pixelprep.Entry:
    """Return the entry, quietly."""
    return pixelprep.prepare(dataset, quiet=True, **options)


def raw_of(path: Path, **options: Any) -> Raw:
    """Return a file's raw data, in memory."""
    call = PrepareOptions(quiet=True, **options)
    given = {field.name: getattr(call, field.name) for field in fields(Options)}
    source = find_source(str(path), Options(**given))
    with SourceContext(path.parent / "no-cache") as context:
        raw = source.load(context)
        splits = {
            name: RawSplit(split.images[:], split.labels[:], split.names)
            for name, split in raw.splits.items()
        }
        return replace(raw, splits=splits)


def channels(images: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, C), of whichever of the two shapes they are."""
    return images if images.ndim == 4 else images[..., None]


def check(
    entry: pixelprep.Entry,
    train: Pair,
    test: Pair | None,
    class_names: tuple[str, ...] = NUMBERS,
    decode: Mapping[str, Any] | None = None,
) -> None:
    """Check that an entry is made of exactly these rows: by its digest, and by what it stores.

    Splits that are not given are taken from train. The names of rows are the entry's own.
    """
    found = {name: split.names for name, split in entry.splits.items()}
    names = {name: rows.tolist() for name, rows in found.items() if rows is not None}
    if names and test is None:  # put back in the order before rows were taken
        places = Source(train, None, list(class_names))
        recipe = entry.manifest.recipe.to_dict()
        rows = rows_of_splits(places, recipe, recipe["split_seed"] or 0)
        pairs_of = [pair for name, at in rows.items() for pair in zip(at, names[name], strict=True)]
        names = {"train": [name for _, name in sorted(pairs_of)]}
    facts = IMAGE_FACTS if names else {}
    pairs = {"train": train} | ({} if test is None else {"test": test})
    raw_pairs = {n: (channels(images), labels.reshape(-1)) for n, (images, labels) in pairs.items()}
    source = Source(
        raw_pairs["train"],
        raw_pairs.get("test"),
        list(class_names),
        facts | dict(decode or {}),
        names=names,
    )
    for name, expected in divided(source, entry.manifest.recipe.to_dict()).items():
        images, (stored, labels) = expected.images, entry.splits[name].to_numpy()
        raw = entry.scaling.invert(stored)
        assert raw.shape == images.shape
        assert labels.tolist() == expected.labels.tolist()
        if images.dtype.kind in "ui":
            assert raw.dtype == images.dtype.newbyteorder("=")
            assert (raw == images).all()
        else:
            assert np.allclose(raw, images, rtol=1e-3, atol=1e-3)
    assert entry.class_names == class_names
    assert entry.manifest.to_dict()["source"]["digest"] == source.about["digest"]


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
