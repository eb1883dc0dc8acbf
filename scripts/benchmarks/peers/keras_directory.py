"""Keras's image_dataset_from_directory."""

from pathlib import Path

from benchmarks.clock import BATCH
from benchmarks.made import Images, write_folder
from benchmarks.peers import Opened

write = write_folder


def epochs(folder: Path, data: Images) -> Opened:
    """Decode in as many threads as it likes, and scale batches."""
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        folder,
        image_size=data.x.shape[1:3],
        color_mode="grayscale" if data.x.shape[-1] == 1 else "rgb",
        batch_size=BATCH,
        shuffle=True,
        seed=0,
        verbose=False,
    )
    dataset = dataset.map(
        lambda pixels, label: ((pixels - data.mean) / data.std, label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    dataset = dataset.prefetch(tf.data.AUTOTUNE)
    return lambda k: dataset
