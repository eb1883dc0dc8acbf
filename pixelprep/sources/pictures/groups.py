"""Divide rows into splits so that those of one group, such as a patient's, stay together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar  # Any: splits of either kind of data

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS, TAKEN
from pixelprep.numerics.grouping import grouped_mask
from pixelprep.sources.base import Raw, RawSplit
from pixelprep.sources.pictures.layouts import ImageList, Layout
from pixelprep.system import formatting, notices

Data = TypeVar("Data", Raw, Layout)  # decoded, or not yet


class GroupOptions(Protocol):
    """How groups are known and divided; as `prepare` has these options."""

    @property
    def group_column(self) -> str | None: ...

    @property
    def group_pattern(self) -> str | None: ...

    @property
    def val_fraction(self) -> float: ...

    @property
    def test_fraction(self) -> float: ...

    @property
    def split_seed(self) -> int: ...


def of_names(where: str, names: Sequence[str], pattern: str) -> list[str]:
    """Return the group of each name: what the pattern's first parentheses, or all of it, match."""
    found, compiled = [], re.compile(pattern)
    for name in names:
        match = compiled.search(name)
        if match is None:
            raise SourceError(f"{where}: {name}: `group_pattern={pattern}` does not match")
        found.append(match[1] if compiled.groups else match[0])
    return found


def divided(where: str, data: Data, options: GroupOptions) -> Data:
    """Return data whose val and test, where it has none, are whole groups taken from train."""
    splits: dict[str, Any] = dict(data.splits)
    if options.group_pattern is not None:
        for name, split in splits.items():
            names = _names(f"{where}: {name}", split)
            of_rows = of_names(f"{where}: {name}", names, options.group_pattern)
            is_raw = isinstance(split, RawSplit)
            splits[name] = replace(split, groups=np.array(of_rows) if is_raw else of_rows)
    groups = {name: _groups(split) for name, split in splits.items()}
    if not groups.get("train"):
        return data
    if nameless := sum(one == "" for of_split in groups.values() for one in of_split):
        rows = formatting.pluralize(nameless, "row")
        notices.tell("%s: no group in %s: taken as one group", where, rows)
    wanted = {name: getattr(options, f"{name}_fraction") for name in TAKEN if name not in splits}
    train = splits["train"]
    taken = _divide(where, train.labels[:], groups["train"], wanted, options.split_seed)
    splits |= {name: train.take(rows) for name, rows in taken.items()}
    _tell_shared(where, {name: _groups(split) for name, split in splits.items()})
    splits = {name: splits[name] for name in SPLITS if name in splits}
    decode = {**data.decode, **(_record(options, wanted) if taken else {})}
    return replace(data, splits=splits, decode=decode)


def _names(where: str, split: ImageList | RawSplit) -> list[str]:
    if split.names is None:
        nameless = f"{where}: `group_pattern`: the rows have no names of files"
        raise SourceError(nameless, "name a column: `group_column=NAME`")
    return [name.decode() if isinstance(name, bytes) else name for name in split.names[:]]


def _groups(split: ImageList | RawSplit) -> Sequence[str]:
    return () if split.groups is None else list(split.groups[:])


def _tell_shared(where: str, groups: Mapping[str, Sequence[str]]) -> None:
    """Tell of groups that are in several splits of the data's own."""
    names = list(groups)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if shared := sorted(set(groups[one]) & set(groups[other])):
                listed = formatting.shorten(shared)
                notices.tell("%s: groups in %s and in %s: %s", where, one, other, listed)


def _divide(
    where: str,
    labels: NDArray[np.int64],
    groups: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split that is taken from train, and of what stays, by name.

    Test is taken first, then validation of what is left. Of rows with several classes only the
    number counts.
    """
    labels = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    numbers = np.unique(np.array(groups, np.str_), return_inverse=True)[1]
    left, rows = np.arange(len(labels)), dict[str, NDArray[np.int64]]()
    for name, fraction in fractions.items():
        if not fraction:
            continue
        taken = grouped_mask(labels[left], numbers[left], fraction, seed, TAKEN[name])
        total = len(np.unique(numbers[left]))
        if not taken.any():
            none = f"`{name}_fraction={fraction}`: none of {total:,} groups can be taken"
            hint = "give another fraction, or finer groups"
            raise SourceError(f"{where}: {none} so that each class keeps an image", hint)
        rows[name], left = left[taken], left[~taken]
        of = f"{len(np.unique(numbers[rows[name]])):,} of {total:,} groups"
        notices.tell("%s: %s: %s, %d of %d images", where, name, of, taken.sum(), len(taken))
    return rows | {"train": left} if rows else {}


def _record(options: GroupOptions, fractions: Mapping[str, float]) -> dict[str, object]:
    """Return what the source digest covers of a division (data/FORMAT.md, section 4)."""
    known = {"pattern": options.group_pattern}
    if options.group_pattern is None:
        known = {"column": options.group_column or "group"}
    shares = {f"{name}_fraction": fractions.get(name, 0.0) for name in TAKEN}
    return {"groups": {**known, **shares, "split_seed": options.split_seed}}
