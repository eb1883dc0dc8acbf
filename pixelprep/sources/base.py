"""Raw data, whatever it came from: splits of images and labels, and where they are from."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelprep import parallel, progress
from pixelprep.errors import SourceError
from pixelprep.files import HASHED
from pixelprep.moments import check_images
from pixelprep.sources.stored import (
    Array,
    Picked,
    Place,
    Stored,
    blocks,
    cut,
    pieces,
    reshaped,
    store,
)

File = TypeVar("File")

SOME_CLASSES = 1000  # so many may be numbered, however few the images
DIGEST_BYTES = 64 << 20  # of pixels under one digest (data/FORMAT.md, section 4)


# The options that only some sources know.
DECODING = ("size", "color", "test_fraction", "on_error", "images_key", "labels_key")


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

    images: Array
    labels: Array

    def cut(self, rows: range) -> "RawSplit":
        """Some neighbouring rows of both."""
        return RawSplit(cut(self.images, rows), cut(self.labels, rows))

    def picked(self, numbers: NDArray[np.int64]) -> "RawSplit":
        """The rows of these numbers, in their order."""
        return RawSplit(Picked(self.images, numbers), Picked(self.labels, numbers))


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

    def in_files(self, place: Place) -> "Raw":
        """The same, what was in memory being in files, so that other processes can read it."""
        splits = {
            name: RawSplit(
                _in_file(split.images, place.file(f"{name}-images")),
                _in_file(split.labels, place.file(f"{name}-labels")),
            )
            for name, split in self.splits.items()
        }
        return Raw(splits, self.class_names, self.decode)


def _in_file(array: Array, path: Path) -> Array:
    if isinstance(array, Picked):
        return Picked(_in_file(array.array, path), array.numbers)
    return array if isinstance(array, Stored) else store(path, array.shape, blocks(array))


def _check_split(where: str, split: RawSplit, classes: int) -> None:
    images, labels = split.images, split.labels
    if len(images) != len(labels):
        raise SourceError(
            f"{where}: {len(images)} images but {len(labels)} labels",
            "the two must belong together",
        )
    check_images(where, images.shape, images.dtype)
    low, high = extremes(split)
    if low < 0 or high >= classes:
        raise SourceError(f"{where}: expected labels 0 to {classes - 1}, got {low} to {high}")


def extremes(split: RawSplit) -> tuple[int, int]:
    """The lowest and the highest label; 0 and -1 of none."""
    found = [(int(block.min()), int(block.max())) for block in blocks(split.labels, HASHED)]
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

    def identities(self) -> list[dict[str, Any]]:
        """JSON values, each of which changes whenever the data may have changed.

        The first is asked for without reading the data; all are true once it was read. None at
        all: not known, read it.
        """

    def load(self, place: Place) -> Raw:
        """Read the raw data, downloading into the cache what is not at hand.

        Parameters
        ----------
        place : Place
            The cache folder, its helpers, and files that last as long as the work.

        Returns
        -------
        Raw
            The splits, each with images (N, H, W, C) and labels (N,), and the class names.
        """


@dataclass(frozen=True, slots=True)
class Arrays:
    """A source that is already in memory.

    Parameters
    ----------
    name : str
        The dataset's folder in the cache.
    train, test : tuple of ndarray
        Images, integers of 8 or 16 bits or floats, (N, H, W) or (N, H, W, C), and labels, integers
        (N,).
    class_names : tuple of str, optional
        Default: the labels' numbers.
    provenance : Provenance, optional
        Where the images are from and on what terms they may be used.

    Examples
    --------
    >>> import numpy as np
    >>> import pixelprep
    >>> images, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
    >>> arrays = pixelprep.Arrays("blank", (images, labels), (images, labels))
    >>> pixelprep.prepare(arrays, mode="normalize", quiet=True).test.shape
    (2, 8, 8, 1)
    """

    name: str
    train: tuple[NDArray[Any], NDArray[Any]]
    test: tuple[NDArray[Any], NDArray[Any]]
    class_names: tuple[str, ...] = ()
    provenance: Provenance = Provenance("arrays in memory", "not stated")

    def identities(self) -> list[dict[str, Any]]:
        """None: arrays can change without a trace.

        Returns
        -------
        list
            Always empty.
        """
        return []

    def load(self, place: Place) -> Raw:
        """The arrays, checked.

        Parameters
        ----------
        place : Place
            Not needed.

        Returns
        -------
        Raw
            The splits, each with images (N, H, W, C) and labels (N,).

        Raises
        ------
        SourceError
            When images and labels do not fit each other, the splits differ, or a type is none
            that is prepared.
        """
        pairs = {"train": self.train, "test": self.test}
        splits = {
            name: split_of(f"{self.name}: {name}", np.asarray(images), np.asarray(labels))
            for name, (images, labels) in pairs.items()
        }
        return Raw(splits, self.class_names or numbered(self.name, splits)).checked(self.name)


def split_of(where: str, images: Array, labels: Array) -> RawSplit:
    """Images (N, H, W) or (N, H, W, C) and labels (N,) or (N, 1) as a split.

    Raises
    ------
    SourceError
        When the labels are something else than integers, one an image.
    """
    if labels.shape[1:] == (1,):
        labels = reshaped(labels, ())  # as Keras has them
    if labels.dtype.kind not in "ui" or len(labels.shape) != 1:
        got = f"{labels.dtype} {labels.shape}"
        raise SourceError(
            f"{where}: labels are {got}: expected integers (N,)", "number the classes 0, 1, 2, …"
        )
    if len(images.shape) == 3:
        images = reshaped(images, (*images.shape[1:], 1))
    return RawSplit(images, labels)


def numbered(where: str, splits: Mapping[str, RawSplit]) -> tuple[str, ...]:
    """Class names for labels that have none: their numbers."""
    highest = max(extremes(split)[1] for split in splits.values())
    images = sum(len(split.labels) for split in splits.values())
    if highest >= max(images, SOME_CLASSES):
        raise SourceError(
            f"{where}: labels up to {highest:,} of {images:,} images: expected 0, 1, 2, …"
        )
    return tuple(str(label) for label in range(highest + 1))


def about(raw: Raw, team: parallel.Team, where: str = "", quiet: bool = True) -> dict[str, Any]:
    """What the source digest is taken over: equal for equal data, whatever way it came.

    Raises
    ------
    SourceError
        When floats are not finite.
    """
    splits = {}
    for name, split in raw.splits.items():
        with progress.bar(f"hashing {name}", len(split.images), " images", quiet) as bar:
            digest = images_digest(split.images, team, f"{where}: {name}", bar.update)
        splits[name] = {
            "dtype": split.images.dtype.name,
            "shape": list(split.images.shape),
            "images": digest,
            "labels": labels_digest(split),
        }
    return {"splits": splits, "class_names": list(raw.class_names), "decode": dict(raw.decode)}


def labels_digest(split: RawSplit) -> str:
    """The digest of a split's labels as int64."""
    digest = hashlib.sha256()
    for block in blocks(split.labels, HASHED):
        digest.update(block.astype("<i8").data)
    return digest.hexdigest()


def images_digest(
    images: Array,
    team: parallel.Team,
    where: str,
    note: Callable[[int], object] = lambda _: None,
) -> str:
    """The digest of all pixels or, of many, of the digests of their pieces.

    So that pieces may be taken side by side; `note` is told how many more images were.
    """
    few = math.prod(images.shape) * images.dtype.itemsize <= DIGEST_BYTES
    parts = [range(len(images))] if few else list(pieces(images, DIGEST_BYTES))
    tasks = ((cut(images, rows), where, rows.start) for rows in parts)
    with parallel.threads() as pool:  # hashing lets the interpreter go
        helpers = parallel.Team(pool) if team.inline else team
        digests = []
        for rows, digest in zip(parts, helpers.map(_piece_digest, tasks), strict=True):
            digests.append(digest)
            note(len(rows))
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex()


def _piece_digest(task: tuple[Array, str, int]) -> bytes:
    images, where, first = task
    digest, little = hashlib.sha256(), images.dtype.newbyteorder("<")
    for block in blocks(images, HASHED):
        if block.dtype.kind == "f":
            _check_finite(block, where, first)
        digest.update(np.ascontiguousarray(block, little).data)
        first += len(block)
    return digest.digest()


def _check_finite(block: NDArray[Any], where: str, first: int) -> None:
    finite = np.isfinite(block).all(axis=(1, 2, 3))
    if not finite.all():
        row = int(np.argmin(finite))
        value = block[row][~np.isfinite(block[row])][0]
        raise SourceError(
            f"{where}: image {first + row} (counted from 0) holds {value}: expected finite numbers",
            "mend or leave out the image",
        )


def read_pairs(
    pairs: Mapping[str, tuple[File, File]], read: Callable[[File, int], Stored]
) -> dict[str, RawSplit]:
    """The splits whose images and labels are in files of their own, several read at a time.

    Parameters
    ----------
    pairs : mapping
        By split what names the file of images and the file of labels.
    read : callable
        Given one of these and the number of dimensions, 3 or 1, returns the array.
    """
    with parallel.threads() as pool:
        coming = {
            name: (pool.submit(read, images, 3), pool.submit(read, labels, 1))
            for name, (images, labels) in pairs.items()
        }
        return {
            name: RawSplit(images.result(), labels.result())
            for name, (images, labels) in coming.items()
        }
