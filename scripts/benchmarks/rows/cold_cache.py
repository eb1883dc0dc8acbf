"""Epochs of a file that the page cache does not hold, beside reading it once in large pieces."""

import time
from functools import partial

from benchmarks.clock import BATCH, Measure
from benchmarks.contest import Contest
from benchmarks.made import SIZES, entry
from benchmarks.page_cache import evict
from benchmarks.place import Place
from benchmarks.process import seconds

COLD = Contest(
    "cold-cache", "a shuffled epoch of batches of 64 whose file is not in the page cache", "s", 5
)
FIRST, SECOND, WARM = "first epoch, cold", "second epoch, after a cold one", "second epoch, warm"


def _epochs(place: Place, size: str, which: str) -> Measure:
    found = entry(place, size)
    files = sorted(found.path.glob("train*.h5"))

    def epoch(number: int) -> float:
        begun = time.perf_counter()
        for _ in found.train.batches(BATCH, shuffle=True, seed=0, epoch=number):
            pass
        return time.perf_counter() - begun

    def measure() -> float:
        evict(files)
        if which == WARM:  # held as well as it can be
            for path in files:
                with path.open("rb", buffering=0) as file:
                    while file.read(4 << 20):
                        pass
        first = epoch(0)
        return first if which == FIRST else epoch(1)

    return measure


def _dd(place: Place, size: str) -> Measure:
    files = sorted(entry(place, size).path.glob("train*.h5"))

    def measure() -> float:
        evict(files)
        return sum(seconds(["dd", f"if={path}", "of=/dev/null", "bs=4M"]) for path in files)

    return measure


for _size in SIZES:
    for _which in (FIRST, SECOND, WARM):
        _name = f"{_which}, {_size}"
        COLD.contestant(_name, "arrays")(partial(_epochs, size=_size, which=_which))
        COLD.before(_name)
    COLD.contestant(f"dd bs=4M, cold, {_size}")(partial(_dd, size=_size))
    COLD.duel(
        f"{FIRST}, {_size}",
        f"dd bs=4M, cold, {_size}",
        "≤ 1.3",
        "dd puts nothing into batches; a process start is in its time",
    )
    COLD.duel(
        f"{SECOND}, {_size}",
        f"{WARM}, {_size}",
        "≤ 1.05",
        "warm: read once in pieces of 4 MiB before its first epoch",
    )
