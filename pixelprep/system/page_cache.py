"""Bring files into the system's page cache by long reads, in file order.

How a file is first read decides how the system holds it, and for how long: of one that was read in
short pieces at random, later reads took twice the time of one that was read through (Linux 6.18,
ext4: large folios).
"""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PIECE_BYTES = 4 << 20
PROBES = 16  # places of a file at which it is looked for in the page cache
FIRST_BYTES = 1 << 30  # what is brought in before anything else: a second or two
MEMORY = Path("/proc/meminfo")
LIMITS = tuple(  # of a container, by either version of Linux's control groups
    map(Path, ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"))
)
MEMORY_SHARE = 2  # files may take one part in so many of the memory that is free


@contextmanager
def brought_in(paths: Sequence[Path]) -> Iterator[bool]:
    """Bring files that are not in the page cache into it: before this begins, or meanwhile.

    Yields whether this was done; not where memory is short, or where the system does not tell.
    """
    try:
        sizes = sum(path.stat().st_size for path in paths)
        cold = [path for path in paths if _is_cold(path)]
    except OSError:  # who needs them will fail
        sizes, cold = 0, None
    if cold is None or sizes > _free_memory() // MEMORY_SHARE:
        yield False
        return
    stop = threading.Event()
    if not cold or sizes <= FIRST_BYTES:
        _read_through(cold, stop)
        yield True
        return
    reading = threading.Thread(
        target=_read_through, args=(cold, stop), name="pixelprep", daemon=True
    )
    reading.start()
    try:
        yield True
    finally:
        stop.set()
        reading.join()


def _read_through(paths: Sequence[Path], stop: threading.Event) -> None:
    for path in paths:
        buffer = bytearray(PIECE_BYTES)
        with suppress(OSError), path.open("rb", buffering=0) as file:
            while not stop.is_set() and file.readinto(buffer):
                pass


def _is_cold(path: Path) -> bool:
    """Return whether parts of a file are not in the page cache; an OSError: nothing tells."""
    if sys.platform != "linux" or not hasattr(os, "RWF_NOWAIT"):
        raise OSError("Linux alone tells")
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for number in range(PROBES):
            try:
                os.preadv(file.fileno(), [bytearray(1)], size * number // PROBES, os.RWF_NOWAIT)
            except BlockingIOError:
                return True
    return False


def _free_memory() -> int:
    """Return the bytes that could be had without swapping; 0 where the system does not tell.

    A container has no more than its limit, of which what it caches is a part.
    """
    free = 0
    with suppress(OSError), MEMORY.open(encoding="ascii") as lines:
        free = next(int(line.split()[1]) << 10 for line in lines if "MemAvailable" in line)
    for limit in LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            free = min(free, int(limit.read_text(encoding="ascii")))
    return free
