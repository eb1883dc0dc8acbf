"""What there is to tell of an entry, gathered in one pass over each split.

Memory does not grow with the rows: pixels are looked at block by block, and what stays of them is
counts, sums and a few samples.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pixelprep import sources
from pixelprep.cache import requests
from pixelprep.dataset.entry import Entry, Split
from pixelprep.dataset.raw import raw_view
from pixelprep.errors import REPAIR_HINT, EntryError
from pixelprep.numerics.scaling import MODES, Scaling, shift_and_divisor
from pixelprep.numerics.statistics import AnyMoments, PairwiseSum, moments_of, pairwise_sum
from pixelprep.reports.colormap import downsample
from pixelprep.system import formatting

BLOCK = 4 << 20  # bytes of raw images that are looked at at once
BINS = 256  # of a histogram, at most
FINEST = -900  # step of a histogram of floats, as a power of two
DIGITS = 40  # bits that a histogram's largest value has more than its step, at most
SHOWN_CLASSES, SHOWN_ROWS = 24, 6  # so many classes have samples, and so many each
SIDE = 64  # pixels a side of a sample, at most

Float = NDArray[np.float64]
OnProgress = Callable[[int], object]  # is told how many more rows were looked at


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie in which bin; all of them lie in one.

    Parameters
    ----------
    edges : ndarray of float64, shape (bins + 1,)
        A value on an edge lies above it. Edges of integers, and of what was scaled from them with
        one statistic, lie half a step off.
    counts : ndarray of int64, shape (bins,)
    """

    edges: Float
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of some values: how many, extremes, mean and population deviation."""

    count: int
    minimum: float
    maximum: float
    mean: float
    std: float

    @classmethod
    def of(cls, moments: AnyMoments) -> list[Self]:
        """Those of each group of values, in order."""
        found = moments.statistics()
        numbers = (found.minimum, found.maximum, found.mean, found.std)
        each = zip(*(one.reshape(-1).tolist() for one in numbers), strict=True)
        return [cls(moments.count, *one) for one in each]


@dataclass(frozen=True, slots=True)
class PixelStats:
    """The pixels of a split, raw or stored: all together, and of each channel."""

    overall: Summary
    channels: tuple[Summary, ...]
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split: rows, names of its files, bytes of these, rows of each class, and its pixels."""

    rows: int
    files: tuple[str, ...]
    bytes: int
    classes: NDArray[np.int64]
    raw: PixelStats
    stored: PixelStats


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of train, before and after; (H, W, C) of no more than `SIDE` pixels a side.

    Parameters
    ----------
    row, label : int
        Which row of train it is, and of which class.
    raw, stored : ndarray of float64
        Where the image is larger, each pixel is the mean of neighbouring ones.
    """

    row: int
    label: int
    raw: Float
    stored: Float


@dataclass(frozen=True, slots=True)
class EntryProfile:
    """All that a report tells of an entry.

    Parameters
    ----------
    dataset, mode, per, key : str
        What the entry is.
    formula : str
        Of the scaling.
    shape : tuple of int
        (H, W, C) of an image.
    raw_dtype, dtype : str
        Of the raw pixels and of the stored values.
    exact : bool
        Whether the raw pixels are the very ones.
    class_names : tuple of str
    provenance, recipe, decode, scaling : dict
        As in the manifest.
    prepare : tuple of str
        The arguments of the command that makes the entry.
    is_named : bool
        Whether these name the dataset; else they have a path that stands for where the data is.
    splits : dict
        train, val where there is one, test.
    mean_image, deviation_image : ndarray of float64, shape (H, W, C)
        Mean and population deviation of each raw pixel of train.
    samples : tuple of Sample
        The first rows of each of the first classes.
    """

    dataset: str
    mode: str
    per: str
    key: str
    formula: str
    shape: tuple[int, ...]
    raw_dtype: str
    dtype: str
    exact: bool
    class_names: tuple[str, ...]
    provenance: Mapping[str, str]
    recipe: Mapping[str, Any]
    decode: Mapping[str, Any]
    scaling: Mapping[str, Any]
    prepare: tuple[str, ...]
    is_named: bool
    splits: Mapping[str, SplitFacts]
    mean_image: Float
    deviation_image: Float
    samples: tuple[Sample, ...]


class StreamingHistogram:
    """Counts on a grid whose steps are powers of two, the finest of which `BINS` are enough.

    Which grid that is depends on the extremes alone, so the order of what is added does not
    matter; the division by a power of two is exact, so each value is counted where it lies.
    """

    def __init__(self, channels: int, integers: bool) -> None:
        self._integers = integers
        self._exponent = 0 if integers else FINEST
        self._first = 0
        self._low, self._high = math.inf, -math.inf
        self._counts = np.zeros((channels, 0), np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Count values (…, C)."""
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        first, last = self._widen()
        places = _place(values.astype(np.float64), self._exponent) - first
        channels, width = len(self._counts), last - first + 1
        places += np.arange(channels) * width
        found = np.bincount(places.reshape(-1), minlength=channels * width)
        self._counts += found.reshape(channels, width)

    def _widen(self) -> tuple[int, int]:
        """Have the grid hold all values; its first and last bin."""
        exponent = _exponent(self._low, self._high, self._exponent)
        first, last = (int(_place(one, exponent)) for one in (self._low, self._high))
        counts = np.zeros((len(self._counts), last - first + 1), np.int64)
        before = np.arange(self._counts.shape[1]) + self._first
        after = before >> min(exponent - self._exponent, 63)
        np.add.at(counts.T, after - first, self._counts.T)
        self._exponent, self._first, self._counts = exponent, first, counts
        return first, last

    def histograms(self) -> tuple[Histogram, ...]:
        """Of each channel, on the same edges."""
        bins = np.arange(self._counts.shape[1] + 1) + self._first
        edges = np.ldexp(bins.astype(np.float64), self._exponent) - 0.5 * self._integers
        return tuple(Histogram(edges, counts) for counts in self._counts)


def _place(values: Any, exponent: int) -> Any:
    """The number of the bin, of a step of 2**exponent."""
    places = np.floor(np.ldexp(values, -exponent)).astype(np.int64)
    return places - ((values < 0) & (places == 0))  # what was too small to stay below 0


def _exponent(low: float, high: float, least: int) -> int:
    """The finest step, not finer than the `least`, at which so few bins hold all values."""
    largest = math.frexp(max(abs(low), abs(high)))[1] if low or high else least
    exponent = max(least, largest - DIGITS)
    if high > low:  # a few steps below what will do
        exponent = max(exponent, math.frexp(high - low)[1] - BINS.bit_length() - 1)
    while _place(high, exponent) - _place(low, exponent) >= BINS:
        exponent += 1
    return exponent


class PixelAccumulator:
    """What is kept of the pixels of a split, raw or stored, while they pass."""

    def __init__(self, channels: int, integers: bool, counted: bool = True) -> None:
        self._bins = StreamingHistogram(channels, integers) if counted else None
        self._moments = PairwiseSum()

    def add(self, images: NDArray[Any]) -> None:
        """Look at images (n, H, W, C), n ≥ 1."""
        if self._bins:
            self._bins.add(images)
        self._moments.add(moments_of(images, "channel"))

    def values(self, otherwise: tuple[Histogram, ...] = ()) -> PixelStats:
        """All that was seen; histograms that were not counted are given."""
        moments = self._moments.total()
        (overall,) = Summary.of(_together(moments))
        counted = self._bins.histograms() if self._bins else otherwise
        return PixelStats(overall, tuple(Summary.of(moments)), counted)


def _together(moments: AnyMoments) -> AnyMoments:
    """Moments of all groups of values as one."""
    numbers = [getattr(moments, one.name) for one in fields(moments)[1:]]
    parts = zip(*(np.split(one.reshape(-1), one.size) for one in numbers), strict=True)
    return pairwise_sum(type(moments)(moments.count, *part) for part in parts)


def profile(entry: Entry, note: OnProgress) -> EntryProfile:
    """All there is to tell of an entry.

    Parameters
    ----------
    entry : Entry
        Every row of it is read once.
    note : callable
        Is told of every row of images once.

    Raises
    ------
    EntryError
        When it is damaged, or a label has no class.
    """
    manifest, scaling = entry.manifest, entry.scaling
    pixels, samples = PairwiseSum(), Samples()
    splits = {}
    for name, split in entry.splits.items():
        seen = (pixels, samples) if name == "train" else None
        splits[name] = _looked_at(entry, split, seen, note)
    of_pixels = pixels.total().statistics()
    # Data of one's own cannot have the name of a known dataset.
    is_named = entry.dataset in {*sources.REGISTRY, *sources.plugins()}
    return EntryProfile(
        dataset=entry.dataset,
        mode=entry.mode,
        per=entry.per,
        key=entry.key,
        formula=MODES[entry.mode].formula,
        shape=entry.train.shape[1:],
        raw_dtype=scaling.raw_dtype,
        dtype=str(entry.train.dtype),
        exact=scaling.is_exact(entry.train.dtype),
        class_names=entry.class_names,
        provenance=manifest["provenance"],
        recipe=manifest["recipe"],
        decode=manifest["source"]["decode"],
        scaling=manifest["scaling"],
        prepare=tuple(_preparing(entry, is_named)),
        is_named=is_named,
        splits=splits,
        mean_image=of_pixels.mean,
        deviation_image=of_pixels.std,
        samples=samples.found(),
    )


def _looked_at(
    entry: Entry, split: Split, seen: "tuple[PairwiseSum, Samples] | None", note: OnProgress
) -> SplitFacts:
    """One split; of train also the moments of each pixel, and samples."""
    scaling, channels, classes = entry.scaling, split.shape[-1], len(entry.class_names)
    integers, mapped = scaling.raw_dtype.startswith(("u", "i")), _maps_bins(scaling)
    raw, stored = (
        PixelAccumulator(channels, integers),
        PixelAccumulator(channels, False, counted=not mapped),
    )
    counts = np.zeros(classes, np.int64)
    images = raw_view(split, scaling)
    for rows in sources.block_ranges(images, BLOCK):
        labels = split.read(rows.start, rows.stop, "labels")
        _check_labels(entry, split, labels)
        counts += np.bincount(labels, minlength=classes)
        before = images[rows.start : rows.stop]
        after = split.read(rows.start, rows.stop).astype(np.float64)
        raw.add(before)
        stored.add(after)
        if seen:
            seen[0].add(moments_of(before, "pixel"))
            seen[1].add(rows.start, labels, before, after)
        note(len(rows))
    values = raw.values()
    scaled = _scaled(scaling, values.histograms) if mapped else ()
    record = entry.manifest["splits"][split.name]
    names = tuple(file["name"] for file in record["files"])
    return SplitFacts(len(split), names, record["bytes"], counts, values, stored.values(scaled))


def _check_labels(entry: Entry, split: Split, labels: NDArray[np.int64]) -> None:
    low, high, classes = int(labels.min()), int(labels.max()), len(entry.class_names)
    if low < 0 or high >= classes:
        what = f"{split.name}: labels {low} to {high}, but {classes} classes"
        raise EntryError(f"{entry.path}: {what}", REPAIR_HINT)


def _maps_bins(scaling: Scaling) -> bool:
    """Whether a bin of raw values is one of stored values: of integers, each channel scaled alike.

    Other grids would have now more, now fewer of the few different values in a bin.
    """
    return scaling.raw_dtype.startswith(("u", "i")) and scaling.per in ("dataset", "channel")


def _scaled(scaling: Scaling, raw: Sequence[Histogram]) -> tuple[Histogram, ...]:
    assert scaling.statistics is not None  # only per image has none
    shift, divisor = shift_and_divisor(scaling, scaling.statistics)
    moved = np.stack([one.edges for one in raw], axis=-1) / scaling.unit
    edges = (moved - shift) / divisor
    return tuple(Histogram(edges[:, c], one.counts) for c, one in enumerate(raw))


class Samples:
    """The first rows of each of the first classes that there are, while they pass."""

    def __init__(self) -> None:
        self._of: dict[int, list[Sample]] = {}

    def add(self, start: int, labels: NDArray[np.int64], raw: NDArray[Any], stored: Float) -> None:
        """Look at the rows from `start` on."""
        # A class that comes late may be among the first; one that was pushed out never is again.
        seen = sorted({*self._of, *np.unique(labels).tolist()})[:SHOWN_CLASSES]
        self._of = {label: self._of.get(label, []) for label in seen}
        for label, had in self._of.items():
            for row in np.flatnonzero(labels == label)[: SHOWN_ROWS - len(had)].tolist():
                images = downsample(raw[row], SIDE), downsample(stored[row], SIDE)
                had.append(Sample(start + row, label, *images))

    def found(self) -> tuple[Sample, ...]:
        """By class, and then by row."""
        return tuple(sample for had in self._of.values() for sample in had)


def _preparing(entry: Entry, is_named: bool) -> list[str]:
    """The arguments of the command that makes an entry; only those that its recipe needs."""
    dataset = entry.dataset if is_named else f"./{entry.dataset}"
    return ["prepare", dataset, *formatting.options(requests.options_of(entry.manifest))]


def plain(fact: Any) -> Any:
    """Facts as JSON values; of samples, whose pixels are in the entry, row and label."""
    if isinstance(fact, Sample):
        return {"row": fact.row, "label": fact.label}
    if is_dataclass(fact):
        return {one.name: plain(getattr(fact, one.name)) for one in fields(fact)}
    if isinstance(fact, np.ndarray):
        return fact.tolist()
    if isinstance(fact, Mapping):
        return {name: plain(value) for name, value in fact.items()}
    return [plain(one) for one in fact] if isinstance(fact, (list, tuple)) else fact
