"""The statistics of the training images: exact sums against Keras's float32 ones.

A training script fits its statistics once, so the first call of a fresh process is what a user
waits for; calls in a warm process, where memory is at hand already, are measured beside it. And all
that `stats` measures, against the loop over a DataLoader that is often pasted.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.clock import Measure, once, repeated
from benchmarks.contest import Contest
from benchmarks.place import Place

Action = Callable[[], object]

CHANNEL, DATASET = "exact statistics per channel", "exact statistics per dataset"
KERAS, SUM = "ImageDataGenerator.fit", "x.sum(dtype=uint64)"
CALLS = ("first call", "repeated")


def _ours(images: Any, per: str) -> Action:
    from pixelprep.numerics.statistics import Moments

    return lambda: Moments.of(images, per).statistics()


def _sum(images: Any) -> Action:
    return lambda: images.sum(dtype="uint64")


def _keras(images: Any) -> Action:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    return lambda: generator.fit(images)


def _timed(
    place: Place, clock: Callable[[Action], Measure], action: Callable[[Any], Action]
) -> Measure:
    return clock(action(place.raw()[0]))


STATISTICS = Contest("statistics", "statistics of MNIST's 60,000 training images", "s", 11)
for _name, _home, _action in (
    (CHANNEL, "numpy", partial(_ours, per="channel")),
    (DATASET, "numpy", partial(_ours, per="dataset")),
    (SUM, "numpy", _sum),
    (KERAS, "keras", _keras),
):
    # The first call of a new process each round, and repeated calls in one that stays.
    _first = partial(_timed, clock=once, action=_action)
    STATISTICS.contestant(f"{_name}, first call", f"{_name}, first call", fresh=True)(_first)
    STATISTICS.contestant(f"{_name}, repeated", _home)(
        partial(_timed, clock=repeated, action=_action)
    )
for _against, _target, _note in (
    (
        KERAS,
        "≤ 1/25",
        "ImageDataGenerator is given the uint8 images (N, 28, 28, 1) and makes them float32"
        " itself; repeated, it finds its half GB of memory at hand, which a first call waits for",
    ),
    (SUM, "≤ 2", "tables of float32, summed and squared, one core; the extremes are sought too"),
):
    for _call in CALLS:
        for _one in (CHANNEL, DATASET):
            STATISTICS.duel(f"{_one}, {_call}", f"{_against}, {_call}", _target, _note)

STATS = Contest("stats", "all that `pixelprep stats` measures of MNIST's training images", "s", 7)


@STATS.contestant("pixelprep.stats, in memory", "stats")
def _stats(place: Place) -> Measure:
    import pixelprep

    source = pixelprep.Arrays("digits", place.raw())
    return once(lambda: pixelprep.stats(source, quiet=True))


@STATS.peer(
    "DataLoader loop for mean and std",
    "torch",
    note="TensorDataset of uint8, batches of 64, each image's mean and std added up, as it is often"
    " pasted: its std is not that of the pixels. Ours has extremes, quantiles, digests and"
    " duplicates, too",
)
def _loader_loop(place: Place) -> Measure:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    images = torch.from_numpy(place.raw()[0].copy())
    loader = DataLoader(TensorDataset(images), batch_size=64)

    def loop() -> tuple[Any, Any]:
        mean, std = torch.zeros(1), torch.zeros(1)
        for (batch,) in loader:
            pixels = batch.float().div(255).permute(0, 3, 1, 2).reshape(len(batch), 1, -1)
            mean += pixels.mean(2).sum(0)
            std += pixels.std(2).sum(0)
        return mean / len(images), std / len(images)

    return once(loop)


@STATS.peer(
    "torch, x.mean() and x.std() of one tensor",
    "torch",
    note="all images at once, as float32: 0.2 GB for MNIST, and no more than mean and std",
)
def _torch_whole(place: Place) -> Measure:
    import torch

    images = torch.from_numpy(place.raw()[0].copy())

    def whole() -> tuple[Any, Any]:
        pixels = images.float().div(255)
        return pixels.mean(), pixels.std(correction=0)

    return once(whole)
