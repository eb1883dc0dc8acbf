"""Number the classes of labels, whichever of the usual forms these have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError, UsageError
from pixelprep.sources import lazy_arrays
from pixelprep.sources.base import RawSplit, label_range
from pixelprep.sources.lazy_arrays import AnyArray, LazyArray
from pixelprep.system import formatting, fs, notices

MAX_CLASSES = 1000  # accepted however few the images
UNLABELLED = -1  # beside class names, as Hugging Face has it


class LabelOptions(Protocol):
    """How labels are read; as `prepare` has these options."""

    @property
    def labels_from(self) -> int | None: ...

    @property
    def renumber(self) -> bool: ...

    @property
    def on_error(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Numbered:
    """Labels by split as `RawSplit` has them, and what they stand for."""

    labels: Mapping[str, LazyArray]
    class_names: tuple[str, ...]
    decode: Mapping[str, object] = field(default_factory=dict)


def numbered(
    where: str,
    columns: Mapping[str, tuple[LazyArray, int]],
    options: LabelOptions,
    task: str,
    class_names: Sequence[str],
) -> Numbered:
    """Give classes numbers, given labels and the number of images by split."""
    if options.renumber and options.labels_from is not None:
        raise UsageError("`labels_from` and `renumber`: expected one of the two")
    if task == "multilabel":
        _refuse_numbering(where, options, "of several classes a row")
        many = {name: _several(f"{where}: {name}", one) for name, (one, _) in columns.items()}
        columns_of = range(next(iter(many.values())).shape[1])
        return Numbered(many, tuple(class_names) or tuple(map(str, columns_of)))
    found = {name: _column(f"{where}: {name}", *column) for name, column in columns.items()}
    if any(labels.dtype.kind == "U" for labels, _ in found.values()):
        _refuse_numbering(where, options, "text")
        return _named(where, {name: labels for name, (labels, _) in found.items()}, class_names)
    labels = {name: one for name, (one, _) in found.items()}
    if options.renumber:
        return Numbered(*_renumbered(where, labels, class_names))
    classes = max(classes for _, classes in found.values())
    labels, names = _counted(where, labels, options.labels_from or 0, classes, not class_names)
    return Numbered(labels, tuple(class_names) or names)


def _refuse_numbering(where: str, options: LabelOptions, found: str) -> None:
    for name, given in {"labels_from": options.labels_from, "renumber": options.renumber}.items():
        if given not in (None, False):
            raise UsageError(f"`{name}`: {where}: labels are {found}", "leave the option out")


def task_of(where: str, columns: Mapping[str, tuple[LazyArray, int]]) -> str:
    """Tell labels of several classes a row, 0 and 1 of (N, K), from those of one a row."""
    for name, (labels, rows) in columns.items():
        shape = labels.shape
        if len(shape) != 2 or shape[0] != rows or shape[1] < 2 or labels.dtype.kind not in "uib":
            continue
        blocks = list(lazy_arrays.iter_blocks(labels, fs.HASH_BYTES))
        if not all(((block == 0) | (block == 1)).all() for block in blocks):
            continue
        if any((block.sum(axis=1) != 1).any() for block in blocks):
            told = (where, name, labels.dtype, shape, shape[1])
            notices.tell("%s: %s: labels are %s %s, several or none a row: %d classes", *told)
            return "multilabel"
    return "classification"


def of_cells(cells: NDArray[np.str_]) -> AnyArray:
    """Return a table's labels as integers if all are plain ones; else as text: 01 is not 1."""
    plain = (one.isdecimal() and str(int(one)) == one for one in np.unique(cells).tolist())
    return cells.astype(np.int64) if all(plain) else cells


def without_unlabelled(
    where: str, splits: Mapping[str, RawSplit]
) -> tuple[dict[str, RawSplit], Mapping[str, object]]:
    """Leave out rows whose label is `UNLABELLED`; return the rest, and what is recorded of them."""
    own, dropped = dict(splits), 0
    for name, split in splits.items():
        is_labelled = split.labels[:] != UNLABELLED
        if lost := int((~is_labelled).sum()):
            told = (where, name, lost, len(is_labelled))
            notices.tell("%s: %s: left out: without a label (-1): %s of %s images", *told)
            own[name] = split.take(np.flatnonzero(is_labelled))
            dropped += lost
        if not is_labelled.any():
            del own[name]
    if (first := next(iter(splits))) not in own:
        raise SourceError(f"{where}: {first}: no image has a label")
    return own, {"dropped": {"no label": dropped}} if dropped else {}


def _several(where: str, labels: LazyArray) -> LazyArray:
    """Check labels of several classes a row: 0 and 1, (N, K), integers or booleans."""
    if labels.dtype.kind in "uib" and len(labels.shape) == 2 and labels.shape[1]:
        return labels
    wrong = f"{where}: labels are {labels.dtype} {labels.shape}: expected 0 and 1, (N, K)"
    raise SourceError(wrong, "give each row a 0 or 1 for every class")


def _column(where: str, labels: LazyArray, rows: int) -> tuple[LazyArray, int]:
    """Return labels (N,), integers or text, and how many classes their shape tells of."""
    kind, shape, classes = labels.dtype.kind, labels.shape, 0
    wrong = f"{where}: labels are {labels.dtype} {shape}"
    if kind not in "uibfUSO":
        raise SourceError(f"{wrong}: expected integers (N,), or text", "number the classes 0, 1, 2")
    if len(shape) == 2 and shape[0] == rows and shape[1] > 1 and kind in "uibf":
        labels, classes = _one_hot(wrong, labels), shape[1]
        notices.tell("%s: taken as %d classes, one-hot", wrong, classes)
    elif len(shape) > 1 and shape[1:] == (1,) * (len(shape) - 1):
        labels = lazy_arrays.reshape_rows(labels, ())  # (N, 1), as Keras stores them
    elif len(shape) > 1 and sorted(shape)[-1] == rows and sorted(shape)[-2] == 1:
        labels = np.asarray(labels[:]).reshape(rows)
        notices.tell("%s: taken as (%d,)", wrong, rows)
    if len(labels.shape) != 1:
        hint = "give each row one number, or a 1 among zeros in the column of its class"
        if shape[0] == 1:
            hint = (
                "all of them in a row or a column: say how the images lie, such as `layout=matlab`"
            )
        raise SourceError(f"{wrong}: expected integers (N,), or one-hot rows, of {rows:,}", hint)
    if kind in "ui" or classes:
        return labels, classes
    if kind == "b":
        notices.tell("%s: false is taken as class 0, true as 1", wrong)
        return np.asarray(labels[:]).astype(np.uint8), 2
    if kind == "f":
        return _whole(wrong, np.asarray(labels[:])), 0
    return _text(wrong, np.asarray(labels[:])), 0


def _one_hot(wrong: str, labels: LazyArray) -> NDArray[np.int64]:
    found = []
    for block in lazy_arrays.iter_blocks(labels, fs.HASH_BYTES):
        if not (((block == 0) | (block == 1)).all() and (block.sum(axis=1) == 1).all()):
            hint = "give the number of each row's class, such as labels.argmax(axis=1)"
            if np.isin(block, (0, 1)).all():
                hint = "of several classes a row: pixelprep.Arrays(…, task='multilabel')"
            elif np.isin(block, (-1, 1)).all():
                hint = "of -1 and 1 make 0 and 1: (labels > 0).astype('uint8')"
            raise SourceError(f"{wrong}: expected integers (N,), or a single 1 in each row", hint)
        found.append(block.argmax(axis=1))
    return np.concatenate(found)


def _whole(wrong: str, labels: AnyArray) -> NDArray[np.int64]:
    fits = (np.floor(labels) == labels) & (np.abs(labels) < 2**53)
    if not fits.all():
        odd = labels[~fits][0]
        raise SourceError(f"{wrong} and not all whole, such as {odd}: expected integers (N,)")
    notices.tell("%s, all of them whole numbers: taken as integers", wrong)
    return labels.astype(np.int64)


def _text(wrong: str, labels: AnyArray) -> AnyArray:
    """Return labels as an array of text."""
    try:
        text = [one.decode() if isinstance(one, bytes) else one for one in labels.tolist()]
        "".join(text).encode()
    except (TypeError, UnicodeError) as error:
        raise SourceError(f"{wrong}: expected integers (N,), or text: {error}") from None
    if not all(text):
        raise SourceError(f"{wrong}: row {text.index('')} (counted from 0) has an empty label")
    return np.array(text, np.str_)


def _named(where: str, labels: Mapping[str, LazyArray], class_names: Sequence[str]) -> Numbered:
    """Give numbers to classes that are text: in the order given, or in that of code points."""
    if any(one.dtype.kind != "U" for one in labels.values()):
        kinds = ", ".join(f"{name} {one.dtype.kind}" for name, one in labels.items())
        raise SourceError(f"{where}: labels are text in some splits only: {kinds}")
    text = {name: one[:] for name, one in labels.items()}
    found = np.unique(np.concatenate(list(text.values()))).tolist()
    if unknown := set(found) - set(class_names or found):
        listed = formatting.shorten(sorted(unknown))
        raise SourceError(f"{where}: labels that are no class name: {listed}")
    names = tuple(class_names) or tuple(found)
    if not class_names:
        count = formatting.pluralize(len(names), "class", "classes")
        listed = formatting.shorten(names)
        notices.tell(f"{where}: labels are text: {count} in the order of code points: {listed}")
    numbers = {name: number for number, name in enumerate(names)}
    own = {n: np.array([numbers[one] for one in row.tolist()]) for n, row in text.items()}
    return Numbered(own, names, {"class_order": "given" if class_names else "code points"})


def _renumbered(
    where: str, labels: Mapping[str, LazyArray], class_names: Sequence[str]
) -> tuple[dict[str, LazyArray], tuple[str, ...]]:
    """Give the labels that occur new numbers, in their order; each keeps the name that it had."""
    blocks = [b for one in labels.values() for b in lazy_arrays.iter_blocks(one, fs.HASH_BYTES)]
    values = np.unique(np.concatenate([np.unique(block) for block in blocks]))
    if not class_names:
        own: dict[str, LazyArray] = {n: np.searchsorted(values, y[:]) for n, y in labels.items()}
        return own, tuple(map(str, values.tolist()))
    values = values[values != UNLABELLED]
    if len(values) and not 0 <= values[0] <= values[-1] < len(class_names):
        expected = f"expected the numbers of {len(class_names)} class names, from 0"
        from_one = values[0] == 1 and values[-1] == len(class_names)
        hint = "for labels that count from 1: `labels_from=1`" if from_one else None
        got = f"got {values[0]} to {values[-1]}"
        raise SourceError(f"{where}: `renumber`: {expected}, {got}", hint)
    new = np.full(len(class_names) + 1, UNLABELLED)  # the last is that of `UNLABELLED`
    new[values] = np.arange(len(values))
    return {n: new[y[:]] for n, y in labels.items()}, tuple(class_names[v] for v in values)


def _counted(
    where: str, labels: Mapping[str, LazyArray], first: int, classes: int, unnamed: bool
) -> tuple[dict[str, LazyArray], tuple[str, ...]]:
    """Name classes, where they are unnamed, by their numbers, the least of which is `first`."""
    if not (first or unnamed):
        return dict(labels), ()  # `Raw.checked` looks at them
    lowest, highest = 0, classes - 1
    images = sum(map(len, labels.values()))
    for one in labels.values():
        low, high = label_range(one)
        lowest, highest = min(lowest, low - first), max(highest, high)
    if unnamed and not first and lowest < 0:
        low, high = next(both for both in map(label_range, labels.values()) if both[0] < 0)
        hint = f"`renumber` numbers those that occur; `labels_from={lowest}` counts from there"
        raise SourceError(f"{where}: expected labels from 0, got {low} to {high}", hint)
    if first and lowest < 0:
        below = f"{where}: `labels_from={first}`: expected no label below, got {first + lowest}"
        raise SourceError(below)
    if unnamed and highest - first >= max(images, MAX_CLASSES):
        most = f"labels up to {highest:,} of {images:,} images"
        hint = "`renumber` numbers those that occur"
        raise SourceError(f"{where}: {most}: expected 0, 1, 2, …", hint)
    names = tuple(map(str, range(first, highest + 1))) if unnamed else ()
    if not first:
        return dict(labels), names
    return {name: one[:].astype(np.int64) - first for name, one in labels.items()}, names
