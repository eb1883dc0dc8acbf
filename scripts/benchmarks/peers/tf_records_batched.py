"""The same TFRecord, parsed and scaled in batches, as tf.data's guide to performance advises."""

from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH
from benchmarks.made import Images
from benchmarks.peers import Opened
from benchmarks.peers.tf_records import described, write

__all__ = ["epochs", "write"]


def epochs(folder: Path, data: Images) -> Opened:
    """Shuffle whole, batch, parse and scale a batch at once."""
    import tensorflow as tf

    def parse(records: Any) -> Any:
        rows = tf.io.parse_example(records, described())
        pixels = tf.io.decode_raw(rows["image"], tf.uint8)
        pixels = tf.cast(tf.reshape(pixels, (-1, *data.x.shape[1:])), tf.float32)
        return (pixels - data.mean) / data.std, rows["label"]

    dataset = tf.data.TFRecordDataset(str(folder / "train.tfrecord")).shuffle(len(data.x))
    dataset = dataset.batch(BATCH).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    return lambda k: dataset
