"""Read rows of a split by number, in any order, from files that stay open between calls."""

import operator
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from threading import Lock
from typing import Any, SupportsIndex  # Any: columns of whichever type; an index of a user's

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.columns import Column, Columns
from pixelprep.errors import EntryError, RowError, UsageError
from pixelprep.format import reader
from pixelprep.system.locks import SharedLock

Pair = tuple[Column, Any]  # images and labels; or an image and its label
Numbers = NDArray[np.int64]
File = tuple[int, reader.Runs]  # its number, and what is read of it

RECENT_BYTES = 256 << 20  # of unpacked chunks, which a process keeps where images are compressed


class _Opened:
    """What a process has open: no lock or file is carried over a fork."""

    def __init__(self, files: Sequence[reader.EntryFile]) -> None:
        self.process, self.lock = os.getpid(), Lock()
        self.use = SharedLock(files[0].path)  # for which the entry stays in its cache
        self.files = reader.HandleCache(RECENT_BYTES)


class Rows:
    """The rows of a split; any thread may read them.

    Files are opened when they are first read, and closed with this object. A copy in another
    process, forked or pickled, opens its own.
    """

    def __init__(self, files: Sequence[reader.EntryFile], columns: Columns) -> None:
        self.files, self.columns = files, columns
        self._ends: list[int] = np.cumsum([file.rows for file in files]).tolist()
        self._kept: _Opened | None = None

    def __reduce__(self) -> tuple[type["Rows"], tuple[Sequence[reader.EntryFile], Columns]]:
        return Rows, (self.files, self.columns)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: Any) -> Pair:
        """Return one row, or those of a slice, a list or an array, as `Split` has them."""
        if isinstance(index, slice):
            numbers = range(*index.indices(len(self)))
            if numbers.step == 1:
                return self._pairs(self._in_files(numbers.start, numbers.stop), len(numbers))
            return self.select(np.asarray(numbers))
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            return self.select(self._numbers(index))
        try:
            images, labels = self.at(index)
        except TypeError:  # an array of several
            return self.select(self._numbers(index))
        return images[0], labels[0]

    def at(self, number: SupportsIndex) -> Pair:
        """Return one row, as arrays of one."""
        row = self._row(operator.index(number))
        file = bisect_right(self._ends, row)
        return self._pairs([(file, [(row - self._first(file), 1, 0)])], 1)

    def select(self, numbers: Numbers) -> Pair:
        """Return the rows of these numbers, from 0 on and in range, in this order."""
        return self._pairs(self._anywhere(numbers), len(numbers))

    def read(self, start: int, stop: int, names: tuple[str, ...]) -> dict[str, Column]:
        """Return neighbouring rows of these columns, as they are stored."""
        return self._read(self._in_files(start, stop), stop - start, names)

    def _row(self, number: int) -> int:
        row = number + len(self) if number < 0 else number
        if not 0 <= row < len(self):
            raise RowError(f"row {number}: expected one of {len(self):,} rows")
        return row

    def _numbers(self, index: Any) -> Numbers:
        """Return the numbers of rows that an array of numbers, or of a truth a row, stands for."""
        if isinstance(index, tuple):
            raise UsageError("rows by a tuple: expected a number, a slice, or a list of numbers")
        chosen = np.asarray(index)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            return np.flatnonzero(chosen)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            got = f"{type(index).__name__} of {chosen.dtype}, shape {chosen.shape}"
            message = f"rows by a {got}: expected a number, a slice, or a list of numbers"
            raise UsageError(message, f"or of {len(self):,} truths, True for each row that is read")
        for number in (chosen.min(), chosen.max()) if chosen.size else ():
            self._row(int(number))
        numbers = chosen.astype(np.int64)
        return np.where(numbers < 0, numbers + len(self), numbers)

    def _in_files(self, start: int, stop: int) -> Iterator[File]:
        number, place = bisect_right(self._ends, start), 0
        while start < stop:
            end = min(stop, self._ends[number])
            yield number, [(start - self._first(number), end - start, place)]
            number, place, start = number + 1, place + end - start, end

    def _first(self, file: int) -> int:
        """Return the number of the first row of a file."""
        return self._ends[file - 1] if file else 0

    def _anywhere(self, numbers: Numbers) -> Iterator[File]:
        """Yield what reads these rows: in the files' order, neighbours as one run."""
        places = np.argsort(numbers, kind="stable")
        rows = numbers[places]
        file = np.searchsorted(self._ends, rows, side="right")
        rows = rows - np.append(0, self._ends)[file]
        joined = (np.diff(rows) == 1) & (np.diff(places) == 1) & (np.diff(file) == 0)
        begins = np.flatnonzero(np.append(True, ~joined)[: len(rows)])
        lengths = np.diff(begins, append=len(rows))
        runs = np.column_stack([rows[begins], lengths, places[begins]]).tolist()
        borders = np.flatnonzero(np.diff(file[begins], prepend=-1, append=-1)).tolist()
        for start, stop in pairwise(borders):
            yield int(file[begins[start]]), runs[start:stop]

    def _pairs(self, reads: Iterable[File], rows: int) -> Pair:
        stored = self._read(reads, rows, (*self.columns.of_images, "labels"))
        return self.columns.images(stored), stored["labels"]

    def _read(self, reads: Iterable[File], rows: int, names: tuple[str, ...]) -> dict[str, Column]:
        out, reads = self.columns.allocate(names, rows), list(reads)
        if self._kept is not None and self._kept.process == os.getpid():
            with suppress(EntryError):  # once more: the entry may have been replaced meanwhile
                return self._fill(out, reads, self._kept)
        self._kept = _Opened(self.files)
        return self._fill(out, reads, self._kept)

    def _fill(
        self, out: dict[str, Column], reads: list[File], opened: _Opened
    ) -> dict[str, Column]:
        with opened.lock:
            parts = [opened.files.part(self.files[file], runs, **out) for file, runs in reads]
        for part in parts:
            part()
        with opened.lock:
            opened.files.finish()
        return out
