"""Fit a scaling to the training split, and sum up the pixels of all splits."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pixelprep import sources
from pixelprep.errors import UsageError
from pixelprep.format.manifest import RawLimits
from pixelprep.format.recipe import SPLITS, Recipe, check_classes_stay, class_counts, taken_rows
from pixelprep.numerics.scaling import FORM, MODES, Scaling, fixed_scaling, rescale_unit
from pixelprep.numerics.statistics import AnyMoments, moments_of, pairwise_sum
from pixelprep.system import formatting, notices, progress

LOG = logging.getLogger("pixelprep")

TAKEN_HINT = "these splits are taken from train: leave out of it what is there twice"

Splits = Mapping[str, sources.RawSplit]  # by name

NARROW, FAR = 1.0, 20.0  # scaled pixels whose range is below, or that lie beyond, are told of

FIT_BYTES = 64 << 20  # of raw images that one task sums up


def scope(split: str, per: str) -> str:
    """Return which pixels share a statistic: only train is fitted; of others, limits are needed."""
    return per if split == "train" and per != "image" else "dataset"


def divide(
    data: sources.Survey, recipe: Recipe, where: str, on_leak: str | None
) -> dict[str, sources.RawSplit]:
    """Return the splits to store: those that the source lacks are taken from train.

    Equal images that were divided are told of, or refused: all are the recipe's. So are classes
    that a split has not got.
    """
    splits, keys = dict(data.raw.splits), dict(data.keys)
    if "train" in recipe.splits.values():  # else labels, of which there may be many, are not read
        train = splits["train"]
        labels = train.labels[:]
        check_classes_stay(labels, recipe)
        for name, rows in taken_rows(labels, recipe).items():
            splits[name], keys[name] = train.take(rows), data.keys["train"][rows]
        taken = {n: splits[n] for n in recipe.splits if "train" in (n, recipe.splits[n])}
        divided = replace(data.raw, splits=taken)
        stop = "fail" if on_leak in ("fail", "drop") else None
        equal = sources.EqualImages.among({name: keys[name] for name in taken})
        sources.handle_leaks(divided, equal, where, stop, TAKEN_HINT)
        names = data.raw.class_names
        counts = {n: np.array(class_counts(one.labels[:], len(names))) for n, one in taken.items()}
        sources.tell_of_lacking(where, names, counts)
    return {name: splits[name] for name in SPLITS if name in splits}


def sum_up(
    splits: Splits,
    per: str,
    known: Mapping[str, AnyMoments],
    context: sources.SourceContext,
    *,
    counted: bool = False,
) -> dict[str, AnyMoments]:
    """Return the moments of each split, read unless they are `known`; show its limits.

    Those of train tell quantiles if its pixels are `counted`.
    """
    moments = dict(known)
    for name, split in splits.items():
        images = split.images
        if name not in moments:
            ranges = sources.block_ranges(images, FIT_BYTES)
            pieces = [sources.slice_rows(images, rows) for rows in ranges]
            wanted = scope(name, per), counted and name == "train"
            sums = context.pool.map(_piece_moments, ((piece, *wanted) for piece in pieces))
            with progress.bar(f"reading {name}", len(images), " images", context.quiet) as bar:
                moments[name] = pairwise_sum(progress.track(sums, map(len, pieces), bar))
        limits = RawLimits.of(moments[name])
        shape = f"{len(images):,} × {formatting.format_shape(images.shape[1:])} {images.dtype}"
        shown = (name, shape, limits.minimum, limits.maximum)
        LOG.info("raw %-5s %s, minimum %.6g, maximum %.6g", *shown)
    return moments


def fit(recipe: Recipe, dtype: np.dtype[np.generic], train: AnyMoments) -> Scaling:
    """Fit the recipe's scaling for raw pixels of this type to the moments of train.

    Where the recipe has constants, they are the scaling.
    """
    unit = rescale_unit(dtype, recipe.rescale)
    form = {name: getattr(recipe, name) for name in FORM}
    about = (recipe.mode, recipe.per, unit, dtype.name)
    if given := recipe.constants:
        return fixed_scaling(*about, given.shift, given.divisor, given.limits, **form)
    statistics = None if recipe.per == "image" else train.statistics(unit, recipe.quantiles)
    return Scaling(*about, statistics, **form)


def tell_of_scaling(
    scaling: Scaling, storage: str, where: str, raw: Mapping[str, RawLimits]
) -> None:
    """Tell what a scaling does to pixels that may not be meant, given their limits."""
    fitted = scaling.statistics if scaling.quantiles else None
    if fitted and (fitted.low == fitted.high)[fitted.minimum < fitted.maximum].any():
        equal = "{}: the quantiles {:g} and {:g} are equal".format(where, *scaling.quantiles or ())
        if scaling.clip:
            message = f"{equal}: clipped between them, all pixels were"
            raise UsageError(message, "`quantiles=0.01,0.99` or others are farther apart")
        notices.tell(f"{equal}: divided by 1 (others: `quantiles=0.01,0.99`)")
    if scaling.clip:
        lost = "" if storage == "raw" else ", and cannot be had back: `storage=raw` keeps them"
        LOG.info("%s: pixels are clipped between the quantiles%s", where, lost)
    if MODES[scaling.mode].is_given:
        _tell_of_constants(scaling, where, raw)
    if not MODES[scaling.mode].uses_range or scaling.per == "image" or scaling.fixed:
        return
    train, dtype = raw["train"], np.dtype(scaling.raw_dtype)
    if dtype.kind in "ui" and scaling.limits is None:
        if 0 < train.maximum < (scaling.unit + 1) // 2:
            bits = int(train.maximum).bit_length()
            reach = f"become at most {train.maximum / scaling.unit:.4g} of the range"
            message = f"{where}: pixels up to {train.maximum:,} of {dtype}, of {bits} bits, {reach}"
            notices.tell(f"{message}: `limits=data` normalizes by what is there")
        return
    for name, own in raw.items():
        if own.minimum < train.minimum or own.maximum > train.maximum:
            shown = (where, name, own.minimum, own.maximum, train.minimum, train.maximum)
            LOG.info("%s: %s has pixels of %.6g to %.6g, beyond train's %.6g to %.6g", *shown)


def _tell_of_constants(scaling: Scaling, where: str, raw: Mapping[str, RawLimits]) -> None:
    """Tell where given constants hardly fit the pixels, as those in other units do not."""
    low, high = min(x.minimum for x in raw.values()), max(x.maximum for x in raw.values())
    ends = [(end / scaling.unit - scaling.mean) / scaling.std for end in (low, high)]
    least, most = float(ends[0].min()), float(ends[1].max())
    is_divided = bool((scaling.std != 1).any())
    if low == high or not is_divided or (most - least >= NARROW and max(-least, most) <= FAR):
        return
    units = "values over the type's maximum" if scaling.unit != 1 else "pixels as they are"
    told = f"{where}: pixels of {low:g} to {high:g} become {least:.4g} to {most:.4g}"
    notices.tell(f"{told}: are mean and std of {units} (`units`), and of this type?")


def _piece_moments(task: tuple[sources.LazyArray, str, bool]) -> AnyMoments:
    images, per, counted = task
    blocks = sources.iter_blocks(images)
    return pairwise_sum(moments_of(block, per, counted=counted) for block in blocks)
