"""What more cores bring, and how many messages a cluster's scheduler sees."""

import os
from functools import partial
from pathlib import Path

from benchmarks.clock import Measure
from benchmarks.contest import Contest
from benchmarks.made import SMALL
from benchmarks.place import LeftOut, Place
from benchmarks.rows.pictures import photos_prepared
from benchmarks.rows.streaming import ours
from benchmarks.worker import Make

CORES = Contest("cores", "`pixelprep prepare` of 300 JPEG photos, on some of the cores", "s", 3)
CORES_BATCHES = Contest(
    "cores-batches", "shuffled batches of 64 of MNIST, on some of the cores", "images/s", 5
)
SCHEDULER = Contest(
    "scheduler", "a Dask scheduler's messages for each file that is written", "messages", 1
)
FILES = (10, 40)  # training files
ROWS = 1000  # of a file


def _on(place: Place, make: Make, cores: int) -> Measure:
    """Keep this process and its children to so many cores, as `taskset` does."""
    if not hasattr(os, "sched_setaffinity"):
        raise LeftOut("processes cannot be kept to cores here")
    available = sorted(os.sched_getaffinity(0))
    if len(available) < cores:
        raise LeftOut(f"{len(available)} cores here")
    os.sched_setaffinity(0, available[:cores])
    return make(place)


for _row, _make in (
    (CORES, partial(photos_prepared, count=300)),
    (CORES_BATCHES, partial(ours, size=SMALL)),
):
    for _cores in (1, 2, 16):
        _name = "pixelprep, 1 core" if _cores == 1 else f"pixelprep, {_cores} cores"
        _row.contestant(_name, _name)(partial(_on, make=_make, cores=_cores))
        _row.before(_name)
        if _cores > 1:
            _row.duel(_name, "pixelprep, 1 core")


def _messages(place: Place, files: int) -> Measure:
    """Count what the scheduler gets and sends, by a cluster of two workers on this machine."""
    import large

    import pixelprep

    def measure() -> float:
        with place.folder() as folder:
            raw = folder / "raw"
            raw.mkdir()
            large.write_idx(raw, files * ROWS)
            with large.cluster(2, folder) as address:
                before = large.messages(address)
                entry = pixelprep.prepare(
                    Path(raw), shard_rows=ROWS, scheduler=address, cache_dir=folder, quiet=True
                )
                after = large.messages(address)
        written = sum(len(split.files) for split in entry.manifest.splits.values())
        return sum(after[name] - before[name] for name in after) / written

    return measure


for _files in FILES:
    _name = f"got and sent a file, {_files} training files"
    SCHEDULER.contestant(_name, _name)(partial(_messages, files=_files))
    SCHEDULER.before(_name, "≤ 1.1")
SCHEDULER.duel(
    f"got and sent a file, {FILES[1]} training files",
    f"got and sent a file, {FILES[0]} training files",
    "≤ 1.1",
    "digest, statistics and write of IDX files, two workers of one thread",
)
