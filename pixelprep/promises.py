"""Whether stored arrays are what their manifest promises: computed again from the files alone.

Where the stored type is fine enough, every raw integer can be had back from its stored value. Then
nothing is left to trust: the digest of the raw images, the exact statistics and each stored bit are
computed again. Elsewhere (floats, 16 bits in float16) the statistics of the stored values must be
the promised ones but for what rounding each value can have changed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import manifest as manifests
from pixelprep import parallel, sources
from pixelprep.entry import Entry, Split
from pixelprep.scaling import (
    AnyMoments,
    Scaling,
    Statistics,
    merged,
    moments_of,
    statistics_per_image,
)

SURE_BITS = 2  # beyond those of the raw integers, for rounding never to reach half a step of them
SLACK = 1e-9  # relative: much more than float64 sums are off, less than shows in float32

Note = Callable[[int], object]  # is told how many more rows were looked at


def broken(entry: Entry, note: Note) -> Iterator[str]:
    """What an entry promises and its arrays do not keep, one line each.

    Parameters
    ----------
    entry : Entry
        Whose files have the digests that the manifest has.
    note : callable
        Is told of every row of images once.

    Raises
    ------
    EntryError
        When a file cannot be read.
    """
    for name, split in entry.splits.items():
        record = entry.manifest["splits"][name]
        if manifests.first_batch(split) != record["first_batch"]:
            yield f"{name}: the first batch has other figures than the manifest says"
        yield from _labels(entry, name)
    yield from _exactly(entry, note) if _is_invertible(entry) else _nearly(entry, note)


def _labels(entry: Entry, name: str) -> Iterator[str]:
    raw = _raw_of(entry, name)
    low, high = sources.extremes(raw)
    if low < 0 or high >= len(entry.class_names):
        yield f"{name}: labels {low} to {high}, but {len(entry.class_names)} classes"
    if _is_whole(entry, name):
        known = entry.manifest["source"]["splits"][name]["labels"]
        if sources.labels_digest(raw) != known:
            yield f"{name}: its labels are not those of the source's digest"


def _is_whole(entry: Entry, name: str) -> bool:
    """Whether a split is stored as it came, which no part of train is when val was taken."""
    return name == "test" or entry.val is None


def _is_invertible(entry: Entry) -> bool:
    """Whether every raw value can be had back for sure.

    Rounding moves y = (x' − shift) / divisor by no more than 2**-bits of itself, so x by no more
    than 2**-bits of the range of its type, which must be less than half a step.
    """
    raw, bits = np.dtype(entry.scaling.raw_dtype), np.finfo(entry.train.dtype).nmant + 1
    return raw.kind in "ui" and 8 * raw.itemsize + SURE_BITS <= bits


@dataclass(frozen=True, slots=True)
class Regained:
    """The raw images (N, H, W, C) that a split was made of, as the scaling gives them back.

    split, scaling : of which, and how
    first, rows : which neighbouring rows
    """

    split: Split
    scaling: Scaling
    first: int
    rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return (self.rows, *self.split.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the raw images."""
        return np.dtype(self.scaling.raw_dtype)

    def __len__(self) -> int:
        return self.rows

    def cut(self, rows: range) -> "Regained":
        """Some neighbouring rows."""
        return Regained(self.split, self.scaling, self.first + rows.start, len(rows))

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(len(self))
        begin, end = self.first + start, self.first + stop
        return self.scaling.invert(self.split.read(begin, end), *_own(self.split, begin, end))


def _own(split: Split, start: int, stop: int) -> list[NDArray[np.float64]]:
    """Per image, what is stored beside some images; else nothing."""
    names = ("mean", "std") if split.per_image else ()
    return [split.read(start, stop, name) for name in names]


def _raw_of(entry: Entry, name: str) -> sources.RawSplit:
    split = entry.splits[name]
    return sources.RawSplit(Regained(split, entry.scaling, 0, len(split)), split.labels)


def _exactly(entry: Entry, note: Note) -> Iterator[str]:
    manifest = entry.manifest
    for name in entry.splits:
        images = _raw_of(entry, name).images
        moments, same = _scaled_again(entry, name, images, note)
        if not same:
            yield f"{name}: the stored values are not those of the scaling"
        if manifests.limits(moments) != manifest["splits"][name]["raw"]:
            yield f"{name}: raw minimum or maximum is another than the manifest says"
        if name == "train" and moments.overall() != manifest["statistics"]:
            yield "train: the sums of its pixels are other than the manifest says"
        if name == "train" and _fitted_again(entry.scaling, moments) != manifest["scaling"]:
            yield "train: its statistics are other than the scaling's"
        if _is_whole(entry, name):
            known = manifest["source"]["splits"][name]["images"]
            if sources.images_digest(images, parallel.Team(), name) != known:
                yield f"{name}: its raw images are not those of the source's digest"


def _scaled_again(
    entry: Entry, name: str, images: sources.Array, note: Note
) -> tuple[AnyMoments, bool]:
    """The moments of a split's raw images; and whether scaling them gives what is stored."""
    split, scaling = entry.splits[name], entry.scaling
    per = entry.per if name == "train" and entry.per != "image" else "dataset"
    parts, same, start = [], True, 0
    for raw in sources.blocks(images):
        stop = start + len(raw)
        values, own = scaling.apply_with_statistics(raw, split.dtype)
        columns = {"images": values, **(scaling.stored_of(own) if own else {})}
        for column, wanted in columns.items():
            same &= wanted.tobytes() == split.read(start, stop, column).tobytes()
        parts.append(moments_of(raw, per))
        note(len(raw))
        start = stop
    return merged(parts), same


def _fitted_again(scaling: Scaling, moments: AnyMoments) -> dict[str, Any]:
    """The scaling as the manifest would have it, of these moments of train."""
    fitted = None if scaling.per == "image" else moments.statistics(scaling.unit)
    again = Scaling(scaling.mode, scaling.per, scaling.unit, scaling.raw_dtype, fitted)
    return manifests.scaling_record(again)


def _nearly(entry: Entry, note: Note) -> Iterator[str]:
    for name, split in entry.splits.items():
        parts = []
        for rows in sources.pieces(Regained(split, entry.scaling, 0, len(split)), 1 << 22):
            stored = split.read(rows.start, rows.stop).astype(np.float64)
            if entry.per == "image" and not _own_are_kept(entry, split, rows, stored):
                yield f"{name}: from image {rows.start} on, some have other statistics than stored"
            parts.append(moments_of(stored, entry.per if entry.per != "image" else "dataset"))
            note(len(rows))
        if name == "train" and entry.scaling.statistics is not None:
            promised = entry.scaling.scaled_statistics(entry.scaling.statistics)
            every = ("mean", "std", "minimum", "maximum")
            if not _alike(merged(parts).statistics(), promised, every, split.dtype):
                yield "train: its statistics are other than the scaling's"


def _own_are_kept(entry: Entry, split: Split, rows: range, stored: NDArray[np.float64]) -> bool:
    """Whether images have the statistics that are stored beside them."""
    own = statistics_per_image(*_own(split, rows.start, rows.stop))
    promised = entry.scaling.scaled_statistics(own)
    told = ("minimum", "maximum") if entry.mode == "normalize" else ("mean", "std")
    return _alike(moments_of(stored, "image").statistics(), promised, told, split.dtype)


def _alike(
    found: Statistics, promised: Statistics, names: tuple[str, ...], stored: np.dtype[Any]
) -> bool:
    """Whether statistics differ by no more than rounding every value once can have made.

    Of values that move by no more than `most`, neither do mean, deviation and extremes.
    """
    kind = np.finfo(stored)
    largest = np.maximum(np.abs(found.minimum), np.abs(found.maximum))
    most = largest * (float(kind.eps) / 2 + SLACK) + float(kind.smallest_subnormal)
    apart = [np.abs(getattr(found, name) - getattr(promised, name)) for name in names]
    return all(bool((one <= most).all()) for one in apart)
