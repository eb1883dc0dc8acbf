"""Epochs of the reference CNN: from files, and from memory as its users are told to feed it.

All models live in one process, so that they share one TensorFlow; each is fitted for one epoch a
round, and the time is that between Keras's own epoch callbacks, as `pixelprep train` takes it:
what `fit` sets up for all epochs (copying arrays into tensors, say) is nobody's.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.clock import BATCH, Measure
from benchmarks.contest import Contest
from benchmarks.place import Place

Data = dict[str, Any]  # arguments of fit

STEPS = {"steps_per_execution": 32}  # a call into TensorFlow; as `pixelprep train`
IN_MEMORY = "in memory; both 32 steps a call: the CNN's work"


def _fitted(place: Place, feed: Callable[[Place], Data], settings: dict[str, int]) -> Measure:
    """Return what measures the seconds of the next epoch of a model of its own."""
    from pixelprep.system import tf_runtime

    tf_runtime.start("the benchmark")
    import keras

    from pixelprep.training.models import reference_cnn

    class Watch(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
        seconds = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds = time.perf_counter() - self.begun

    data, entry = feed(place), place.entry()
    keras.utils.set_random_seed(0)
    height, width, channels = entry.train.shape[1:]
    model = reference_cnn((height, width, channels), len(entry.class_names))
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"], **settings)
    numbers, watch = itertools.count(), Watch()

    def measure() -> float:
        number = next(numbers)
        epochs = {"initial_epoch": number, "epochs": number + 1}
        model.fit(**data, **epochs, verbose=0, callbacks=[watch])
        return watch.seconds

    return measure


def _files(place: Place) -> Data:
    feed = place.entry().train.to_tf(BATCH, shuffle=True, seed=0)
    return {"x": feed, "shuffle": False}


def _slices(place: Place) -> Data:
    import tensorflow as tf

    x, y = place.entry().train.to_numpy()
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH)
    return {"x": data.prefetch(tf.data.AUTOTUNE), "shuffle": False}


def _arrays(place: Place) -> Data:
    x, y = place.entry().train.to_numpy()
    return {"x": x, "y": y, "batch_size": BATCH}


def _flow(place: Place) -> Data:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    images, labels = place.raw()
    generator = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    generator.fit(images)
    return {"x": generator.flow(images, labels, batch_size=BATCH), "shuffle": False}


TRAINING = Contest("training", "an epoch of the reference CNN on MNIST, batches of 64", "s", 5)
TRAINING.contestant("from files, as pixelprep train", "tf")(
    partial(_fitted, feed=_files, settings=STEPS)
)
TRAINING.peer("tf.data from_tensor_slices, fit", "tf", "≤ 1.02", IN_MEMORY)(
    partial(_fitted, feed=_slices, settings=STEPS)
)
TRAINING.peer("NumPy arrays, fit", "tf", "≤ 1.02", IN_MEMORY)(
    partial(_fitted, feed=_arrays, settings=STEPS)
)
TRAINING.peer(
    "ImageDataGenerator.flow, fit",
    "tf",
    "≤ 0.75",
    "as its tutorial: a step a call, scaled on the fly",
)(partial(_fitted, feed=_flow, settings={}))
