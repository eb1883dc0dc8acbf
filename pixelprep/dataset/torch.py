"""Feed batches to PyTorch."""

from collections.abc import Iterator
from typing import Any  # PyTorch does not export the type of its worker info

import torch
from torch.utils.data import IterableDataset, get_worker_info

from pixelprep.dataset.batches import Batches


class TorchFeed(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):  # type: ignore[misc] # untyped
    """Whole batches of (images, labels); each pass over it is the next epoch.

    A loader's workers share an epoch's rows; each worker's last batch may be short.
    """

    def __init__(self, first: Batches) -> None:
        self.first = first
        # A worker process starts with a copy of this object in every epoch, so its counter must
        # outlive it: one number a worker, in memory that all processes share.
        self.passes = torch.zeros(1024, dtype=torch.int64).share_memory_()

    def _passed(self, info: Any) -> int:
        """Count the passes that began before this one; the workers of one pass agree on it.

        What they share is their loader's seed. Each stores it with its count, in one number so
        that both are read at once: token·2³² + passes begun.
        """
        stored = self.passes.clone()
        begun = stored & 0xFFFFFFFF
        if info is None:  # the process itself, without workers
            self.passes[-1] = begun.max() + 1
            return int(begun.max())
        token = 1 + (info.seed - info.id) % (1 << 31)
        if stored[info.id] >> 32 == token:  # a worker that stays from pass to pass
            number = int(begun[info.id])
        else:
            others = begun[stored >> 32 == token]  # of this pass, already at work
            number = int(others.min()) - 1 if len(others) else int(begun.max())
        self.passes[info.id] = (token << 32) | (number + 1)
        return number

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        epoch = self.first.config.epoch + self._passed(info)
        index, count = self.first.config.shard
        mine = self.first.with_epoch(epoch, shard=(index * workers + worker, count * workers))
        for images, labels in mine:
            yield torch.from_numpy(images), torch.from_numpy(labels)
