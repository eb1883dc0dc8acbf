"""HDF5 files of the user's, with images and labels under keys of his choice."""

import os
from typing import Any, ClassVar

from pixelprep.errors import SourceError, UsageError
from pixelprep.sources.base import Raw, RawSplit, numbered, split_of
from pixelprep.sources.own import Own, taken_apart
from pixelprep.sources.stored import BLOCK_BYTES, Array, Place, piece_rows, store
from pixelprep.store import foreign

SPLIT = "{split}"  # in a key: train and test
USUAL = (  # keys that are tried where none were given
    ("{split}/images", "{split}/labels"),
    ("x_{split}", "y_{split}"),
    ("images", "labels"),
)


class Hdf5(Own):
    """One HDF5 file, whose arrays are copied out piece by piece."""

    takes: ClassVar[frozenset[str]] = frozenset({"images_key", "labels_key", "test_fraction"})

    def load(self, place: Place) -> Raw:
        """Read train and test, or all images and take the test split from them."""
        where = os.fspath(self.path)
        with foreign.opened(self.path) as file:
            images, labels = self._keys(file)
            if SPLIT in images and not self._only_train(file, images):
                self._refuse_fraction()
                splits = {
                    name: self._split(file, name, images, labels, place)
                    for name in ("train", "test")
                }
                return Raw(splits, numbered(where, splits)).checked(where)
            whole = self._split(file, "train", images, labels, place)  # which no key may name
        names = numbered(where, {"all": whole})
        Raw({"all": whole}, names).checked(where)
        splits = taken_apart(where, whole, self.options)
        fraction, seed = self.options.test_fraction, self.options.split_seed
        return Raw(splits, names, {"test_fraction": fraction, "split_seed": seed})

    def _keys(self, file: Any) -> tuple[str, str]:
        """The keys of images and labels: the given ones, or the first usual ones there."""
        images, labels = self.options.images_key, self.options.labels_key
        if images and labels:
            if (SPLIT in images) != (SPLIT in labels):
                raise UsageError(f"--images-key and --labels-key: expected {SPLIT} in both or none")
            return images, labels
        if images or labels:
            raise UsageError("--images-key and --labels-key: expected both or none")
        for usual in USUAL:
            if all(foreign.dataset(file, key.replace(SPLIT, "train")) for key in usual):
                return usual
        raise SourceError(
            f"{self.path}: no images and labels under the usual keys; it holds"
            f" {', '.join(foreign.listed(file)) or 'nothing'}",
            f"name them: --images-key 'x_{SPLIT}' --labels-key 'y_{SPLIT}'",
        )

    def _only_train(self, file: Any, images: str) -> bool:
        """Whether there is no test split, and one is to be taken from train."""
        if self.options.test_fraction is None:
            return False
        return foreign.dataset(file, images.replace(SPLIT, "test")) is None

    def _refuse_fraction(self) -> None:
        if self.options.test_fraction is not None:
            raise UsageError(f"--test-fraction: {self.path} has a test split of its own")

    def _split(self, file: Any, name: str, images: str, labels: str, place: Place) -> RawSplit:
        arrays = [
            self._array(file, key.replace(SPLIT, name), place, f"{name}-{what}")
            for what, key in (("images", images), ("labels", labels))
        ]
        return split_of(f"{self.path}: {name}", *arrays)

    def _array(self, file: Any, key: str, place: Place, name: str) -> Array:
        found = foreign.dataset(file, key)
        if found is None or not found.shape:
            held = ", ".join(foreign.listed(file)) or "nothing"
            raise SourceError(f"{self.path}: no array under the key {key}; it holds {held}")
        parts = foreign.rows(found, piece_rows(found, BLOCK_BYTES))
        return store(place.file(name), found.shape, parts)
