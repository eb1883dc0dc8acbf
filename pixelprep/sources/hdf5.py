"""HDF5 files of the user's, with images and labels under keys of his choice."""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pixelprep.errors import SourceError, UsageError
from pixelprep.format import sandbox, untrusted
from pixelprep.sources.base import Raw, RawSplit, as_split, numbered_classes, split_test
from pixelprep.sources.context import SourceContext
from pixelprep.sources.lazy_arrays import BLOCK_BYTES, block_rows, single_file_array
from pixelprep.sources.local import LocalSource
from pixelprep.system import fs

SPLIT = "{split}"  # in a key: train and test
USUAL = (  # keys that are tried where none were given
    ("{split}/images", "{split}/labels"),
    ("x_{split}", "y_{split}"),
    ("images", "labels"),
)

Copied = tuple[str, list[int], str]  # a file, and shape and type of the array in it


class Hdf5File(LocalSource):
    """One HDF5 file, whose arrays are copied out by a process of its own."""

    supported_options: ClassVar[frozenset[str]] = frozenset(
        {"images_key", "labels_key", "test_fraction"}
    )

    def load(self, context: SourceContext) -> Raw:
        """Read train and test, or all images and take the test split from them."""
        where = os.fspath(self.path)
        copied = {name: self._split(name, pair) for name, pair in self._copied(context).items()}
        if WHOLE not in copied:
            return Raw(copied, numbered_classes(where, copied)).checked(where)
        names = numbered_classes(where, copied)
        Raw(copied, names).checked(where)
        splits = split_test(where, copied[WHOLE], self.options)
        fraction, seed = self.options.test_fraction, self.options.split_seed
        return Raw(splits, names, {"test_fraction": fraction, "split_seed": seed})

    def _copied(self, context: SourceContext) -> dict[str, tuple[Copied, Copied]]:
        """By split, images and labels in files."""
        options = self.options
        keys = {"images_key": options.images_key, "labels_key": options.labels_key}
        arguments = {"fraction": options.test_fraction, "folder": os.fspath(context.folder())}
        task = f"{__name__}:copied_out"
        try:
            said = sandbox.run_in_sandbox(task, path=os.fspath(self.path), **keys, **arguments)
            found: dict[str, tuple[Copied, Copied]] = deque(said, maxlen=1)[0]  # before: None
        except sandbox.SandboxError as error:
            raise SourceError(f"{self.path}: not a readable HDF5 file: {error}") from error
        return found

    def _split(self, name: str, pair: tuple[Copied, Copied]) -> RawSplit:
        arrays = [
            single_file_array(Path(path), tuple(shape), np.dtype(kind))
            for path, shape, kind in pair
        ]
        return as_split(f"{self.path}: {name}", *arrays)


WHOLE = "all"  # images that no key divides into train and test


def copied_out(path: str, **asked: Any) -> Iterator[Any]:
    """Copy the arrays that are asked for into files; yields None, and in the end which files."""
    with untrusted.open_untrusted(Path(path)) as file:
        copying, found = _Copying(file, path, **asked), {}
        for name, keys in copying.splits().items():
            pair = []
            for what, key in zip(("images", "labels"), keys, strict=True):
                array = copying.array(key)
                yield from untrusted.check_chunks(array)
                target = Path(copying.folder, f"{name}-{what}.0")
                parts = untrusted.iter_rows(array, block_rows(array, BLOCK_BYTES))
                yield from _stored(target, array, parts)
                pair.append((os.fspath(target), array.shape, array.dtype.str))
            found[name] = pair
    yield found


def _stored(target: Path, array: Any, parts: Iterator[Any]) -> Iterator[None]:
    fs.require_free_space(target.parent, array.nbytes)
    with target.open("xb") as out:
        for part in parts:
            out.write(np.ascontiguousarray(part).data)
            yield None


@dataclass(frozen=True, slots=True)
class _Copying:
    """What is to be copied out of a file.

    file, path : the file, opened, and where it is
    images_key, labels_key, fraction : as asked for
    folder : where the copies go
    """

    file: Any
    path: str
    images_key: str | None
    labels_key: str | None
    fraction: float | None
    folder: str

    def splits(self) -> dict[str, tuple[str, str]]:
        """By split, the keys of images and labels."""
        images, labels = self._keys()
        if SPLIT not in images or self._only_train(images):
            return {WHOLE: (images.replace(SPLIT, "train"), labels.replace(SPLIT, "train"))}
        if self.fraction is not None:
            raise UsageError(f"`test_fraction`: {self.path} has a test split of its own")
        both = ("train", "test")
        return {name: (images.replace(SPLIT, name), labels.replace(SPLIT, name)) for name in both}

    def _keys(self) -> tuple[str, str]:
        """The keys of images and labels: the given ones, or the first usual ones there."""
        images, labels = self.images_key, self.labels_key
        if images and labels:
            if (SPLIT in images) != (SPLIT in labels):
                raise UsageError(f"`images_key` and `labels_key`: expected {SPLIT} in both or none")
            return images, labels
        if images or labels:
            raise UsageError("`images_key` and `labels_key`: expected both or none")
        for usual in USUAL:
            if all(untrusted.find_dataset(self.file, key.replace(SPLIT, "train")) for key in usual):
                return usual
        raise SourceError(
            f"{self.path}: no images and labels under the usual keys; it holds {self._held()}",
            f"name them: `images_key=KEY` `labels_key=KEY`, {SPLIT} in them for train and test",
        )

    def _only_train(self, images: str) -> bool:
        """Whether there is no test split, and one is to be taken from train."""
        if self.fraction is None:
            return False
        return untrusted.find_dataset(self.file, images.replace(SPLIT, "test")) is None

    def array(self, key: str) -> Any:
        """The dataset of a key, found sound."""
        found = untrusted.find_dataset(self.file, key)
        if found is None or not found.shape:
            raise SourceError(f"{self.path}: no array under the key {key}; it holds {self._held()}")
        return found

    def _held(self) -> str:
        return ", ".join(untrusted.root_names(self.file)) or "nothing"
