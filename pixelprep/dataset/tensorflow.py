"""Feed batches to TensorFlow and Keras."""

import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pixelprep.dataset.batches import Batches, Pair


def tf_dataset(first: Batches) -> tf.data.Dataset:
    """Return a ``tf.data.Dataset`` of (images, labels); each pass over it is the next epoch.

    Python hands over a window at a time and TensorFlow cuts the batches: a Python call for every
    batch is many times slower.
    """
    epochs = itertools.count(first.config.epoch)

    def epoch() -> Iterator[Pair]:
        for images, labels, order in first.with_epoch(next(epochs)).windows_from(0):
            yield images.take(order, axis=0), labels.take(order)

    images = tf.TensorSpec((None, *first.image_shape), first.dtype)
    signature = (images, tf.TensorSpec((None,), np.int64))
    data = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    data = data.rebatch(first.config.batch_size, drop_remainder=first.config.drop_last)
    # rebatch forgets how many batches there are; Keras would find the end by running into it.
    return data.apply(tf.data.experimental.assert_cardinality(len(first))).prefetch(2)
