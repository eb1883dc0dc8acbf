"""Recover raw pixels from stored ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.entry import Split
from pixelprep.numerics.scaling import Scaling


@dataclass(frozen=True, slots=True)
class RawView:
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

    def slice_rows(self, rows: range) -> "RawView":
        """Some neighbouring rows."""
        return RawView(self.split, self.scaling, self.first + rows.start, len(rows))

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(len(self))
        begin, end = self.first + start, self.first + stop
        return self.scaling.invert(
            self.split.read(begin, end), *_own_statistics(self.split, begin, end)
        )


def raw_view(split: Split, scaling: Scaling) -> RawView:
    """All raw images of a split."""
    return RawView(split, scaling, 0, len(split))


def _own_statistics(split: Split, start: int, stop: int) -> list[NDArray[np.float64]]:
    """Per image, what is stored beside some images; else nothing."""
    names = ("mean", "std") if split.per_image else ()
    return [split.read(start, stop, name) for name in names]
