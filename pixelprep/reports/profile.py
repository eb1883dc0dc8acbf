"""Profile an entry: every figure of its report, from one pass over each split in blocks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Self  # Any: pixels of whichever type the entry has

import numpy as np
from numpy.typing import NDArray

from pixelprep import sources
from pixelprep.cache.inventory import EntrySummary
from pixelprep.dataset.entry import Entry, Split
from pixelprep.dataset.raw import raw_view
from pixelprep.errors import REPAIR_HINT, EntryError
from pixelprep.format.manifest import RawLimits, ScalingRecord
from pixelprep.format.recipe import Recipe, class_counts
from pixelprep.format.source_record import Provenance
from pixelprep.numerics.scaling import Scaling, describe, shift_and_divisor, to_range
from pixelprep.numerics.statistics import AnyMoments, PairwiseSum, moments_of, pairwise_sum
from pixelprep.reports.colormap import downsample
from pixelprep.system import formatting
from pixelprep.system.json_record import Record
from pixelprep.system.notices import Duplicates

BLOCK_BYTES = 4 << 20  # of raw images in memory at once
MAX_BINS = 256  # of a histogram
SAMPLE_CLASSES, SAMPLE_ROWS = 24, 6  # so many classes have samples, and so many each
SAMPLE_SIDE = 64  # pixels a side of a sample, at most

Float = NDArray[np.float64]
OnProgress = Callable[[int], object]  # called with the number of rows just read


@dataclass(frozen=True, slots=True)
class Bins:
    """How many values lie in which bin; a value on an edge lies above it, but for the last.

    Edges of integers, and of what was scaled from them with one statistic, lie half a step off.
    """

    edges: Float  # (bins + 1,)
    counts: NDArray[np.int64]  # (bins,)


@dataclass(frozen=True, slots=True)
class Summary:
    """The number, extremes, mean and population deviation of some values."""

    count: int
    minimum: float
    maximum: float
    mean: float
    std: float

    @classmethod
    def of(cls, moments: AnyMoments) -> list[Self]:
        """Return the summary of each group of values, in order."""
        found = moments.statistics()
        numbers = (found.minimum, found.maximum, found.mean, found.std)
        each = zip(*(one.reshape(-1).tolist() for one in numbers), strict=True)
        return [cls(moments.count, *one) for one in each]


@dataclass(frozen=True, slots=True)
class PixelProfile:
    """The pixels of a split, raw or stored: all together, and of each channel."""

    overall: Summary
    channels: tuple[Summary, ...]
    histograms: tuple[Bins, ...]


@dataclass(frozen=True, slots=True)
class SplitProfile:
    """One split: rows, names of its files, bytes of these, rows of each class, and its pixels."""

    rows: int
    files: tuple[str, ...]
    bytes: int
    classes: NDArray[np.int64]
    raw: PixelProfile
    stored: PixelProfile


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of the first split, before and after, (H, W, C), up to `SAMPLE_SIDE` pixels a side."""

    row: int
    label: int
    raw: Float
    stored: Float


@dataclass(frozen=True, slots=True)
class EntryProfile:
    """All that a report shows of an entry; what the manifest has is as it has it."""

    dataset: str
    mode: str
    per: str
    key: str
    formula: str
    shape: tuple[int, ...]  # (H, W, C) of an image
    raw_dtype: str
    dtype: str
    exact: bool  # whether the raw pixels are recovered exactly
    task: str  # whether rows have one class, or several
    class_names: tuple[str, ...]
    provenance: Provenance
    recipe: Recipe
    decode: Mapping[str, object]
    scaling: ScalingRecord
    prepare: tuple[str, ...]  # the arguments of the command that makes the entry
    duplicates: tuple[Duplicates, ...]  # in its data, as far as that is recorded
    files: Mapping[str, Mapping[str, int]]  # of each format and so on; likewise
    is_named: bool  # whether these name the dataset; else a path stands for where the data is
    splits: Mapping[str, SplitProfile]
    mean_image: Float  # (H, W, C), of the first split's raw pixels: train's, if it is there
    deviation_image: Float  # likewise, the population's
    samples: tuple[Sample, ...]  # the first rows of each of the first classes


class PixelAccumulator:
    """Moments and, between given edges, histograms of the pixels of a split while they pass."""

    def __init__(self, channels: int, edges: Float | None) -> None:
        self._edges = edges
        bins = 0 if edges is None else len(edges) - 1
        self._counts = np.zeros((channels, bins), np.int64)
        self._moments = PairwiseSum()

    def add(self, images: NDArray[Any]) -> None:
        """Count images (n, H, W, C), n ≥ 1."""
        self._moments.add(moments_of(images, "channel"))
        if self._edges is None:
            return
        limits = float(self._edges[0]), float(self._edges[-1])
        values = np.clip(images, *limits)  # rounding may have left a few outside
        for channel, counts in enumerate(self._counts):
            # Of equal bins NumPy needs no search, which is several times as fast.
            counts += np.histogram(values[..., channel], len(counts), limits)[0]

    def stats(self, histograms: tuple[Bins, ...] = ()) -> PixelProfile:
        """Return all that was counted; histograms that were not are given."""
        moments = self._moments.total()
        numbers = [getattr(moments, one.name) for one in fields(moments)[1:5]]
        parts = zip(*(np.split(one.reshape(-1), one.size) for one in numbers), strict=True)
        merged = pairwise_sum(type(moments)(moments.count, *part) for part in parts)
        (overall,) = Summary.of(merged)
        if self._edges is not None:
            histograms = tuple(Bins(self._edges, counts) for counts in self._counts)
        return PixelProfile(overall, tuple(Summary.of(moments)), histograms)


def profile(entry: Entry, on_progress: OnProgress, summary: EntrySummary) -> EntryProfile:
    """Profile an entry, of which the cache has this to say.

    Every row is read once; where the stored values are not those of the raw ones in the same
    order, images are read a second time for their range.
    """
    manifest, scaling = entry.manifest, entry.scaling
    pixels, samples, splits = PairwiseSum(), Samples(), {}
    first = entry.splits[manifest.first_split]
    for name, split in entry.splits.items():
        extra = (pixels, samples) if split is first else None
        splits[name] = _profile_split(entry, split, extra, on_progress)
    per_pixel = pixels.total().statistics()
    # Data of one's own cannot have the name of a known dataset.
    known = sources.datasets()
    named = {*(one.name for one in known.datasets), *(one.name for one in known.plugins)}
    dataset = entry.dataset if entry.dataset in named else f"./{entry.dataset}"
    given = {"scaling_of": "ENTRY"} if manifest.recipe.is_taken_over else {}
    options = formatting.options({**summary.options, **given})
    names = ("dataset", "mode", "per", "key", "class_names")
    facts = {name: getattr(entry, name) for name in names}
    facts |= {name: getattr(manifest, name) for name in ("provenance", "recipe", "scaling")}
    return EntryProfile(
        **facts,
        formula=describe(scaling),
        shape=first.shape[1:],
        raw_dtype=scaling.raw_dtype,
        dtype=str(first.dtype),
        exact=entry.is_exact,
        task=manifest.source.task,
        decode=manifest.source.decode,
        prepare=("prepare", dataset, *options),
        duplicates=summary.duplicates,
        files=summary.files,
        is_named=entry.dataset in named,
        splits=splits,
        mean_image=per_pixel.mean,
        deviation_image=per_pixel.std,
        samples=tuple(sample for of_class in samples.by_label.values() for sample in of_class),
    )


def _profile_split(
    entry: Entry, split: Split, extra: "tuple[PairwiseSum, Samples] | None", on_progress: OnProgress
) -> SplitProfile:
    """Profile one split; of the first also the moments of each pixel, and samples."""
    record, classes = entry.manifest.splits[split.name], len(entry.class_names)
    scaling, channels = entry.scaling, split.shape[-1]
    images = raw_view(split, scaling, clipped=True)
    blocks = list(sources.block_ranges(images, BLOCK_BYTES))
    raw = PixelAccumulator(channels, _raw_edges(record.raw, scaling))
    # A bin of raw integers is one of stored values where each channel is scaled alike. Other bins
    # would have now more, now fewer of the few different values.
    is_mapped = _is_integer(scaling) and scaling.per in ("dataset", "channel") and not scaling.clip
    stored = PixelAccumulator(channels, None if is_mapped else _float_edges(*_range(split, blocks)))
    counts = np.zeros(classes, np.int64)
    for rows in blocks:
        labels = split.read(rows.start, rows.stop, "labels")
        if not 0 <= labels.min() <= labels.max() < (classes if labels.ndim == 1 else 2):
            there = formatting.pluralize(classes, "class", "classes")
            what = f"{split.name}: labels {labels.min()} to {labels.max()}, but {there}"
            raise EntryError(f"{entry.path}: {what}", REPAIR_HINT)
        counts += class_counts(labels, classes)
        before = images[rows.start : rows.stop]
        after = split.read(rows.start, rows.stop).astype(np.float64)
        raw.add(before)
        stored.add(after)
        if extra:
            extra[0].add(moments_of(before, "pixel"))
            extra[1].add(rows.start, labels, before, after)
        on_progress(len(rows))
    stats = raw.stats()
    mapped = _map_bins(scaling, stats.histograms) if is_mapped else ()
    names = tuple(file.name for file in record.files)
    return SplitProfile(len(split), names, record.bytes, counts, stats, stored.stats(mapped))


def _is_integer(scaling: Scaling) -> bool:
    return np.dtype(scaling.raw_dtype).kind in "ui"


def _raw_edges(limits: RawLimits, scaling: Scaling) -> Float:
    """Return the edges of the bins of raw values: of integers, so many neighbours a bin."""
    if not _is_integer(scaling):
        return _float_edges(limits.minimum, limits.maximum)
    values = limits.maximum - limits.minimum + 1
    step = -(-values // MAX_BINS)
    return limits.minimum - 0.5 + step * np.arange(-(-values // step) + 1, dtype=np.float64)


def _float_edges(low: float, high: float) -> Float:
    """Return the edges of equal bins from the lowest value to the highest."""
    edges = np.linspace(low, high, MAX_BINS + 1)
    if (np.diff(edges) > 0).all():
        return edges
    # A single value, or a few that have no more floats between them: one bin.
    return low + np.array([-0.5, 0.5]) * max(1.0, abs(low))


def _range(split: Split, blocks: Sequence[range]) -> tuple[float, float]:
    """Read the lowest and the highest stored value."""
    images = (split.read(rows.start, rows.stop) for rows in blocks)
    limits = [(float(block.min()), float(block.max())) for block in images]
    return min(low for low, _ in limits), max(high for _, high in limits)


def _map_bins(scaling: Scaling, raw: Sequence[Bins]) -> tuple[Bins, ...]:
    """Scale the edges of histograms of raw values."""
    assert scaling.statistics is not None  # only per image has none
    shift, divisor = shift_and_divisor(scaling, scaling.statistics)
    raw = raw[::-1] if scaling.channel_order else raw
    edges = (np.stack([one.edges for one in raw], axis=-1) / scaling.unit - shift) / divisor
    edges = to_range(scaling, edges)
    return tuple(Bins(edges[:, c], one.counts) for c, one in enumerate(raw))


class Samples:
    """The first rows of each of the first classes that there are, while they pass."""

    def __init__(self) -> None:
        self.by_label: dict[int, list[Sample]] = {}

    def add(self, start: int, labels: NDArray[np.int64], raw: NDArray[Any], stored: Float) -> None:
        """Take samples of the rows from `start` on."""
        # A class that comes late may be among the first; one that was pushed out never is again.
        several = labels.ndim > 1
        present = np.flatnonzero(labels.any(axis=0)) if several else np.unique(labels)
        shown = sorted({*self.by_label, *present.tolist()})[:SAMPLE_CLASSES]
        self.by_label = {label: self.by_label.get(label, []) for label in shown}
        for label, samples in self.by_label.items():
            has_class = labels[:, label] == 1 if several else labels == label
            for row in np.flatnonzero(has_class)[: SAMPLE_ROWS - len(samples)].tolist():
                images = downsample(raw[row], SAMPLE_SIDE), downsample(stored[row], SAMPLE_SIDE)
                samples.append(Sample(start + row, label, *images))


def to_json(value: object) -> Any:
    """Return a part of a profile as JSON takes it; of a sample, row and label."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Sample):
        return {"row": value.row, "label": value.label}
    if isinstance(value, Record):
        return dict(sorted(value.to_dict().items()))  # as in the manifest
    assert is_dataclass(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}
