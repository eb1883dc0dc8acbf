"""The statistics of the training images: exact sums against Keras's float32 ones.

A training script fits its statistics once, so the first call of a fresh process is what a user
waits for; calls in a warm process, where memory is at hand already, are measured beside it.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.clock import once, repeated
from benchmarks.contest import Contest, Contestant, Duel, Measure, Target
from benchmarks.place import Place

Action = Callable[[], object]


def _ours(per: str) -> Callable[[Any], Action]:
    def make(images: Any) -> Action:
        from pixelprep.numerics.statistics import Moments

        return lambda: Moments.of(images, per).statistics()

    return make


def _one_sum(images: Any) -> Action:
    import numpy as np

    return lambda: images.sum(dtype=np.uint64)


def _keras(images: Any) -> Action:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    return lambda: generator.fit(images)


def _pair(name: str, home: str, action: Callable[[Any], Action]) -> tuple[Contestant, Contestant]:
    """The first call of a new process each round, and repeated calls in one that stays."""

    def first(place: Place) -> Measure:
        return once(action(place.raw()[0]))

    def warm(place: Place) -> Measure:
        return repeated(action(place.raw()[0]))

    return (
        Contestant(f"{name}, first call", first, f"{name}, first call", fresh=True),
        Contestant(f"{name}, repeated", warm, home),
    )


def _duels(against: str, target: Target, note: str, *calls: str) -> tuple[Duel, ...]:
    return tuple(
        Duel(f"{ours}, {call}", f"{against}, {call}", target, note)
        for call in calls
        for ours in (CHANNEL, DATASET)
    )


CHANNEL, DATASET = "exact statistics per channel", "exact statistics per dataset"
KERAS, SUM = "ImageDataGenerator.fit", "x.sum(dtype=uint64)"
GIVEN = (
    "ImageDataGenerator is given the uint8 images (N, 28, 28, 1) and makes them float32 itself;"
    " repeated, it finds its half GB of memory at hand, which a first call waits for"
)
LIMIT = "tables of float32, summed and squared, one core; the extremes are sought too"

STATISTICS = Contest(
    "statistics",
    "statistics of MNIST's 60,000 training images",
    "s",
    11,
    (
        *_pair(CHANNEL, "numpy", _ours("channel")),
        *_pair(DATASET, "numpy", _ours("dataset")),
        *_pair(SUM, "numpy", _one_sum),
        *_pair(KERAS, "keras", _keras),
    ),
    (
        *_duels(KERAS, Target("≤", 1 / 25, "1/25"), GIVEN, "first call", "repeated"),
        *_duels(SUM, Target("≤", 2), LIMIT, "first call", "repeated"),
    ),
)
