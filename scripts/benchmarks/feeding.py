"""The feeds of the frameworks into an empty loop, and to a GPU where there is one."""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.clock import BATCH, Epochs
from benchmarks.contest import Contest, Contestant, Duel, Measure, Target
from benchmarks.place import LeftOut, Place


def _to_tf(place: Place) -> Measure:
    train = place.entry().train
    feed = train.to_tf(BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: feed, len(train))


def _slices(place: Place) -> Measure:
    import tensorflow as tf

    x, y = place.entry().train.to_numpy()
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH)
    data = data.prefetch(tf.data.AUTOTUNE)
    return Epochs(lambda k: data, len(x))


def _to_torch(place: Place) -> Measure:
    train = place.entry().train
    feed = train.to_torch(BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: feed, len(train))


def _loader(place: Place) -> Measure:
    from torch.utils.data import DataLoader

    train = place.entry().train
    feed = train.to_torch(BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: DataLoader(feed, batch_size=None, num_workers=2), len(train))


def _to_jax(place: Place) -> Measure:
    import jax

    train = place.entry().train
    feed = train.to_jax(BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: feed, len(train), jax.block_until_ready)


def _gigabytes(train: Any) -> float:
    """Of one image with its label."""
    size: int = train.dtype.itemsize
    for length in train.shape[1:]:
        size *= length
    return (size + 8) / 1e9


def _permuted(train: Any) -> Callable[[int], Iterator[Any]]:
    """Epochs of NumPy batches from memory, mixed whole."""
    import numpy as np

    x, y = train.to_numpy()

    def epoch(k: int) -> Iterator[Any]:
        p = np.random.default_rng(k).permutation(len(x))
        for i in range(0, len(x), BATCH):
            yield x.take(p[i : i + BATCH], axis=0), y.take(p[i : i + BATCH])

    return epoch


def _cuda(place: Place, epoch: Callable[[int], Any], train: Any) -> Measure:
    """Batches of tensors, moved to the GPU."""
    import torch

    def moved(k: int) -> Iterator[Any]:
        for images, labels in epoch(k):
            yield images.to("cuda", non_blocking=True), labels.to("cuda", non_blocking=True)

    return Epochs(moved, len(train), lambda last: torch.cuda.synchronize(), _gigabytes(train))


def _needs_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise LeftOut("no GPU here")


def _torch_device(place: Place) -> Measure:
    _needs_cuda()
    train = place.entry().train
    feed = train.to_torch(BATCH, shuffle=True, seed=0)
    return _cuda(place, lambda k: feed, train)


def _torch_memory(place: Place) -> Measure:
    _needs_cuda()
    import torch

    train = place.entry().train
    epoch = _permuted(train)
    return _cuda(place, lambda k: (tuple(map(torch.from_numpy, pair)) for pair in epoch(k)), train)


def _gpu() -> Any:
    import jax

    if jax.default_backend() != "gpu":
        raise LeftOut("no GPU here")
    return jax.devices()[0]


def _jax_device(place: Place) -> Measure:
    import jax

    train, device = place.entry().train, _gpu()
    feed = train.to_jax(BATCH, shuffle=True, seed=0, device=device)
    return Epochs(lambda k: feed, len(train), jax.block_until_ready, _gigabytes(train))


def _jax_memory(place: Place) -> Measure:
    import jax

    train, device = place.entry().train, _gpu()
    epoch = _permuted(train)
    return Epochs(
        lambda k: (jax.device_put(pair, device) for pair in epoch(k)),
        len(train),
        jax.block_until_ready,
        _gigabytes(train),
    )


SLICES = "tf.data from_tensor_slices, shuffle, batch"
MEMORY = "NumPy in memory, take, moved"

TO_TF = Contest(
    "to_tf",
    "shuffled batches of 64 of MNIST as TensorFlow tensors into an empty loop",
    "images/s",
    7,
    (Contestant("entry.train.to_tf", _to_tf, "tf"), Contestant(SLICES, _slices, "tf")),
    (Duel("entry.train.to_tf", SLICES, Target(">", 1), "shuffled whole, in memory, prefetched"),),
)

TO_TORCH = Contest(
    "to_torch",
    "shuffled batches of 64 of MNIST as PyTorch tensors into an empty loop",
    "images/s",
    7,
    (
        Contestant("entry.train.to_torch", _to_torch, "torch"),
        Contestant("entry.train.to_torch, DataLoader of 2 workers", _loader, "torch"),
    ),
    (
        Duel("entry.train.to_torch", note="tensors over the very memory of the batches"),
        Duel(
            "entry.train.to_torch, DataLoader of 2 workers",
            note="workers start anew at every epoch, and that is counted",
        ),
    ),
)

TO_JAX = Contest(
    "to_jax",
    "shuffled batches of 64 of MNIST as JAX arrays into an empty loop",
    "images/s",
    7,
    (Contestant("entry.train.to_jax", _to_jax, "jax"),),
    (Duel("entry.train.to_jax", note="a device_put a batch; int32 labels"),),
)

DEVICE_TORCH = Contest(
    "device-torch",
    "shuffled batches of 64 of MNIST that reach the GPU, PyTorch",
    "GB/s",
    7,
    (
        Contestant("entry.train.to_torch, moved", _torch_device, "torch"),
        Contestant(MEMORY, _torch_memory, "torch"),
    ),
    (Duel("entry.train.to_torch, moved", MEMORY, note="200 kB a copy, from pageable memory"),),
)

DEVICE_JAX = Contest(
    "device-jax",
    "shuffled batches of 64 of MNIST that reach the GPU, JAX",
    "GB/s",
    7,
    (
        Contestant("entry.train.to_jax", _jax_device, "jax"),
        Contestant(MEMORY, _jax_memory, "jax"),
    ),
    (Duel("entry.train.to_jax", MEMORY, note="200 kB a copy, from pageable memory"),),
)
