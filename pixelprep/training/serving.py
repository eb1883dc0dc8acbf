"""Build the model for production: it takes raw pixels, so that nobody can scale them wrongly.

The scaling is made of Keras's own operations in front of the trained model, so that the file is
read by plain Keras in its safe mode. It takes RGB, whatever the order of the stored channels. It is
the stored value's formula in float64, rounded once
(data/FORMAT.md, section 3). JAX computes in float32 unless ``JAX_ENABLE_X64`` is set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from numpy.typing import DTypeLike

from pixelprep.numerics.scaling import Scaling

if TYPE_CHECKING:
    import keras


def serving_model(
    trained: keras.Model,
    scaling: Scaling,
    image_shape: Sequence[int],
    dtype: DTypeLike,
    class_names: Sequence[str],
    precision: str = "float64",
) -> keras.Model:
    """Build a model that scales raw pixels (N, H, W, C) for the trained one, sharing its weights.

    Images have this shape (H, W, C), and the entry's stored ones `dtype`, float32 or float16. With
    float32 as its `precision` it has no float64, which not every runtime has, and is nearly equal.

    The name of the output is a JSON list of the class names: `json.loads(model.output_names[0])`.
    """
    import keras
    from keras import ops

    from pixelprep.numerics.layers import keras_layer

    raw = keras_layer.raw_input(scaling, tuple(image_shape), precision)
    # Else RandomFlip and its like change images where the model is called, or exported by Keras.
    found = trained(keras_layer.scaled(raw, scaling, dtype, precision), training=False)
    named = ops.cast(found, found.dtype)  # of a plain operation any name will do but a slash's
    names = json.dumps(list(class_names), ensure_ascii=False).replace("/", "\\u002f")
    keras.Model(raw, named).operations[-1].name = names
    return keras.Model(raw, named, name="serving")
