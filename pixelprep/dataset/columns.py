"""What is stored of a row, and how the images that users get come from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any  # Any: columns of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.memory import Recycler
from pixelprep.numerics.scaling import Scaling, scale_stored

Column = NDArray[Any]  # of whichever type


@dataclass(frozen=True)
class Columns:
    """The columns of a split by name: the shape of a row, and the type.

    Images are stored raw or scaled, and delivered raw or scaled. Those that are scaled when they
    are read have the values that would be stored scaled, to the last bit.
    """

    stored: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    scaled_dtype: np.dtype[Any]
    scaling: Scaling
    is_raw: bool  # what is stored
    is_packed: bool = False  # whether images are compressed
    delivers_raw: bool = False

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.stored["images"][0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the images that are delivered."""
        return np.dtype(self.scaling.raw_dtype) if self.delivers_raw else self.scaled_dtype

    @property
    def row_bytes(self) -> int:
        """The bytes of an image that is delivered."""
        return math.prod(self.image_shape) * self.dtype.itemsize

    def rows_in(self, size: int) -> int:
        """Return how many images that are delivered take so many bytes, at least one."""
        return max(1, size // max(1, self.row_bytes))

    @property
    def of_images(self) -> tuple[str, ...]:
        """The columns that images are made of."""
        own = self.scaling.per == "image" and self.is_raw != self.delivers_raw
        return ("images", "mean", "std") if own else ("images",)

    def allocate(self, names: tuple[str, ...], rows: int) -> dict[str, Column]:
        """Allocate arrays for so many stored rows of these columns."""
        kinds = {name: self.stored[name] for name in names}
        return {name: np.empty((rows, *shape), dtype) for name, (shape, dtype) in kinds.items()}

    @cached_property
    def delivered(self) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...], np.dtype[Any]]:
        """Shape and type of an image and of a label."""
        return self.image_shape, self.dtype, *self.stored["labels"]

    def allocate_delivered(self, rows: int, memory: Recycler) -> tuple[Column, Column]:
        """Allocate images and labels of so many rows as users get them."""
        image_shape, dtype, label_shape, label_dtype = self.delivered
        images = memory.empty((rows, *image_shape), dtype)
        return images, np.empty((rows, *label_shape), label_dtype)

    def images(self, stored: Mapping[str, Column], out: Column | None = None) -> Column:
        """Return the images, (n, H, W, C), of stored rows of the columns `of_images`.

        They are put into `out` where it is given.
        """
        images = stored["images"]
        mean, std = stored.get("mean"), stored.get("std")
        if self.is_raw and not self.delivers_raw:
            return scale_stored(self.scaling, images, self.dtype, mean, std, out)
        if self.delivers_raw and not self.is_raw:
            images = self.scaling.invert(images, mean, std)
        if out is None:
            return images
        out[...] = images
        return out
