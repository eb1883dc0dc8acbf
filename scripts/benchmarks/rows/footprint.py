"""What whole processes cost at 1, 10 and 100 times MNIST's rows, and over many batches.

Linux only: memory is read from /proc.
"""

import gzip
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.clock import Measure
from benchmarks.contest import Contest
from benchmarks.made import once, write_photos
from benchmarks.place import FILES, LeftOut, Place
from benchmarks.process import console, family, memory, started
from benchmarks.table import Line, Say, row

MIB = 1 << 20
PASSES = 3  # of an epoch, of which the median counts
EVERY = 0.003  # seconds between two looks
STORED = 70_000 * (28 * 28 * 4 + 8)  # bytes of MNIST's entry
PICTURES, MEGAPIXELS = 10, (8688, 5792)
PHOTOS = Contest(
    "memory-photos", "peak anonymous memory of preparing photos of 50 megapixels", "MiB", 1
)
EPOCH = """
import sys, time, pixelprep
batches = pixelprep.open(sys.argv[1]).train.batches(64, shuffle=True)
begun = time.perf_counter()
for _ in batches: pass
print(time.perf_counter() - begun)
"""


WHATS = ("`pixelprep prepare ./folder`", "opening, and an epoch of batches(64, shuffle=True)")


class _Cost(NamedTuple):
    """Most anonymous memory, in MiB, and images a second: of preparing, and of an epoch."""

    memory: tuple[float, float]
    rate: tuple[float, float]


@row("memory", "peak anonymous memory and rate of a process at 1, 10 and 100 times MNIST's rows")
def _memory(place: Place, say: Say) -> Iterator[Line]:
    """Measure every size that the disk has room for."""
    _need_proc()
    found: dict[str, _Cost] = {}
    for times in (1, 10) if place.quick else (1, 10, 100):
        try:
            found[f"{times}×"] = _cost(place, times)
        except LeftOut as reason:
            say(f"left out: memory: {times}×: {reason}")
    if not found:
        return
    for index, what in enumerate(WHATS):
        memory = {times: cost.memory[index] for times, cost in found.items()}
        rate = {times: cost.rate[index] for times, cost in found.items()}
        yield _grown(what, "MiB", memory, max(memory.values()), min(memory.values()), "≤ 1.1")
        last, first = [*rate.values()][-1], next(iter(rate.values()))
        yield _grown(f"{what}, its rate", "images/s", rate, last, first, "")


def _grown(
    what: str, unit: str, sizes: dict[str, float], ours: float, theirs: float, target: str
) -> Line:
    return Line(
        "memory",
        what,
        unit,
        [ours],
        f"the same at {', '.join(sizes)}",
        [theirs],
        target if len(sizes) > 1 else "",
        ", ".join(f"{times}: {size:,.1f} {unit}" for times, size in sizes.items())
        + ("; largest against smallest" if target else "; the most rows against the fewest"),
        {times: [size] for times, size in sizes.items()},
    )


def _need_proc() -> None:
    if not Path("/proc/self/status").exists():
        raise LeftOut("memory is read from /proc, which only Linux has")


def _cost(place: Place, times: int) -> _Cost:
    """Return what preparing so many times MNIST costs, and an epoch of it."""
    need, free = 1.3 * times * STORED, shutil.disk_usage(place.work).free
    if free < need:
        raise LeftOut(f"needs {need / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are free")
    with place.folder() as folder:
        raw, cache = folder / "digits", folder / "cache"
        raw.mkdir()
        _multiply(place.source, raw, times)
        command = [*console(place), "prepare", str(raw), "--quiet", "--json"]
        prepared, shown = _peak(command, place, cache)
        made = json.loads(shown)
        # In the cache that it was made in, a file need not be hashed to be trusted.
        command = [sys.executable, "-c", EPOCH, made["path"]]
        passes = [_peak(command, place, cache) for _ in range(PASSES)]
    iterated = statistics.median(peak for peak, _ in passes)
    taken = statistics.median(float(shown) for _, shown in passes)
    rates = (70_000 * times / made["seconds"], 60_000 * times / taken)
    return _Cost((prepared / MIB, iterated / MIB), rates)


def _multiply(source: Path, target: Path, times: int) -> None:
    """Write MNIST with every row so many times, still gzipped IDX files.

    A gzip file may have many members: the header is one, and the rows, compressed once, are
    written again and again.
    """
    for name in (name for pair in FILES.values() for name in pair):
        content = gzip.decompress((source / name).read_bytes())
        start = 4 + 4 * content[3]  # a number for each dimension
        rows = struct.unpack(">I", content[4:8])[0] * times
        header = content[:4] + struct.pack(">I", rows) + content[8:start]
        body = gzip.compress(content[start:], 1)
        with (target / name).open("wb") as file:
            file.write(gzip.compress(header))
            for _ in range(times):
                file.write(body)


def _peak(command: Sequence[str], place: Place, cache: Path) -> tuple[int, str]:
    """Return the most anonymous memory a process and its children had, and what it printed."""
    most = 0
    with place.folder() as folder:
        output = folder / "output"
        with (
            output.open("wb") as file,
            started(command, file, PIXELPREP_CACHE_DIR=str(cache)) as child,
        ):
            while child.poll() is None:
                most = max(most, _anonymous(child.pid))
                time.sleep(EVERY)
        return most, output.read_text()


def _anonymous(pid: int) -> int:
    found = 0
    for one in family(pid):
        with suppress(OSError):  # it may have just ended
            found += memory(one, "RssAnon")
    return found


@PHOTOS.contestant("pixelprep prepare, default")
def _photos(place: Place) -> Measure:
    _need_proc()
    write = partial(write_photos, count=PICTURES, size=MEGAPIXELS)
    command = [*console(place), "prepare", f"{once(place, 'large-photos', write)}"]

    def measure() -> float:
        with place.folder() as cache:
            return _peak([*command, "--size", "224", "--quiet"], place, cache)[0] / MIB

    return measure


PHOTOS.before("pixelprep prepare, default")


@PHOTOS.peer(
    "cores × one decoded picture, and 128 MiB",
    target="≤ 1",
    note=f"{PICTURES} JPEG photos of {MEGAPIXELS[0]}×{MEGAPIXELS[1]} to 224×224; 128 MiB: a block,"
    " and the interpreter with its libraries",
)
def _bound(place: Place) -> Measure:
    cores = len(os.sched_getaffinity(0))
    return lambda: cores * 3 * MEGAPIXELS[0] * MEGAPIXELS[1] / MIB + 128


@row("soak", "a process that runs over 1,000,000 batches of the embedded dataset")
def _soak(place: Place, say: Say) -> Iterator[Line]:
    """Run over so many batches in a child, which reports on itself: nothing may pile up."""
    _need_proc()
    import numpy as np

    batches = 100_000 if place.quick else 1_000_000
    path = place.entry("sample").path
    command = [sys.executable, "-m", "benchmarks.soaking", str(path), str(batches)]
    with started(command, subprocess.PIPE) as child:
        assert child.stdout is not None
        samples = [json.loads(line) for line in child.stdout]
        child.wait()
    done, resident, opened = np.array(samples[len(samples) // 10 :]).T
    yield Line(
        "soak",
        f"memory growth over {batches:,} batches",
        "MiB a 100,000 batches",
        [float(np.polyfit(done / 1e5, resident / MIB, 1)[0])],
        target="< 1",
        note="resident memory, a line fitted after the first tenth; resident"
        f" {resident.min() / MIB:.1f} to {resident.max() / MIB:.1f} MiB",
        values={"batches": done.tolist(), "bytes": resident.tolist(), "files": opened.tolist()},
    )
    yield Line(
        "soak",
        f"open files over {batches:,} batches",
        "more",
        [float(opened.max() - opened.min())],
        target="≤ 0",
        note=f"{opened.min()} to {opened.max()} descriptors after an epoch",
    )
