"""Arrays that lie in files: rows are read when they are asked for, in any process."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 4 << 20  # of raw data that are looked at at once (data/FORMAT.md, section 3)


class LazyArray(Protocol):
    """What is asked of raw images and labels: an ndarray, or less of it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """Some rows, by a slice or an array of their numbers."""


@dataclass(frozen=True, slots=True)
class FileArray:
    """An array (N, …) whose rows lie one after the other in files.

    Parameters
    ----------
    stem : str
        Path of the files but for their numbers: ``STEM0``, ``STEM1``, …
    rows : int
        Rows of each file; the last may have fewer.
    shape : tuple of int
        (N, …) of the array.
    stored : dtype
        As it lies in the files, of any byte order.
    start : int
        Bytes before the first row of each file.
    first : int
        Number of the array's first row in the files.
    """

    stem: str
    rows: int
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    start: int = 0
    first: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements, in this machine's byte order."""
        return self.stored.newbyteorder("=")

    def __len__(self) -> int:
        return self.shape[0]

    def slice_rows(self, rows: range) -> "FileArray":
        """Some neighbouring rows, as an array that is read later."""
        shape = (len(rows), *self.shape[1:])
        return replace(self, shape=shape, first=self.first + rows.start)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Rows by a slice of step 1, or by an array of their numbers; a copy of one's own."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            runs = [(start, max(start, stop))]
        else:
            runs = _neighbours(rows)
        out = np.empty((sum(b - a for a, b in runs), *self.shape[1:]), self.stored)
        self._read(runs, out)
        return out if out.dtype.isnative else out.astype(self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, in memory."""
        return np.asarray(self[:], dtype)

    def _read(self, runs: Iterable[tuple[int, int]], out: NDArray[Any]) -> None:
        row_bytes, filled, number, fd = out[:1].nbytes, 0, -1, -1
        try:
            for place, count in self._within_files(runs):
                if place // self.rows != number:
                    if fd >= 0:
                        os.close(fd)
                    number, fd = place // self.rows, -1
                    fd = os.open(f"{self.stem}{number}", os.O_RDONLY)
                space = out[filled : filled + count].view(np.uint8).reshape(-1).data
                _read_at(fd, space, self.start + place % self.rows * row_bytes)
                filled += count
        finally:
            if fd >= 0:
                os.close(fd)

    def _within_files(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Runs as (row in the files, how many), none of them across the end of a file."""
        for start, stop in runs:
            place, end = self.first + start, self.first + stop
            while place < end:
                count = min(self.rows - place % self.rows, end - place)
                yield place, count
                place += count


def _read_at(fd: int, space: memoryview, place: int) -> None:
    done = 0
    while done < len(space):
        count = os.preadv(fd, [space[done:]], place + done)
        if not count:
            raise OSError("a raw file ends too early")
        done += count


def _neighbours(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Row numbers as runs (first, after the last) of neighbours."""
    if not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    firsts = rows[np.append(0, breaks)]
    lasts = rows[np.append(breaks - 1, len(rows) - 1)] + 1
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class TakeView:
    """Some rows of an array, in an order of their own.

    array : of which rows are picked
    numbers : int64 (N,), which
    """

    array: LazyArray
    numbers: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …)."""
        return (len(self.numbers), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements."""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.numbers)

    def slice_rows(self, rows: range) -> "TakeView":
        """Some neighbouring rows, as an array that is read later."""
        return TakeView(self.array, self.numbers[rows.start : rows.stop])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        return self.array[self.numbers[rows]]


def slice_rows(array: LazyArray, rows: range) -> LazyArray:
    """Some neighbouring rows of an array, small to hand on to another process."""
    own: Callable[[range], LazyArray] | None = getattr(array, "slice_rows", None)
    return own(rows) if own else array[rows.start : rows.stop]


def reshape_rows(array: LazyArray, row: tuple[int, ...]) -> LazyArray:
    """The same array, its rows being of this shape."""
    shape = (len(array), *row)
    return replace(array, shape=shape) if isinstance(array, FileArray) else array[:].reshape(shape)


def block_ranges(array: LazyArray, piece_bytes: int) -> Iterator[range]:
    """The rows of an array in pieces, the last of which may have fewer."""
    step = block_rows(array, piece_bytes)
    return (range(i, min(i + step, len(array))) for i in range(0, len(array), step))


def block_rows(array: LazyArray, piece_bytes: int) -> int:
    """Rows of a piece: the largest power of two of them that fits, at least 1."""
    row_bytes = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
    return 1 << max(0, (piece_bytes // row_bytes).bit_length() - 1)


def iter_blocks(array: LazyArray, block_bytes: int | None = None) -> Iterator[NDArray[Any]]:
    """The rows of an array, some at a time: as many as statistics look at, or as fit into this."""
    size = BLOCK_BYTES if block_bytes is None else block_bytes
    return (array[rows.start : rows.stop] for rows in block_ranges(array, size))


def write_array(path: Path, shape: tuple[int, ...], parts: Iterable[NDArray[Any]]) -> FileArray:
    """An array of this shape in a new file, from its rows, in order and of one type."""
    dtype = np.dtype(np.uint8)
    with path.open("xb") as file:
        for part in parts:
            dtype = part.dtype
            file.write(np.ascontiguousarray(part).data)
    return single_file_array(path, shape, dtype)


def single_file_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], start: int = 0
) -> FileArray:
    """An array that lies in one file (of `Place.file`), from byte `start` on."""
    return FileArray(os.fspath(path).removesuffix("0"), max(1, shape[0]), shape, dtype, start)
