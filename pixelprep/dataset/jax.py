"""A feed for JAX."""

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from pixelprep.dataset.batches import Batches

AHEAD = 2  # batches that are on their way to the device before they are asked for


class JaxFeed:
    """Batches of (images, labels) on a device; each pass over it is the next epoch.

    Labels are int32: JAX has no int64 unless it is told to.
    """

    def __init__(self, first: Batches, device: Any = None) -> None:
        self.first, self.device = first, device
        self.epochs = itertools.count(first.plan.epoch)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[jax.Array, jax.Array]]:
        coming: deque[tuple[jax.Array, jax.Array]] = deque()
        for images, labels in self.first.at(next(self.epochs)):
            coming.append(jax.device_put((images, labels.astype(np.int32)), self.device))
            if len(coming) > AHEAD:
                yield coming.popleft()
        yield from coming
