"""Feed batches to PyTorch."""

import os
import shutil
import tempfile
import uuid
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from multiprocessing import current_process
from pathlib import Path
from typing import Any, SupportsIndex  # PyTorch does not export the type of its worker info

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from pixelprep.dataset.batches import Batches
from pixelprep.dataset.columns import Column
from pixelprep.dataset.feed_options import Form
from pixelprep.dataset.rows import Rows
from pixelprep.errors import UsageError

Tensors = tuple[torch.Tensor, torch.Tensor]  # images and labels; or an image and its label


@dataclass(frozen=True, slots=True)
class Tensorizer:
    """Makes tensors of arrays: over the same memory, unless type or device are others."""

    form: Form
    dtype: torch.dtype | None = None  # of the images
    device: torch.device | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and not isinstance(self.dtype, torch.dtype):
            raise UsageError(
                f"`dtype={self.dtype!r}`: expected a torch.dtype, as torch.bfloat16 is"
            )

    def __call__(self, images: Column, labels: Column) -> Tensors:
        x, y = map(torch.from_numpy, self.form(images, labels))
        if self.device:
            x, y = self._moved(x), self._moved(y)
        return (x.to(self.dtype), y) if self.dtype else (x, y)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """Move it; to a GPU from pinned memory, so that the program need not wait."""
        pinned = self.device is not None and self.device.type == "cuda"
        tensor = tensor.pin_memory() if pinned else tensor
        return tensor.to(self.device, non_blocking=pinned)


class TorchRows(Dataset[Tensors]):  # type: ignore[misc] # untyped
    """The rows of a split by number, (image, label), as tensors; a loader reads a batch at once."""

    def __init__(self, rows: Rows, tensors: Tensorizer) -> None:
        self.rows, self.tensors = rows, tensors

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: SupportsIndex) -> Tensors:
        images, labels = self.tensors(*self.rows.at(index))
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensors]:
        images, labels = self.tensors(*self.rows[list(indices)])
        return list(zip(images.unbind(), labels.unbind(), strict=True))


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


class TorchFeed(IterableDataset[Tensors]):  # type: ignore[misc] # untyped
    """Whole batches of (images, labels); each pass over it is the next epoch.

    A loader's workers share an epoch's rows; each worker's last batch may be short. None is needed:
    two delivered 0.05 of the images a second that none did (MNIST, two cores), as each batch goes
    from process to process.
    """

    def __init__(self, first: Batches, tensors: Tensorizer) -> None:
        self.first, self.tensors, self.passes = first, tensors, PassNumbers()

    def __iter__(self) -> Iterator[Tensors]:
        info = get_worker_info()
        if info and self.tensors.device:
            message = f"`device={self.tensors.device}`: expected no DataLoader workers"
            raise UsageError(
                message, "move batches in the loop, from `DataLoader(pin_memory=True)`"
            )
        # Counted now, not at the first batch: a pass may be broken off before that.
        epoch = self.first.config.epoch + self.passes.begin(_workers(info))
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        index, shards = self.first.config.shard
        mine = self.first.with_epoch(epoch, shard=(index * workers + worker, shards * workers))
        return (self.tensors(*batch) for batch in mine)
