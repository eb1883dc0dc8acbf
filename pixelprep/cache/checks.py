"""Whether stored arrays are what their manifest promises: computed again from the files alone.

Where the stored type is fine enough, every raw integer can be had back from its stored value. Then
nothing is left to trust: the digest of the raw images, the exact statistics and each stored bit are
computed again. Elsewhere (floats, 16 bits in float16) the statistics of the stored values must be
the promised ones but for what rounding each value can have changed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import sources
from pixelprep.dataset.entry import Entry
from pixelprep.dataset.raw import own_statistics, raw_view
from pixelprep.format import manifest as manifests
from pixelprep.format.recipe import NUMERICS_VERSION
from pixelprep.numerics import permutation
from pixelprep.numerics.scaling import (
    MODES,
    Scaling,
    apply_with_statistics,
    per_image_columns,
    scaled_statistics,
    shift_and_divisor,
    statistics_per_image,
)
from pixelprep.numerics.statistics import AnyMoments, Statistics, moments_of, pairwise_sum
from pixelprep.system import parallel

SLACK = 1e-9  # relative: much more than float64 sums are off, less than shows in float32

ULPS = 2.0**-46  # relative: more than float64 statistics of any number of values are off
BLOCK = 1 << 22  # bytes of raw images that are looked at at once

OnProgress = Callable[[int], object]  # is told how many more rows were looked at


def failed_checks(entry: Entry, note: OnProgress) -> Iterator[str]:
    """What an entry promises and its arrays do not keep, one line each.

    Parameters
    ----------
    entry : Entry
        Whose files have the digests that the manifest has.
    note : callable
        Is told of every row of images once.

    Raises
    ------
    EntryError
        When a file cannot be read.
    """
    numerics = entry.manifest["recipe"]["numerics_version"]
    if numerics != NUMERICS_VERSION:
        yield f"numerics version {numerics}: this computes version {NUMERICS_VERSION}"
        return
    for name, split in entry.splits.items():
        if not _same(manifests.first_batch(split), entry.manifest["splits"][name]["first_batch"]):
            yield f"{name}: the first batch has other figures than the manifest says"
    yield from _labels(entry)
    yield from (
        _check_exact(entry, note)
        if entry.scaling.is_exact(entry.train.dtype)
        else _check_statistics(entry, note)
    )


def _same(found: Mapping[str, Any], promised: Mapping[str, Any]) -> bool:
    """Whether these are promised; fields that are not known are ignored."""
    return all(promised[name] == value for name, value in found.items())


def _labels(entry: Entry) -> Iterator[str]:
    found = {name: split.labels for name, split in entry.splits.items()}
    for name, labels in found.items():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(entry.class_names):
            yield f"{name}: labels {low} to {high}, but {len(entry.class_names)} classes"
        known = entry.manifest["source"]["splits"].get(name, {}).get("labels")
        if is_stored_whole(entry, name) and sources.labels_digest(raw_split(entry, name)) != known:
            yield f"{name}: its labels are not those of the source's digest"
    if "val" in found and found["train"].min() >= 0 and found["val"].min() >= 0:
        recipe, every = entry.manifest["recipe"], np.concatenate([found["train"], found["val"]])
        # Which rows were taken depends on an order that is gone; how many of a class does not.
        taken = permutation.stratified_mask(every, recipe["val_fraction"], recipe["split_seed"])
        if not np.array_equal(np.bincount(every[taken]), np.bincount(found["val"])):
            yield "val: has another share of a class than its recipe takes"


def is_stored_whole(entry: Entry, name: str) -> bool:
    """Whether a split is stored as it came, which no part of train is when val was taken."""
    return name == "test" or entry.val is None


def raw_split(entry: Entry, name: str) -> sources.RawSplit:
    """A split as it was before it was scaled."""
    split = entry.splits[name]
    return sources.RawSplit(raw_view(split, entry.scaling), split.labels)


def _check_exact(entry: Entry, note: OnProgress) -> Iterator[str]:
    manifest = entry.manifest
    for name in entry.splits:
        images = raw_split(entry, name).images
        other: list[int] = []
        moments = pairwise_sum(_rescale(entry, name, images, other.append, note))
        if other:
            yield f"{name}: the stored values from row {other[0]} on are not those of the scaling"
        if not _same(manifests.raw_limits(moments), manifest["splits"][name]["raw"]):
            yield f"{name}: raw minimum or maximum is another than the manifest says"
        if name == "train" and not _same(moments.overall(), manifest["statistics"]):
            yield "train: the sums of its pixels are other than the manifest says"
        if name == "train" and not _same(_fitted(entry.scaling, moments), manifest["scaling"]):
            yield "train: its statistics are other than the scaling's"
        if is_stored_whole(entry, name):
            known = manifest["source"]["splits"][name]["images"]
            if sources.images_digest(images, parallel.WorkerPool(), name) != known:
                yield f"{name}: its raw images are not those of the source's digest"


def _rescale(
    entry: Entry, name: str, images: sources.LazyArray, tell: OnProgress, note: OnProgress
) -> Iterator[AnyMoments]:
    """The moments of a split's raw images, block by block.

    `tell` is told the first row of each block whose images, scaled, are not what is stored.
    """
    split, scaling = entry.splits[name], entry.scaling
    per = entry.per if name == "train" and entry.per != "image" else "dataset"
    for rows in sources.block_ranges(images, BLOCK):
        raw = images[rows.start : rows.stop]
        values, own = apply_with_statistics(scaling, raw, split.dtype)
        columns = {"images": values, **(per_image_columns(scaling, own) if own else {})}
        for column, wanted in columns.items():
            if wanted.tobytes() != split.read(rows.start, rows.stop, column).tobytes():
                tell(rows.start)
        note(len(raw))
        yield moments_of(raw, per)


def _fitted(scaling: Scaling, moments: AnyMoments) -> dict[str, Any]:
    """The scaling as the manifest would have it, of these moments of train."""
    fitted = None if scaling.per == "image" else moments.statistics(scaling.unit)
    again = Scaling(scaling.mode, scaling.per, scaling.unit, scaling.raw_dtype, fitted)
    return dict(manifests.scaling_record(again))


def _check_statistics(entry: Entry, note: OnProgress) -> Iterator[str]:
    record = entry.manifest["scaling"]
    if not _same(manifests.scaling_record(entry.scaling), record):
        yield "the scale or offset is not that of the scaling's statistics"
    yield from _sums(entry)
    for name in entry.splits:
        yield from _near(entry, name, note)


def _near(entry: Entry, name: str, note: OnProgress) -> Iterator[str]:
    """Statistics of train, or of each image, and the limits of every split's raw values."""
    split, scaling = entry.splits[name], entry.scaling
    limits: list[tuple[float, float, float]] = []  # lowest, highest, and what they are off by
    strange: list[int] = []

    def moments() -> Iterator[AnyMoments]:
        for rows in sources.block_ranges(raw_view(split, scaling), BLOCK):
            stored = split.read(rows.start, rows.stop).astype(np.float64)
            own = own_statistics(split, rows.start, rows.stop)
            raw = scaling.statistics or statistics_per_image(*own)
            limits.append(_limits(scaling, raw, stored, split.dtype))
            if own and not _own_are_kept(entry, raw, stored, split.dtype):
                strange.append(rows.start)
            note(len(rows))
            yield moments_of(stored, entry.per if entry.per != "image" else "dataset")

    found = pairwise_sum(moments())
    if strange:
        yield f"{name}: from image {strange[0]} on, some have other statistics than stored"
    low, high = min(one[0] for one in limits), max(one[1] for one in limits)
    off, promised = max(one[2] for one in limits), entry.manifest["splits"][name]["raw"]
    if max(abs(low - promised["minimum"]), abs(high - promised["maximum"])) > off:
        yield f"{name}: raw minimum or maximum is another than the manifest says"
    if name == "train" and scaling.statistics is not None:
        every = ("mean", "std", "minimum", "maximum")
        if not _alike(scaling, found.statistics(), scaling.statistics, every, split.dtype):
            yield "train: its statistics are other than the scaling's"


def _sums(entry: Entry) -> Iterator[str]:
    """The sums of train's raw pixels, as the statistics of the scaling have them."""
    promised, count = entry.manifest["statistics"], math.prod(entry.train.shape)
    if promised["count"] != count:
        yield "train: the number of its pixels is another than the manifest says"
    own = own_statistics(entry.train, 0, len(entry.train))
    if own and MODES[entry.mode].uses_range:
        return  # of each image only minimum and range are stored
    raw = entry.scaling.statistics or statistics_per_image(*own)
    each, unit = count / raw.mean.size, entry.scaling.unit
    total = each * unit * math.fsum(raw.mean.reshape(-1))
    squares = each * unit**2 * math.fsum((raw.std**2 + raw.mean**2).reshape(-1))
    most = SLACK * max(squares, math.sqrt(squares * count))
    if abs(total - promised["sum"]) > SLACK * math.sqrt(squares * count) or (
        abs(squares - promised["sum_of_squares"]) > most
    ):
        yield "train: the sums of its pixels are other than the manifest says"


def _own_are_kept(
    entry: Entry, own: Statistics, stored: NDArray[np.float64], dtype: np.dtype[Any]
) -> bool:
    """Whether images have the statistics that are stored beside them."""
    told = ("minimum", "maximum") if MODES[entry.mode].uses_range else ("mean", "std")
    found = moments_of(stored, "image").statistics()
    return _alike(entry.scaling, found, own, told, dtype)


def _limits(
    scaling: Scaling, raw: Statistics, stored: NDArray[np.float64], dtype: np.dtype[Any]
) -> tuple[float, float, float]:
    """The lowest and highest raw value that is stored, and the most that they can be off by."""
    shift, divisor = shift_and_divisor(scaling, raw)
    regained = (stored * divisor + shift) * scaling.unit
    off = (_rounding(np.abs(stored), dtype) * divisor + np.abs(shift) * ULPS) * scaling.unit
    return float(regained.min()), float(regained.max()), float(off.max())


def _rounding(largest: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """The most that rounding to the stored type moves values up to these."""
    kind = np.finfo(dtype)
    return largest * (float(kind.eps) / 2 + SLACK) + float(kind.smallest_subnormal)


def _alike(
    scaling: Scaling,
    found: Statistics,
    raw: Statistics,
    names: tuple[str, ...],
    dtype: np.dtype[Any],
) -> bool:
    """Whether stored values have the statistics that those of the raw ones promise.

    Of values that move by no more than `most`, neither do mean, deviation and extremes; and the
    statistics of the raw values have some last bits wrong themselves.
    """
    promised, (shift, divisor) = scaled_statistics(scaling, raw), shift_and_divisor(scaling, raw)
    largest = np.maximum(np.abs(found.minimum), np.abs(found.maximum))
    most = _rounding(largest, dtype) + (np.abs(shift) / divisor + largest) * ULPS
    apart = [np.abs(getattr(found, name) - getattr(promised, name)) for name in names]
    return all(bool((one <= most).all()) for one in apart)
