"""The feeds of the frameworks into an empty loop, and to a GPU where there is one."""

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

from benchmarks.clock import BATCH, Epochs
from benchmarks.contest import Contest
from benchmarks.made import SMALL
from benchmarks.peers import peer
from benchmarks.place import LeftOut, Place
from benchmarks.rows.streaming import in_memory, ours, taken

LOOP, GPU = "into an empty loop", "that reach the GPU"
SHUFFLED = "shuffled batches of 64 of MNIST"
MEMORY, PAGEABLE = "NumPy in memory, take, moved", "200 kB a copy, from pageable memory"

TO_TF = Contest("to_tf", f"{SHUFFLED} as TensorFlow tensors {LOOP}", "images/s", 7)
TO_TORCH = Contest("to_torch", f"{SHUFFLED} as PyTorch tensors {LOOP}", "images/s", 7)
TO_JAX = Contest("to_jax", f"{SHUFFLED} as JAX arrays {LOOP}", "images/s", 7)
DEVICE_TORCH = Contest("device-torch", f"{SHUFFLED} {GPU}, PyTorch", "GB/s", 7)
DEVICE_JAX = Contest("device-jax", f"{SHUFFLED} {GPU}, JAX", "GB/s", 7)


@TO_TF.contestant("entry.train.to_tf", "tf")
def _to_tf(place: Place) -> Epochs:
    train = place.entry().train
    feed = train.to_tf(BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: feed, len(train))


TO_TF.before("entry.train.to_tf", "≥ 2")
TO_TF.peer("our NumPy batches", "arrays", "≥ 0.4")(partial(ours, size=SMALL))


for _module, _name in (
    ("tf_records", "TFRecord of uint8, tf.data: map, batch"),
    ("tf_records_batched", "TFRecord of uint8, tf.data: batch, map"),
):
    TO_TF.peer(_name, "tf", "≥ 3", "shuffled whole, parsed and scaled by map, prefetched")(
        partial(peer, _module, SMALL)
    )


@TO_TF.peer(
    "tf.data from_tensor_slices, shuffle, batch",
    "tf",
    "> 1",
    "shuffled whole, in memory, prefetched",
)
def _slices(place: Place) -> Epochs:
    import tensorflow as tf

    x, y = place.entry().train.to_numpy()
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH)
    data = data.prefetch(tf.data.AUTOTUNE)
    return Epochs(lambda k: data, len(x))


@TO_TORCH.contestant("entry.train.to_torch", "torch")
def _to_torch(place: Place) -> Epochs:
    train = place.entry().train
    feed = train.to_torch(BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: feed, len(train))


def _loader(place: Place, workers: int, **options: Any) -> Epochs:
    from torch.utils.data import DataLoader

    train = place.entry().train
    feed = train.to_torch(BATCH, shuffle=True, seed=0)
    loader = DataLoader(feed, batch_size=None, num_workers=workers, **options)
    return Epochs(lambda k: loader, len(train))


TO_TORCH.before("entry.train.to_torch", "> 1", "tensors over the very memory of the batches")
NO_WORKERS, WORKERS = "DataLoader, no workers", "DataLoader, 2 persistent workers"
TO_TORCH.contestant(NO_WORKERS, "torch")(partial(_loader, workers=0))
TO_TORCH.contestant(WORKERS, "torch")(partial(_loader, workers=2, persistent_workers=True))
TO_TORCH.duel(WORKERS, NO_WORKERS, "≥ 0.5")
TO_TORCH.before(WORKERS)


ROWS, SHUFFLED_TENSORS = "DataLoader(split.as_torch(), shuffle=True)", "DataLoader(TensorDataset)"


@TO_TORCH.contestant(ROWS, "torch")
def _as_torch(place: Place) -> Epochs:
    from torch.utils.data import DataLoader

    train = place.entry().train
    loader = DataLoader(train.as_torch(), BATCH, shuffle=True)
    return Epochs(lambda k: loader, len(train))


@TO_TORCH.contestant(SHUFFLED_TENSORS, "torch")
def _tensors(place: Place) -> Epochs:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    in_memory = map(torch.from_numpy, place.entry().train.to_numpy())
    loader = DataLoader(TensorDataset(*in_memory), BATCH, shuffle=True)
    return Epochs(lambda k: loader, len(loader.dataset))


TO_TORCH.duel(ROWS, SHUFFLED_TENSORS, "≥ 0.4", "row by row from the files, and in memory")


@TO_JAX.contestant("entry.train.to_jax", "jax")
def _to_jax(place: Place) -> Epochs:
    import jax

    train = place.entry().train
    feed = train.to_jax(BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: feed, len(train), jax.block_until_ready)


TO_JAX.before("entry.train.to_jax", note="a device_put a batch; int32 labels")


def _gigabytes(train: Any) -> float:
    """Return the size of one image with its label."""
    return float(prod(train.shape[1:]) * train.dtype.itemsize + 8) / 1e9


def _cuda(epoch: Callable[[int], Any], train: Any) -> Epochs:
    """Move batches of tensors to the GPU."""
    import torch

    if not torch.cuda.is_available():
        raise LeftOut("no GPU here")

    def moved(k: int) -> Iterator[Any]:
        for images, labels in epoch(k):
            yield images.to("cuda", non_blocking=True), labels.to("cuda", non_blocking=True)

    return Epochs(moved, len(train), lambda last: torch.cuda.synchronize(), _gigabytes(train))


@DEVICE_TORCH.contestant("entry.train.to_torch, moved", "torch")
def _torch_device(place: Place) -> Epochs:
    train = place.entry().train
    feed = train.to_torch(BATCH, shuffle=True, seed=0)
    return _cuda(lambda k: feed, train)


@DEVICE_TORCH.peer(MEMORY, "torch", note=PAGEABLE)
def _torch_memory(place: Place) -> Epochs:
    import torch

    train = place.entry().train
    epoch = in_memory(*train.to_numpy(), taken)
    return _cuda(lambda k: (tuple(map(torch.from_numpy, pair)) for pair in epoch(k)), train)


def _gpu() -> Any:
    import jax

    if jax.default_backend() != "gpu":
        raise LeftOut("no GPU here")
    return jax.devices()[0]


@DEVICE_JAX.contestant("entry.train.to_jax", "jax")
def _jax_device(place: Place) -> Epochs:
    import jax

    train, device = place.entry().train, _gpu()
    feed = train.to_jax(BATCH, shuffle=True, seed=0, device=device)
    return Epochs(lambda k: feed, len(train), jax.block_until_ready, _gigabytes(train))


@DEVICE_JAX.peer(MEMORY, "jax", note=PAGEABLE)
def _jax_memory(place: Place) -> Epochs:
    import jax

    train, device = place.entry().train, _gpu()
    epoch = in_memory(*train.to_numpy(), taken)
    return Epochs(
        lambda k: (jax.device_put(pair, device) for pair in epoch(k)),
        len(train),
        jax.block_until_ready,
        _gigabytes(train),
    )
