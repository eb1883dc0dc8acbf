#!/usr/bin/env bash
# Keras 3.15.1: a NumPy number in front of a symbolic tensor raises; behind it, it works.
#
# Guess:     as with arrays of NumPy, and as with Python's numbers, 1 - x and x * -1 + 1 mean the same
#            for a symbolic x, whichever stands first.
# Behaviour: NumPy's number takes the operation for itself and asks the placeholder for an array, which
#            raises a ValueError. Where the number has to be NumPy's, the tensor has to stand first.
# Seen:      python first: 0.75, numpy behind: 0.75, numpy first: ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >model.py <<'PYTHON'
import keras
import numpy as np

x = keras.Input((1,), dtype="float64")
given = np.array([[0.25]])


def value(make):
    try:
        return float(np.asarray(keras.Model(x, make())(given))[0, 0])
    except ValueError as error:
        return type(error).__name__


got = {
    "python first": value(lambda: 1.0 - x),
    "numpy behind": value(lambda: x * np.float64(-1) + np.float64(1)),
    "numpy first": value(lambda: np.float64(1) - x),
}
print(", ".join(f"{way}: {found}" for way, found in got.items()))
raise SystemExit(list(got.values()) != [0.75, 0.75, "ValueError"])
PYTHON
KERAS_BACKEND=jax JAX_PLATFORMS=cpu JAX_ENABLE_X64=1 venv/bin/python model.py
