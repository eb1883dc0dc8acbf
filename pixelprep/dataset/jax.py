"""Feed batches to JAX."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any  # JSON values

import jax
import numpy as np
from numpy.typing import DTypeLike

from pixelprep.dataset.batches import Batches, BatchIterator, Pair
from pixelprep.dataset.columns import Column
from pixelprep.dataset.feed_options import Form
from pixelprep.errors import UsageError, check_int
from pixelprep.numerics.permutation import MAX_SEED

AHEAD = 2  # batches that are on their way to the device before they are requested

Arrays = tuple[jax.Array, jax.Array]  # images and labels


class JaxFeed:
    """Batches of (images, labels: int32) on a device; each pass over it is the next epoch.

    Of a sharding over devices of several processes, a batch is all that they deliver together.
    """

    def __init__(
        self,
        first: Batches,
        form: Form,
        device: jax.Device | jax.sharding.Sharding | None = None,
        dtype: DTypeLike | None = None,  # of the images
    ) -> None:
        if device is not None and not isinstance(device, jax.Device | jax.sharding.Sharding):
            message = f"`device={device}`: expected a jax.Device or a sharding"
            raise UsageError(message, "of a mesh: jax.sharding.NamedSharding(mesh, spec)")
        self.first, self.form, self.device, self.dtype = first, form, device, dtype
        self.epoch = first.config.epoch

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> "JaxPass":
        epoch, self.epoch = self.epoch, self.epoch + 1
        return JaxPass(iter(self.first.with_epoch(epoch)), self._put)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be of this epoch."""
        self.epoch = check_int("epoch", epoch, 0, MAX_SEED)

    def resume(self, state: Mapping[str, Any]) -> "JaxPass":
        """Return the rest of a pass, once; later passes over the feed are the next epochs.

        It is found as by `Batches.resume`.
        """
        batches = self.first.at_epoch_of(state)
        rest = JaxPass(batches.resume(state), self._put)
        self.epoch = batches.config.epoch + 1
        return rest

    def _put(self, batch: Pair) -> Arrays:
        images, labels = self.form(*batch)
        images = images if self.dtype is None else images.astype(self.dtype)
        labels = labels.astype(np.int32) if labels.dtype.kind in "ui" else labels
        try:
            return self._on_devices(images, labels)
        except ValueError as error:
            reason = " ".join(str(error).split())[:200]
            message = f"a batch of {len(images)} images does not fit the sharding: {reason}"
            raise UsageError(message, "add `drop_last=True`, or change `batch_size`") from error

    def _on_devices(self, images: Column, labels: Column) -> Arrays:
        device = self.device
        if not isinstance(device, jax.sharding.Sharding) or device.is_fully_addressable:
            on_device: Arrays = jax.device_put((images, labels), device)
            return on_device
        x, y = (jax.make_array_from_process_local_data(device, part) for part in (images, labels))
        return x, y


class JaxPass(Iterator[Arrays]):
    """One pass; it can report its state."""

    def __init__(self, batches: BatchIterator, put: Callable[[Pair], Arrays]) -> None:
        self._batches, self._put, self._queue = batches, put, deque[Arrays]()

    def __len__(self) -> int:
        """Return how many batches are to come."""
        return len(self._batches) + len(self._queue)

    def __next__(self) -> Arrays:
        for batch in islice(self._batches, AHEAD + 1 - len(self._queue)):
            self._queue.append(self._put(batch))
        if not self._queue:
            raise StopIteration
        return self._queue.popleft()

    def state(self) -> dict[str, Any]:
        """Return what `JaxFeed.resume` needs to continue behind the batch that came last."""
        return {**self._batches.state(), "batch": self._batches.number - len(self._queue)}
