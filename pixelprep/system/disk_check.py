"""Try on a folder what a cache needs of a file system: writing, renaming, locks, times, names."""

import errno
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from pixelprep.system import fs

SYNCED_BYTES = 1 << 20
LONGEST_STEP = 0.05  # seconds in which a time must change
LOCK_PROGRAM = """
import sys
sys.path[:] = sys.argv[2:]
from filelock import FileLock, Timeout
lock = FileLock(sys.argv[1], fallback_to_soft=False)
for _ in range(2):
    try:
        lock.acquire(timeout=0)
        print("free", flush=True)
    except Timeout:
        print("held", flush=True)
    sys.stdin.readline()
"""


def check(folder: Path) -> dict[str, object]:
    """Try it all in an empty folder of one's own; an OSError where it cannot even be written."""
    return {
        "fsync_seconds": _fsync_seconds(folder),
        "renames": _renames(folder),
        "locks": _locks(folder / "lock"),
        "time_step_seconds": _time_step(folder / "time"),
        **_names(folder),
    }


def _fsync_seconds(folder: Path) -> float:
    """Return how long a file of 1 MiB and its name take to the disk."""
    path, started = folder / "synced", time.perf_counter()
    path.write_bytes(os.urandom(SYNCED_BYTES))
    fs.fsync(path)
    fs.fsync(folder)
    return time.perf_counter() - started


def _renames(folder: Path) -> bool:
    """Return whether a file takes another's place, and a folder only that of an empty one."""
    old, new, full = folder / "old", folder / "new", folder / "full"
    try:
        old.write_bytes(b"old")
        new.write_bytes(b"new")
        os.replace(new, old)  # noqa: PTH105 - what is tried
        new.mkdir()
        full.mkdir()
        (full / "file").touch()
        new.rename(full)
    except OSError as error:
        refused = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
        return refused and old.read_bytes() == b"new" and (full / "file").exists()
    return False


def _locks(path: Path) -> bool | None:
    """Return whether another process is kept out by a lock; None where there are no locks."""
    from filelock import FileLock

    mine = FileLock(path, fallback_to_soft=False)
    try:
        mine.acquire(timeout=0)
    except OSError:
        return None
    try:
        with subprocess.Popen(
            [sys.executable, "-c", LOCK_PROGRAM, str(path), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            seen = [other.stdout.readline().strip()]
            mine.release()
            with suppress(OSError):  # it has failed
                other.stdin.write("\n")
                other.stdin.flush()
            seen.append(other.stdout.readline().strip())
            return seen == ["held", "free"] if all(seen) else None
    finally:
        mine.release()


def _time_step(path: Path) -> float | None:
    """Return the shortest step seen between two times of changes; None: longer than is waited."""
    path.touch()
    first = path.stat().st_mtime_ns
    end = time.perf_counter() + LONGEST_STEP
    while time.perf_counter() < end:
        path.write_bytes(b"x")
        if (changed := path.stat().st_mtime_ns) != first:
            return (changed - first) / fs.SECOND
    return None


def _names(folder: Path) -> dict[str, object]:
    """Return whether names that differ in case are two, and composed letters stay composed."""
    (folder / "Cat").touch()
    (folder / "\N{LATIN SMALL LETTER E WITH ACUTE}").touch()
    kept = "\N{LATIN SMALL LETTER E WITH ACUTE}" in os.listdir(folder)  # noqa: PTH208 - plain names
    return {"case_sensitive": not (folder / "cat").exists(), "keeps_composed_names": kept}
