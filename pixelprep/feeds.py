"""Feeds for training frameworks: one short function each, the framework imported inside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelprep.batches import Chunk, Pair, Plan, windows
from pixelprep.errors import missing_extra

if TYPE_CHECKING:
    import tensorflow as tf


def to_tf(
    chunks: Sequence[Chunk], plan: Plan, image_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tf.data.Dataset:
    """A ``tf.data.Dataset`` of (images, labels); each pass over it is the next epoch.

    Python hands over a window of chunks at a time and TensorFlow cuts the batches: a Python call
    for every batch is many times slower.
    """
    try:
        import tensorflow as tf
    except ImportError:
        raise missing_extra("TensorFlow", "train", "to_tf") from None
    epochs = itertools.count(plan.epoch)

    def epoch() -> Iterator[Pair]:
        yield from windows(chunks, replace(plan, epoch=next(epochs)))

    signature = (
        tf.TensorSpec((None, *image_shape), dtype),
        tf.TensorSpec((None,), np.int64),
    )
    rows = sum(chunk.stop - chunk.start for chunk in chunks)
    data = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    data = data.rebatch(plan.batch_size, drop_remainder=plan.drop_last)
    # rebatch forgets how many batches there are; Keras would find the end by running into it.
    counted = data.apply(tf.data.experimental.assert_cardinality(plan.steps(rows)))
    return counted.prefetch(tf.data.AUTOTUNE)
