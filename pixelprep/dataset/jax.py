"""Feed batches to JAX."""

import itertools
from collections import deque
from collections.abc import Iterator

import jax
import numpy as np
from numpy.typing import DTypeLike

from pixelprep.dataset.batches import Batches
from pixelprep.dataset.feed_options import Form


class JaxFeed:
    """Batches of (images, labels: int32) on a device; each pass over it is the next epoch."""

    def __init__(
        self,
        first: Batches,
        form: Form,
        device: jax.Device | jax.sharding.Sharding | None = None,
        dtype: DTypeLike | None = None,  # of the images
    ) -> None:
        self.first, self.form, self.device, self.dtype = first, form, device, dtype
        self.epochs = itertools.count(first.config.epoch)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[jax.Array, jax.Array]]:
        queue: deque[tuple[jax.Array, jax.Array]] = deque()
        for batch in self.first.with_epoch(next(self.epochs)):
            images, labels = self.form(*batch)
            images = images if self.dtype is None else images.astype(self.dtype)
            labels = labels.astype(np.int32) if labels.dtype.kind in "ui" else labels
            queue.append(jax.device_put((images, labels), self.device))
            if len(queue) > 2:  # on their way to the device before they are requested
                yield queue.popleft()
        yield from queue
