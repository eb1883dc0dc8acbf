"""Read arrays that lie in files row by row, in any process."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol  # Any: arrays of whichever type

from pixelprep.numerics.lazy import np
from pixelprep.system import os_calls

if TYPE_CHECKING:
    from numpy.typing import NDArray

    AnyArray = NDArray[Any]
    AnyDType = np.dtype[Any]
else:
    AnyArray = AnyDType = Any  # NumPy is not loaded for them

BLOCK_BYTES = 4 << 20  # raw data in memory at once (data/FORMAT.md, section 3)

# NumPy's types need a parameter; here only run time knows it.


class LazyArray(Protocol):
    """The part of an ndarray that raw images and labels must support."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> AnyDType: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> AnyArray: ...  # an ndarray's own takes more than rows


@dataclass(frozen=True, slots=True)
class FileArray:
    """An array (N, …) whose rows lie one after the other in files."""

    stem: str  # path of the files without their number: STEM0, STEM1, …
    rows_per_file: int  # the last may have fewer
    shape: tuple[int, ...]  # (N, …)
    stored: AnyDType  # the type of the elements in the files, of any byte order
    header: int = 0  # bytes before the first row of each file
    first: int = 0  # index, in the files, of the array's first row

    @property
    def dtype(self) -> AnyDType:
        return self.stored.newbyteorder("=")  # this machine's byte order

    def __len__(self) -> int:
        return self.shape[0]

    def slice_rows(self, rows: range) -> FileArray:
        shape = (len(rows), *self.shape[1:])
        return replace(self, shape=shape, first=self.first + rows.start)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> AnyArray:
        """Read rows, by a slice of step 1 or an array of indices."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            runs = [(start, max(start, stop))]
        else:
            runs = _runs(rows)
        out = np.empty((sum(stop - start for start, stop in runs), *self.shape[1:]), self.stored)
        self._read(runs, out)
        return out if out.dtype.isnative else out.astype(self.dtype)

    def memory_map(self) -> AnyArray:
        """Return the array of a single file, of which the system reads what is touched."""
        return np.memmap(f"{self.stem}0", self.stored, "r", self.header, self.shape)

    def __array__(self, dtype: AnyDType | None = None, copy: bool | None = None) -> AnyArray:
        return np.asarray(self[:], dtype)

    def _read(self, runs: Iterable[tuple[int, int]], out: AnyArray) -> None:
        row_bytes, filled, number, fd = out[:1].nbytes, 0, -1, -1
        try:
            for row, count in self._within_files(runs):
                if row // self.rows_per_file != number:
                    if fd >= 0:
                        os.close(fd)
                    number, fd = row // self.rows_per_file, -1
                    fd = os.open(f"{self.stem}{number}", os.O_RDONLY | os_calls.BINARY)
                buffer = out[filled : filled + count].view(np.uint8).reshape(-1).data
                _read_at(fd, buffer, self.header + row % self.rows_per_file * row_bytes)
                filled += count
        finally:
            if fd >= 0:
                os.close(fd)

    def _within_files(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Divide runs at the ends of files; yield (row in the files, number of rows)."""
        for start, stop in runs:
            row, end = self.first + start, self.first + stop
            while row < end:
                count = min(self.rows_per_file - row % self.rows_per_file, end - row)
                yield row, count
                row += count


def _read_at(fd: int, buffer: memoryview, offset: int) -> None:
    done = 0
    while done < len(buffer):
        count = os_calls.read_into(fd, buffer[done:], offset + done)
        if not count:
            raise OSError("a raw file ends too early")
        done += count


def _runs(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Group row indices into runs of neighbours: (first, one past the last)."""
    if not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    firsts = rows[np.append(0, breaks)]
    lasts = rows[np.append(breaks - 1, len(rows) - 1)] + 1
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class TakeView:
    """Rows of another array, in an order of their own."""

    array: LazyArray
    rows: NDArray[np.int64]  # (N,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.array.shape[1:])

    @property
    def dtype(self) -> AnyDType:
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def slice_rows(self, rows: range) -> TakeView:
        return TakeView(self.array, self.rows[rows.start : rows.stop])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> AnyArray:
        return self.array[self.rows[rows]]


@dataclass(frozen=True, slots=True)
class TurnedView:
    """Another array, its axes in another order."""

    array: LazyArray
    axes: tuple[int, ...]  # of each axis its number in the other array

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape[axis] for axis in self.axes)

    @property
    def dtype(self) -> AnyDType:
        return self.array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def slice_rows(self, rows: range) -> LazyArray:
        if self.axes[0] == 0:
            return replace(self, array=slice_rows(self.array, rows))
        return TakeView(self, np.arange(rows.start, rows.stop))

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> AnyArray:
        if self.axes[0] == 0:
            turned = self.array[rows].transpose(self.axes)
        else:  # a row lies all over the array
            own = self.array
            whole = own.memory_map() if isinstance(own, FileArray) else own[:]
            turned = whole.transpose(self.axes)[rows]
        return np.ascontiguousarray(turned, self.dtype)


View = TakeView | TurnedView


def slice_rows(array: LazyArray, rows: range) -> LazyArray:
    """Select neighbouring rows; files are not read, so the result is cheap to send to a process."""
    own: Callable[[range], LazyArray] | None = getattr(array, "slice_rows", None)
    return own(rows) if own else array[rows.start : rows.stop]


def reshape_rows(array: LazyArray, row_shape: tuple[int, ...]) -> LazyArray:
    """Give every row of an array this shape."""
    shape = (len(array), *row_shape)
    return replace(array, shape=shape) if isinstance(array, FileArray) else array[:].reshape(shape)


def block_ranges(array: LazyArray, block_bytes: int) -> Iterator[range]:
    """Divide the rows of an array into blocks, the last of which may be smaller."""
    step = block_rows(array, block_bytes)
    return (range(i, min(i + step, len(array))) for i in range(0, len(array), step))


def block_rows(array: LazyArray, block_bytes: int) -> int:
    """Return the rows of a block: the largest power of two that fits, at least 1."""
    row_bytes = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
    return 1 << max(0, (block_bytes // row_bytes).bit_length() - 1)


def iter_blocks(array: LazyArray, block_bytes: int | None = None) -> Iterator[AnyArray]:
    """Read an array block by block, by default in the blocks of the statistics."""
    size = BLOCK_BYTES if block_bytes is None else block_bytes
    return (array[rows.start : rows.stop] for rows in block_ranges(array, size))


def pixel_bytes(images: AnyArray) -> memoryview:
    """Return the bytes of images that are hashed: C order, little-endian."""
    return np.ascontiguousarray(images, images.dtype.newbyteorder("<")).data


def write_array(path: Path, shape: tuple[int, ...], blocks: Iterable[AnyArray]) -> FileArray:
    """Write blocks of one dtype to a new file as an array of this shape."""
    dtype: AnyDType = np.dtype(np.uint8)
    with path.open("xb") as file:
        for block in blocks:
            dtype = block.dtype
            file.write(np.ascontiguousarray(block).data)
    return single_file_array(path, shape, dtype)


def single_file_array(
    path: Path, shape: tuple[int, ...], dtype: AnyDType, header: int = 0
) -> FileArray:
    """Describe an array that lies in one `SourceContext.file`, after a header of so many bytes."""
    return FileArray(os.fspath(path).removesuffix("0"), max(1, shape[0]), shape, dtype, header)


def copied_arrays(copies: Mapping[str, Any]) -> dict[str, FileArray]:  # JSON values
    """Describe the arrays that a sandbox copied: of each it tells the file, shape and dtype."""
    return {
        name: single_file_array(Path(path), tuple(shape), np.dtype(dtype))
        for name, (path, shape, dtype) in copies.items()
    }
