#!/usr/bin/env bash
# kerchunk 0.2.10 leaves out HDF5 datasets that have checksums, unless they are small.
#
# Guess:     references to an HDF5 file cover all its datasets, or making them fails; a Fletcher-32
#            checksum, four bytes behind each chunk, can be stepped over.
# Behaviour: A dataset with fletcher32=True is missing from the references, and only a warning says
#            so; a small one (below 500 bytes) is there, its values copied into the references.
# Seen:      ['plain', 'small']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    kerchunk==0.2.10 h5py==3.14.0 zarr==3.1.6 numcodecs==0.16.6 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import h5py
import numpy as np
from kerchunk.hdf import SingleHdf5ToZarr

with h5py.File("images.h5", "w") as file:
    images = np.zeros((60, 28, 28), np.uint8)
    file.create_dataset("plain", data=images, chunks=(30, 28, 28))
    file.create_dataset("checked", data=images, chunks=(30, 28, 28), fletcher32=True)
    file.create_dataset("small", data=images[:1, :4], chunks=(1, 4, 28), fletcher32=True)
references = SingleHdf5ToZarr("images.h5").translate()["refs"]
found = sorted({name.split("/")[0] for name in references if "/" in name})
print(found)
raise SystemExit(found != ["plain", "small"])
PYTHON
