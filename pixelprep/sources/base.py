"""Raw data, whatever it came from: splits of images and labels, and where they are from."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError, UsageError
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

SOME_CLASSES = 1000  # so many may be numbered, however few the images


# The options that only some sources know.
DECODE_OPTIONS = ("size", "color", "test_fraction", "on_error", "images_key", "labels_key")


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said about where raw data is and how it is read.

    Parameters
    ----------
    source : Path, optional
        A folder with the raw files; nothing is downloaded.
    mirror : str, optional
        A URL that is tried first.
    offline : bool
        Open no connection.
    quiet : bool
        Draw no progress bars.
    size : tuple of int, optional
        (H, W) that images are resized to.
    color : {"grey", "rgb"}, optional
        What images are turned into.
    test_fraction : float, optional
        0 < fraction < 1: share of every class that becomes the test split.
    split_seed : int
        0 to 2**64 − 1: which rows that share has.
    on_error : {"fail", "skip"}, optional
        What to do about a damaged image.
    images_key, labels_key : str, optional
        Where an HDF5 file has images and labels.
    """

    source: Path | None = None
    mirror: str | None = None
    offline: bool = False
    quiet: bool = False
    size: tuple[int, int] | None = None
    color: str | None = None
    test_fraction: float | None = None
    split_seed: int = 0
    on_error: str | None = None
    images_key: str | None = None
    labels_key: str | None = None


@dataclass(frozen=True, slots=True)
class RawSplit:
    """Images as they came, and their labels.

    images : integers of 8 or 16 bits or floats, shape (N, H, W, C)
    labels : integers, shape (N,), each the index of a class name

    Either may be larger than memory: they are read block by block.
    """

    images: LazyArray
    labels: LazyArray

    def slice_rows(self, rows: range) -> "RawSplit":
        """Some neighbouring rows of both."""
        return RawSplit(slice_rows(self.images, rows), slice_rows(self.labels, rows))

    def take(self, numbers: NDArray[np.int64]) -> "RawSplit":
        """The rows of these numbers, in their order."""
        return RawSplit(TakeView(self.images, numbers), TakeView(self.labels, numbers))


@dataclass(frozen=True, slots=True)
class Raw:
    """A whole raw dataset: ``train`` and ``test``, class names and how it was decoded."""

    splits: Mapping[str, RawSplit]
    class_names: tuple[str, ...]
    decode: Mapping[str, Any] = field(default_factory=dict)

    def checked(self, where: str) -> "Raw":
        """The same, once it is sure that the splits fit each other.

        Raises
        ------
        SourceError
            When images and labels differ in number, a split is empty, splits differ in shape or
            type, or a label has no class.
        """
        try:
            "".join(self.class_names).encode()
        except UnicodeEncodeError as error:
            raise SourceError(f"{where}: a class name is no valid text: {error}") from None
        kinds = {
            (split.images.shape[1:], split.images.dtype.name) for split in self.splits.values()
        }
        if len(kinds) != 1:
            raise SourceError(f"{where}: the splits differ in image shape or type: {sorted(kinds)}")
        for name, split in self.splits.items():
            _check_split(f"{where}: {name}", split, len(self.class_names))
        return self

    def materialize(self, context: SourceContext) -> "Raw":
        """The same, what was in memory being in files, so that other processes can read it."""
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
        return TakeView(_in_file(array.array, path), array.numbers)
    return (
        array
        if isinstance(array, FileArray)
        else write_array(path, array.shape, iter_blocks(array))
    )


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
    """The lowest and the highest label; 0 and -1 of none."""
    found = [
        (int(block.min()), int(block.max())) for block in iter_blocks(split.labels, HASH_BYTES)
    ]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else (0, -1)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where data is from and on what terms it may be used.

    Parameters
    ----------
    title : str
        What the dataset is called.
    licence : str
        The terms, by their usual name.
    homepage : str
        A URL.
    citation : str
        How its makers want to be cited.
    """

    title: str
    licence: str
    homepage: str = ""
    citation: str = ""

    def as_dict(self) -> dict[str, str]:
        """For the manifest.

        Returns
        -------
        dict
            Each field by its name.
        """
        return asdict(self)


class Source(Protocol):
    """What `prepare` needs of a dataset."""

    @property
    def name(self) -> str:
        """The dataset's folder in the cache."""

    @property
    def provenance(self) -> Provenance:
        """Where the data is from and on what terms."""

    def fingerprints(self) -> list[dict[str, Any]]:
        """JSON values, each of which changes whenever the data may have changed.

        The first is asked for without reading the data; all are true once it was read. None at
        all: not known, read it.
        """

    def load(self, context: SourceContext) -> Raw:
        """Read the raw data, downloading into the cache what is not at hand.

        Parameters
        ----------
        context : SourceContext
            The cache folder, its helpers, and files that last as long as the work.

        Returns
        -------
        Raw
            The splits, each with images (N, H, W, C) and labels (N,), and the class names.
        """


def as_split(where: str, images: LazyArray, labels: LazyArray) -> RawSplit:
    """Images (N, H, W) or (N, H, W, C) and labels (N,) or (N, 1) as a split.

    Raises
    ------
    SourceError
        When the labels are something else than integers, one an image.
    """
    if labels.shape[1:] == (1,):
        labels = reshape_rows(labels, ())  # as Keras has them
    if labels.dtype.kind not in "ui" or len(labels.shape) != 1:
        got = f"{labels.dtype} {labels.shape}"
        raise SourceError(
            f"{where}: labels are {got}: expected integers (N,)", "number the classes 0, 1, 2, …"
        )
    if len(images.shape) == 3:
        images = reshape_rows(images, (*images.shape[1:], 1))
    return RawSplit(images, labels)


def numbered_classes(where: str, splits: Mapping[str, RawSplit]) -> tuple[str, ...]:
    """Class names for labels that have none: their numbers."""
    highest = max(label_range(split)[1] for split in splits.values())
    images = sum(len(split.labels) for split in splits.values())
    if highest >= max(images, SOME_CLASSES):
        raise SourceError(
            f"{where}: labels up to {highest:,} of {images:,} images: expected 0, 1, 2, …"
        )
    return tuple(str(label) for label in range(highest + 1))


def read_pairs(
    pairs: Mapping[str, tuple[File, File]], read: Callable[[File, int], FileArray]
) -> dict[str, RawSplit]:
    """The splits whose images and labels are in files of their own, several read at a time.

    Parameters
    ----------
    pairs : mapping
        By split what names the file of images and the file of labels.
    read : callable
        Given one of these and the number of dimensions, 3 or 1, returns the array.
    """
    with parallel.thread_pool() as pool:
        coming = {
            name: (pool.submit(read, images, 3), pool.submit(read, labels, 1))
            for name, (images, labels) in pairs.items()
        }
        return {
            name: RawSplit(images.result(), labels.result())
            for name, (images, labels) in coming.items()
        }


def split_test(where: str, split: RawSplit, options: Options) -> dict[str, RawSplit]:
    """Train and test, the same share of every class going to test (data/FORMAT.md, section 5)."""
    test = test_mask(where, np.asarray(split.labels[:], np.int64), options)
    return {
        "train": split.take(np.flatnonzero(~test)),
        "test": split.take(np.flatnonzero(test)),
    }


def test_mask(where: str, labels: Any, options: Options) -> Any:
    """Which rows go to the test split, bool (N,).

    Raises
    ------
    UsageError
        When no fraction was given, or it leaves a split empty.
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
    purpose = permutation.Stream.TEST
    return permutation.stratified(labels, options.test_fraction, options.split_seed, purpose)
