"""Models: the reference CNN, the user's own or a run's; checked, compiled, and their variables."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pixelprep.dataset.entry import Entry
from pixelprep.errors import TrainError, UsageError
from pixelprep.format.manifest import Manifest
from pixelprep.system import formatting
from pixelprep.training.run_folder import MODEL, load_finished

if TYPE_CHECKING:
    import keras


SMALLEST = 10  # pixels of height and width that the reference CNN's layers need


def check_named(given: str) -> None:
    """Refuse what can neither be ``module:function`` nor a run's folder.

    Raises
    ------
    UsageError
        When it is so.
    """
    if not (_is_function(given) or Path(given).is_dir()):
        raise UsageError(f"`model={given}`: expected module:function, or a run's folder")


def _is_function(model: str) -> bool:
    return bool(re.fullmatch(r"[\w.]+:\w+", model))


def reference_cnn(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The CNN that the scalings are compared on.

    Parameters
    ----------
    input_shape : tuple of int
        (H, W, C), H and W at least 10.
    classes : int
        Of the softmax at the end.
    """
    import keras

    if min(input_shape[:2]) < SMALLEST:
        raise TrainError(
            f"the reference CNN needs images of {SMALLEST}×{SMALLEST} or more,"
            f" got {formatting.format_shape(input_shape[:2])}",
            "give a model of your own with `model=module:function`",
        )
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def compiled(entry: Entry, given: str | None, steps_per_execution: int) -> keras.Model:
    """The model that is to be trained on an entry.

    Parameters
    ----------
    entry : Entry
        Whose images and classes it must fit.
    given : str, optional
        ``module:function``, or the folder of a finished run; default: the reference CNN.
    steps_per_execution : int
        Batches that TensorFlow runs before it returns to Python.

    Raises
    ------
    TrainError
        When there is no such model, or it does not fit.
    """
    shape, classes = entry.train.shape[1:], len(entry.class_names)
    if given and not _is_function(given):
        model = _trained(Path(given), entry)
    else:
        build = _imported(given) if given else reference_cnn
        model = build((shape[0], shape[1], shape[2]), classes)
    _check(model, given or "the reference CNN", shape, classes)
    model.compile(
        optimizer="adam",
        # Categorical cross-entropy; "sparse" says that labels come as numbers, not as vectors.
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    return model


def _trained(folder: Path, entry: Entry) -> keras.Model:
    """The model of a finished run, once it is sure that it has seen pixels scaled like these."""
    run = load_finished(folder)
    then, now = (_scaling_of(manifest) for manifest in (run.manifest, entry.manifest))
    if then != now:
        which = f"{then['mode']} per {then['per']}"
        same = " of other data" if which == f"{now['mode']} per {now['per']}" else ""
        raise TrainError(
            f"{run.folder}: its model has seen pixels scaled by {which}{same}"
            f" (entry {run.manifest['key']}), those of {entry.path} are scaled otherwise",
            "train on that entry, or a new model on this one",
        )
    return run.model(MODEL)


def _scaling_of(manifest: Manifest) -> dict[str, Any]:
    """All that decides how pixels were scaled, but for rounding."""
    return {name: manifest[name] for name in ("mode", "per", "scaling")}


def _imported(reference: str) -> Callable[[tuple[int, int, int], int], Any]:
    """The function that ``module:function`` names, importable from the current folder too."""
    module, _, function = reference.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - compared with strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - likewise
    try:
        found = importlib.import_module(module)
    except Exception as error:  # of a module of the user's, whatever
        reason = str(error) or type(error).__name__
        raise TrainError(
            f"`model={reference}`: {reason}", _import_hint(module, function, error)
        ) from error
    if not hasattr(found, function):
        near = difflib.get_close_matches(function, vars(found), n=1)
        hint = f"did you mean {module}:{near[0]}?" if near else None
        raise TrainError(f"`model={reference}`: module {module} has no {function}", hint)
    build: Callable[..., Any] = getattr(found, function)
    return build


def _import_hint(module: str, function: str, error: Exception) -> str | None:
    """What to do about a module that cannot be imported, where it is not its own mistake."""
    outermost = module.split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or error.name not in (module, outermost):
        return None
    if module.endswith(".py"):
        return f"did you mean {module.removesuffix('.py')}:{function}?"
    return "the module must be importable from the current folder"


def _check(model: Any, name: str, shape: tuple[int, ...], classes: int) -> None:
    import keras

    if not isinstance(model, keras.Model):
        raise TrainError(f"{name}: expected a Keras model, got {type(model).__name__}")
    if not model.built:  # a Sequential without its Input
        model.build((None, *shape))
    got = (tuple(model.input_shape[1:]), tuple(model.output_shape[1:]))
    if got != (tuple(shape), (classes,)):
        raise TrainError(
            f"{name}: expected input {tuple(shape)} and output {(classes,)},"
            f" got {got[0]} and {got[1]}"
        )


def _variables(model: keras.Model) -> list[Any]:
    """Everything that decides how training goes on, in an order that building again repeats.

    Weights, moving statistics, seed generators, and the optimizer's; Keras resets metrics at
    every epoch. Plain variables, unlike Keras's own files, need no layer that can be saved.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def values(model: keras.Model) -> list[NDArray[Any]]:
    """Copies of its variables' values, which further training leaves as they are."""
    return [variable.numpy().copy() for variable in _variables(model)]


def restore(model: keras.Model, saved: Sequence[NDArray[Any]], checkpoint: Path) -> None:
    """Give a model the values of its variables that were kept in this checkpoint.

    Raises
    ------
    TrainError
        When they are not those of such a model.
    """
    variables = _variables(model)
    fresh = [variable.numpy() for variable in variables]
    if [(v.shape, v.itemsize) for v in fresh] != [(v.shape, v.itemsize) for v in saved]:
        raise TrainError(
            f"{checkpoint}: its variables are not those of the model that is built now",
            "give the model the layers that it had",
        )
    for variable, now, then in zip(variables, fresh, saved, strict=True):
        variable.assign(then.view(now.dtype))  # NumPy's files forget the name of bfloat16
