"""Divide rows into splits so that those of one group, such as a patient's, stay together."""

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import TAKEN
from pixelprep.numerics.grouping import grouped_mask
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


def divide(
    where: str, labels: NDArray[np.int64], groups: Sequence[str], options: GroupOptions
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split that is taken from train, and of what stays, by name.

    Test is taken first, then validation of what is left. `labels` are (N,), the classes of rows, or
    (N, K), of which only the number counts.
    """
    classes = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    numbers = np.unique(np.array(groups, np.str_), return_inverse=True)[1]
    left, rows = np.arange(len(classes)), dict[str, NDArray[np.int64]]()
    for name, stream in TAKEN.items():
        if fraction := getattr(options, f"{name}_fraction"):
            seed = options.split_seed
            taken = grouped_mask(classes[left], numbers[left], fraction, seed, stream)
            count = len(np.unique(numbers[left]))
            if not taken.any():
                none = f"`{name}_fraction={fraction}`: none of {count:,} groups can be taken"
                hint = "fewer, larger groups than classes and fractions allow"
                raise SourceError(f"{where}: {none} so that each class keeps an image", hint)
            rows[name], left = left[taken], left[~taken]
            held = len(np.unique(numbers[rows[name]]))
            share = f"{len(rows[name]):,} of {len(taken):,} images"
            notices.tell("%s: %s takes %d of %d groups, %s", where, name, held, count, share)
    return rows | {"train": left} if rows else {}


def tell_shared(where: str, groups: dict[str, Sequence[str]]) -> None:
    """Tell of groups that are in several splits of the data's own."""
    names = list(groups)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if shared := sorted(set(groups[one]) & set(groups[other])):
                listed = formatting.shorten(shared)
                notices.tell("%s: groups in %s and in %s: %s", where, one, other, listed)


def record(options: GroupOptions) -> dict[str, object]:
    """Return what the source digest covers of a division (data/FORMAT.md, section 4)."""
    by = {"column": options.group_column, "pattern": options.group_pattern}
    kept = {name: value for name, value in by.items() if value is not None}
    fractions = {f"{name}_fraction": getattr(options, f"{name}_fraction") for name in TAKEN}
    return {"groups": {**kept, **fractions, "split_seed": options.split_seed}}
