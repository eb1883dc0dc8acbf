"""Fill arrays with rows of an entry's files in threads, a step ahead of whoever uses them.

Reading, unpacking and scaling let the interpreter go, so they run on all cores, and beside what is
done with the rows.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate

from pixelprep.dataset.columns import Column, Columns
from pixelprep.dataset.epoch import Reads
from pixelprep.format import reader
from pixelprep.system.page_cache import brought_in

PART_BYTES = 2 << 20  # of images, enough for a thread to be worth its while
BLOCK_BYTES = 256 << 10  # of images, which stay in a core's own cache while they are scaled

Step = tuple[Reads, dict[str, Column]]  # what is read, and where it goes


@dataclass(frozen=True, slots=True)
class _Scaled:
    """Rows that are not delivered as they are stored: what reads them, and where they go."""

    read: reader.Part
    stored: Mapping[str, Column]  # run after run
    runs: reader.Runs
    images: Column  # of the whole step
    columns: Columns

    def __call__(self) -> None:
        self.read()
        filled, most = 0, self.columns.rows_in(BLOCK_BYTES)
        for place, rows in _joined(self.runs):
            for start in range(0, rows, most):
                count = min(most, rows - start)
                block = {n: column[filled : filled + count] for n, column in self.stored.items()}
                self.columns.images(block, self.images[place + start : place + start + count])
                filled += count


def fill_ahead(
    files: Sequence[reader.EntryFile], columns: Columns, steps: Iterable[Step], *, at_random: bool
) -> Iterator[dict[str, Column]]:
    """Yield the columns of each step, images and labels as they are delivered, once filled.

    Those of the next step are being filled meanwhile. Files that are read `at_random` are brought
    into memory first, if there is room.
    """
    with (
        brought_in([file.path for file in files] if at_random else []) as ready,
        reader.open_files() as opened,
        ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pixelprep") as pool,
    ):
        running, latest = list[Future[None]](), dict[str, Column]()
        for reads, delivered in steps:
            for file, runs in () if ready else reads:
                opened.prefetch(files[file], runs)
            parts = _parts(files, columns, reads, delivered, opened)
            ahead = [pool.submit(part) for part in parts]
            _wait(running)
            if latest:
                yield latest
            running, latest = ahead, delivered
        _wait(running)
        if latest:
            yield latest


def _wait(running: list[Future[None]]) -> None:
    for one in running:
        one.result()


def _parts(
    files: Sequence[reader.EntryFile],
    columns: Columns,
    reads: Reads,
    delivered: Mapping[str, Column],
    opened: reader.HandleCache,
) -> Iterator[reader.Part]:
    scales = columns.is_raw != columns.delivers_raw
    images, others = delivered["images"], {n: c for n, c in delivered.items() if n != "images"}
    for file, all_runs in reads:
        for runs in _cut(all_runs, columns.rows_in(PART_BYTES)):
            if not scales:
                yield opened.part(files[file], runs, **delivered)
                continue
            places = [0, *accumulate(rows for _, rows, _ in runs)]
            stored = columns.allocate(columns.of_images, places[-1])
            packed = [(first, rows, to) for (first, rows, _), to in zip(runs, places, strict=False)]
            yield _Scaled(opened.part(files[file], packed, **stored), stored, runs, images, columns)
        if scales:
            yield opened.part(files[file], all_runs, **others)


def _joined(runs: reader.Runs) -> Iterator[tuple[int, int]]:
    """Join runs that go one behind the other: where they go, and the number of their rows."""
    begin = end = runs[0][2]
    for _, rows, place in runs:
        if place != end:
            yield begin, end - begin
            begin = place
        end = place + rows
    yield begin, end - begin


def _cut(runs: reader.Runs, most: int) -> Iterator[reader.Runs]:
    """Group runs that together have about so many rows."""
    group, rows = list[tuple[int, int, int]](), 0
    for run in runs:
        if group and rows + run[1] > most:
            yield group
            group, rows = [], 0
        group.append(run)
        rows += run[1]
    yield group
