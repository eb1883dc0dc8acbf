#!/usr/bin/env bash
# Keras 3.15.1: RandomFlip with "horizontal_and_vertical", its default, only turns images upside down.
#
# Guess:     each image is flipped left to right or not, and top to bottom or not: four outcomes, each a
#            quarter of the images.
# Behaviour: One draw an image decides both flips. An image stays as it is or is flipped both ways, which
#            is a turn by 180 degrees; none is flipped one way only. Two layers, "horizontal" and
#            "vertical", give all four.
# Seen:      one layer: as is 211, left to right 0, top to bottom 0, both 189
#            two layers: as is 100, left to right 83, top to bottom 111, both 106
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat >flip.py <<'PYTHON'
import keras
import numpy as np

image = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
images = np.stack([image] * 400)
outcomes = {
    "as is": image,
    "left to right": image[:, ::-1],
    "top to bottom": image[::-1],
    "both": image[::-1, ::-1],
}


def flipped(name, *modes):
    result = images
    for seed, mode in enumerate(modes):
        result = keras.layers.RandomFlip(mode, seed=seed)(result, training=True)
    result = np.asarray(result)
    counts = {way: int((result == one).all((1, 2, 3)).sum()) for way, one in outcomes.items()}
    assert sum(counts.values()) == len(images)
    print(f"{name}: {', '.join(f'{way} {count}' for way, count in counts.items())}")
    return [count > 0 for count in counts.values()]


one = flipped("one layer", "horizontal_and_vertical")
two = flipped("two layers", "horizontal", "vertical")
raise SystemExit((one, two) != ([True, False, False, True], [True] * 4))
PYTHON
KERAS_BACKEND=jax JAX_PLATFORMS=cpu venv/bin/python flip.py
