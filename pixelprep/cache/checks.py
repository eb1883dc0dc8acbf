"""Check whether the arrays of an entry are what its manifest promises.

Where the stored type is fine enough, every raw integer is recovered from its stored value. Then
nothing is left to trust: the digest of the raw images, the exact statistics and each stored bit are
computed again. Elsewhere (floats, 16 bits in float16) the statistics of the stored values must be
those promised, within the rounding of each value.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pixelprep import sources
from pixelprep.dataset.entry import Entry, Split
from pixelprep.dataset.raw import own_statistics, raw_view
from pixelprep.format.manifest import FIRST_BATCH, FirstBatch, PixelSums, RawLimits, ScalingRecord
from pixelprep.format.recipe import NUMERICS_VERSION, class_counts, taken_rows
from pixelprep.numerics import scaling as scalings
from pixelprep.numerics.scaling import (
    MODES,
    Scaling,
    from_range,
    shift_and_divisor,
    statistics_per_image,
)
from pixelprep.numerics.statistics import AnyMoments, Statistics, moments_of, pairwise_sum
from pixelprep.sources.digest import digest_pieces, join_digests
from pixelprep.sources.lazy_arrays import AnyDType, pixel_bytes
from pixelprep.system import formatting, parallel

BLOCK_BYTES = 4 << 20  # raw images in memory at once
SLACK = 1e-9  # relative: well above the errors of float64 sums, below what shows in float32
ULPS = 2.0**-46  # relative: above the errors of float64 statistics of any number of values

OnProgress = Callable[[int], object]  # receives the number of rows that were checked


def failed_checks(entry: Entry, on_progress: OnProgress) -> Iterator[str]:
    """Yield a line for each promise of an entry that its arrays do not keep.

    Its files must have the digests in its manifest.
    """
    numerics = entry.manifest.recipe.numerics_version
    if numerics != NUMERICS_VERSION:
        yield f"numerics version {numerics}: this computes version {NUMERICS_VERSION}"
        return
    for name, split in entry.splits.items():
        first_batch = FirstBatch.of(split.read(0, min(FIRST_BATCH, len(split))))
        if entry.manifest.splits[name].first_batch != first_batch:
            yield f"{name}: the first batch has other figures than the manifest says"
    yield from _check_labels(entry)
    is_exact = entry.is_exact
    yield from (_check_exact if is_exact else _check_statistics)(entry, on_progress)


def _check_labels(entry: Entry) -> Iterator[str]:
    """Check labels and names, their digests, and how many images of each class there are."""
    labels = {name: split.labels for name, split in entry.splits.items()}
    classes, source = len(entry.class_names), entry.manifest.source
    low = min(int(split_labels.min()) for split_labels in labels.values())
    for name, split_labels in labels.items():
        highest = int(split_labels.max())
        if split_labels.min() < 0 or highest >= (2 if split_labels.ndim > 1 else classes):
            there = formatting.pluralize(classes, "class", "classes")
            yield f"{name}: labels {split_labels.min()} to {highest}, but {there}"
        elif class_counts(split_labels, classes) != entry.manifest.splits[name].class_counts:
            yield f"{name}: other numbers of images of each class than the manifest says"
        names = entry.splits[name].read_names()
        if entry.manifest.recipe.keeps_whole(name):
            if sources.labels_digest(split_labels) != source.splits[name].labels:
                yield f"{name}: its labels are not those of the source's digest"
            if names is not None and sources.names_digest(names) != source.splits[name].names:
                yield f"{name}: its names are not those of the source's digest"
    recipe = entry.manifest.recipe
    taken = [name for name in labels if "train" in (name, recipe.splits[name])]
    if low >= 0 and "train" in recipe.splits.values():
        # Which rows were taken depends on an order that is lost; how many of a class does not.
        every = np.concatenate([labels[name] for name in taken])
        for name, rows in taken_rows(every, recipe).items():
            single = every.ndim == 1
            if single and not np.array_equal(np.bincount(every[rows]), np.bincount(labels[name])):
                yield f"{name}: has another share of a class than its recipe takes"


def _check_exact(entry: Entry, on_progress: OnProgress) -> Iterator[str]:
    manifest = entry.manifest
    for name in entry.splits:
        moments, digest, wrong_row = _check_pixels(entry, name, on_progress)
        if wrong_row is not None:
            file = entry.splits[name].name_of(wrong_row)
            where = f"row {wrong_row} ({file})" if file else f"row {wrong_row}"
            yield f"{name}: the stored values from {where} on are not those of the scaling"
        if manifest.splits[name].raw != RawLimits.of(moments):
            yield f"{name}: the raw minimum or maximum differs from the manifest"
        if name == manifest.first_split:
            if manifest.statistics != PixelSums(**moments.overall()):
                yield f"{name}: the sums of its pixels differ from the manifest"
            scaling = entry.scaling
            if not scaling.fixed:
                per_image, quantiles = entry.per == "image", manifest.recipe.quantiles
                of_all = None if per_image else moments.statistics(scaling.unit, quantiles)
                scaling = replace(scaling, statistics=of_all)
            if manifest.scaling != ScalingRecord.of(scaling):
                yield f"{name}: its statistics differ from the scaling's"
        if manifest.recipe.keeps_whole(name) and digest != manifest.source.splits[name].images:
            yield f"{name}: its raw images are not those of the source's digest"


def _check_pixels(
    entry: Entry, name: str, on_progress: OnProgress
) -> tuple[AnyMoments, str, int | None]:
    """Recover the raw images of a split once: return their moments and digest, and a wrong row.

    The wrong row is the first of a block whose images, scaled again, are not the stored ones.
    """
    split = entry.splits[name]
    is_fitted = name == "train" and entry.per != "image" and not entry.scaling.fixed
    per = entry.per if is_fitted else "dataset"
    pieces = digest_pieces(raw_view(split, entry.scaling))
    counted = is_fitted and entry.scaling.quantiles is not None
    tasks = ((split, entry.scaling, per, counted, rows) for rows in pieces)
    parts, digests, wrong_rows = list[AnyMoments](), [], list[int]()
    with parallel.thread_pool() as threads:  # most of the work releases the interpreter's lock
        found = parallel.WorkerPool(threads).map(_check_piece, tasks)
        for rows, (moments, digest, wrong) in zip(pieces, found, strict=True):
            parts.append(moments)
            digests.append(digest)
            wrong_rows += wrong
            on_progress(len(rows))
    return pairwise_sum(parts), join_digests(digests), min(wrong_rows, default=None)


def _check_piece(
    task: tuple[Split, Scaling, str, bool, range],
) -> tuple[AnyMoments, bytes, list[int]]:
    """Recover rows under one digest: return moments, digest, and first rows of wrong blocks."""
    split, scaling, per, counted, piece = task
    digest, moments, wrong_rows = hashlib.sha256(), list[AnyMoments](), list[int]()
    for block in sources.block_ranges(raw_view(split, scaling).slice_rows(piece), BLOCK_BYTES):
        start, stop = piece.start + block.start, piece.start + block.stop
        own, raw = own_statistics(split, start, stop), split.read_raw(start, stop)
        stored = [] if raw is not None else [split.read(start, stop)]  # scaled, if there are such
        raw = scaling.invert(stored[0], *own) if raw is None else raw
        again, fitted = scalings.apply_with_statistics(scaling, raw, split.dtype)
        own_again = scalings.per_image_columns(scaling, fitted).values() if fitted else ()
        columns = [*([again] if stored else []), *own_again]
        if any(a.tobytes() != b.tobytes() for a, b in zip(columns, [*stored, *own], strict=True)):
            wrong_rows.append(start)
        digest.update(pixel_bytes(raw))
        moments.append(moments_of(raw, per, counted=counted))
    return pairwise_sum(moments), digest.digest(), wrong_rows


def _check_statistics(entry: Entry, on_progress: OnProgress) -> Iterator[str]:
    if entry.manifest.scaling != ScalingRecord.of(entry.scaling):
        yield "the scale or offset is not that of the scaling's statistics"
    yield from _check_sums(entry)
    for name in entry.splits:
        yield from _check_split(entry, name, on_progress)


def _check_sums(entry: Entry) -> Iterator[str]:
    """Compare the sums of train's raw pixels with the statistics of the scaling."""
    first = entry.splits[entry.manifest.first_split]
    promised, count = entry.manifest.statistics, math.prod(first.shape)
    if promised.count != count:
        yield f"{first.name}: the number of its pixels differs from the manifest"
    if entry.scaling.fixed:
        return  # it has no statistics of its pixels
    own = own_statistics(first, 0, len(first))
    if own and MODES[entry.mode].uses_range:
        return  # of each image only minimum and range are stored
    raw = entry.scaling.statistics or statistics_per_image(*own)
    each, unit = count / raw.mean.size, entry.scaling.unit
    total = each * unit * math.fsum(raw.mean.reshape(-1))
    squares = each * unit**2 * math.fsum((raw.std**2 + raw.mean**2).reshape(-1))
    bound = SLACK * math.sqrt(squares * count)
    if abs(total - promised.sum) > bound or (
        abs(squares - promised.sum_of_squares) > max(SLACK * squares, bound)
    ):
        yield "train: the sums of its pixels differ from the manifest"


def _check_split(entry: Entry, name: str, on_progress: OnProgress) -> Iterator[str]:
    """Compare a split's stored values with the statistics and raw limits that were promised."""
    split, scaling = entry.splits[name], entry.scaling
    names = ("minimum", "maximum") if MODES[entry.mode].uses_range else ("mean", "std")
    lows, highs, errors = list[float](), list[float](), list[float]()
    moments, wrong_rows = list[AnyMoments](), list[int]()
    for rows in sources.block_ranges(raw_view(split, scaling), BLOCK_BYTES):
        stored = split.read(rows.start, rows.stop).astype(np.float64)
        own = own_statistics(split, rows.start, rows.stop)
        raw = scaling.statistics or statistics_per_image(*own)
        shift, divisor = shift_and_divisor(scaling, raw)
        recovered = (from_range(scaling, stored) * divisor + shift) * scaling.unit
        low, high = scaling.target_range or (0.0, 1.0)
        bound = _error_bound(scaling, raw, np.abs(stored), split.dtype) / (high - low)
        bound *= divisor * scaling.unit
        lows.append(float(recovered.min()))
        highs.append(float(recovered.max()))
        errors.append(float(bound.max()))
        images = moments_of(stored, "image").statistics() if own else None
        if images and not _agree(scaling, images, raw, names, split.dtype):
            wrong_rows.append(rows.start)
        moments.append(moments_of(stored, entry.per if entry.per != "image" else "dataset"))
        on_progress(len(rows))
    if wrong_rows:
        yield f"{name}: from image {wrong_rows[0]} on, some have other statistics than stored"
    limits = entry.manifest.splits[name].raw
    gaps = [abs(min(lows) - limits.minimum), abs(max(highs) - limits.maximum)]
    if scaling.clip and (own_limits := scaling.statistics):
        low, high = own_limits.low.min() * scaling.unit, own_limits.high.max() * scaling.unit
        gaps = [low - min(lows), max(highs) - high]
    if max(gaps) > max(errors):
        yield f"{name}: the raw minimum or maximum differs from the manifest"
    is_fitted = not scaling.fixed and not scaling.clip
    if name == "train" and scaling.statistics is not None and is_fitted:
        every, found = ("mean", "std", "minimum", "maximum"), pairwise_sum(moments).statistics()
        if not _agree(scaling, found, scaling.statistics, every, split.dtype):
            yield "train: its statistics differ from the scaling's"


def _error_bound(
    scaling: Scaling, raw: Statistics, largest: NDArray[np.float64], dtype: AnyDType
) -> NDArray[np.float64]:
    """Return how far stored values up to `largest` may be from those of exact arithmetic.

    A value is rounded to the stored type, by at most half an `eps` of its size or, near zero, the
    type's smallest number. Before that the last bits of shift and divisor, which are rounded
    statistics, move it: by `ULPS` of the shift and of its own size. `SLACK` covers the sums here.
    If no value moves by more than this, neither do mean, deviation, minimum and maximum.
    """
    shift, divisor = shift_and_divisor(scaling, raw)
    low, high = scaling.target_range or (0.0, 1.0)
    kind = np.finfo(dtype)
    rounding = largest * (float(kind.eps) / 2 + SLACK) + float(kind.smallest_subnormal)
    return rounding + (np.abs(shift) / divisor * (high - low) + abs(low) + largest) * ULPS


def _agree(
    scaling: Scaling, found: Statistics, raw: Statistics, names: tuple[str, ...], dtype: AnyDType
) -> bool:
    """Tell whether stored values have the statistics that those of the raw ones imply."""
    implied = scalings.scaled_statistics(scaling, raw)
    largest = np.maximum(np.abs(found.minimum), np.abs(found.maximum))
    bound = _error_bound(scaling, raw, largest, dtype)
    errors = [np.abs(getattr(found, name) - getattr(implied, name)) for name in names]
    return all(bool((error <= bound).all()) for error in errors)
