"""Feeds for training frameworks: one short function each, the framework imported inside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pixelprep.batches import Batches, Pair
from pixelprep.errors import missing_extra

if TYPE_CHECKING:
    import tensorflow as tf


def to_tf(first: Batches) -> tf.data.Dataset:
    """A ``tf.data.Dataset`` of (images, labels); each pass over it is the next epoch.

    Python hands over a window of chunks at a time and TensorFlow cuts the batches: a Python call
    for every batch is many times slower.
    """
    try:
        import tensorflow as tf
    except ImportError:
        raise missing_extra("TensorFlow", "train", "to_tf") from None
    epochs = itertools.count(first.plan.epoch)

    def epoch() -> Iterator[Pair]:
        yield from first.at(next(epochs)).blocks()

    signature = (
        tf.TensorSpec((None, *first.image_shape), first.dtype),
        tf.TensorSpec((None,), np.int64),
    )
    data = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    data = data.rebatch(first.plan.batch_size, drop_remainder=first.plan.drop_last)
    # rebatch forgets how many batches there are; Keras would find the end by running into it.
    return data.apply(tf.data.experimental.assert_cardinality(len(first))).prefetch(2)
