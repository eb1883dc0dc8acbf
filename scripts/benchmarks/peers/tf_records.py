"""TFRecord of raw uint8, read by tf.data."""

from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH
from benchmarks.made import Images
from benchmarks.peers import Opened


def write(folder: Path, data: Images) -> None:
    """Write an example a row."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(folder / "train.tfrecord")) as writer:
        for pixels, label in zip(data.x, data.y, strict=True):
            image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[pixels.tobytes()]))
            number = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
            features = tf.train.Features(feature={"image": image, "label": number})
            writer.write(tf.train.Example(features=features).SerializeToString())


def described() -> dict[str, Any]:
    """Return what a row holds."""
    import tensorflow as tf

    return {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }


def epochs(folder: Path, data: Images) -> Opened:
    """Shuffle whole, parse and scale each, batch."""
    import tensorflow as tf

    def parse(record: Any) -> Any:
        row = tf.io.parse_single_example(record, described())
        pixels = tf.reshape(tf.io.decode_raw(row["image"], tf.uint8), data.x.shape[1:])
        return (tf.cast(pixels, tf.float32) - data.mean) / data.std, row["label"]

    dataset = tf.data.TFRecordDataset(str(folder / "train.tfrecord")).shuffle(len(data.x))
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    return lambda k: dataset
