"""Feed batches to PyTorch."""

import os
import shutil
import tempfile
import uuid
import weakref
from collections import Counter
from collections.abc import Iterator
from itertools import count
from multiprocessing import current_process
from pathlib import Path
from typing import Any  # PyTorch does not export the type of its worker info

import torch
from torch.utils.data import IterableDataset, get_worker_info

from pixelprep.dataset.batches import Batches


class PassNumbers:
    """Numbers of passes, on which all processes that work at one pass agree.

    They are links in a folder: whoever comes first makes the next one, at once and whole, and what
    it leads to is the name of the pass. So no worker's timing matters.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pixelprep-"))
        self.next, self.begun = 0, Counter[str]()  # as far as this process knows
        if folder is None:  # a copy in another process does not remove it
            weakref.finalize(self, _remove, self.folder, os.getpid())

    def __reduce__(self) -> tuple[type["PassNumbers"], tuple[Path]]:
        return PassNumbers, (self.folder,)

    def begin(self, workers: str) -> int:
        """Return the number of the next pass of these workers, 0 for the first of all."""
        name = f"{workers}-{self.begun[workers]}"
        self.begun[workers] += 1
        self.folder.mkdir(exist_ok=True)  # temporary files may be swept
        for number in count(self.next):
            link = self.folder / str(number)
            try:
                link.symlink_to(name)
            except FileExistsError:
                if os.fspath(link.readlink()) != name:
                    continue
            self.next = number + 1
            return number
        raise AssertionError


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def _workers(info: Any) -> str:
    """Return a name that the workers of one loader's iterator share with nobody else.

    Not their seed, which `torch.manual_seed` sets back: the pipe that takes their batches.
    """
    if info is None:  # the process itself, without workers
        return uuid.uuid4().hex
    queues = [a for a in getattr(current_process(), "_args", ()) if hasattr(a, "_reader")]
    if not queues:  # a PyTorch that passes them in another way
        return f"seed-{info.seed - info.id}"
    pipe = os.fstat(queues[-1]._reader.fileno())  # the last is the one for batches
    return f"pipe-{pipe.st_dev}-{pipe.st_ino}"


class TorchFeed(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):  # type: ignore[misc] # untyped
    """Whole batches of (images, labels); each pass over it is the next epoch.

    A loader's workers share an epoch's rows; each worker's last batch may be short. None is needed:
    two delivered 0.05 of the images a second that none did (MNIST, two cores), as each batch goes
    from process to process.
    """

    def __init__(self, first: Batches) -> None:
        self.first, self.passes = first, PassNumbers()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        info = get_worker_info()
        # Counted now, not at the first batch: a pass may be broken off before that.
        epoch = self.first.config.epoch + self.passes.begin(_workers(info))
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        index, shards = self.first.config.shard
        mine = self.first.with_epoch(epoch, shard=(index * workers + worker, shards * workers))
        return ((torch.from_numpy(images), torch.from_numpy(labels)) for images, labels in mine)
