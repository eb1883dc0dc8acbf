"""Divide rows into splits so that those of one group, such as a patient's, stay together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS, TAKEN
from pixelprep.numerics.grouping import grouped_mask
from pixelprep.sources.pictures.layouts import ImageList, Layout
from pixelprep.system import formatting, notices


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


def divided(where: str, layout: Layout, options: GroupOptions) -> Layout:
    """Return a layout whose val and test, where it has none, are whole groups taken from train."""
    splits = dict(layout.splits)
    if options.group_pattern is not None:
        for name, listed in splits.items():
            splits[name] = replace(
                listed, groups=of_names(where, listed.names, options.group_pattern)
            )
    train = splits.get("train")
    if train is None or not train.groups:
        return layout
    wanted = {name: getattr(options, f"{name}_fraction") for name in TAKEN if name not in splits}
    taken = _divide(where, train, wanted, options.split_seed)
    splits |= {name: train.take(rows) for name, rows in taken.items()}
    _tell_shared(where, {name: listed.groups for name, listed in splits.items()})
    splits = {name: splits[name] for name in SPLITS if name in splits}
    decode = {**layout.decode, **(_record(options, wanted) if taken else {})}
    return replace(layout, splits=splits, decode=decode)


def _tell_shared(where: str, groups: Mapping[str, Sequence[str]]) -> None:
    """Tell of groups that are in several splits of the data's own."""
    names = list(groups)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if shared := sorted(set(groups[one]) & set(groups[other])):
                listed = formatting.shorten(shared)
                notices.tell("%s: groups in %s and in %s: %s", where, one, other, listed)


def _divide(
    where: str, train: ImageList, fractions: Mapping[str, float], seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split that is taken from train, and of what stays, by name.

    Test is taken first, then validation of what is left. Of rows with several classes only the
    number counts.
    """
    labels = train.labels if train.labels.ndim == 1 else np.zeros(len(train.names), np.int64)
    numbers = np.unique(np.array(train.groups, np.str_), return_inverse=True)[1]
    left, rows = np.arange(len(labels)), dict[str, NDArray[np.int64]]()
    for name, fraction in fractions.items():
        if not fraction:
            continue
        taken = grouped_mask(labels[left], numbers[left], fraction, seed, TAKEN[name])
        groups = len(np.unique(numbers[left]))
        if not taken.any():
            none = f"`{name}_fraction={fraction}`: none of {groups:,} groups can be taken"
            hint = "give another fraction, or finer groups"
            raise SourceError(f"{where}: {none} so that each class keeps an image", hint)
        rows[name], left = left[taken], left[~taken]
        of = f"{len(np.unique(numbers[rows[name]])):,} of {groups:,} groups"
        notices.tell("%s: %s: %s, %d of %d images", where, name, of, taken.sum(), len(taken))
    return rows | {"train": left} if rows else {}


def _record(options: GroupOptions, fractions: Mapping[str, float]) -> dict[str, object]:
    """Return what the source digest covers of a division (data/FORMAT.md, section 4)."""
    known = {"pattern": options.group_pattern}
    if options.group_pattern is None:
        known = {"column": options.group_column or "group"}
    shares = {f"{name}_fraction": fractions.get(name, 0.0) for name in TAKEN}
    return {"groups": {**known, **shares, "split_seed": options.split_seed}}
