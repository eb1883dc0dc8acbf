"""Define what a source of raw data is: options, splits, provenance, and what it needs to load."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from pixelprep.errors import SourceError
from pixelprep.format import manifest as manifests
from pixelprep.format.options import DecodeOptions, NetworkOptions, declared_options, documented
from pixelprep.format.recipe import class_counts
from pixelprep.format.source_record import Provenance as Provenance  # a public name
from pixelprep.numerics.fitted import check_images
from pixelprep.numerics.lazy import np
from pixelprep.system import formatting, fs, notices, parallel, staging

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixelprep.sources.lazy_arrays import AnyArray, FileArray, LazyArray

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
    val_fraction, test_fraction : float
        As of the recipe: where rows are kept together by groups, a source divides them itself.
    split_seed : int
        Likewise.
    scaling_of : path, optional
        The entry whose scaling is taken over: nothing is fitted, so one class is enough.
    cache_dir : path, optional
        As of `prepare`: where a library keeps its files in the cache.
    """

    size: tuple[int, int] | None = None  # (H, W), whichever way it was given
    columns: Mapping[str, str] | None = None  # likewise
    classes: tuple[str, ...] | None = None
    class_map: Mapping[str, str] | None = None
    shape: tuple[int, ...] | None = None
    offline: bool = False
    source: Path | None = None
    quiet: bool = False
    val_fraction: float = 0.0
    test_fraction: float = 0.0
    split_seed: int = 0
    scaling_of: str | os.PathLike[str] | None = None
    cache_dir: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "offline", bool(self.offline))  # None: neither asked for, nor set


LACKING_HINT = "move some of them to train, or leave them out (of files: `classes=A,B`)"


@dataclass(frozen=True, slots=True)
class RawSplit:
    """Unscaled images and their labels, read block by block: either may be larger than memory."""

    images: LazyArray  # integers of 8 or 16 bits or floats, (N, H, W, C)
    # Integers (N,), each the index of a class name; or (N, K), 1 where a row has the class, else 0.
    labels: LazyArray
    names: LazyArray | None = None  # UTF-8 (N,), where each row comes from a file
    # Text (N,): rows that are equal in it stay in one split, by the fractions of `Options`.
    groups: LazyArray | None = None

    def _map(self, select: Callable[[LazyArray], LazyArray]) -> RawSplit:
        names, groups = (
            None if column is None else select(column) for column in (self.names, self.groups)
        )
        return RawSplit(select(self.images), select(self.labels), names, groups)

    def slice_rows(self, rows: range) -> RawSplit:
        """Select neighbouring rows of all."""
        from pixelprep.sources.lazy_arrays import slice_rows  # a hit, which has no rows, needs none

        return self._map(lambda column: slice_rows(column, rows))

    def take(self, rows: NDArray[np.int64]) -> RawSplit:
        """Select the rows with these indices, in this order."""
        from pixelprep.sources.lazy_arrays import TakeView

        return self._map(lambda column: TakeView(column, rows))


@dataclass(frozen=True, slots=True)
class Raw:
    """A whole raw dataset.

    `decode` holds the decoding options that shaped the pixels: JSON values, part of the source
    digest.
    """

    splits: Mapping[str, RawSplit]  # train, val and test, as far as the data has such
    class_names: tuple[str, ...]
    decode: Mapping[str, object] = field(default_factory=dict)
    task: str = "classification"  # or "multilabel": rows have several classes or none

    def checked(self, where: str, *, choosing: bool = False) -> Raw:
        """Return the dataset itself; raise `SourceError` if its splits do not fit each other.

        Which classes a split has is left to `check_classes` where they are still to be chosen.
        """
        try:
            "".join(self.class_names).encode()
        except (TypeError, UnicodeEncodeError) as error:
            raise SourceError(f"{where}: a class name is not valid text: {error}") from None
        if twice := [n for n, count in Counter(self.class_names).items() if count > 1]:
            same = formatting.shorten(twice)
            notices.tell("%s: several classes of one name, told apart by number: %s", where, same)
        images = [split.images for split in self.splits.values()]
        kinds = {(array.shape[1:], array.dtype.name) for array in images}
        if len(kinds) != 1:
            raise SourceError(f"{where}: the splits differ in image shape or type: {sorted(kinds)}")
        counts = {
            name: _checked_counts(f"{where}: {name}", split, len(self.class_names), self.task)
            for name, split in self.splits.items()
        }
        height, width, channels = images[0].shape[1:]
        if channels > 4:
            notices.tell("%s: images of %d×%d with %d channels", where, height, width, channels)
        if not choosing:
            self._check_counts(where, counts)
        return self

    def check_classes(self, where: str) -> None:
        """Tell of classes without an image; refuse those that train lacks and another split has."""
        classes = len(self.class_names)
        counts = {n: _checked_counts(n, one, classes, self.task) for n, one in self.splits.items()}
        self._check_counts(where, counts)

    def _check_counts(self, where: str, counts: Mapping[str, NDArray[np.int64]]) -> None:
        names = np.array(self.class_names, object)
        total = sum(counts.values(), np.zeros(len(names), np.int64))
        for name, of_split in counts.items():
            only = names[(counts.get("train", of_split) == 0) & (of_split > 0)]
            if len(only) and self.task == "classification":
                lacks = f"{where}: train has no image of {_classes(only)}, {name} has"
                raise SourceError(lacks, LACKING_HINT)
        if not total.all():
            listed = _classes(names[total == 0]), _with_counts(names, total)
            notices.tell("%s: no image of %s; there are %s", where, *listed)
            if all(map(str.isdigit, self.class_names)):
                notices.tell("for labels that count from 1: `labels_from=1`; with gaps: `renumber`")
        tell_of_lacking(where, self.class_names, counts)

    def materialize(self, context: SourceContext) -> Raw:
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


def tell_of_lacking(
    where: str, class_names: Sequence[str], counts: Mapping[str, NDArray[np.int64]]
) -> None:
    """Tell of classes without an image in one split that have some in another."""
    names = np.array(class_names, object)
    anywhere = np.any([*counts.values()], axis=0)
    for name, of_split in counts.items():
        if len(lacking := names[(of_split == 0) & anywhere]):
            listed = _classes(lacking), _with_counts(names, of_split)
            notices.tell("%s: %s: no image of %s; there are %s", where, name, *listed)


def _classes(names: AnyArray) -> str:
    return f"{'class' if len(names) == 1 else 'classes'} {formatting.shorten(names)}"


def _with_counts(names: AnyArray, counts: NDArray[np.int64]) -> str:
    found = [f"{counts[i]:,} of {names[i]}" for i in np.flatnonzero(counts)]
    return formatting.shorten(found, 10)


def _in_file(array: LazyArray, path: Path) -> LazyArray:
    from pixelprep.sources import lazy_arrays

    if isinstance(array, lazy_arrays.View):
        return replace(array, array=_in_file(array.array, path))
    if isinstance(array, lazy_arrays.FileArray):
        return array
    return lazy_arrays.write_array(path, array.shape, lazy_arrays.iter_blocks(array))


def _checked_counts(where: str, split: RawSplit, classes: int, task: str) -> NDArray[np.int64]:
    """Return how many images each class has in a split; refuse a split that is wrong in itself."""
    from pixelprep.sources.lazy_arrays import iter_blocks

    images, labels = split.images, split.labels
    if len(images) != len(labels):
        count = formatting.pluralize(len(images), "image")
        differ = f"{where}: {count} but {formatting.pluralize(len(labels), 'label')}"
        raise SourceError(differ, "the two must belong together")
    check_images(where, images.shape, images.dtype)
    highest, row = (1, (classes,)) if task == "multilabel" else (classes - 1, ())
    counts = np.zeros(classes, np.int64)
    for block in iter_blocks(labels, fs.HASH_BYTES):
        if block.shape[1:] != row or block.min() < 0 or block.max() > highest:
            raise _wrong_labels(where, labels, classes, task)
        counts += class_counts(block.astype(np.int64), classes)
    return counts


def _wrong_labels(where: str, labels: LazyArray, classes: int, task: str) -> SourceError:
    low, high = label_range(labels)
    if task == "multilabel":
        expected = f"expected 0 and 1, (N, {classes}), of {classes} classes"
        return SourceError(f"{where}: labels {labels.shape} are {low} to {high}: {expected}")
    wrong = f"{where}: expected labels 0 to {classes - 1}, got {low} to {high}"
    if low == -1 and high < classes:
        wrong += ", -1 where there is no label"
        return SourceError(wrong, "label these images, or leave them out: `on_error=skip`")
    fits = low > 0 and high - low < classes
    hint = f"for labels that count from {low}: `labels_from={low}`" if fits else None
    if low >= 0 and not fits:
        hint = f"give names to all classes from 0 to {high:,}"
    return SourceError(wrong, hint)


def scaled_already(path: str | Path, more: str = "", *, is_final: bool = False) -> SourceError:
    """Make the error for images that pixelprep itself has scaled, in an export or an entry.

    Where that `is_final`, no manifest could undo it.
    """
    found = f"{path}: pixelprep has scaled these images already{more}"
    known = "" if is_final else f", or an export with its {manifests.EXPORTED} beside it"
    return SourceError(found, f"give the raw data{known}; open an entry by its folder")


def label_range(labels: LazyArray) -> tuple[int, int]:
    """Return the lowest and the highest label; 0 and -1 if there are none."""
    from pixelprep.sources.lazy_arrays import iter_blocks

    blocks = iter_blocks(labels, fs.HASH_BYTES)
    ranges = [(int(block.min()), int(block.max())) for block in blocks]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else (0, -1)


class Source(Protocol):
    """A dataset that `prepare` can read.

    It may also have `on_leak`, as `prepare` has that option (`on_leak_of`); and `fetch`, which
    downloads what is missing, where only that makes the fingerprints whole.
    """

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


def stamps_digest(stamps: Iterable[tuple[str, tuple[int, ...]]]) -> str | None:
    """Return one digest of the names of files, there may be millions, and their `fs.file_stamp`.

    None while a file might still be changed without a change of its stamp.
    """
    digest = hashlib.sha256()
    for name, stamp in stamps:
        if stamp and not fs.settle(stamp):
            return None
        digest.update(ascii((name, *stamp)).encode())
    return digest.hexdigest()


def on_leak_of(source: Source) -> str | None:
    """Return what is to be done about images in several splits, where a source says so."""
    on_leak = getattr(source, "on_leak", None)
    return None if on_leak is None else str(on_leak)


def with_names(where: str, split: RawSplit, names: Sequence[str]) -> RawSplit:
    """Name each row of a split; refuse names that are no text, or not one a row."""
    if len(names) != len(split.labels):
        raise SourceError(f"{where}: names are {len(names)}, labels {len(split.labels)}")
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
