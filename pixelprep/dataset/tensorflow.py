"""Feed batches to TensorFlow and Keras."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any  # JSON values

import tensorflow as tf

from pixelprep.dataset.batches import Batches, Pair
from pixelprep.dataset.feed_options import AS_STORED, Form
from pixelprep.dataset.memory import Recycler
from pixelprep.errors import UsageError

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


def rest_of(first: Batches, form: Form, state: Mapping[str, Any]) -> tf.data.Dataset:
    """Return the batches that the epoch of a state has left; each pass is these again."""
    batches = first.at_epoch_of(state)
    rest = batches.resume(state)
    if "worlds" in rest.state():
        shards = " of ".join(map(str, state["shard"]))
        message = f"cannot resume from the state of shard {shards}: expected as many shards"
        raise UsageError(message, "`batches`, `to_torch` and `to_jax` go on with another number")
    return tf_dataset(batches, rest.number, form, itertools.repeat(batches.config.epoch))


def tf_dataset(
    first: Batches,
    done: int = 0,
    form: Form = AS_STORED,
    epochs: Iterator[int] | None = None,
) -> tf.data.Dataset:
    """Return a ``tf.data.Dataset`` of (images, labels); each pass over it is the next epoch.

    Each pass begins after `done` batches of its epoch.

    Python hands over a window at a time, in memory that TensorFlow shares, and TensorFlow cuts the
    batches: a Python call for every batch is many times slower.
    """
    numbers = epochs or itertools.count(first.config.epoch)

    def epoch() -> Iterator[Pair]:
        memory = Recycler()
        try:
            batches = first.with_epoch(next(numbers))
            for window, rows in batches.windows_of(range(done, len(batches))):
                mixed = first.allocate(len(rows), memory)
                first.mix(window, rows, mixed)
                yield form(*mixed)
        except Exception as error:
            RAISED.append(error)
            raise

    columns = first.columns
    images = tf.TensorSpec((None, *form.image_shape(columns.image_shape)), columns.dtype)
    shape, dtype = form.label_kind(*columns.stored["labels"])
    signature = (images, tf.TensorSpec((None, *shape), dtype))
    data = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    data = data.rebatch(first.config.batch_size, drop_remainder=first.config.drop_last)
    # rebatch forgets how many batches there are; Keras would find the end by running into it.
    return data.apply(tf.data.experimental.assert_cardinality(len(first) - done)).prefetch(2)
