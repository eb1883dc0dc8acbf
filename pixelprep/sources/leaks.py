"""Find equal images: in train and another split, or with different labels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.sources.base import Raw
from pixelprep.sources.lazy_arrays import AnyArray
from pixelprep.system import notices

KEY = np.dtype("V16")  # of an image: the first bytes of its SHA-256
EXAMPLES = 3

Row = tuple[str, int]  # a split and a row of it


@dataclass(frozen=True, slots=True)
class _Equal:
    """The images that are there more than once, and which of them are equal."""

    split: AnyArray  # (M,), the name of the split of each
    row: NDArray[np.int64]  # (M,), in its split
    group: NDArray[np.int64]  # (M,), equal of equal images

    def where(self, mask: NDArray[np.bool_]) -> "_Equal":
        return _Equal(self.split[mask], self.row[mask], self.group[mask])


def keys_of(pixels: memoryview, rows: int) -> list[bytes]:
    """Return the key of each of so many images, given their bytes."""
    flat, size = pixels.cast("B"), pixels.nbytes // rows
    images = (flat[start : start + size] for start in range(0, rows * size, size))
    return [hashlib.sha256(image).digest()[: KEY.itemsize] for image in images]


def handle_leaks(
    raw: Raw,
    keys: Mapping[str, AnyArray],
    where: str,
    on_leak: str | None,
    hint: str = "`on_leak=drop` leaves them out",
) -> Raw:
    """Tell of images of train in other splits, given the keys of all by split; return the rest.

    `on_leak` is "fail" or "drop"; with any other value they are only told.
    """
    equal, rest = _find(keys), raw
    in_train = np.isin(equal.group, equal.group[equal.split == "train"])
    for name, split in raw.splits.items():
        leaked = equal.where(in_train & (equal.split == name))
        if name == "train" or not len(leaked.row):
            continue
        line = f"{where}: {_tell(raw, equal, leaked)}"
        if on_leak == "fail":
            raise SourceError(line, hint)
        if on_leak == "drop":
            if len(leaked.row) == len(split.labels):
                raise SourceError(line, "nothing else is in it: leave the split out")
            rest = _without(rest, name, leaked.row)
            line += ": left out"
        notices.tell("%s", line)
    return rest


def _tell(raw: Raw, equal: _Equal, leaked: _Equal) -> str:
    name, rows = str(leaked.split[0]), leaked.row[:EXAMPLES].tolist()
    twins = [
        equal.row[(equal.group == group) & (equal.split == "train")][0]
        for group in leaked.group[:EXAMPLES]
    ]
    pairs = [
        f"{_name(raw, (name, row))} = {_name(raw, ('train', int(twin)))}"
        for row, twin in zip(rows, twins, strict=True)
    ]
    count, total = len(leaked.row), len(raw.splits[name].labels)
    more = ", …" if count > EXAMPLES else ""
    are = "is" if count == 1 else "are"
    return f"{count:,} of {total:,} {name} images {are} in train, too: {', '.join(pairs)}{more}"


def _find(keys: Mapping[str, AnyArray]) -> _Equal:
    every = np.concatenate(list(keys.values()))
    words = every.view("<u8").reshape(-1, 2)[:, 0]  # sorted faster than keys; the rest is exact
    order = np.argsort(words, kind="stable")
    same = words[order[1:]] == words[order[:-1]]
    places = np.sort(order[np.append(same, False) | np.append(False, same)])
    _, groups, counts = np.unique(every[places], return_inverse=True, return_counts=True)
    ends = np.cumsum([len(one) for one in keys.values()])
    split = np.searchsorted(ends, places, side="right")
    found = _Equal(np.array(list(keys))[split], places - np.append(0, ends)[split], groups)
    return found.where(counts[groups] > 1)


def _name(raw: Raw, row: Row) -> str:
    """Name an image by its file, or by its row."""
    split, number = row
    names = raw.splits[split].names
    return f"{split} {number}" if names is None else names[number : number + 1][0].decode()


def _without(raw: Raw, name: str, rows: NDArray[np.int64]) -> Raw:
    split = raw.splits[name]
    stay = np.setdiff1d(np.arange(len(split.labels)), rows)
    dropped = dict(raw.decode.get("dropped", {}))  # type: ignore[call-overload] # a JSON object
    dropped[f"{name} in train"] = len(rows)
    decode = {**raw.decode, "dropped": dropped}
    return replace(raw, splits={**raw.splits, name: split.take(stay)}, decode=decode)


def tell_conflicts(raw: Raw, keys: Mapping[str, AnyArray], where: str) -> None:
    """Tell of equal images whose labels differ."""
    equal = _find(keys)
    if not len(equal.row):
        return
    labels = np.empty((len(equal.row), *next(iter(raw.splits.values())).labels.shape[1:]), np.int64)
    for name, split in raw.splits.items():
        labels[equal.split == name] = split.labels[equal.row[equal.split == name]]
    _, codes = np.unique(labels, axis=0, return_inverse=True)
    low = np.full(int(equal.group.max()) + 1, len(codes))
    high = np.zeros_like(low)
    np.minimum.at(low, equal.group, codes.reshape(-1))
    np.maximum.at(high, equal.group, codes.reshape(-1))
    differing = equal.where((low != high)[equal.group])
    if groups := list(dict.fromkeys(differing.group.tolist())):
        of_first = np.flatnonzero(differing.group == groups[0])[:EXAMPLES]
        such = [(str(differing.split[i]), int(differing.row[i])) for i in of_first]
        listed = " = ".join(_name(raw, row) for row in such)
        told = (where, len(groups), "image has" if len(groups) == 1 else "images have", listed)
        notices.tell("%s: %d %s more than one label: %s", *told)
