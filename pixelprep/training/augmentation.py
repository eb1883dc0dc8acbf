"""Augment raw training images, before they are scaled: what changes colours expects raw pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any  # Any: tensors and pixels of any type

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import TrainError
from pixelprep.system import formatting
from pixelprep.training.imported import imported

if TYPE_CHECKING:
    import tensorflow as tf

SEED_STATE = "seed_generator_state"  # what Keras calls the state of a layer's random numbers


class Augmentation:
    """The user's function or Keras layer ``module:name``, given a batch of raw training images.

    A function is called with the images, float32 (n, H, W, C) in the raw pixels' unit, and a seed,
    int64 (2,), which each batch of each epoch has for itself; a layer with the images alone, its
    own random numbers beginning anew in each epoch. So a run that is resumed sees the same images.
    """

    def __init__(self, reference: str, seed: int, steps: int) -> None:
        import keras
        import tensorflow as tf

        self.reference, self.seed, self.steps = reference, seed, steps
        self.function: Callable[..., Any] = imported(reference, "augment")
        if isinstance(self.function, type) or not callable(self.function):
            is_class = isinstance(self.function, type)
            found = "a class" if is_class else type(self.function).__name__
            message = f"`augment={reference}`: expected a function or a Keras layer, got {found}"
            hint = f"name a layer: mine = {self.function.__name__}(…)" if is_class else None
            raise TrainError(message, hint)
        self.is_layer = isinstance(self.function, keras.layers.Layer)
        self.epoch = tf.Variable(0, dtype=tf.int64)

    def check(self, raw: NDArray[Any]) -> None:
        """Refuse what fails on some raw images, or returns others than as many of their shape."""
        import tensorflow as tf

        where, images = f"`augment={self.reference}`", tf.constant(raw.astype(np.float32))
        found = np.asarray(self._tried(images, self._called))
        shapes = [formatting.format_shape(one.shape) for one in (raw, found)]
        if found.dtype.kind not in "uif":
            raise TrainError(f"{where}: expected images, got {type(found.tolist()).__name__}")
        if found.shape != raw.shape:
            raise TrainError(f"{where}: expected images of {shapes[0]}, got {shapes[1]}")
        if not np.isfinite(found).all():
            raise TrainError(f"{where}: expected finite numbers, got nan or infinity")
        self._tried(images, tf.function(self._called).get_concrete_function)

    def _tried(self, images: Any, call: Callable[..., Any]) -> Any:
        """Return what a call gives for some images; say in a line why it fails."""
        import tensorflow as tf

        try:
            return call(images, tf.constant(0, tf.int64))
        except Exception as error:  # of a function of the user's, whatever
            last = (str(error).strip().splitlines() or [""])[-1].strip()  # TensorFlow writes pages
            kind = type(error).__name__
            reason = last if last.startswith(f"{kind}: ") else f"{kind}: {last}"
            fails = f"fails on images of {formatting.format_shape(images.shape)}: {reason[:200]}"
            hint = "make it of TensorFlow's operations, or of Keras's"
            raise TrainError(f"`augment={self.reference}`: {fails}", hint) from error

    def begin(self, epoch: int) -> None:
        """Set the random numbers to those of this epoch."""
        self.epoch.assign(epoch)
        for number, variable in enumerate(self._seed_states()):
            state = [self.seed + number, epoch * self.steps]
            variable.assign([word % 2**32 for word in state])

    def _seed_states(self) -> list[Any]:
        every = self.function.variables if self.is_layer else []  # type: ignore[attr-defined] # Keras is not typed
        return [variable for variable in every if variable.name == SEED_STATE]

    def feed(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Return batches of raw images and labels with the images augmented, float32."""
        import tensorflow as tf

        def augmented(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> Any:
            images, labels = batch
            raw = tf.cast(images, tf.float32)
            found = tf.cast(self._called(raw, step), tf.float32)
            return tf.ensure_shape(found, raw.shape), labels

        # One batch after the other, else which of them gets which random numbers is left to chance.
        return batches.enumerate().map(augmented).prefetch(2)

    def _called(self, raw: Any, step: Any) -> Any:
        import tensorflow as tf

        if self.is_layer:
            return self.function(raw, training=True)
        seed = tf.constant(self.seed, tf.int64)
        return self.function(raw, tf.stack([seed, self.epoch * self.steps + step]))
