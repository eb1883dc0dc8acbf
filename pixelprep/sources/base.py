"""Raw data, whatever it came from: splits of integer images and labels, and where they are from."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelprep import parallel
from pixelprep.errors import SourceError

File = TypeVar("File")

BLOCK_BYTES = 1 << 22  # of an array that are looked at at once
SOME_CLASSES = 1000  # so many may be numbered, however few the images


@dataclass(frozen=True, slots=True)
class RawSplit:
    """Images as they came, and their labels.

    images : integers, shape (N, H, W, C)
    labels : integers, shape (N,), each the index of a class name

    Either may be larger than memory: they are read block by block.
    """

    images: NDArray[Any]
    labels: NDArray[Any]


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


def _check_split(where: str, split: RawSplit, classes: int) -> None:
    images, labels = split.images, split.labels
    if len(images) != len(labels):
        raise SourceError(
            f"{where}: {len(images)} images but {len(labels)} labels",
            "the two files must belong together",
        )
    if images.dtype.kind not in "ui" or images.dtype.itemsize > 2:
        raise SourceError(
            f"{where}: images are {images.dtype}: expected integers of 8 or 16 bits",
            "convert the images to uint8 or uint16",
        )
    if images.ndim != 4 or 0 in images.shape:
        raise SourceError(f"{where}: expected images of (N, H, W, C), none 0, got {images.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise SourceError(
            f"{where}: expected labels 0 to {classes - 1}, got {labels.min()} to {labels.max()}"
        )


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where data is from and on what terms it may be used."""

    title: str
    licence: str
    homepage: str = ""
    citation: str = ""

    def as_dict(self) -> dict[str, str]:
        """For the manifest."""
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

    def load(self, cache: Path) -> Raw:
        """Read the raw data, downloading into the cache what is not at hand."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """A source that is already in memory.

    Parameters
    ----------
    name : str
        The dataset's folder in the cache.
    train, test : tuple of ndarray
        Images, integers (N, H, W) or (N, H, W, C), and labels, integers (N,).
    class_names : tuple of str, optional
        Default: the labels' numbers.
    """

    name: str
    train: tuple[NDArray[Any], NDArray[Any]]
    test: tuple[NDArray[Any], NDArray[Any]]
    class_names: tuple[str, ...] = ()
    provenance: Provenance = Provenance("arrays in memory", "not stated")

    def identities(self) -> list[dict[str, Any]]:
        """None: arrays can change without a trace."""
        return []

    def load(self, cache: Path) -> Raw:
        """The arrays, checked."""
        splits = {
            name: _split(*pair) for name, pair in (("train", self.train), ("test", self.test))
        }
        return Raw(splits, self.class_names or numbered(splits)).checked(self.name)


def _split(images: NDArray[Any], labels: NDArray[Any]) -> RawSplit:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise SourceError(f"labels are {labels.dtype} {labels.shape}: expected integers (N,)")
    images = images[..., None] if images.ndim == 3 else images
    return RawSplit(images, labels.astype(np.int64))


def numbered(splits: Mapping[str, RawSplit]) -> tuple[str, ...]:
    """Class names for labels that have none: their numbers."""
    highest = max(int(split.labels.max()) if len(split.labels) else -1 for split in splits.values())
    images = sum(len(split.labels) for split in splits.values())
    if highest >= max(images, SOME_CLASSES):
        raise SourceError(f"labels up to {highest:,} of {images:,} images: expected 0, 1, 2, …")
    return tuple(str(label) for label in range(highest + 1))


def about(raw: Raw) -> dict[str, Any]:
    """What the source digest is taken over: equal for equal data, whatever way it came."""
    splits = {
        name: {
            "dtype": split.images.dtype.name,
            "shape": list(split.images.shape),
            "images": _digest(split.images, split.images.dtype),
            "labels": _digest(split.labels, np.dtype(np.int64)),
        }
        for name, split in raw.splits.items()
    }
    return {"splits": splits, "class_names": list(raw.class_names), "decode": dict(raw.decode)}


def _digest(array: NDArray[Any], dtype: np.dtype[Any]) -> str:
    """The digest of an array as this type, little-endian."""
    row_bytes = math.prod(array.shape[1:]) * dtype.itemsize
    digest, step = hashlib.sha256(), max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, len(array), step):
        block = array[start : start + step]
        digest.update(np.ascontiguousarray(block, dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def read_pairs(
    pairs: Mapping[str, tuple[File, File]], read: Callable[[File, int], NDArray[np.uint8]]
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
            name: RawSplit(images.result()[..., None], labels.result())
            for name, (images, labels) in coming.items()
        }
