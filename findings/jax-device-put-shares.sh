#!/usr/bin/env bash
# jax 0.10.2 on a CPU: whether jax.device_put copies depends on where the array happens to begin.
#
# Guess:     device_put returns a copy, as its documentation says, at least with may_alias=False: what
#            is written to the NumPy array afterwards does not reach the JAX array.
# Behaviour: An array that begins at a multiple of 64 bytes is shared, whatever may_alias says; any
#            other is copied. A buffer that is filled again changes earlier batches, or not, by the
#            luck of its address. jax.numpy.array always copies.
# Seen:      64-byte boundary: 2.0, off by 16 bytes: 1.0, off by 32: 1.0, may_alias=False: 2.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax
import numpy as np

memory = np.zeros(1024, np.uint8)
boundary = -memory.ctypes.data % 64


def first_after_refill(offset, **options):
    batch = memory[boundary + offset :][:400].view(np.float32)
    batch[:] = 1
    moved = jax.device_put(batch, **options).block_until_ready()
    batch[:] = 2  # the next batch
    return float(moved[0])


seen = [first_after_refill(offset) for offset in (0, 16, 32)]
seen.append(first_after_refill(0, may_alias=False))
names = ("64-byte boundary", "off by 16 bytes", "off by 32", "may_alias=False")
print(", ".join(f"{name}: {value}" for name, value in zip(names, seen)))
raise SystemExit(seen != [2.0, 1.0, 1.0, 2.0])
PYTHON
