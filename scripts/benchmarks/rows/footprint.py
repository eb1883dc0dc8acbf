"""Memory of whole processes at 1, 10 and 100 times MNIST's rows, and over many batches.

Linux only: memory is read from /proc.
"""

import gzip
import json
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.place import FILES, LeftOut, Place
from benchmarks.process import console, family, memory, started
from benchmarks.table import Line, Say, row

MIB = 1 << 20
PASSES = 3  # of an epoch, of which the median counts
EVERY = 0.003  # seconds between two looks
STORED = 70_000 * (28 * 28 * 4 + 8)  # bytes of MNIST's entry
EPOCH = """
import sys, pixelprep
for _ in pixelprep.open(sys.argv[1]).train.batches(64, shuffle=True): pass
"""


@row("memory", "peak anonymous memory of a process at 1, 10 and 100 times MNIST's rows")
def _memory(place: Place, say: Say) -> Iterator[Line]:
    """Measure every size that the disk has room for."""
    _need_proc()
    found: dict[int, tuple[float, float]] = {}
    for times in (1, 10) if place.quick else (1, 10, 100):
        try:
            found[times] = _peaks(place, times)
        except LeftOut as reason:
            say(f"left out: memory: {times}×: {reason}")
    if not found:
        return
    whats = ("`pixelprep prepare ./folder`", "opening, and an epoch of batches(64, shuffle=True)")
    for what, peaks in zip(whats, zip(*found.values(), strict=True), strict=True):
        sizes = dict(zip((f"{times}×" for times in found), peaks, strict=True))
        shown = ", ".join(f"{times}: {size:.1f} MiB" for times, size in sizes.items())
        yield Line(
            "memory",
            what,
            "MiB",
            [max(peaks)],
            f"the same at {', '.join(sizes)}",
            [min(peaks)],
            "≤ 1.1" if len(peaks) > 1 else "",
            f"{shown}; largest against smallest",
            {times: [size] for times, size in sizes.items()},
        )


def _need_proc() -> None:
    if not Path("/proc/self/status").exists():
        raise LeftOut("memory is read from /proc, which only Linux has")


def _peaks(place: Place, times: int) -> tuple[float, float]:
    """Return the peak MiB of preparing so many times MNIST, and of an epoch of it."""
    need, free = 1.3 * times * STORED, shutil.disk_usage(place.work).free
    if free < need:
        raise LeftOut(f"needs {need / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are free")
    with place.folder() as folder:
        raw, cache = folder / "digits", folder / "cache"
        raw.mkdir()
        _multiply(place.source, raw, times)
        command = [*console(place), "prepare", str(raw), "--quiet", "--json"]
        prepared, shown = _peak(command, place, cache)
        entry = json.loads(shown)["path"]
        # In the cache that it was made in, a file need not be hashed to be trusted.
        command = [sys.executable, "-c", EPOCH, entry]
        iterated = statistics.median(_peak(command, place, cache)[0] for _ in range(PASSES))
    return prepared / MIB, iterated / MIB


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
