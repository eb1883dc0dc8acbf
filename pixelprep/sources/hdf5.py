"""Read a user's HDF5 file, with images and labels under keys of the user's choice."""

import itertools
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: h5py has no types

import numpy as np

from pixelprep.errors import SourceError, UsageError
from pixelprep.format import sandbox, untrusted
from pixelprep.format.options import MATLAB
from pixelprep.format.recipe import SPLITS
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Raw, SourceContext, scaled_already
from pixelprep.sources.lazy_arrays import BLOCK_BYTES, block_rows, single_file_array
from pixelprep.sources.local import LocalSource
from pixelprep.system import formatting, fs

MATLAB_CLASS = "MATLAB_class"  # an attribute of every array in a file of MATLAB 7.3
SPLIT = "{split}"  # in a key: stands for train, val and test
COLUMNS = {"images": untrusted.NUMBERS, "labels": untrusted.LABELS}  # the types that each may have
DEFAULT_KEYS = (  # tried in this order if none were given
    ("{split}/images", "{split}/labels"),
    ("x_{split}", "y_{split}"),
    ("images", "labels"),
)

Copied = tuple[str, list[int], str]  # a file, and shape and dtype of the array in it


class Hdf5File(LocalSource):
    """One HDF5 file, whose arrays are copied in a sandbox."""

    supported_options = frozenset(
        {"images_key", "labels_key", "layout", "labels_from", "renumber", "on_leak"}
    )

    def load(self, context: SourceContext) -> Raw:
        """Read train and what other splits there are; without splits, all images as train."""
        where = os.fspath(self.path)
        copied = {}
        for name, pair in self._copied(context).items():
            images, labels = (
                single_file_array(Path(p), tuple(s), np.dtype(dtype)) for p, s, dtype in pair
            )
            copied[name] = images, labels
        return assemble(where, copied, self.options)

    def _copied(self, context: SourceContext) -> dict[str, tuple[Copied, Copied]]:
        """Copy images and labels to files; return them by split."""
        options = self.options
        keys = {name: getattr(options, name) for name in ("images_key", "labels_key", "layout")}
        places = {"path": os.fspath(self.path), "folder": os.fspath(context.folder())}
        try:
            steps = sandbox.run_in_sandbox(f"{__name__}:copy_arrays", **places, **keys)
            return dict(deque(steps, maxlen=1)[0])
        except sandbox.OutOfMemory as error:
            hint = "write its arrays in smaller chunks, or use a machine with more memory"
            raise SourceError(f"{self.path}: cannot read: {error}", hint) from error
        except sandbox.SandboxError as error:
            raise SourceError(f"{self.path}: not a readable HDF5 file: {error}") from error


def copy_arrays(
    path: str, layout: str | None, **options: Any
) -> Iterator[Any]:  # what the sandbox passes on
    """Copy arrays to files; yield None at each step, and in the end the files by split."""
    with untrusted.open_untrusted(Path(path)) as file:
        if untrusted.is_ours(file):
            raise scaled_already(path)
        selection, copied = _Selection(file, path, **options), {}
        for name, keys in selection.splits().items():
            pair = []
            for (column, kinds), key in zip(COLUMNS.items(), keys, strict=True):
                array = selection.array(key, kinds)
                if column == "images" and layout is None and MATLAB_CLASS in array.attrs:
                    reversed_axes = f"{path}: {key} {array.shape} was written by MATLAB"
                    reason = "HDF5 has its axes reversed"
                    raise SourceError(f"{reversed_axes}: {reason}", f"turn it: `layout={MATLAB}`")
                yield from untrusted.check_chunks(array)
                target = Path(selection.folder, f"{name}-{column}.0")
                fs.require_free_space(target.parent, array.nbytes)
                blocks, dtype = (
                    untrusted.iter_rows(array, block_rows(array, BLOCK_BYTES)),
                    array.dtype,
                )
                if dtype.kind in "SO":  # text is written as wide as the longest
                    text = np.concatenate([np.array(block.tolist(), "S") for block in blocks])
                    blocks, dtype = iter([text]), text.dtype
                with target.open("xb") as out:
                    for block in blocks:
                        out.write(np.ascontiguousarray(block).data)
                        yield None
                pair.append((os.fspath(target), array.shape, dtype.str))
            copied[name] = pair
    yield copied


@dataclass(frozen=True, slots=True)
class _Selection:
    """The arrays of a file that are to be copied to `folder`; the keys are as in `Options`."""

    file: Any  # an h5py.File
    path: str
    images_key: str | None
    labels_key: str | None
    folder: str

    def splits(self) -> dict[str, tuple[str, str]]:
        """Return the keys of images and labels by split."""
        images, labels = self._keys()
        if SPLIT not in images:
            return {"train": (images, labels)}
        keys = {n: (images.replace(SPLIT, n), labels.replace(SPLIT, n)) for n in SPLITS}
        present = [name for name, pair in keys.items() if any(self._has(key) for key in pair)]
        return {name: keys[name] for name in present or ["train"]}

    def _keys(self) -> tuple[str, str]:
        """Return the keys of images and labels: those given, or the first default ones present."""
        images, labels = self.images_key, self.labels_key
        if images and labels:
            if (SPLIT in images) != (SPLIT in labels):
                raise UsageError(f"`images_key` and `labels_key`: expected {SPLIT} in both or none")
            return images, labels
        if images or labels:
            raise UsageError("`images_key` and `labels_key`: expected both or none")
        for split, keys in itertools.product(SPLITS, DEFAULT_KEYS):
            if all(self._has(key.replace(SPLIT, split)) for key in keys):
                return keys
        none = f"{self.path}: no images and labels under the usual keys; it holds {self._root()}"
        hint = (
            f"name them: `images_key=KEY` `labels_key=KEY`, {SPLIT} in them for train, val and test"
        )
        raise SourceError(none, hint)

    def _has(self, key: str) -> bool:
        return untrusted.find_dataset(self.file, key, untrusted.LABELS) is not None

    def array(self, key: str, kinds: str) -> Any:
        array = untrusted.find_dataset(self.file, key, kinds)
        if array is None or not array.shape:
            raise SourceError(f"{self.path}: no array under the key {key}; it holds {self._root()}")
        return array

    def _root(self) -> str:
        return formatting.shorten(untrusted.root_names(self.file)) or "nothing"
