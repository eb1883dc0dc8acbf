"""Feed batches to PyTorch."""

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import current_process
from typing import Any  # PyTorch does not export the type of its worker info

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from pixelprep.dataset.batches import Batches
from pixelprep.dataset.columns import Column
from pixelprep.dataset.feed_options import Form
from pixelprep.dataset.passes import PassLog, State
from pixelprep.dataset.rows import Rows
from pixelprep.errors import UsageError, check_int
from pixelprep.numerics.permutation import MAX_SEED

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
    """The rows of a split by number, (image, label), as tensors; a loader reads a batch at once.

    A slice or a list gives images and labels of these rows.
    """

    def __init__(self, rows: Rows, tensors: Tensorizer) -> None:
        self.rows, self.tensors = rows, tensors

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Tensors:
        if getattr(index, "ndim", 0) or not hasattr(index, "__index__"):
            return self.tensors(*self.rows[index])
        images, labels = self.tensors(*self.rows.at(index))
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensors]:
        images, labels = self.tensors(*self.rows[list(indices)])
        return list(zip(images.unbind(), labels.unbind(), strict=True))


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

    Worker w of a loader's W delivers the batches w, w + W, …: as the loader takes them in turn,
    they are the same, in the same order, with any number of workers. None is needed: two delivered
    0.05 of the images a second that none did (MNIST, two cores), as each batch goes from process to
    process. `state_dict` and `load_state_dict` are what torchdata's `StatefulDataLoader` calls.
    """

    def __init__(self, first: Batches, tensors: Tensorizer) -> None:
        self.first, self.tensors, self.passes = first, tensors, PassLog(first.config.epoch)
        self._state: State | None = None  # from which a worker goes on, that it alone has
        self._latest: State | None = None

    def __len__(self) -> int:
        return len(self.first)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be of this epoch, in workers that are kept, too."""
        self.passes.go_on(check_int("epoch", epoch, 0, MAX_SEED))

    def state_dict(self) -> State:
        """Return where the latest pass in this process stands, as JSON values."""
        if self._latest is None and not self.passes.is_empty():
            message = "workers know where their passes stand, not the process that has them"
            raise UsageError(message, "use torchdata's StatefulDataLoader, or `num_workers=0`")
        return dict(self._latest or self.first.state(0))

    def load_state_dict(self, state: State) -> None:
        """Let the next pass go on from this state; those after it are of the next epochs."""
        batches = self.first.at_epoch_of(state)
        if "worker" in state:
            self._state = state
        else:
            batches.resume(state)  # or refuse it here
            self.passes.go_on(batches.config.epoch, state)

    def __iter__(self) -> "TorchPass":
        info = get_worker_info()
        if info and self.tensors.device:
            message = f"`device={self.tensors.device}`: expected no DataLoader workers"
            raise UsageError(
                message, "move batches in the loop, from `DataLoader(pin_memory=True)`"
            )
        lane = (info.id, info.num_workers) if info else (0, 1)
        own, self._state = self._state, None
        # Counted now, not at the first batch: a pass may be broken off before that.
        epoch, state = self.passes.begin(_workers(info), own["epoch"] if own else None)
        state = own or state or self.first.with_epoch(epoch).state(0)
        passing = TorchPass(self.first, self.tensors, state, lane)
        self._latest = passing.state
        return passing


class TorchPass(Iterator[Tensors]):
    """One pass, of a worker or without any, from where a state stands."""

    def __init__(
        self, batches: Batches, tensors: Tensorizer, state: State, lane: tuple[int, int]
    ) -> None:
        self.batches, self.tensors, self.lane = batches, tensors, lane
        self.load_state_dict(state)

    def __next__(self) -> Tensors:
        images, labels = next(self.passing)
        self.state["batch"] = self.passing.number
        return self.tensors(images, labels)

    def state_dict(self) -> State:
        """Return where this pass stands."""
        return dict(self.state)

    def load_state_dict(self, state: State) -> None:
        """Go on from a state that this very worker had, or that a process without workers had."""
        rest, lane = {**state}, self.lane
        if worker := rest.pop("worker", None):
            if tuple(worker) != lane or rest["shard"] != self.batches.state(0)["shard"]:
                rank, others = rest["shard"]
                message = f"cannot resume from the state of worker {worker[0]} of {worker[1]}"
                message += f" of shard {rank} of {others}: expected {lane[0]} of {lane[1]}"
                index, count = self.batches.config.shard
                hint = "for other numbers take a state with `num_workers=0`"
                raise UsageError(f"{message} of {index} of {count}", hint)
            lane = (0, lane[1])  # it is at a batch of this worker's already
        self.passing = self.batches.at_epoch_of(rest).part(rest, lane)
        mine = {"worker": list(self.lane)} if self.lane[1] > 1 or worker else {}
        self.state = {**self.passing.state(), **mine}
