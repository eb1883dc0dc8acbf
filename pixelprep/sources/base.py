"""Define what a source of raw data is: options, splits, provenance, and what it needs to load."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.options import DecodeOptions, NetworkOptions, declared_options, documented
from pixelprep.format.source_record import Provenance as Provenance  # a public name
from pixelprep.numerics.statistics import check_images
from pixelprep.sources import lazy_arrays
from pixelprep.sources.lazy_arrays import FileArray, LazyArray, TakeView
from pixelprep.system import fs, parallel, staging

File = TypeVar("File")

MAX_NAME_BYTES = 4096  # of a row's name: the length of the longest path

DECODE_OPTIONS = tuple(declared_options(DecodeOptions))  # only some sources support them


@dataclass(slots=True)
class SourceContext:
    """Space for raw data, and workers to read it; private files are deleted at the end.

    `state` is the digest of the source's fingerprint, empty if it has none. Interrupted work is
    resumed only in the same state.
    """

    cache: Path  # the cache folder, where downloads are kept
    pool: parallel.WorkerPool = field(default_factory=parallel.WorkerPool)
    quiet: bool = False  # draw no progress bars
    state: str = ""
    _folders: ExitStack = field(default_factory=ExitStack)
    _folder: Path | None = None

    def folder(self) -> Path:
        """Return the private folder; all workers can read it if they share the cache's disk."""
        if self._folder is None:
            self._folder = self._make_folder("raw", resumable=False)
        return self._folder

    def file(self, name: str) -> Path:
        """Return the path of a new private file: the first of an array's `FileArray`."""
        return self.folder() / f"{name}.0"

    def work(self, name: str) -> Path:
        """Return a folder for `staging.run_step` that outlasts an interruption."""
        return self._make_folder(f"{name}-{self.state[:16]}", resumable=bool(self.state))

    def _make_folder(self, name: str, *, resumable: bool) -> Path:
        try:
            work = staging.workspace(self.cache, name, resumable=resumable)
            return self._folders.enter_context(work)
        except OSError as error:
            if error.errno not in fs.READ_ONLY_ERRNOS:
                raise
            import tempfile  # not needed otherwise

            # A read-only cache may still have the entry that the raw data belongs to.
            temporary = tempfile.TemporaryDirectory(prefix="pixelprep-")
            return Path(self._folders.enter_context(temporary))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folders.close()


@documented(NetworkOptions, DecodeOptions)
@dataclass(frozen=True, kw_only=True)
class Options(DecodeOptions, NetworkOptions):
    """Where raw data is and how it is read.

    Parameters
    ----------
    {options}
    source : Path, optional
        A folder with the raw files; nothing is downloaded.
    quiet : bool
        Draw no progress bars.
    """

    size: tuple[int, int] | None = None  # (H, W), whichever way it was given
    offline: bool = False
    source: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "offline", bool(self.offline))  # None: neither asked for, nor set


@dataclass(frozen=True, slots=True)
class RawSplit:
    """Unscaled images and their labels, read block by block: either may be larger than memory."""

    images: LazyArray  # integers of 8 or 16 bits or floats, (N, H, W, C)
    # Integers (N,), each the index of a class name; or (N, K), 1 where a row has the class, else 0.
    labels: LazyArray
    names: LazyArray | None = None  # UTF-8 (N,), where each row comes from a file

    def _map(self, select: Callable[[LazyArray], LazyArray]) -> "RawSplit":
        names = None if self.names is None else select(self.names)
        return RawSplit(select(self.images), select(self.labels), names)

    def slice_rows(self, rows: range) -> "RawSplit":
        """Select neighbouring rows of all."""
        return self._map(lambda column: lazy_arrays.slice_rows(column, rows))

    def take(self, rows: NDArray[np.int64]) -> "RawSplit":
        """Select the rows with these indices, in this order."""
        return self._map(lambda column: TakeView(column, rows))


@dataclass(frozen=True, slots=True)
class Raw:
    """A whole raw dataset.

    `decode` holds the decoding options that shaped the pixels: JSON values, part of the source
    digest.
    """

    splits: Mapping[str, RawSplit]  # train, and val and test where the data has such
    class_names: tuple[str, ...]
    decode: Mapping[str, object] = field(default_factory=dict)
    task: str = "classification"  # or "multilabel": rows have several classes or none

    def checked(self, where: str) -> "Raw":
        """Return the dataset itself; raise `SourceError` if its splits do not fit each other."""
        try:
            "".join(self.class_names).encode()
        except UnicodeEncodeError as error:
            raise SourceError(f"{where}: a class name is not valid text: {error}") from None
        images = [split.images for split in self.splits.values()]
        kinds = {(array.shape[1:], array.dtype.name) for array in images}
        if len(kinds) != 1:
            raise SourceError(f"{where}: the splits differ in image shape or type: {sorted(kinds)}")
        for name, split in self.splits.items():
            _check_split(f"{where}: {name}", split, len(self.class_names), self.task)
        return self

    def materialize(self, context: SourceContext) -> "Raw":
        """Return the same data in files, which other processes can read."""
        splits = {}
        for name, split in self.splits.items():
            images = _in_file(split.images, context.file(f"{name}-images"))
            labels = _in_file(split.labels, context.file(f"{name}-labels"))
            names = split.names
            if names is not None:
                names = _in_file(names, context.file(f"{name}-names"))
            splits[name] = RawSplit(images, labels, names)
        return replace(self, splits=splits)


def _in_file(array: LazyArray, path: Path) -> LazyArray:
    if isinstance(array, TakeView):
        return TakeView(_in_file(array.array, path), array.rows)
    if isinstance(array, FileArray):
        return array
    return lazy_arrays.write_array(path, array.shape, lazy_arrays.iter_blocks(array))


def _check_split(where: str, split: RawSplit, classes: int, task: str) -> None:
    images, labels = split.images, split.labels
    if len(images) != len(labels):
        differ = f"{where}: {len(images)} images but {len(labels)} labels"
        raise SourceError(differ, "the two must belong together")
    check_images(where, images.shape, images.dtype)
    low, high = label_range(split)
    if task == "multilabel":
        if labels.shape[1:] != (classes,) or low < 0 or high > 1:
            expected = f"expected 0 and 1, (N, {classes}), of {classes} classes"
            raise SourceError(f"{where}: labels {labels.shape} are {low} to {high}: {expected}")
    elif low < 0 or high >= classes:
        raise SourceError(f"{where}: expected labels 0 to {classes - 1}, got {low} to {high}")


def label_range(split: RawSplit) -> tuple[int, int]:
    """Return the lowest and the highest label; 0 and -1 if there are none."""
    blocks = lazy_arrays.iter_blocks(split.labels, fs.HASH_BYTES)
    ranges = [(int(block.min()), int(block.max())) for block in blocks]
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
        the data is read every time; so return none while a change might not show (`fs.settle`).
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


def as_split(
    where: str, images: LazyArray, labels: LazyArray, task: str = "classification"
) -> RawSplit:
    """Make a split of images (N, H, W) or (N, H, W, C) and integer labels (N,) or (N, 1).

    Labels of several classes a row are (N, K), of 0 and 1, integers or booleans.
    """
    if task == "multilabel":
        if labels.dtype.kind not in "uib" or len(labels.shape) != 2:
            wrong = f"{where}: labels are {labels.dtype} {labels.shape}: expected 0 and 1, (N, K)"
            raise SourceError(wrong, "give each row a 0 or 1 for every class")
    elif labels.shape[1:] == (1,):
        labels = lazy_arrays.reshape_rows(labels, ())  # the shape that Keras stores
    if task == "classification" and (labels.dtype.kind not in "ui" or len(labels.shape) != 1):
        wrong = f"{where}: labels are {labels.dtype} {labels.shape}: expected integers (N,)"
        raise SourceError(wrong, "number the classes 0, 1, 2, …")
    if len(images.shape) == 3:
        images = lazy_arrays.reshape_rows(images, (*images.shape[1:], 1))
    return RawSplit(images, labels)


def numbered_classes(where: str, splits: Mapping[str, RawSplit]) -> tuple[str, ...]:
    """Name classes by their labels."""
    highest = max(label_range(split)[1] for split in splits.values())
    images = sum(len(split.labels) for split in splits.values())
    if highest >= max(images, 1000):  # lower labels are accepted, however few the images
        most = f"labels up to {highest:,} of {images:,} images"
        raise SourceError(f"{where}: {most}: expected 0, 1, 2, …")
    return tuple(str(label) for label in range(highest + 1))


def numbered_columns(where: str, splits: Mapping[str, RawSplit]) -> tuple[str, ...]:
    """Name classes by their columns in labels of several a row."""
    return tuple(map(str, range(splits["train"].labels.shape[1])))


def with_names(where: str, split: RawSplit, names: Sequence[str]) -> RawSplit:
    """Name each row of a split; refuse names that are no text, or not one a row."""
    if len(names) != len(split.labels):
        raise SourceError(f"{where}: {len(names)} names but {len(split.labels)} labels")
    try:
        encoded = [name.encode() for name in names]
    except (AttributeError, UnicodeEncodeError) as error:
        raise SourceError(f"{where}: a name is not valid text: {error}") from None
    if not all(encoded) or any(name.endswith(b"\0") for name in encoded):
        raise SourceError(f"{where}: a name is empty, or ends in a zero byte")
    if max(map(len, encoded)) > MAX_NAME_BYTES:
        raise SourceError(f"{where}: a name is longer than {MAX_NAME_BYTES:,} bytes")
    return replace(split, names=np.array(encoded))


def read_pairs(
    pairs: Mapping[str, tuple[File, File]], read: Callable[[File, int], FileArray]
) -> dict[str, RawSplit]:
    """Read splits whose images and labels are in separate files, several at a time.

    `read` returns the array of a file, given its number of dimensions, 3 or 1.
    """
    with parallel.thread_pool() as pool:
        pending = {
            name: (pool.submit(read, images, 3), pool.submit(read, labels, 1))
            for name, (images, labels) in pairs.items()
        }
        return {name: RawSplit(i.result(), j.result()) for name, (i, j) in pending.items()}
