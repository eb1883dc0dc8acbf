#!/usr/bin/env bash
# Keras 3.15.1: predict rounds float64 inputs to float32; predict_on_batch and a call do not.
#
# Guess:     the three ways to ask a model give the same for the same array; a model whose input is
#            declared float64 is given float64.
# Behaviour: `predict` turns arrays of float64 into `floatx` before the model sees them, without a
#            warning. Small differences on a large offset, as in scientific images, are lost.
# Seen:      numpy: predict [0.0, 64.0], predict_on_batch [1.5, 40.0], call [1.5, 40.0]
#            jax: predict [0.0, 64.0], predict_on_batch [1.5, 40.0], call [1.5, 40.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >model.py <<'PYTHON'
import warnings

import keras
import numpy as np

warnings.simplefilter("error")
offset = 1e9
pixel = keras.Input((1,), dtype="float64")
minus = keras.layers.Lambda(lambda value: value - offset, output_shape=(1,), dtype="float64")
model = keras.Model(pixel, minus(pixel))
given = np.array([[offset + 1.5], [offset + 40]])
ways = {
    "predict": model.predict(given, verbose=0),
    "predict_on_batch": model.predict_on_batch(given),
    "call": model(given),
}
got = {way: np.asarray(values).ravel().tolist() for way, values in ways.items()}
print(f"{keras.backend.backend()}: {', '.join(f'{way} {values}' for way, values in got.items())}")
right = [1.5, 40.0]
raise SystemExit(list(got.values()) != [[0.0, 64.0], right, right])
PYTHON
KERAS_BACKEND=numpy venv/bin/python model.py
KERAS_BACKEND=jax JAX_PLATFORMS=cpu JAX_ENABLE_X64=1 venv/bin/python model.py
