"""Read a user's HDF5 file, with images and labels under keys of the user's choice."""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelprep.errors import SourceError, UsageError
from pixelprep.format import sandbox, untrusted
from pixelprep.sources.base import Raw, SourceContext, as_split, divide_rows, numbered_classes
from pixelprep.sources.lazy_arrays import BLOCK_BYTES, block_rows, single_file_array
from pixelprep.sources.local import LocalSource
from pixelprep.system import fs

SPLIT = "{split}"  # in a key: stands for train and test
DEFAULT_KEYS = (  # tried in this order if none were given
    ("{split}/images", "{split}/labels"),
    ("x_{split}", "y_{split}"),
    ("images", "labels"),
)
WHOLE = "all"  # images that no key divides into train and test

Copied = tuple[str, list[int], str]  # a file, and shape and dtype of the array in it


class Hdf5File(LocalSource):
    """One HDF5 file, whose arrays are copied in a sandbox."""

    supported_options = frozenset({"images_key", "labels_key", "test_fraction"})

    def load(self, context: SourceContext) -> Raw:
        """Read train and test, or all images, and take the test split from them."""
        where = os.fspath(self.path)
        copied = {}
        for name, pair in self._copied(context).items():
            arrays = [single_file_array(Path(p), tuple(s), np.dtype(dtype)) for p, s, dtype in pair]
            copied[name] = as_split(f"{where}: {name}", *arrays)
        names = numbered_classes(where, copied)
        raw = Raw(copied, names).checked(where)
        if WHOLE not in copied:
            return raw
        whole = copied[WHOLE]
        rows = divide_rows(where, np.asarray(whole.labels[:], np.int64), self.options)
        splits = {name: whole.take(selected) for name, selected in rows.items()}
        fraction, seed = self.options.test_fraction, self.options.split_seed
        return Raw(splits, names, {"test_fraction": fraction, "split_seed": seed})

    def _copied(self, context: SourceContext) -> dict[str, tuple[Copied, Copied]]:
        """Copy images and labels to files; return them by split."""
        options = self.options
        keys = {"images_key": options.images_key, "labels_key": options.labels_key}
        arguments = {"fraction": options.test_fraction, "folder": os.fspath(context.folder())}
        task = f"{__name__}:copy_arrays"
        try:
            steps = sandbox.run_in_sandbox(task, path=os.fspath(self.path), **keys, **arguments)
            return dict(deque(steps, maxlen=1)[0])
        except sandbox.SandboxError as error:
            raise SourceError(f"{self.path}: not a readable HDF5 file: {error}") from error


def copy_arrays(path: str, **options: Any) -> Iterator[Any]:  # what the sandbox passes on
    """Copy arrays to files; yield None at each step, and in the end the files by split."""
    with untrusted.open_untrusted(Path(path)) as file:
        selection, copied = _Selection(file, path, **options), {}
        for name, keys in selection.splits().items():
            pair = []
            for column, key in zip(("images", "labels"), keys, strict=True):
                array = selection.array(key)
                yield from untrusted.check_chunks(array)
                target = Path(selection.folder, f"{name}-{column}.0")
                fs.require_free_space(target.parent, array.nbytes)
                with target.open("xb") as out:
                    for block in untrusted.iter_rows(array, block_rows(array, BLOCK_BYTES)):
                        out.write(np.ascontiguousarray(block).data)
                        yield None
                pair.append((os.fspath(target), array.shape, array.dtype.str))
            copied[name] = pair
    yield copied


@dataclass(frozen=True, slots=True)
class _Selection:
    """The arrays of a file that are to be copied to `folder`; the keys are as in `Options`."""

    file: Any  # h5py.File, which has no types
    path: str
    images_key: str | None
    labels_key: str | None
    fraction: float | None
    folder: str

    def splits(self) -> dict[str, tuple[str, str]]:
        """Return the keys of images and labels by split."""
        images, labels = self._keys()
        keys = {n: (images.replace(SPLIT, n), labels.replace(SPLIT, n)) for n in ("train", "test")}
        find, is_divided = untrusted.find_dataset, self.fraction is not None
        if SPLIT not in images or (is_divided and find(self.file, keys["test"][0]) is None):
            return {WHOLE: keys["train"]}
        if is_divided:
            raise UsageError(f"`test_fraction`: {self.path} has a test split of its own")
        return keys

    def _keys(self) -> tuple[str, str]:
        """Return the keys of images and labels: those given, or the first default ones present."""
        images, labels = self.images_key, self.labels_key
        if images and labels:
            if (SPLIT in images) != (SPLIT in labels):
                raise UsageError(f"`images_key` and `labels_key`: expected {SPLIT} in both or none")
            return images, labels
        if images or labels:
            raise UsageError("`images_key` and `labels_key`: expected both or none")
        for keys in DEFAULT_KEYS:
            if all(untrusted.find_dataset(self.file, key.replace(SPLIT, "train")) for key in keys):
                return keys
        none = f"{self.path}: no images and labels under the usual keys; it holds {self._root()}"
        hint = f"name them: `images_key=KEY` `labels_key=KEY`, {SPLIT} in them for train and test"
        raise SourceError(none, hint)

    def array(self, key: str) -> Any:  # h5py has no types
        array = untrusted.find_dataset(self.file, key)
        if array is None or not array.shape:
            raise SourceError(f"{self.path}: no array under the key {key}; it holds {self._root()}")
        return array

    def _root(self) -> str:
        return ", ".join(untrusted.root_names(self.file)) or "nothing"
