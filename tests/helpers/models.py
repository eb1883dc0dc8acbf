"""Models of a user's own, for ``--model tests.helpers.models:NAME``."""

from typing import Any

import keras

Shape = tuple[int, int, int]


class Noise(keras.layers.Layer):  # type: ignore[misc] # Keras is not typed
    """Adds noise while it is trained."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(7)

    def call(self, x: Any, training: bool = False) -> Any:
        """Return the sum."""
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds) if training else x


class Secretive(keras.layers.Layer):  # type: ignore[misc] # Keras is not typed
    """Cannot be saved."""

    def call(self, x: Any) -> Any:
        """Return the same."""
        return x

    def get_config(self) -> dict[str, Any]:
        """Fail."""
        raise NotImplementedError("Secretive has no config")


def random(shape: Shape, classes: int, *more: Any) -> Any:
    """Return a model of all that is hard to go on with; it soon learns images by heart."""
    layers = [Noise(), *more, keras.layers.Conv2D(4, 3)]
    layers += [keras.layers.BatchNormalization(momentum=0.5), keras.layers.Flatten()]
    layers += [keras.layers.Dense(64), keras.layers.Dropout(0.4)]
    last = keras.layers.Dense(classes, activation="softmax")
    return keras.Sequential([keras.Input(shape), *layers, last])


def tiny(shape: Shape, classes: int) -> Any:
    """Return what is soon trained."""
    last = keras.layers.Dense(classes, activation="softmax")
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), last])


def flipped(shape: Shape, classes: int) -> Any:
    """Return a model whose images are turned over at random while it is trained."""
    return keras.Sequential([keras.Input(shape), keras.layers.RandomFlip(), tiny(shape, classes)])


def inverse(shape: Shape, classes: int) -> Any:
    """Return a model with an operation that only TensorFlow has."""
    given = keras.Input(shape)
    return keras.Model(given, tiny(shape, classes)(keras.ops.erfinv(keras.ops.tanh(given) * 0.5)))


def root(shape: Shape, classes: int) -> Any:
    """Return a model whose first gradients are infinite: those of a root of 0."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(classes, kernel_initializer="zeros")]
    layers += [keras.layers.Activation("relu"), keras.layers.Activation(keras.ops.sqrt)]
    return keras.Sequential([keras.Input(shape), *layers, keras.layers.Softmax()])


def logits(shape: Shape, classes: int) -> Any:
    """Return a model that ends without softmax."""
    last = keras.layers.Dense(classes)
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), last])


def chance(shape: Shape, classes: int) -> Any:
    """Return a model that ends without softmax, but begins with sums of 1."""
    layers = keras.layers
    start = keras.initializers.Constant(1 / classes)
    last = layers.Dense(classes, kernel_initializer="zeros", bias_initializer=start)
    return keras.Sequential([keras.Input(shape), layers.Flatten(), last])


def bytewise(shape: Shape, classes: int) -> Any:
    """Return a model that takes bytes."""
    return keras.Sequential([keras.Input(shape, dtype="uint8"), *tiny(shape, classes).layers])


@keras.saving.register_keras_serializable()
class Subclassed(keras.Model):  # type: ignore[misc] # likewise
    """Tells nothing of what it takes and returns."""

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.classes = classes
        self.flatten = keras.layers.Flatten()
        self.last = keras.layers.Dense(classes, activation="softmax")

    def call(self, x: Any) -> Any:
        """Return probabilities."""
        return self.last(self.flatten(x))

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {"classes": self.classes}


def subclassed(shape: Shape, classes: int) -> Any:
    """Return a subclass of Keras's model."""
    return Subclassed(classes)


class Overflow(keras.layers.Layer):  # type: ignore[misc] # likewise
    """Returns no number once it is trained."""

    def call(self, x: Any, training: bool = False) -> Any:
        """Return the same, or NaN."""
        return x * float("nan") if training else x


def diverging(shape: Shape, classes: int) -> Any:
    """Return what has a loss that is no number."""
    return keras.Sequential([keras.Input(shape), Overflow(), *tiny(shape, classes).layers])


def narrow(shape: Shape, classes: int) -> Any:
    """Return a model of too few classes."""
    return tiny(shape, classes - 1)


def nothing(shape: Shape, classes: int) -> None:
    """Return no model."""


def chatty(shape: Shape, classes: int) -> Any:
    """Say something, and return a model without an input."""
    print("hello")
    return keras.Sequential(tiny(shape, classes).layers)
