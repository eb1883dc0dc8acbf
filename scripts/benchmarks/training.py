"""Epochs of the reference CNN: from files, and from memory as its users are told to feed it.

All models live in one process, so that they share one TensorFlow; each is fitted for one epoch a
round, and the time is that between Keras's own epoch callbacks, as `pixelprep train` takes it:
what `fit` sets up for all epochs (copying arrays into tensors, say) is nobody's.
"""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.clock import BATCH
from benchmarks.contest import Contest, Contestant, Duel, Measure, Reading, Target
from benchmarks.place import Place

Data = dict[str, Any]  # arguments of fit


class _Fitted:
    """Seconds of the next epoch of a model of its own."""

    def __init__(self, place: Place, data: Data, settings: Any) -> None:
        import keras

        from pixelprep.training.models import reference_cnn

        entry = place.entry()
        keras.utils.set_random_seed(0)
        height, width, channels = entry.train.shape[1:]
        self.model = reference_cnn((height, width, channels), len(entry.class_names))
        self.model.compile(
            optimizer="adam",
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            **settings,
        )
        self.data = data

    def __call__(self, number: int) -> Reading:
        watch = _watch()
        self.model.fit(
            **self.data, initial_epoch=number, epochs=number + 1, verbose=0, callbacks=[watch]
        )
        return Reading(watch.seconds)


def _watch() -> Any:
    import keras

    class Watch(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds = time.perf_counter() - self.begun

    return Watch()


def _contestant(name: str, feed: Callable[[Place], Data], settings: Data) -> Contestant:
    def make(place: Place) -> Measure:
        from pixelprep.system import tf_runtime

        tf_runtime.start("the benchmark")
        return _Fitted(place, feed(place), settings)

    return Contestant(name, make, "tf")


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


STEPS = 32  # a call into TensorFlow; the default of `pixelprep train`
OURS, FLOW = "from files, as pixelprep train", "ImageDataGenerator.flow, fit"
SLICES, ARRAYS = "tf.data from_tensor_slices, fit", "NumPy arrays, fit"

TRAINING = Contest(
    "training",
    "an epoch of the reference CNN on MNIST, batches of 64",
    "s",
    5,
    (
        _contestant(OURS, _files, {"steps_per_execution": STEPS}),
        _contestant(SLICES, _slices, {"steps_per_execution": STEPS}),
        _contestant(ARRAYS, _arrays, {"steps_per_execution": STEPS}),
        _contestant(FLOW, _flow, {}),
    ),
    (
        Duel(OURS, SLICES, Target("≤", 1.02), "in memory; both 32 steps a call: the CNN's work"),
        Duel(OURS, ARRAYS, Target("≤", 1.02), "in memory; both 32 steps a call: the CNN's work"),
        Duel(OURS, FLOW, Target("≤", 0.75), "as its tutorial: a step a call, scaled on the fly"),
    ),
)
