"""Who is at it: locks between processes, and names that tell whether their maker still lives.

Locks only save work: nobody does what another is doing, or takes away what he is working on. What
keeps the cache right is the rename (`workspace`), so file systems without locks are used too.
"""

import errno
import hashlib
import logging
import os
import platform
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pixelprep.system import fs

LOG = logging.getLogger("pixelprep")

# A file system without locks, or a cache that cannot be written.
NO_LOCK_ERRNOS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOENT, *fs.READ_ONLY_ERRNOS)
STALE_AFTER = (
    7 * 24 * 3600
)  # seconds that unfinished work is left alone, and that of other machines
OWNER_TAG = r"([0-9]+)-([0-9]+)-[0-9a-f]{8}-([0-9a-f]{8})"  # process, its start, a number, machine


@contextmanager
def lock(cache: Path, name: str) -> Iterator[None]:
    """Hold the lock of this name, waiting for whoever has it."""
    with suppress(OSError):  # in a cache that is read-only there is nothing to lock
        fs.ensure_dir(cache / fs.LOCKS)
    with acquire(lock_path(cache, name), f"waiting for another process: {name}"):
        yield


def lock_path(cache: Path, name: str) -> Path:
    """The file of the lock of this name."""
    return cache / fs.LOCKS / f"{name}.lock"


def entry_lock_name(path: Path) -> str:
    """The name of the lock of those who make, repair or remove the entry of this folder."""
    return f"{path.parent.name}-{path.name}"


def raw_lock_name(dataset: str) -> str:
    """The name of the lock of those who get or remove a dataset's raw files."""
    return f"{dataset}-raw"


@contextmanager
def acquire(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock of this file, waiting for whoever has it."""
    from filelock import FileLock, Timeout

    mine = FileLock(path, fallback_to_soft=False)  # such a lock would outlive its owner
    try:
        try:
            mine.acquire(timeout=0)
        except Timeout:
            LOG.info("%s", waiting)
            mine.acquire()
    except OSError as error:
        if error.errno not in NO_LOCK_ERRNOS:
            raise
        LOG.debug("no locks at %s: work may be done twice", path)
    try:
        yield
    finally:
        mine.release()


@contextmanager
def try_acquire(path: Path) -> Iterator[bool]:
    """Hold a lock unless somebody else has it; whether that is so, as far as can be told."""
    from filelock import FileLock, Timeout

    mine = FileLock(path, fallback_to_soft=False)
    try:
        mine.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in NO_LOCK_ERRNOS:
            raise
    try:
        yield True
    finally:
        mine.release()


def is_free(cache: Path, name: str) -> bool:
    """Whether nobody holds the lock of this name."""
    return is_unlocked(lock_path(cache, name))


def is_unlocked(path: Path) -> bool:
    """Whether nobody holds the lock of this file, as far as the file system can tell."""
    if not path.exists():
        return True
    with try_acquire(path) as free:
        return free


def remove_lock(path: Path) -> bool:
    """Remove the file of a lock that nobody holds; whether it was so.

    Whoever waits for it meanwhile finds that the file is gone, and makes it anew.
    """
    with try_acquire(path) as free:
        if free:
            path.unlink(missing_ok=True)
        return free


def owner_tag() -> str:
    """A part of a name that tells others whether its maker still lives; another one each time."""
    process = os.getpid()
    return f"{process}-{_start_time(process) or 0}-{uuid.uuid4().hex[:8]}-{_machine_id()}"


def owner_alive(tag: str, path: Path) -> bool:
    """Whether the process of this `tag` may live; one of another machine, for a week.

    Parameters
    ----------
    tag : str
        Of something else than a process: no.
    path : Path
        What it made; its time tells how long ago.
    """
    match = re.fullmatch(OWNER_TAG, tag)
    if match is None:
        return False
    process, born, machine = match.groups()
    if machine != _machine_id():
        return not is_stale(path, STALE_AFTER)
    now = _start_time(int(process))
    return now is not None and str(now) == born


def owner_dead(tag: str, path: Path) -> bool:
    """Whether this is the `tag` of a process, and it lives no more."""
    return re.fullmatch(OWNER_TAG, tag) is not None and not owner_alive(tag, path)


def is_stale(path: Path, seconds: float) -> bool:
    """Whether nothing was put into a folder for so long; of none, that is so."""
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:
        return True


def _machine_id() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _start_time(process: int) -> int | None:
    """When a living process of this machine was started, in its own ticks; None if it is gone.

    Numbers of processes are used again, these pairs are not.
    """
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - a name, not a path
            state, *rest = file.read().rpartition(")")[2].split()
        return None if state in "ZX" else int(rest[18])
    except (OSError, ValueError, IndexError):
        return None if Path("/proc/self").exists() else _responds(process)


def _responds(process: int) -> int | None:
    """As `_born`, on systems that do not tell when: 0 for any that is there."""
    try:
        os.kill(process, 0)
    except OSError:
        return None
    return 0
