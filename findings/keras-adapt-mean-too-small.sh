#!/usr/bin/env bash
# Keras 3.15.1: Normalization.adapt finds a mean that is a third too small.
#
# Guess:     adapt on 50,000 float32 images of 32×32×3 finds the mean of each channel to some digits.
# Behaviour: Every channel's sum is added up in float32, pixel by pixel. From 2^32 on a pixel of up to
#            255 no longer changes it: the mean is never more than 2^32 / 51,200,000 = 83.886. There
#            is no warning.
# Seen:      adapt: [83.886, 83.886, 83.886], in float64: [127.483, 127.513, 127.479]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import keras
import numpy as np

images = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), np.uint8)
images = images.astype("float32")
layer = keras.layers.Normalization(axis=-1)
layer.adapt(images)
found = np.ravel(layer.mean).astype(float)
true = images.mean(axis=(0, 1, 2), dtype="float64")
print(f"adapt: {found.round(3).tolist()}, in float64: {true.round(3).tolist()}")
raise SystemExit(not (found < 0.7 * true).all())
PYTHON
