"""Feed batches to TensorFlow and Keras."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from pixelprep.dataset.batches import Batches, Pair
from pixelprep.dataset.memory import Recycler

RAISED: list[Exception] = []  # by feeds, since `raising_originals` began


@contextmanager
def raising_originals() -> Iterator[None]:
    """Let what a feed raises arrive as it is, and not as TensorFlow's text of some pages."""
    RAISED.clear()
    try:
        yield
    except tf.errors.OpError:
        if not RAISED:
            raise
        raise RAISED[0] from None


def tf_dataset(first: Batches, done: int = 0) -> tf.data.Dataset:
    """Return a ``tf.data.Dataset`` of (images, labels); each pass over it is the next epoch.

    Each pass begins after `done` batches of its epoch.

    Python hands over a window at a time, in memory that TensorFlow shares, and TensorFlow cuts the
    batches: a Python call for every batch is many times slower.
    """
    epochs = itertools.count(first.config.epoch)

    def epoch() -> Iterator[Pair]:
        memory = Recycler()
        try:
            batches = first.with_epoch(next(epochs))
            for window, rows in batches.windows_of(range(done, len(batches))):
                mixed = first.allocate(len(rows), memory)
                first.mix(window, rows, mixed)
                yield mixed
        except Exception as error:
            RAISED.append(error)
            raise

    columns = first.columns
    images = tf.TensorSpec((None, *columns.image_shape), columns.dtype)
    shape, dtype = columns.stored["labels"]
    signature = (images, tf.TensorSpec((None, *shape), dtype))
    data = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    data = data.rebatch(first.config.batch_size, drop_remainder=first.config.drop_last)
    # rebatch forgets how many batches there are; Keras would find the end by running into it.
    return data.apply(tf.data.experimental.assert_cardinality(len(first) - done)).prefetch(2)
