#!/usr/bin/env python3
"""Measure how well a shuffled epoch mixes, against a full permutation.

    scripts/shuffle.py --source DIR --seeds 3

First how rows move, on as many rows as MNIST's; then the test accuracy of the reference CNN
on MNIST in its own order and sorted by class. Prints Markdown.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pixelprep
from pixelprep import Entry
from pixelprep.numerics.permutation import Stream, permutation

ROWS, BATCH = 60_000, 64
Order = NDArray[np.int64]


def full(rows: int, seed: int, epoch: int) -> Order:
    """Permute all rows."""
    return permutation(rows, seed=seed, epoch=epoch, stream=Stream.ROWS)


def row_order(entry: Entry, seed: int) -> Order:
    """Return the rows of a shuffled epoch, of an entry whose labels are the rows' numbers."""
    batches = entry.train.batches(BATCH, shuffle=True, seed=seed)
    return np.concatenate([labels for _, labels in batches])


def numbered(cache: Path) -> Entry:
    """Prepare rows as long as MNIST's, each labelled with its number."""
    rows = np.arange(ROWS)
    images = np.zeros((ROWS, 28, 28), np.uint8)
    source = pixelprep.Arrays("numbered", (images, rows), (images[:1], rows[:1]))
    return pixelprep.prepare(source, mode="normalize", cache_dir=cache, quiet=True)


def moved(order: Order) -> float:
    """Measure how far rows move from their place in the file: the mean, as a share of all rows."""
    return float(np.abs(order - np.arange(len(order))).mean() / len(order))


def together(order: Order) -> float:
    """Measure the share of neighbours in the file that share a batch."""
    batch = np.empty_like(order)
    batch[order] = np.arange(len(order)) // BATCH
    return float((batch[1:] == batch[:-1]).mean())


def uneven(order: Order) -> float:
    """Measure how far a class's share of a batch is from a tenth, for rows sorted by class.

    The standard deviation over batches and classes, in percentage points.
    """
    classes = order * 10 // len(order)
    whole = classes[: len(order) // BATCH * BATCH].reshape(-1, BATCH)
    shares = np.stack([(whole == c).mean(axis=1) for c in range(10)])
    return float(100 * np.sqrt(((shares - 0.1) ** 2).mean()))


def mixing(cache: Path, seeds: range) -> Iterator[str]:
    """Yield the table of how rows move."""
    entry = numbered(cache)
    orders: dict[str, Callable[[int], Order]] = {
        "full permutation": lambda seed: full(ROWS, seed, 0),
        "pixelprep": lambda seed: row_order(entry, seed),
    }
    yield "| order | mean displacement | neighbours in one batch | class share off by |"
    yield "|---|---|---|---|"
    for name, order in orders.items():
        found = [order(seed) for seed in seeds]
        way, pairs, off = (
            statistics.mean(measure(one) for one in found) for measure in (moved, together, uneven)
        )
        yield f"| {name} | {way:.4f} of all rows | {pairs:.3%} | {off:.2f} points |"


def by_class(entry: Entry, cache: Path) -> Entry:
    """Prepare the same images, the training rows sorted by class."""
    pairs = [split.to_numpy() for split in (entry.train, entry.test)]
    train, test = ((entry.scaling.invert(images), labels) for images, labels in pairs)
    rows = np.argsort(train[1], kind="stable")
    source = pixelprep.Arrays("by-class", (train[0][rows], train[1][rows]), test)
    return pixelprep.prepare(source, mode=entry.mode, cache_dir=cache, quiet=True)


def permuted(entry: Entry, seed: int) -> Any:
    """Return a feed from memory with a full permutation of the rows every epoch."""
    import tensorflow as tf

    images, labels = entry.train.to_numpy()
    epochs = itertools.count()

    def epoch() -> Iterator[tuple[NDArray[Any], Order]]:
        order = full(len(labels), seed, next(epochs))
        for start in range(0, len(order), 64 * BATCH):
            picked = order[start : start + 64 * BATCH]
            yield images[picked], labels[picked]

    kinds = (tf.TensorSpec((None, *images.shape[1:])), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(epoch, output_signature=kinds).rebatch(BATCH)
    steps = tf.data.experimental.assert_cardinality(-(-len(labels) // BATCH))
    return data.apply(steps).prefetch(2)


def accuracy(entry: Entry, feed: Any, seed: int, epochs: int) -> float:
    """Train the reference CNN once; return its accuracy on the test split, 0 to 1."""
    import keras

    from pixelprep.training.models import reference_cnn

    keras.utils.set_random_seed(seed)
    height, width, channels = entry.train.shape[1:]
    model = reference_cnn((height, width, channels), len(entry.class_names))
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=32
    )
    model.fit(feed, epochs=epochs, shuffle=False, verbose=0)
    found = model.evaluate(entry.test.to_tf(BATCH), verbose=0, return_dict=True)
    return float(found["accuracy"])


def training(source: str, cache: Path, seeds: range, epochs: int) -> Iterator[str]:
    """Yield the table of test accuracies."""
    mnist = pixelprep.prepare("mnist", source=source, cache_dir=cache, quiet=True)
    feeds: dict[str, Callable[[Entry, int], Any]] = {
        "full permutation": permuted,
        "pixelprep": lambda entry, seed: entry.train.to_tf(BATCH, shuffle=True, seed=seed),
    }
    yield "| rows | order |" + "".join(f" seed {seed} |" for seed in seeds) + " mean |"
    yield "|---|---|" + "---|" * (len(seeds) + 1)
    for rows, entry in (("MNIST's own", mnist), ("sorted by class", by_class(mnist, cache))):
        for name, feed in feeds.items():
            found = [accuracy(entry, feed(entry, seed), seed, epochs) for seed in seeds]
            cells = "".join(f" {cell:.2%} |" for cell in [*found, statistics.mean(found)])
            yield f"| {rows} | {name} |{cells}"


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="folder with MNIST's raw files; without it, no training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    seeds = range(given.seeds)
    with tempfile.TemporaryDirectory() as place:
        for line in mixing(Path(place), seeds):
            print(line, flush=True)
        if given.source:
            print()
            for line in training(given.source, Path(place), seeds, given.epochs):
                print(line, flush=True)


if __name__ == "__main__":
    main()
