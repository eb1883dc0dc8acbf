"""Feed batches to JAX."""

import itertools
from collections import deque
from collections.abc import Iterator

import jax
import numpy as np

from pixelprep.dataset.batches import Batches


class JaxFeed:
    """Batches of (images, labels: int32) on a device; each pass over it is the next epoch."""

    def __init__(
        self, first: Batches, device: jax.Device | jax.sharding.Sharding | None = None
    ) -> None:
        self.first, self.device = first, device
        self.epochs = itertools.count(first.config.epoch)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[jax.Array, jax.Array]]:
        queue: deque[tuple[jax.Array, jax.Array]] = deque()
        for images, labels in self.first.with_epoch(next(self.epochs)):
            queue.append(jax.device_put((images, labels.astype(np.int32)), self.device))
            if len(queue) > 2:  # on their way to the device before they are requested
                yield queue.popleft()
        yield from queue
