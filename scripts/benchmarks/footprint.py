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
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import Line, Say, Target
from benchmarks.place import FILES, Crashed, LeftOut, Place, console
from benchmarks.process import last_words, started

MIB = 1 << 20
PASSES = 3  # of an epoch, of which the median counts
EVERY = 0.003  # seconds between two looks
STORED = 70_000 * (28 * 28 * 4 + 8)  # bytes of MNIST's entry
SAME, SLOW, NONE = Target("≤", 1.10), Target("<", 1), Target("≤", 0)
EPOCH = """
import sys, pixelprep
for _ in pixelprep.open(sys.argv[1]).train.batches(64, shuffle=True): pass
"""


def need_proc() -> None:
    """Leave out what only Linux can tell."""
    if not Path("/proc/self/status").exists():
        raise LeftOut("memory is read from /proc, which only Linux has")


def memory(pid: int, field: str) -> int:
    """Bytes that /proc tells of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def family(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def _anonymous(pid: int) -> int:
    found = 0
    for one in family(pid):
        with suppress(OSError):  # it may have just ended
            found += memory(one, "RssAnon")
    return found


def peak(command: Sequence[str], place: Place, cache: Path) -> tuple[int, str]:
    """The most anonymous memory a process and its children had, and what it printed."""
    most, environment = 0, place.environment(PIXELPREP_CACHE_DIR=str(cache))
    with place.folder() as folder:
        output = folder / "output"
        with (
            output.open("wb") as file,
            started(command, environment, stdout=file) as (child, errors),
        ):
            while child.poll() is None:
                most = max(most, _anonymous(child.pid))
                time.sleep(EVERY)
            if child.returncode:
                raise Crashed(last_words(child, errors))
        return most, output.read_text()


def multiply(source: Path, target: Path, times: int) -> None:
    """MNIST with every row so many times, still gzipped IDX files.

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


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory, which must not grow with the data."""

    name: str = "memory"
    what: str = "peak anonymous memory of a process at 1, 10 and 100 times MNIST's rows"
    target: Target = SAME
    preparing: str = "`pixelprep prepare ./folder`"
    iterating: str = "opening, and an epoch of batches(64, shuffle=True)"
    preparing_note: str = "largest against smallest"
    iterating_note: str = "largest against smallest"

    def run(self, place: Place, say: Say) -> Iterator[Line]:
        """Measure every size that the disk has room for."""
        need_proc()
        found: dict[str, dict[int, float]] = {self.preparing: {}, self.iterating: {}}
        for times in (1, 10) if place.quick else (1, 10, 100):
            try:
                _room(place, times)
                prepared, iterated = _peaks(place, times)
            except LeftOut as reason:
                say(f"left out: {self.name}: {times}×: {reason}")
                continue
            found[self.preparing][times], found[self.iterating][times] = prepared, iterated
        notes = {self.preparing: self.preparing_note, self.iterating: self.iterating_note}
        for what, peaks in found.items():
            if peaks:
                yield self._line(what, peaks, notes[what])

    def _line(self, what: str, peaks: dict[int, float], note: str) -> Line:
        sizes = ", ".join(f"{times}×: {size:.1f} MiB" for times, size in peaks.items())
        least, most = min(peaks.values()), max(peaks.values())
        ratio = most / least
        values = {f"{times}×": [size] for times, size in peaks.items()}
        against = "the same at " + ", ".join(f"{times}×" for times in peaks)
        target = self.target if len(peaks) > 1 else None
        note = f"{sizes}; {note}"
        return Line(
            self.name, what, against, target, "MiB", most, least, ratio, None, 1, note, values
        )


def _room(place: Place, times: int) -> None:
    need, free = 1.3 * times * STORED, shutil.disk_usage(place.work).free
    if free < need:
        raise LeftOut(f"needs {need / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are free")


def _peaks(place: Place, times: int) -> tuple[float, float]:
    """Peak MiB of preparing so many times MNIST, and of an epoch of it."""
    with place.folder() as folder:
        raw, cache = folder / "digits", folder / "cache"
        raw.mkdir()
        multiply(Path(place.source), raw, times)
        command = [*console(), "prepare", str(raw), "--quiet", "--json"]
        prepared, shown = peak(command, place, cache)
        entry = json.loads(shown)["path"]
        # In the cache that it was made in, a file need not be hashed to be trusted.
        command = [sys.executable, "-c", EPOCH, entry]
        iterated = statistics.median(peak(command, place, cache)[0] for _ in range(PASSES))
    return prepared / MIB, iterated / MIB


@dataclass(frozen=True, slots=True)
class Soak:
    """Very many batches, over which nothing may pile up."""

    name: str = "soak"
    what: str = "a process that runs over 1,000,000 batches of the embedded dataset"
    growth: Target = SLOW
    descriptors: Target = NONE
    note: str = "resident memory, a line fitted after the first tenth"

    def run(self, place: Place, say: Say) -> Iterator[Line]:
        """Run it in a child, which tells of itself."""
        need_proc()
        batches = 100_000 if place.quick else 1_000_000
        path = place.entry("sample").path
        command = [sys.executable, "-m", "benchmarks.soaking", str(path), str(batches)]
        with started(command, place.environment(), stdout=subprocess.PIPE) as (child, errors):
            assert child.stdout is not None
            samples = [json.loads(line) for line in child.stdout]
            if child.wait():
                raise Crashed(last_words(child, errors))
        yield from self._lines(batches, samples[len(samples) // 10 :])

    def _lines(self, batches: int, samples: list[list[int]]) -> Iterator[Line]:
        import numpy as np

        done, resident, opened = np.array(samples).T
        slope = float(np.polyfit(done / 1e5, resident / MIB, 1)[0])
        spread = (float(resident.min()) / MIB, float(resident.max()) / MIB)
        what = f"memory growth over {batches:,} batches"
        note = f"{self.note}; resident {spread[0]:.1f} to {spread[1]:.1f} MiB"
        values = {"batches": done.tolist(), "bytes": resident.tolist(), "files": opened.tolist()}
        unit = "MiB a 100,000 batches"
        yield Line(
            self.name, what, "—", self.growth, unit, slope, None, None, None, 1, note, values
        )
        more, what = float(opened.max() - opened.min()), f"open files over {batches:,} batches"
        note = f"{opened.min()} to {opened.max()} descriptors after an epoch"
        yield Line(self.name, what, "—", self.descriptors, "more", more, None, None, None, 1, note)
