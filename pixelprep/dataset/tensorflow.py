"""A feed for TensorFlow and Keras."""

import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pixelprep.dataset.batches import Batches, Pair

AHEAD = 2  # batches that are ready before they are asked for


def tf_dataset(first: Batches) -> tf.data.Dataset:
    """A ``tf.data.Dataset`` of (images, labels); each pass over it is the next epoch.

    Python hands over a window of chunks at a time and TensorFlow cuts the batches: a Python call
    for every batch is many times slower.
    """
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
    return data.apply(tf.data.experimental.assert_cardinality(len(first))).prefetch(AHEAD)
