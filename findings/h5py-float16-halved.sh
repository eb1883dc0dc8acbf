#!/usr/bin/env bash
# h5py 3.14.0 (HDF5 1.14.6) stores half of a float32 value in a float16 dataset.
#
# Guess:     HDF5 rounds float32 to float16 as NumPy does: 0.99999 is stored as 1.0.
# Behaviour: Once a value in the same write became a float16 subnormal (below 6.1e-05), a later value
#            whose rounding carries into the next power of two keeps its old exponent: 0.5 is stored.
#            Reading a float32 dataset into float16 does the same. Converting by NumPy first helps.
# Seen:      alone: [1.0]; after 3e-05: [3e-05, 0.5]; by NumPy: [3e-05, 1.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check h5py==3.14.0 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import h5py
import numpy as np


def stored(*values):
    with h5py.File("halves.h5", "w") as file:
        half = file.create_dataset("half", len(values), "float16")
        half[:] = np.array(values, "float32")
        return half[:].astype(float).round(7).tolist()


alone, after = stored(0.99999), stored(3e-5, 0.99999)
numpy = np.array([3e-5, 0.99999], "float32").astype("float16").astype(float).round(7).tolist()
print(f"alone: {alone}; after 3e-05: {after}; by NumPy: {numpy}")
raise SystemExit((alone[0], after[1], numpy[1]) != (1.0, 0.5, 1.0))
PYTHON
