#!/usr/bin/env bash
# Keras 3.15.1, JAX 0.10.2: a PyDataset with two workers gives batches twice in an epoch, and others never.
#
# Guess:     with shuffle=False each epoch is every batch once, in order: the documentation of PyDataset
#            promises that each sample is trained on once an epoch.
# Behaviour: Before the first epoch fit() takes one batch to build the model, even one that is built. What
#            the workers have read by then comes first in the epoch, without the batch that was taken; behind
#            it the order starts anew, until the number of batches is reached. What an epoch leaves comes
#            first in the next. There is no warning. With one worker the order is right, and with two workers
#            on TensorFlow 2.21.0 too.
# Seen:      1 worker, epoch 1: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18
#            1 worker, epoch 2: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18
#            2 workers, epoch 1: 1 2 3 4 5 6 7 8 9 10 11 0 1 2 3 4 5 6 7
#            2 workers, epoch 2: 8 9 10 11 12 13 14 15 16 17 18 0 1 2 3 4 5 6 7
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >train.py <<'PYTHON'
import keras
import numpy as np

count = 19


class Numbers(keras.utils.PyDataset):
    def __len__(self):
        return count

    def __getitem__(self, index):
        return np.full((1, 1), index, np.float32), np.zeros((1, 1), np.float32)


class Model(keras.Sequential):
    def train_step(self, state, data):
        steps.append(int(data[0][0, 0]))
        return super().train_step(state, data)


right = {}
for workers, name in ((1, "1 worker"), (2, "2 workers")):
    steps = []
    model = Model([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(Numbers(workers=workers), shuffle=False, epochs=2, verbose=0)
    epochs = steps[:count], steps[count:]
    for number, epoch in enumerate(epochs, 1):
        print(f"{name}, epoch {number}: {' '.join(map(str, epoch))}")
    right[workers] = [sorted(epoch) == list(range(count)) for epoch in epochs]
raise SystemExit(not all(right[1]) or right[2][0])
PYTHON
KERAS_BACKEND=jax JAX_PLATFORMS=cpu venv/bin/python train.py
