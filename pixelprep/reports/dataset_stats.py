"""Measure a dataset: its pixels, classes, sizes and duplicates; nothing is stored."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Self  # Any: JSON values

import numpy as np

from pixelprep import sources
from pixelprep.cache import entries
from pixelprep.cache.inventory import describe
from pixelprep.dataset.entry import Entry
from pixelprep.dataset.raw import raw_view
from pixelprep.errors import SourceError, UsageError
from pixelprep.format.options import ReadOptions, declared_options, takes
from pixelprep.format.recipe import class_counts
from pixelprep.numerics.histogram import Histogram
from pixelprep.numerics.scaling import rescale_unit
from pixelprep.numerics.statistics import (
    AnyMoments,
    Float,
    PairwiseSum,
    moments_of,
    moments_of_histogram,
    pairwise_sum,
)
from pixelprep.pipeline import raw_data
from pixelprep.pipeline.fit import FIT_BYTES
from pixelprep.pipeline.prepare import PrepareCall, as_before, source_of
from pixelprep.reports.paste import LIBRARIES, Standardization, spell, supports
from pixelprep.system import fs, locks, notices, os_calls, parallel, progress
from pixelprep.system.json_record import Record
from pixelprep.system.notices import Duplicates

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PixelStats(Record):
    """Statistics of pixels, one of each channel or, of all of them together, a single one.

    Parameters
    ----------
    mean, std, minimum, maximum : tuple of float
        In pixel units; ``std`` is the population's (ddof 0). Those that `prepare` finds.
    quantiles : mapping, optional
        By share, ``"0.01"`` to ``"0.99"``; None of floats, whose quantiles are not measured.
    mean_over_max, std_over_max : tuple of float, optional
        Of pixels divided by their type's maximum; None of floats.
    """

    mean: Numbers
    std: Numbers
    minimum: Numbers
    maximum: Numbers
    quantiles: Mapping[str, Numbers] | None
    mean_over_max: Numbers | None
    std_over_max: Numbers | None

    @classmethod
    def of_integers(cls, pixels: Histogram, unit: int) -> Self:
        """Return the statistics of counted pixels, whose type's maximum is `unit`."""
        moments = moments_of_histogram(pixels)
        over_max = moments.statistics(unit)
        return replace(
            cls.of_moments(moments),
            quantiles={str(q): _numbers(pixels.quantile(q)) for q in QUANTILES},
            mean_over_max=_numbers(over_max.mean),
            std_over_max=_numbers(over_max.std),
        )

    @classmethod
    def of_moments(cls, moments: AnyMoments) -> Self:
        """Return those statistics that moments tell."""
        found = moments.statistics()
        of_all = (found.mean, found.std, found.minimum, found.maximum)
        mean, std, minimum, maximum = map(_numbers, of_all)
        return cls(mean, std, minimum, maximum, None, None, None)


def _numbers(values: Float) -> Numbers:
    return tuple(values.tolist())


@dataclass(frozen=True, slots=True)
class SplitStats(Record):
    """What is in a split.

    Parameters
    ----------
    images : int
        How many.
    class_counts : tuple of int
        How many of each class.
    channels, overall : PixelStats
        Its pixels, by channel and all together.
    """

    images: int
    class_counts: tuple[int, ...]
    channels: PixelStats
    overall: PixelStats


@dataclass(frozen=True, slots=True)
class DatasetStats(Record):
    """What is in a dataset, as `stats` measured it.

    Parameters
    ----------
    dataset : str
        Its name.
    split : str
        The split whose statistics `to_dict` has at the top, and `paste`: train, if it is there.
    shape : tuple of int
        (H, W, C) of an image.
    dtype : str
        The type of its pixels.
    class_names : tuple of str
        In the order of counts.
    splits : mapping
        `SplitStats` by name.
    sizes : mapping
        How many images are of which ``HEIGHT×WIDTH``; of files, before they are resized.
    files : mapping
        Where there are files, how many are of each format, type and so on.
    duplicates : tuple of Duplicates
        Equal images: ``test in train`` and so on, ``train in train`` for those that equal an
        earlier one of the same split, ``label conflicts``.
    """

    dataset: str
    split: str
    shape: tuple[int, ...]
    dtype: str
    class_names: tuple[str, ...]
    splits: Mapping[str, SplitStats]
    sizes: Mapping[str, int]
    files: Mapping[str, Mapping[str, int]]
    duplicates: tuple[Duplicates, ...]

    def paste(self, library: str) -> str:
        """Return lines of Python that standardize as `prepare` does, for another library.

        Parameters
        ----------
        library : {"torchvision", "keras", "albumentations", "timm", "jax", "numpy"}
            Those of NumPy give the very values that are stored, the others float32's.

        Returns
        -------
        str
            To be pasted or executed.

        Raises
        ------
        UsageError
            When there is no such library, or it takes no such pixels.

        Examples
        --------
        >>> import pixelprep
        >>> print(pixelprep.stats("sample", quiet=True).paste("keras").splitlines()[0])
        # sample: measured by pixelprep on all 6,000 images of train
        """
        return spell(library, self._constants())

    def _constants(self) -> Standardization:
        one = self.splits[self.split]
        about = (
            f"{self.dataset}: measured by pixelprep on all {one.images:,} images of {self.split}"
        )
        pixels = one.channels
        of_max = pixels.mean_over_max, pixels.std_over_max
        return Standardization(about, self.shape, self.dtype, pixels.mean, pixels.std, *of_max)

    def pasted(self) -> dict[str, str]:
        """Return what `paste` does for each library that takes such pixels.

        Returns
        -------
        dict
            By the library's name.
        """
        constants = self._constants()
        names = [name for name in LIBRARIES if supports(name, constants)]
        return {name: spell(name, constants) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values.

        Returns
        -------
        dict
            The fields; beside them the statistics by channel of `split`, the class counts by split,
            and what is `pasted`.
        """
        of_split = self.splits[self.split].channels.to_dict()
        counts = {name: list(one.class_counts) for name, one in self.splits.items()}
        own = super(DatasetStats, self).to_dict()
        return {**own, **of_split, "class_counts": counts, "paste": self.pasted()}


@dataclass(frozen=True)
class StatsCall(ReadOptions):
    """The arguments of a call of `stats`."""

    dataset: str | os.PathLike[str] | sources.Source | Entry = "mnist"


def stats_as_before(dataset: str, **given: Any) -> DatasetStats:
    """Measure as `stats` does; what no option says is as this data was prepared before, if it was.

    Of several ways that it was prepared in none is meant (`as_before`).
    """
    cache = fs.cache_dir(given.get("cache_dir"))
    if entries.is_entry_name(dataset, cache):
        return stats(dataset, **given)
    dataset = dataset if sources.is_path(dataset) else sources.meant(dataset)
    taken = declared_options(ReadOptions).keys()
    own = as_before(dataset, given, cache, any_scaling=True, among=taken)
    return stats(dataset, **given, **own)


@takes(StatsCall)
def stats(call: StatsCall) -> DatasetStats:
    """Measure a dataset's pixels, classes, sizes and duplicates; store nothing.

    Parameters
    ----------
    dataset : str, path, Source or Entry
        As for `prepare`; or an entry whose raw pixels can be recovered exactly.
    {options}

    Returns
    -------
    DatasetStats
        Exact: those that `prepare` scales by.

    Raises
    ------
    UsageError, SourceError, EntryError, CacheError, WorkerError, MissingExtraError
        When an option, the raw data, the entry or the workers are not usable.

    Examples
    --------
    >>> import pixelprep
    >>> found = pixelprep.stats("sample", quiet=True)
    >>> found.splits["train"].channels.mean
    (26.190697278911564,)
    """
    os_calls.require_posix("measuring a dataset")
    cache = fs.cache_dir(call.cache_dir)
    known = _entry(call)
    # What is left checks all options, also where the data is an entry's.
    checked = PrepareCall(**vars(call) | {"dataset": known.dataset if known else call.dataset})
    pool = parallel.WorkerPool(checked.workers, checked.scheduler)
    context = sources.SourceContext(cache, pool, checked.quiet)
    with fs.translate_oserror(cache), pool, context, notices.collect() as told:
        if known:
            sources.refuse_unsupported("an entry", checked)
            if call.source is not None:
                raise UsageError("`source`: does not apply to an entry", "leave the option out")
            data = _survey_entry(known, context)
            told.files = describe(known, cache_dir=cache).files
            name = known.dataset
        else:
            source = source_of(checked)
            name = source.name
            with locks.lock(cache, locks.raw_lock_name(name)):  # one process downloads
                data = raw_data.read(source, context, None)
        return _measured(name, data, told, context)


def _entry(call: StatsCall) -> Entry | None:
    """Return the entry that is to be measured, if it is one."""
    if isinstance(call.dataset, Entry):
        return call.dataset
    dataset = sources.normalize_dataset(call.dataset)
    cache = fs.cache_dir(call.cache_dir)
    if isinstance(dataset, str) and entries.is_entry_name(dataset, cache):
        return entries.open_named(dataset, cache, call.quiet)
    return None


def _survey_entry(entry: Entry, context: sources.SourceContext) -> sources.Survey:
    """Describe the raw data of an entry, recovered from what is stored."""
    if not entry.is_exact:
        message = f"{entry.path}: its raw pixels are recovered approximately, so not measured"
        raise SourceError(message, "give what it was made from: `pixelprep info` tells")
    scaling, about = entry.scaling, entry.manifest.source
    splits = {
        name: sources.RawSplit(raw_view(split, scaling), split.labels, split.read_names())
        for name, split in entry.splits.items()
    }
    raw = sources.Raw(splits, entry.class_names, about.decode, about.task)
    return sources.survey(raw, context.pool, entry.dataset, context.quiet, {})


def _measured(
    name: str, data: sources.Survey, told: notices.Told, context: sources.SourceContext
) -> DatasetStats:
    """Return the statistics of data, of which `told` was told; its pixels are read once more."""
    raw, splits = data.raw, {}
    for split, rows in raw.splits.items():
        counts = class_counts(np.asarray(rows.labels[:], np.int64), len(raw.class_names))
        splits[split] = SplitStats(len(rows.labels), counts, *_pixels(split, rows.images, context))
    first = "train" if "train" in splits else next(iter(splits))
    images = raw.splits[first].images
    height, width, _ = shape = tuple(images.shape[1:])
    total = sum(one.images for one in splits.values())
    files = {kind: dict(counts) for kind, counts in told.files.items()}
    sizes = files.pop("size", {f"{height}×{width}": total})
    within = sources.within(raw, sources.EqualImages.among(data.keys))
    found = (*told.duplicates, *within)
    about = (images.dtype.name, tuple(raw.class_names), splits, sizes, files, found)
    return DatasetStats(name, first, shape, *about)


def _pixels(
    split: str, images: sources.LazyArray, context: sources.SourceContext
) -> tuple[PixelStats, PixelStats]:
    """Read a split's images and return their statistics, by channel and all together."""
    pieces = [sources.slice_rows(images, rows) for rows in sources.block_ranges(images, FIT_BYTES)]
    with progress.bar(f"counting {split}", len(images), " images", context.quiet) as bar:
        if images.dtype.kind != "f":
            counted = context.pool.map(_histogram, pieces)
            pixels = reduce(add, progress.track(counted, map(len, pieces), bar))
            unit = rescale_unit(images.dtype, rescale=True)
            both = (pixels, pixels.overall())
            each, every = (PixelStats.of_integers(one, unit) for one in both)
            return each, every
        summed = context.pool.map(_float_moments, pieces)
        by_channel, together = zip(*progress.track(summed, map(len, pieces), bar), strict=True)
    each, every = (PixelStats.of_moments(pairwise_sum(one)) for one in (by_channel, together))
    return each, every


def _histogram(images: sources.LazyArray) -> Histogram:
    return reduce(add, map(Histogram.of, sources.iter_blocks(images)))


def _float_moments(images: sources.LazyArray) -> tuple[AnyMoments, AnyMoments]:
    by_channel, together = PairwiseSum(), PairwiseSum()
    for block in sources.iter_blocks(images):
        by_channel.add(moments_of(block, "channel"))
        together.add(moments_of(block, "dataset"))
    return by_channel.total(), together.total()
