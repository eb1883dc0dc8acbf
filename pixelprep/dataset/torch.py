"""Feed batches to PyTorch."""

import os
import uuid
from collections.abc import Iterator
from multiprocessing import current_process
from typing import Any  # PyTorch does not export the type of its worker info

import torch
from torch.utils.data import IterableDataset, get_worker_info

from pixelprep.dataset.batches import Batches
from pixelprep.dataset.passes import PassLog, State
from pixelprep.errors import UsageError, check_int
from pixelprep.numerics.permutation import MAX_SEED

Tensors = tuple[torch.Tensor, torch.Tensor]  # images and labels


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

    def __init__(self, first: Batches) -> None:
        self.first, self.passes = first, PassLog(first.config.epoch)
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
        lane = (info.id, info.num_workers) if info else (0, 1)
        own, self._state = self._state, None
        # Counted now, not at the first batch: a pass may be broken off before that.
        epoch, state = self.passes.begin(_workers(info), own["epoch"] if own else None)
        state = own or state or self.first.with_epoch(epoch).state(0)
        passing = TorchPass(self.first, state, lane)
        self._latest = passing.state
        return passing


class TorchPass(Iterator[Tensors]):
    """One pass, of a worker or without any, from where a state stands."""

    def __init__(self, batches: Batches, state: State, lane: tuple[int, int]) -> None:
        self.batches, self.lane = batches, lane
        self.load_state_dict(state)

    def __next__(self) -> Tensors:
        images, labels = next(self.passing)
        self.state["batch"] = self.passing.number
        return torch.from_numpy(images), torch.from_numpy(labels)

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
