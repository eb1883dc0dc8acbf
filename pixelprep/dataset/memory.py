"""Use the memory of large batches again once nobody holds them.

Pages that come fresh from the system are cleared first, which takes as long as filling them.
"""

import math
import weakref
from typing import Any  # Any: arrays of every type

import numpy as np
from numpy.typing import NDArray

LARGE_BYTES = 1 << 20  # below this, memory comes from what the process has already
ALIGNMENT = 64  # bytes, at which TensorFlow and JAX take an array without a copy


class Recycler:
    """Arrays whose memory is used again for the next one once they and all views are gone."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array that is not initialized, and writable."""
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE_BYTES:
            return np.empty(shape, dtype)
        memory = self._free.pop() if self._free else np.empty(0, np.uint8)
        if len(memory) < size + ALIGNMENT:
            memory = np.empty(size + ALIGNMENT, np.uint8)
        # An array over a buffer, not a view of an array: views of it hold it, not what it is over.
        owner = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        start = -owner.ctypes.data % ALIGNMENT
        return owner[start : start + size].view(dtype).reshape(shape)
