"""Make raw data of arrays as users have them: images turned, labels numbered, all checked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources import axes, labels, lazy_arrays
from pixelprep.sources.base import Raw, RawSplit, with_names
from pixelprep.sources.lazy_arrays import LazyArray
from pixelprep.system import notices

UNLIKE = 50  # times the range of another split: 0 to 255 beside 0 to 1


class ArrayOptions(labels.LabelOptions, Protocol):
    """How arrays are read; as `prepare` has these options."""

    @property
    def layout(self) -> str | None: ...


def assemble(
    where: str,
    pairs: Mapping[str, tuple[LazyArray, LazyArray]],
    options: ArrayOptions,
    task: str | None = None,
    class_names: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Raw:
    """Return the raw data of images and labels by split, of the task that is given or seen."""
    split, (first, given) = next(iter(pairs.items()))
    rows = max(given.shape, default=0)  # labels may be (N,), (N, 1) or (1, N)
    order = axes.resolved(f"{where}: {split}", options.layout, first.shape, rows)
    images = {n: axes.turned(f"{where}: {n}", pair[0], order) for n, pair in pairs.items()}
    columns = {n: (pair[1], len(images[n])) for n, pair in pairs.items()}
    task = task or labels.task_of(where, columns)
    numbered = labels.numbered(where, columns, options, task, class_names)
    splits = {name: RawSplit(images[name], numbered.labels[name]) for name in pairs}
    for name, rows_names in (names or {}).items():
        if name not in splits:
            raise SourceError(f"{where}: names of {name!r}: expected those of {', '.join(splits)}")
        splits[name] = with_names(f"{where}: {name}", splits[name], rows_names)
    for name, of_split in (groups or {}).items():
        splits[name] = replace(splits[name], groups=np.array(of_split))
    decode = {**axes.record(order), **numbered.decode}
    if class_names and task == "classification" and options.on_error == "skip":
        splits, dropped = labels.without_unlabelled(where, splits)
        decode |= dropped
    choosing = bool(getattr(options, "classes", None) or getattr(options, "class_map", None))
    raw = Raw(splits, numbered.class_names, decode, task).checked(where, choosing=choosing)
    _tell_unlike_ranges(where, images)
    return raw


def _tell_unlike_ranges(where: str, images: Mapping[str, LazyArray]) -> None:
    """Tell of floats that are scaled in some splits only, by the first block of each."""
    if next(iter(images.values())).dtype.kind != "f":
        return
    ranges = {
        name: np.abs(next(lazy_arrays.iter_blocks(one))).max() for name, one in images.items()
    }
    found = {name: highest for name, highest in ranges.items() if 0 < highest < np.inf}
    if found and max(found.values()) >= UNLIKE * min(found.values()):
        listed = ", ".join(f"{name} up to {highest:g}" for name, highest in found.items())
        notices.tell("%s: floats of unlike ranges: %s: scaled in some splits only?", where, listed)
