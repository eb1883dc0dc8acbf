"""Find equal images: in several splits, or with different labels."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS
from pixelprep.sources.base import Raw
from pixelprep.sources.lazy_arrays import AnyArray, LazyArray, TakeView, iter_blocks, pixel_bytes
from pixelprep.system import notices

KEY = np.dtype("V16")  # of an image: the first bytes of its SHA-256, or a number that it has alone
EXAMPLES = 3  # in a line
MAX_KEPT, MAX_OF_ONE = 1000, 10  # in a record: pairs, or groups of so many equal images at most

Mask = NDArray[np.bool_]
Names = tuple[str, ...]  # of equal images


@dataclass(frozen=True, slots=True)
class EqualImages:
    """The images that are there more than once, by split and row, and which of them are equal."""

    split: NDArray[np.int64]  # (M,), the place in `SPLITS` of each
    row: NDArray[np.int64]  # (M,), in its split
    group: NDArray[np.int64]  # (M,), equal of equal images

    @classmethod
    def among(cls, keys: Mapping[str, AnyArray]) -> "EqualImages":
        """Find them, given the keys of all images by split."""
        names = [name for name in SPLITS if name in keys]
        every = np.concatenate([keys[name] for name in names])
        words = every.view("<u8").reshape(-1, 2)[:, 0]  # sorted faster than keys; the rest is exact
        order = np.argsort(words, kind="stable")
        same = words[order[1:]] == words[order[:-1]]
        places = np.sort(order[np.append(same, False) | np.append(False, same)])
        _, groups, counts = np.unique(every[places], return_inverse=True, return_counts=True)
        ends = np.cumsum([len(keys[name]) for name in names])
        split = np.searchsorted(ends, places, side="right")
        numbers = np.array([SPLITS.index(name) for name in names])
        found = cls(numbers[split], places - np.append(0, ends)[split], groups)
        return found.where(counts[groups] > 1)

    def where(self, mask: Mask) -> "EqualImages":
        return EqualImages(self.split[mask], self.row[mask], self.group[mask])

    def homes(self) -> NDArray[np.int64]:
        """Return, of each image, the number of the first that is equal: of train, val, test."""
        _, first, group = np.unique(self.group, return_index=True, return_inverse=True)
        return first[group]


@lru_cache(maxsize=4)
def _weights(count: int) -> NDArray[np.uint64]:
    random = np.frombuffer(hashlib.shake_128().digest(8 * count), "<u8")
    return random.astype(np.uint64) | np.uint64(1)


def numbers_of(pixels: memoryview, rows: int) -> NDArray[np.uint64]:
    """Return a number of each image, given their bytes: the same of equal ones, rarely of others.

    That is a sum of its words, weighted: much faster than a digest of each.
    """
    images = np.frombuffer(pixels, np.uint8).reshape(rows, -1)
    count, rest = divmod(images.shape[1], 8)
    weights = _weights(count + rest)
    words = images[:, : 8 * count].view("<u8")
    numbers: NDArray[np.uint64] = words @ weights[:count] + images[:, 8 * count :] @ weights[count:]
    return numbers


def keys_of(
    images: Mapping[str, LazyArray], numbers: Mapping[str, NDArray[np.uint64]]
) -> dict[str, AnyArray]:
    """Return the key of each image by split, given its number; those that share one are read."""
    every, keys = np.sort(np.concatenate([*numbers.values()])), {}
    shared = every[1:][every[1:] == every[:-1]]
    for name, own in numbers.items():
        words = np.zeros((len(own), 2), "<u8")
        words[:, 0] = own
        rows = np.flatnonzero(np.isin(own, shared))
        read = iter_blocks(TakeView(images[name], rows)) if len(rows) else ()
        digests = (hashlib.sha256(pixel_bytes(image)).digest() for block in read for image in block)
        for row, digest in zip(rows, digests, strict=True):
            words[row] = np.frombuffer(digest[: KEY.itemsize], "<u8")
        keys[name] = words.view(KEY).reshape(-1)
    return keys


def handle_leaks(
    raw: Raw,
    equal: EqualImages,
    where: str,
    on_leak: str | None,
    hint: str = "`on_leak=drop` leaves them out",
) -> Raw:
    """Tell of images that are in an earlier one of train, val and test, too; return the rest.

    `on_leak` is "fail" or "drop"; with any other value they are only told.
    """
    homes, rest, drops = equal.homes(), raw, on_leak == "drop"
    stay = {name: np.ones(len(split.labels), np.bool_) for name, split in raw.splits.items()}
    for place, name in enumerate(SPLITS):
        for first, kept in enumerate(SPLITS[:place]):
            leaked = np.flatnonzero((equal.split == place) & (equal.split[homes] == first))
            if not len(leaked):
                continue
            names = _names(raw, equal, zip(leaked[:MAX_KEPT], homes[leaked], strict=False))
            found = notices.Duplicates(f"{name} in {kept}", len(leaked), drops, names)
            line = f"{where}: {_line(name, kept, found, len(stay[name]))}"
            stay[name][equal.row[leaked]] = False
            if on_leak == "fail":
                raise SourceError(line, hint)
            if drops and not stay[name].any():
                raise SourceError(line, "nothing else is in it: leave the split out")
            notices.tell("%s", line + ": left out" * drops, duplicates=found)
            if drops:
                rest = _without(rest, raw, found, np.flatnonzero(stay[name]))
    return rest


def within(raw: Raw, equal: EqualImages) -> list[notices.Duplicates]:
    """Return, of each split that has images more than once, those that equal an earlier one."""
    found = []
    for place, name in enumerate(SPLITS):
        own = equal.where(equal.split == place)
        homes = own.homes()
        repeats = np.flatnonzero(homes != np.arange(len(homes)))
        if len(repeats):
            pairs = zip(repeats[:MAX_KEPT], homes[repeats], strict=False)
            kind = f"{name} in {name}"
            found.append(notices.Duplicates(kind, len(repeats), False, _names(raw, own, pairs)))
    return found


def _line(name: str, kept: str, found: notices.Duplicates, total: int) -> str:
    listed = ", ".join(" = ".join(pair) for pair in found.equal[:EXAMPLES])
    more = ", …" if found.images > EXAMPLES else ""
    are = "is" if found.images == 1 else "are"
    return f"{found.images:,} of {total:,} {name} images {are} in {kept}, too: {listed}{more}"


def _names(raw: Raw, equal: EqualImages, groups: Iterable[Iterable[int]]) -> tuple[Names, ...]:
    """Name equal images by their files, or by their rows."""

    def name(place: int) -> str:
        split, row = SPLITS[equal.split[place]], int(equal.row[place])
        names = raw.splits[split].names
        return f"{split} {row}" if names is None else names[row : row + 1][0].decode()

    return tuple(tuple(map(name, group)) for group in groups)


def _without(rest: Raw, raw: Raw, found: notices.Duplicates, stay: NDArray[np.int64]) -> Raw:
    """Leave all rows of a split of `raw` out but those that stay, and record it."""
    name, dropped = found.kind.split()[0], rest.decode.get("dropped", {})
    assert isinstance(dropped, Mapping)
    decode = {**rest.decode, "dropped": {**dropped, found.kind: found.images}}
    return replace(rest, splits={**rest.splits, name: raw.splits[name].take(stay)}, decode=decode)


def tell_conflicts(raw: Raw, equal: EqualImages, where: str) -> None:
    """Tell of equal images whose labels differ."""
    if not len(equal.row):
        return
    labels = np.empty((len(equal.row), *next(iter(raw.splits.values())).labels.shape[1:]), np.int64)
    for name, split in raw.splits.items():
        of_split = equal.split == SPLITS.index(name)
        labels[of_split] = split.labels[equal.row[of_split]]
    first = labels[equal.homes()]
    differs = (labels != first).reshape(len(labels), -1).any(axis=1)
    groups = np.unique(equal.group[differs])
    if not len(groups):
        return
    order = np.argsort(equal.group, kind="stable")
    starts = np.searchsorted(equal.group[order], groups[:MAX_KEPT])
    ends = np.searchsorted(equal.group[order], groups[:MAX_KEPT], side="right")
    members = (order[i : min(j, i + MAX_OF_ONE)] for i, j in zip(starts, ends, strict=True))
    found = notices.Duplicates("label conflicts", len(groups), False, _names(raw, equal, members))
    have = "image has" if len(groups) == 1 else "images have"
    told = (where, len(groups), have, " = ".join(found.equal[0][:EXAMPLES]))
    notices.tell("%s: %d %s more than one label: %s", *told, duplicates=found)
