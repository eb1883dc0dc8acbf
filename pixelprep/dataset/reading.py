"""Read rows of an entry's files, on all cores where that helps: most of it lets the GIL go."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from pixelprep.dataset.columns import Column, Columns
from pixelprep.dataset.epoch import Reads
from pixelprep.format import reader
from pixelprep.system.page_cache import brought_in
from pixelprep.system.parallel import cores, thread_pool

LARGE_ROW = 32 << 10  # bytes of an image
PART_BYTES = 1 << 20  # of images, enough for a thread to be worth its while
BLOCK_BYTES = 512 << 10  # of images that are scaled at once: enough for calls to cost nothing

Step = tuple[Reads, Callable[[], dict[str, Column]]]  # what is read, and what makes room for it


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


def read_each(
    files: Sequence[reader.EntryFile],
    columns: Columns,
    steps: Iterable[Step],
    *,
    scaled: bool,
    at_random: bool,
) -> Iterator[dict[str, Column]]:
    """Yield the columns of each step once they are read: as they are stored, or `scaled`.

    Small rows that are not compressed are read in this thread alone: handing them to others takes
    longer. Reading the next step meanwhile was slower, too: a batch of large rows that is dropped
    leaves its memory, still in the processor's cache, to the next one. Files that are read
    `at_random` are brought into memory first, if there is room.
    """
    count = cores() if columns.is_packed or columns.row_bytes >= LARGE_ROW else 1
    with (
        brought_in([file.path for file in files] if at_random else []) as ready,
        reader.open_files() as opened,
        thread_pool(0) as pool,  # whose threads start when they are needed
    ):
        for (reads, allocate), announced in _announced(steps, files[0].AHEAD):
            target = allocate()
            parts = list(_parts(files, columns, reads, target, opened, scaled, count))
            others = [pool.submit(_run, parts[i::count]) for i in range(1, min(count, len(parts)))]
            _run(parts[::count])
            for other in others:
                other.result()
            for file, runs in () if ready else announced:
                opened.prefetch(files[file], runs)  # on its way while this step is used
            yield target
        opened.finish()


def _announced(steps: Iterable[Step], ahead: int) -> Iterator[tuple[Step, Reads]]:
    """Yield each step, and what comes to be among the next `ahead` ones with it."""
    steps = iter(steps)
    waiting = deque(islice(steps, 1))
    while waiting:
        new = list(islice(steps, 1 + ahead - len(waiting)))
        waiting.extend(new)
        yield waiting.popleft(), [read for reads, _ in new for read in reads]


def _run(parts: Iterable[reader.Part]) -> None:
    for part in parts:
        part()


def _parts(
    files: Sequence[reader.EntryFile],
    columns: Columns,
    reads: Reads,
    target: Mapping[str, Column],
    opened: reader.HandleCache,
    scaled: bool,
    threads: int,
) -> Iterator[reader.Part]:
    scales = scaled and columns.is_raw != columns.delivers_raw
    others = {name: column for name, column in target.items() if name != "images"}
    for file, all_runs in reads:
        for runs in _cut(all_runs, columns.rows_in(PART_BYTES)) if threads > 1 else [all_runs]:
            if not scales:
                yield opened.part(files[file], runs, **target)
                continue
            places = [0, *accumulate(rows for _, rows, _ in runs)]
            stored = columns.allocate(columns.of_images, places[-1])
            packed = [(first, rows, to) for (first, rows, _), to in zip(runs, places, strict=False)]
            read = opened.part(files[file], packed, **stored)
            yield _Scaled(read, stored, runs, target["images"], columns)
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
