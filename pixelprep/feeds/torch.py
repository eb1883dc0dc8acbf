"""A feed for PyTorch."""

from collections.abc import Iterator

import torch
from torch.utils.data import IterableDataset, get_worker_info

from pixelprep.batches import Batches

MOST_WORKERS = 1024


class Feed(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):  # type: ignore[misc] # untyped
    """Whole batches of (images, labels); each pass over it is the next epoch.

    For ``DataLoader(feed, batch_size=None, num_workers=…)``: the workers share an epoch's rows
    among them, so every row comes exactly once; each worker's last batch may be short.
    """

    def __init__(self, first: Batches) -> None:
        self.first = first
        # A worker process begins with a copy of this object at every epoch. What it counts must
        # outlive it: one number a worker, in memory that all processes share.
        self.passes = torch.zeros(MOST_WORKERS, dtype=torch.int64).share_memory_()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        epoch = self.first.plan.epoch + int(self.passes[worker])
        self.passes[worker] += 1
        index, count = self.first.plan.shard
        mine = self.first.at(epoch, shard=(index * workers + worker, count * workers))
        for images, labels in mine:
            yield torch.from_numpy(images), torch.from_numpy(labels)
