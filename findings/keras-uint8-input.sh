#!/usr/bin/env bash
# Keras 3.15.1: floats that are given to a model with a uint8 input are cut, and wrap or clip.
#
# Guess:     predict refuses floats where the model declares uint8, or rounds and warns; at any rate
#            a model does the same on every backend.
# Behaviour: Fractions are cut off (pixels of 0 to 1 become 0 and 1), without a warning. What does not
#            fit wraps on the NumPy backend and clips on that of JAX.
# Seen:      numpy: [100.9, 0.999, 1000.0] -> [100, 0, 232]
#            jax: [100.9, 0.999, 1000.0] -> [100, 0, 255]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >model.py <<'PYTHON'
import sys
import warnings

import keras
import numpy as np

warnings.simplefilter("error")
pixel = keras.Input((1,), dtype="uint8")
model = keras.Model(pixel, keras.ops.cast(pixel, "float32"))
given = [100.9, 0.999, 1000.0]
got = model.predict(np.array(given, "float32")[:, None], verbose=0).ravel().astype(int).tolist()
print(f"{keras.backend.backend()}: {given} -> {got}")
sys.exit(str(got) != sys.argv[1])
PYTHON
KERAS_BACKEND=numpy venv/bin/python model.py "[100, 0, 232]"
KERAS_BACKEND=jax JAX_PLATFORMS=cpu venv/bin/python model.py "[100, 0, 255]"
