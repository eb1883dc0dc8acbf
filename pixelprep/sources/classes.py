"""Choose classes by name: their order, some of them, or several as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar  # Any: labels of several types

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.sources import lazy_arrays
from pixelprep.sources.base import Raw
from pixelprep.sources.lazy_arrays import AnyArray, LazyArray
from pixelprep.sources.pictures.layouts import Layout
from pixelprep.system import formatting, fs, notices

LEFT_OUT = -1  # instead of a class's new number

Data = TypeVar("Data", Raw, Layout)  # decoded, or not yet


class ClassOptions(Protocol):
    """How classes are chosen; as `prepare` has these options."""

    @property
    def classes(self) -> Sequence[str] | None: ...

    @property
    def class_map(self) -> Mapping[str, str] | None: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Classes as they will be."""

    names: tuple[str, ...]
    numbers: NDArray[np.int64]  # of each class as it was, its new one, or `LEFT_OUT`
    order: str | None  # "given", where it was


def is_wanted(options: ClassOptions, name: str) -> bool:
    """Tell whether a class stays, perhaps as a part of another."""
    merged = (options.class_map or {}).get(name, name)
    return options.classes is None or merged in options.classes


def choose(where: str, names: Sequence[str], options: ClassOptions) -> Choice:
    """Return the classes that the options ask for, of those that there are."""
    merged = dict(zip(names, names, strict=True))
    if len(merged) < len(names):
        expected = "expected names of one class each, by which to choose"
        twice = sorted(name for name in merged if names.count(name) > 1)
        raise SourceError(f"{where}: {expected}, got several of {formatting.shorten(twice)}")
    if options.class_map is not None:
        _refuse_unknown(f"{where}: `class_map`", options.class_map, names)
        merged |= options.class_map
    there = list(dict.fromkeys(merged[name] for name in names))
    if options.class_map is not None:
        there.sort()
    wanted = there
    if options.classes is not None:
        wanted = list(options.classes)
        _refuse_unknown(f"{where}: `classes`", wanted, there)
    new = {name: number for number, name in enumerate(wanted)}
    numbers = np.array([new.get(merged[name], LEFT_OUT) for name in names], np.int64)
    return Choice(tuple(wanted), numbers, "given" if options.classes else None)


def apply(where: str, raw: Data, options: ClassOptions) -> Data:
    """Return data with the classes that the options ask for; other rows are left out."""
    if options.classes is None and options.class_map is None:
        return raw
    choice = choose(where, raw.class_names, options)
    decode = dict(raw.decode)
    if choice.order:
        decode["class_order"] = choice.order
    splits: dict[str, Any] = {}  # Any: splits of either kind of data
    dropped = 0
    for name, split in raw.splits.items():
        if raw.task == "multilabel":
            splits[name] = replace(split, labels=_columns(split.labels, choice))
            _tell_labels(f"{where}: {name}", split.labels, splits[name].labels, choice)
            continue
        labels = choice.numbers[np.asarray(split.labels[:])]
        stay = np.flatnonzero(labels != LEFT_OUT)
        dropped += len(labels) - len(stay)
        if not len(stay):
            raise SourceError(f"{where}: {name}: no image of {formatting.shorten(choice.names)}")
        left = split if len(stay) == len(labels) else split.take(stay)
        splits[name] = replace(left, labels=labels[stay])
    if dropped:
        decode["dropped"] = {**dropped_of(decode), "other classes": dropped}
        images = formatting.pluralize(dropped, "image")
        notices.tell("%s: left out as of other classes: %s", where, images)
    return replace(raw, splits=splits, class_names=choice.names, decode=decode)


def dropped_of(decode: Mapping[str, object]) -> Mapping[str, int]:
    """Return how many images were left out, by reason."""
    found = decode.get("dropped", {})
    return found if isinstance(found, dict) else {}


def _columns(labels: LazyArray, choice: Choice) -> AnyArray:
    """Turn 0 and 1, (N, K), into those of the new classes: 1 where a row has any that became it."""
    blocks = []
    for block in lazy_arrays.iter_blocks(labels, fs.HASH_BYTES):
        columns = [block[:, choice.numbers == new].max(axis=1) for new in range(len(choice.names))]
        blocks.append(np.stack(columns, axis=1))
    return np.concatenate(blocks)


def _tell_labels(where: str, before: LazyArray, after: AnyArray, choice: Choice) -> None:
    """Tell how many labels are left out, and how many rows have none left."""
    lost, emptied, row = 0, 0, 0
    for block in lazy_arrays.iter_blocks(before, fs.HASH_BYTES):
        lost += int(block[:, choice.numbers == LEFT_OUT].sum())
        left = after[row : row + len(block)]
        emptied += int((block.any(axis=1) & ~left.any(axis=1)).sum())
        row += len(block)
    if lost:
        of, without = formatting.pluralize(lost, "label"), formatting.pluralize(emptied, "image")
        notices.tell(f"{where}: left out: {of} of other classes; without any now: {without}")


def _refuse_unknown(
    what: str, wanted: Sequence[str] | Mapping[str, str], there: Sequence[str]
) -> None:
    if unknown := [name for name in wanted if name not in there]:
        missing, have = formatting.shorten(unknown), formatting.shorten(there)
        raise SourceError(f"{what}: no class {missing}; there are {have}")
