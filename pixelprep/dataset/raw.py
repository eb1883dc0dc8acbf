"""Recover raw pixels from stored ones."""

from dataclasses import dataclass, replace
from typing import Any, Self  # Any: raw pixels of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.entry import Split
from pixelprep.numerics.scaling import Scaling, restored


@dataclass(frozen=True, slots=True)
class RawView:
    """The raw images (N, H, W, C) of a split, recovered from scaled ones where these are stored.

    Those that were clipped are refused, unless they may be `clipped`.
    """

    split: Split
    scaling: Scaling  # what inverts them
    first: int  # row
    rows: int  # how many
    clipped: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows, *self.split.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.scaling.raw_dtype)

    def __len__(self) -> int:
        return self.rows

    def slice_rows(self, rows: range) -> Self:
        return replace(self, first=self.first + rows.start, rows=len(rows))

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop = (self.first + row for row in rows.indices(len(self))[:2])
        raw = self.split.read_raw(start, stop)
        if raw is not None:
            return raw
        own = own_statistics(self.split, start, stop)
        stored = self.split.read(start, stop)
        if self.clipped:
            return restored(self.scaling, stored, *own)
        return self.scaling.invert(stored, *own)


@dataclass(frozen=True, slots=True)
class StoredView(RawView):
    """Likewise, its images as they are stored, scaled."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.split.dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop = (self.first + row for row in rows.indices(len(self))[:2])
        return self.split.read(start, stop)


def raw_view(split: Split, scaling: Scaling, *, clipped: bool = False) -> RawView:
    return RawView(split, scaling, 0, len(split), clipped)


def own_statistics(split: Split, start: int, stop: int) -> list[NDArray[np.float64]]:
    """Read each image's own mean and deviation where the scaling is per image; else nothing."""
    names = ("mean", "std") if split.per_image else ()
    return [split.read(start, stop, name) for name in names]
