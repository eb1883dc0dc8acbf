"""TensorFlow Datasets: a set of its own, made from what is here."""

from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH
from benchmarks.made import Images
from benchmarks.peers import Opened


def write(folder: Path, data: Images) -> None:
    """Store pictures: PNG of grey ones, else JPEG, as its features do."""
    import tensorflow_datasets as tfds

    shape = data.x.shape[1:]
    encoding = "png" if shape[-1] == 1 else "jpeg"
    tfds.dataset_builders.store_as_tfds_dataset(
        name="images",
        version="1.0.0",
        data_dir=folder,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape, encoding_format=encoding),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        ),
        split_datasets={
            "train": [
                (number, {"image": pixels, "label": int(label)})
                for number, (pixels, label) in enumerate(zip(data.x, data.y, strict=True))
            ]
        },
    )


def epochs(folder: Path, data: Images) -> Opened:
    """Read, scale each, shuffle, batch, as its tutorial does, but for keeping all in memory."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def scaled(row: Any) -> Any:
        return (tf.cast(row["image"], tf.float32) - data.mean) / data.std, row["label"]

    builder = tfds.builder("images", data_dir=folder)
    dataset = builder.as_dataset(split="train", shuffle_files=True)
    dataset = dataset.map(scaled, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.shuffle(min(len(data.x), 10_000)).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return lambda k: dataset
