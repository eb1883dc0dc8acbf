#!/usr/bin/env bash
# Keras 3.15.1, TensorFlow 2.21.0: an exported model with RandomFlip flips images at random when it serves.
#
# Guess:     RandomFlip is documented to leave images alone at inference, and export() to write the model
#            for inference; so what is served is what predict() gives, as with Dropout.
# Behaviour: predict() changes no image. The exported signature "serve" flips about half of them, others at
#            each call. So does model(x), without training=True, though the documentation of the layer
#            has one pass that to flip. Dropout is off in all of them.
# Seen:      RandomFlip, images changed of 64: predict 0, model(x) 33, serve 38 and 37, others
#            Dropout, images changed of 64: predict 0, model(x) 0, serve 0 and 0, the same
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    keras==3.15.1 tensorflow-cpu==2.21.0 numpy==2.4.6
cat >export.py <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

images = np.arange(256, dtype=np.float32).reshape(64, 2, 2, 1)


def changed(result):
    return (np.asarray(result) != images).any((1, 2, 3))


def counts(name, layer):
    model = keras.Sequential([keras.Input((2, 2, 1)), layer])
    predicted, called = changed(model.predict(images, verbose=0)), changed(model(images))
    model.export("exported", verbose=False)
    served = tf.saved_model.load("exported")
    first, second = changed(served.serve(images)), changed(served.serve(images))
    print(
        f"{name}, images changed of {len(images)}: predict {predicted.sum()}, model(x) {called.sum()}, "
        f"serve {first.sum()} and {second.sum()}, {'the same' if (first == second).all() else 'others'}"
    )
    return [bool(one.any()) for one in (predicted, called, first, second, first != second)]


flip = counts("RandomFlip", keras.layers.RandomFlip("horizontal", seed=1))
dropout = counts("Dropout", keras.layers.Dropout(0.5, seed=1))
raise SystemExit((flip, dropout) != ([False] + [True] * 4, [False] * 5))
PYTHON
KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES=-1 TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python export.py
