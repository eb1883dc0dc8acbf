"""Define what a source of raw data is: its options, its splits and its provenance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError, UsageError
from pixelprep.format.options import DecodeOptions, declared_options, documented
from pixelprep.format.source_record import Provenance as Provenance  # a public name
from pixelprep.numerics import permutation
from pixelprep.numerics.statistics import check_images
from pixelprep.sources.context import SourceContext
from pixelprep.sources.lazy_arrays import (
    FileArray,
    LazyArray,
    TakeView,
    iter_blocks,
    reshape_rows,
    slice_rows,
    write_array,
)
from pixelprep.system import parallel
from pixelprep.system.fs import HASH_BYTES

File = TypeVar("File")

MIN_CLASS_LIMIT = 1000  # labels below this are accepted, however few the images

# Options that only some sources support.
DECODE_OPTIONS = tuple(declared_options(DecodeOptions))


@documented(DecodeOptions)
@dataclass(frozen=True, kw_only=True)
class Options(DecodeOptions):
    """Where raw data is and how it is read.

    Parameters
    ----------
    {options}
    source : Path, optional
        A folder with the raw files; nothing is downloaded.
    mirror : str, optional
        A URL that is tried first.
    offline : bool
        Open no connection.
    quiet : bool
        Draw no progress bars.
    split_seed : int
        0 to 2**64 − 1: which rows become the test split.
    """

    size: tuple[int, int] | None = None  # (H, W), whichever way it was given
    source: Path | None = None
    mirror: str | None = None
    offline: bool = False
    quiet: bool = False
    split_seed: int = 0


@dataclass(frozen=True, slots=True)
class RawSplit:
    """Unscaled images and their labels.

    Either may be larger than memory: they are read block by block.

    Parameters
    ----------
    images : array
        Integers of 8 or 16 bits or floats, (N, H, W, C).
    labels : array
        Integers (N,), each the index of a class name.
    """

    images: LazyArray
    labels: LazyArray

    def slice_rows(self, rows: range) -> "RawSplit":
        """Select neighbouring rows of both."""
        return RawSplit(slice_rows(self.images, rows), slice_rows(self.labels, rows))

    def take(self, rows: NDArray[np.int64]) -> "RawSplit":
        """Select the rows with these indices, in this order."""
        return RawSplit(TakeView(self.images, rows), TakeView(self.labels, rows))


@dataclass(frozen=True, slots=True)
class Raw:
    """A whole raw dataset.

    Parameters
    ----------
    splits : mapping
        ``train`` and ``test``.
    class_names : tuple of str
        The name of each label.
    decode : mapping
        The decoding options that shaped the pixels: JSON values, part of the source digest.
    """

    splits: Mapping[str, RawSplit]
    class_names: tuple[str, ...]
    decode: Mapping[str, object] = field(default_factory=dict)

    def checked(self, where: str) -> "Raw":
        """Return the dataset itself if its splits fit each other.

        Raises
        ------
        SourceError
            When images and labels differ in number, a split is empty, splits differ in shape or
            dtype, or a label has no class.
        """
        try:
            "".join(self.class_names).encode()
        except UnicodeEncodeError as error:
            raise SourceError(f"{where}: a class name is not valid text: {error}") from None
        kinds = {
            (split.images.shape[1:], split.images.dtype.name) for split in self.splits.values()
        }
        if len(kinds) != 1:
            raise SourceError(f"{where}: the splits differ in image shape or type: {sorted(kinds)}")
        for name, split in self.splits.items():
            _check_split(f"{where}: {name}", split, len(self.class_names))
        return self

    def materialize(self, context: SourceContext) -> "Raw":
        """Return the same data in files, which other processes can read."""
        splits = {
            name: RawSplit(
                _in_file(split.images, context.file(f"{name}-images")),
                _in_file(split.labels, context.file(f"{name}-labels")),
            )
            for name, split in self.splits.items()
        }
        return Raw(splits, self.class_names, self.decode)


def _in_file(array: LazyArray, path: Path) -> LazyArray:
    if isinstance(array, TakeView):
        return TakeView(_in_file(array.array, path), array.rows)
    if isinstance(array, FileArray):
        return array
    return write_array(path, array.shape, iter_blocks(array))


def _check_split(where: str, split: RawSplit, classes: int) -> None:
    images, labels = split.images, split.labels
    if len(images) != len(labels):
        raise SourceError(
            f"{where}: {len(images)} images but {len(labels)} labels",
            "the two must belong together",
        )
    check_images(where, images.shape, images.dtype)
    low, high = label_range(split)
    if low < 0 or high >= classes:
        raise SourceError(f"{where}: expected labels 0 to {classes - 1}, got {low} to {high}")


def label_range(split: RawSplit) -> tuple[int, int]:
    """Return the lowest and the highest label; 0 and -1 if there are none."""
    ranges = [
        (int(block.min()), int(block.max())) for block in iter_blocks(split.labels, HASH_BYTES)
    ]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (0, -1)


class Source(Protocol):
    """A dataset that `prepare` can read."""

    @property
    def name(self) -> str:
        """The name of the dataset's folder in the cache."""

    @property
    def provenance(self) -> Provenance:
        """The origin of the data, and the terms of its use."""

    def fingerprints(self) -> Sequence[Mapping[str, object]]:
        """Return JSON values, each of which changes whenever the data may have changed.

        The first is compared before the data is read; all are recorded once it was. Without any,
        the data is read every time.
        """

    def load(self, context: SourceContext) -> Raw:
        """Read the raw data, downloading what is missing into the cache.

        Parameters
        ----------
        context : SourceContext
            The cache folder, the workers, and private files that last as long as the work.

        Returns
        -------
        Raw
            The splits, each with images (N, H, W, C) and labels (N,), and the class names.
        """


def as_split(where: str, images: LazyArray, labels: LazyArray) -> RawSplit:
    """Make a split of images (N, H, W) or (N, H, W, C) and labels (N,) or (N, 1).

    Raises
    ------
    SourceError
        When the labels are not integers, one per image.
    """
    if labels.shape[1:] == (1,):
        labels = reshape_rows(labels, ())  # the shape that Keras stores
    if labels.dtype.kind not in "ui" or len(labels.shape) != 1:
        got = f"{labels.dtype} {labels.shape}"
        raise SourceError(
            f"{where}: labels are {got}: expected integers (N,)", "number the classes 0, 1, 2, …"
        )
    if len(images.shape) == 3:
        images = reshape_rows(images, (*images.shape[1:], 1))
    return RawSplit(images, labels)


def numbered_classes(where: str, splits: Mapping[str, RawSplit]) -> tuple[str, ...]:
    """Name classes by their labels."""
    highest = max(label_range(split)[1] for split in splits.values())
    images = sum(len(split.labels) for split in splits.values())
    if highest >= max(images, MIN_CLASS_LIMIT):
        raise SourceError(
            f"{where}: labels up to {highest:,} of {images:,} images: expected 0, 1, 2, …"
        )
    return tuple(str(label) for label in range(highest + 1))


def read_pairs(
    pairs: Mapping[str, tuple[File, File]], read: Callable[[File, int], FileArray]
) -> dict[str, RawSplit]:
    """Read splits whose images and labels are in separate files, several at a time.

    Parameters
    ----------
    pairs : mapping
        By split, what identifies the file of images and the file of labels.
    read : callable
        Returns the array of one of these, given its number of dimensions, 3 or 1.
    """
    with parallel.thread_pool() as pool:
        pending = {
            name: (pool.submit(read, images, 3), pool.submit(read, labels, 1))
            for name, (images, labels) in pairs.items()
        }
        return {
            name: RawSplit(images.result(), labels.result())
            for name, (images, labels) in pending.items()
        }


def split_test(where: str, split: RawSplit, options: Options) -> dict[str, RawSplit]:
    """Move the same share of every class to a test split (data/FORMAT.md, section 5)."""
    test = test_mask(where, np.asarray(split.labels[:], np.int64), options)
    return {
        "train": split.take(np.flatnonzero(~test)),
        "test": split.take(np.flatnonzero(test)),
    }


def test_mask(where: str, labels: NDArray[np.int64], options: Options) -> NDArray[np.bool_]:
    """Return the rows of the test split as a mask, bool (N,).

    Raises
    ------
    UsageError
        When there is no fraction, or it leaves a split empty.
    """
    if options.test_fraction is None:
        raise UsageError(
            f"{where}: has no test split of its own", "take one from it: `test_fraction=0.2`"
        )
    rows = permutation.rounded_share(len(labels), options.test_fraction)
    if not 0 < rows < len(labels):
        raise UsageError(
            f"`test_fraction={options.test_fraction}`: takes {rows} of {len(labels)} images,"
            " expected at least 1 to be taken and 1 to stay"
        )
    stream = permutation.Stream.TEST
    return permutation.stratified_mask(labels, options.test_fraction, options.split_seed, stream)
