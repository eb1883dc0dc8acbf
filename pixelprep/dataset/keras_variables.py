"""Take the variables of a Keras model out, and put them back, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: variables of whichever type; Keras is not typed

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import TrainError

if TYPE_CHECKING:
    import keras


def _variables(model: keras.Model) -> list[Any]:
    """Return all that decides how training goes on, in an order that building again repeats.

    Keras's own files of weights leave out where random numbers are, as those of dropout.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def values(model: keras.Model) -> list[NDArray[Any]]:
    """Copy the values of a compiled model's variables."""
    from keras import ops

    return [np.array(ops.convert_to_numpy(variable)) for variable in _variables(model)]


def restore(model: keras.Model, saved: Sequence[NDArray[Any]], path: Path) -> None:
    """Set a model's variables to the values saved in this file, if they are of such a one."""
    variables, fresh = _variables(model), values(model)
    if [(v.shape, v.itemsize) for v in fresh] != [(v.shape, v.itemsize) for v in saved]:
        message = f"{path}: its variables are not those of the model that is built now"
        raise TrainError(message, "give the model the layers that it had")
    for variable, now, then in zip(variables, fresh, saved, strict=True):
        variable.assign(then.view(now.dtype))  # NumPy's files forget the name of bfloat16
