"""Models: the reference CNN, the user's own or a run's; checked, compiled, saved and scored."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: variables of Keras, which is not typed

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.batches import Pair
from pixelprep.dataset.entry import Entry, Split
from pixelprep.errors import TrainError, UsageError
from pixelprep.numerics.evaluation import Evaluation
from pixelprep.system import formatting, fs
from pixelprep.training.imported import imported, is_reference
from pixelprep.training.run_folder import MODEL, Variables, load_finished

if TYPE_CHECKING:
    import keras

SMALLEST = 10  # pixels of height and width that the reference CNN's layers need without padding
LOOKED_AT = 8  # images whose output is looked at before a model is trained
TOLERANCE = 0.01  # of probabilities that add up to 1, also in bfloat16

LOG = logging.getLogger("pixelprep")

# Of the input shape (H, W, C) and the number of classes; whether it is a model, `_check` finds out.
ModelFunction = Callable[[tuple[int, int, int], int], object]


def check_named(given: str) -> None:
    """Refuse what can neither be ``module:function`` nor a run's folder."""
    if not (is_reference(given) or fs.expand_user(given).is_dir()):
        raise UsageError(f"`model={given}`: expected module:function, or a run's folder")


def reference_cnn(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Build the CNN that the scalings are compared on, for images (H, W, C).

    Those smaller than 10×10 are padded with zeros in each layer, as they would end as nothing.
    """
    import keras

    padding = "valid"
    if min(input_shape[:2]) < SMALLEST:
        padding, size = "same", formatting.format_shape(input_shape[:2])
        needed = f"{SMALLEST}×{SMALLEST}"
        LOG.info("images of %s: the reference CNN pads its layers, as below %s", size, needed)
    layers, last = keras.layers, "channels_last"  # whatever the user's keras.json says
    model = [
        keras.Input(input_shape),
        layers.Conv2D(32, 3, padding=padding, activation="relu", data_format=last),
        layers.MaxPooling2D(2, padding=padding, data_format=last),
        layers.Conv2D(64, 3, padding=padding, activation="relu", data_format=last),
        layers.MaxPooling2D(2, padding=padding, data_format=last),
        layers.Flatten(data_format=last),
        layers.Dense(64, activation="relu"),
        layers.Dense(classes, activation="softmax"),
    ]
    return keras.Sequential(model)


def compiled(entry: Entry, given: str | None, steps_per_execution: int) -> keras.Model:
    """Build or load the model to train on an entry, refuse it if it does not fit, and compile it.

    It is given as ``module:function``, or as the folder of a finished run; None: the reference CNN.
    """
    import keras

    shape, classes = entry.train.shape[1:], len(entry.class_names)
    if given and not is_reference(given):
        model = _trained(fs.expand_user(given), entry)
    else:
        build: ModelFunction = imported(given, "model") if given else reference_cnn
        if given and keras.config.image_data_format() != "channels_last":
            LOG.warning("Keras is set to channels_first; `%s` gets images (H, W, C)", given)
        model = build((shape[0], shape[1], shape[2]), classes)
    return compile_for(_checked(model, given or "the reference CNN", entry), steps_per_execution)


def compile_for(model: keras.Model, steps_per_execution: int) -> keras.Model:
    """Compile a model for labels that are numbers, and return it."""
    model.compile(
        optimizer="adam",
        # Categorical cross-entropy; "sparse" says that labels come as numbers, not as vectors.
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    return model


def behind_scaling(model: keras.Model, entry: Entry, steps_per_execution: int) -> keras.Model:
    """Return a compiled model that scales raw pixels for this one, whose weights it has."""
    import keras

    from pixelprep.numerics.layers import keras_layer

    images = entry.train
    raw = keras_layer.raw_input(entry.scaling, images.shape[1:])
    found = model(keras_layer.scaled(raw, entry.scaling, images.dtype))
    return compile_for(keras.Model(raw, found), steps_per_execution)


def _trained(folder: Path, entry: Entry) -> keras.Model:
    """Load the model of a finished run, once it is sure that it has seen pixels scaled so."""
    run = load_finished(folder)
    then, now = run.manifest, entry.manifest
    if not then.is_scaled_as(now):
        same = " of other data" if (then.mode, then.per) == (now.mode, now.per) else ""
        raise TrainError(
            f"{run.folder}: its model has seen pixels scaled by {then.mode} per {then.per}{same}"
            f" (entry {then.key}), those of {entry.path} are scaled otherwise",
            "train on that entry, or a new model on this one",
        )
    return run.model(MODEL)


def _checked(model: object, name: str, entry: Entry) -> keras.Model:
    """Return a model that takes an entry's images and finds probabilities; refuse any other."""
    import keras

    shape, classes = tuple(entry.train.shape[1:]), len(entry.class_names)
    if not isinstance(model, keras.Model):
        raise TrainError(f"{name}: expected a Keras model, got {type(model).__name__}")
    if not model.built:  # a Sequential without its Input, or a subclass
        with suppress(Exception):  # `_outputs` says what is wrong
            model(keras.Input(shape))
    given = shape
    if hasattr(model, "inputs"):  # a subclass tells nothing of them
        given, dtype = tuple(model.input_shape[1:]), str(model.inputs[0].dtype)
        if "float" not in dtype:
            message = f"{name}: its input is of {dtype}, which would cut the scaled pixels"
            raise TrainError(f"{message}: expected floats", "make its Input without a dtype")
    found = _outputs(model, name, entry) if given == shape else None
    output = tuple(model.output_shape[1:]) if found is None else found.shape[1:]
    if found is None or output != (classes,):
        expected = f"input {shape} and output {(classes,)}"
        raise TrainError(f"{name}: expected {expected}, got {given} and {output}")
    check_probabilities(found, name)
    return model


def _outputs(model: keras.Model, name: str, entry: Entry) -> NDArray[Any]:
    """Return what a model finds in an entry's first images."""
    try:
        return np.asarray(model(entry.train.read(0, min(LOOKED_AT, len(entry.train)))))
    except Exception as error:  # of a model of the user's, whatever
        shape = formatting.format_shape(entry.train.shape[1:])
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise TrainError(f"{name}: fails on images of {shape}: {reason}") from error


def check_trained(model: keras.Model, given: str | None, entry: Entry) -> None:
    """Refuse a model that finds no probabilities any more; those it began with may be chance."""
    name = given or "the reference CNN"
    check_probabilities(_outputs(model, name, entry), name)


def check_probabilities(found: NDArray[Any], name: str | Path) -> None:
    """Refuse outputs (N, classes) of a model that are no probabilities."""
    sums = found.sum(axis=1, dtype=np.float64)
    if not ((np.abs(sums - 1) < TOLERANCE).all() and (found >= 0).all()):
        got = f"{found.min():.4g} to {found.max():.4g}, which add up to {sums[0]:.4g}"
        message = f"{name}: its outputs are no probabilities: expected 0 to 1 with the sum 1"
        raise TrainError(f"{message}, got {got}", 'end the model with activation="softmax"')


def metric_values(model: keras.Model) -> list[NDArray[Any]]:
    """Copy what the metrics of a model have summed up."""
    return [variable.numpy().copy() for variable in model.metrics_variables]


def build_metrics(model: keras.Model, batch: Pair) -> None:
    """Make the variables of a compiled model's metrics, which Keras leaves to the first step."""
    images, labels = batch
    model.compute_metrics(images, labels, model(images, training=False))


def restore_metrics(model: keras.Model, saved: Variables) -> None:
    """Set the metrics of a model to these sums."""
    for variable, value in zip(model.metrics_variables, saved, strict=True):
        variable.assign(value)


def are_weights_finite(model: keras.Model) -> bool:
    """Return whether no weight of a model is nan or infinite."""
    return all(bool(np.isfinite(weight.numpy()).all()) for weight in model.weights)


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a model does on a split, as Keras evaluates it, and what it predicts."""

    loss: float
    accuracy: float
    evaluation: Evaluation
    probability: NDArray[np.float32]  # (N,), of the predicted classes, 0 to 1


def score(model: keras.Model, split: Split, batch_size: int) -> Scores:
    """Score a compiled model as ``model.evaluate`` does, to the last bit, and keep predictions."""
    import keras
    import tensorflow as tf

    loss_tracker = model.metrics[0]

    @tf.function(reduce_retracing=True, jit_compile=model.jit_compile)  # type: ignore[untyped-decorator] # TensorFlow is not typed
    def test_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        probabilities = model(images, training=False)
        loss = model.compute_loss(images, labels, probabilities, training=False)
        loss_tracker.update_state(loss, sample_weight=tf.shape(images)[0])
        model.compute_metrics(images, labels, probabilities)
        return probabilities

    model.reset_metrics()
    batches = []
    for images, labels in split.to_tf(batch_size):
        probabilities = test_step(images, labels).numpy()
        batches.append((labels.numpy(), probabilities.argmax(axis=1), probabilities.max(axis=1)))
    true, predicted, probability = map(np.concatenate, zip(*batches, strict=True))
    found = model.get_metrics_result()
    if type(model).test_step is not keras.Model.test_step:  # a model that is evaluated its own way
        found = model.evaluate(split.to_tf(batch_size), verbose=0, return_dict=True)
    evaluation = Evaluation(true, predicted, probabilities.shape[-1])
    return Scores(float(found["loss"]), float(found["accuracy"]), evaluation, probability)
