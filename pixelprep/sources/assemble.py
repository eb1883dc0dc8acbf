"""Make raw data of arrays as users have them: images turned, labels numbered, all checked."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pixelprep.errors import SourceError
from pixelprep.sources import axes, labels
from pixelprep.sources.base import Raw, RawSplit, with_names
from pixelprep.sources.lazy_arrays import LazyArray


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
    decode = {**axes.record(order), **numbered.decode}
    return Raw(splits, numbered.class_names, decode, task).checked(where)
