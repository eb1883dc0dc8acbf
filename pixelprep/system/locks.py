"""Lock between processes, and tag names with their owner to detect dead processes.

Locks only save work: no process repeats what another is doing, or removes what it works on. What
keeps the cache correct is the rename (`staging`), so file systems without locks are used too.
"""

import errno
import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from pixelprep.system import fs, os_calls

if sys.platform != "win32":
    import fcntl

LOG = logging.getLogger("pixelprep")

# The file system has no locks or its locks do not work, or the cache is read-only.
NO_LOCK_ERRNOS = (
    *(errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.EINVAL, errno.ENOENT),
    *fs.READ_ONLY_ERRNOS,
)
OPEN_FLAGS = os.O_RDONLY | os_calls.NO_WAIT | os_calls.CLOSED_BY_EXEC
STALE_AFTER = 7 * 24 * 3600  # seconds before unfinished work, or another machine's, is removed
OWNER_TAG = r"([0-9]+)-([0-9]+)-[0-9a-f]{8}-([0-9a-f]{8})"  # process, start time, random, machine


@contextmanager
def lock(cache: Path, name: str) -> Iterator[None]:
    """Hold the cache's lock of this name, waiting for its holder."""
    with suppress(OSError):  # a read-only cache needs no lock
        fs.ensure_dir(cache / fs.LOCKS)
    with acquire(lock_path(cache, name), f"waiting for another process: {name}"):
        yield


def lock_path(cache: Path, name: str) -> Path:
    return cache / fs.LOCKS / f"{name}.lock"


def entry_lock_name(path: Path) -> str:
    """Return the name of the lock for making, repairing or removing the entry at this path."""
    return f"{path.parent.name}-{path.name}"


def raw_lock_name(dataset: str) -> str:
    """Return the name of the lock for downloading or removing a dataset's raw files."""
    return f"{dataset}-raw"


@contextmanager
def acquire(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock of this file; log the message `waiting` if another process holds it."""
    from filelock import FileLock, Timeout

    mine = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive its owner
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
    """Yield whether the lock of this file is free (or there are no locks), and hold it if so."""
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


def is_unlocked(path: Path) -> bool:
    """Return whether no process holds the lock of this file, as far as the file system knows."""
    if not path.exists():
        return True
    with try_acquire(path) as free:
        return free


def remove_lock(path: Path) -> bool:
    """Remove a lock's file if it is free, and return whether it was; who waits makes a new one."""
    with try_acquire(path) as free:
        if free:
            path.unlink(missing_ok=True)
        return free


class SharedLock:
    """A lock of a file that tells as long as this object lives that it `is_in_use`.

    libhdf5 locks what it reads in the same way. No process waits for it, and where there are no
    locks, as on Windows, it means nothing. A copy in another process has a lock of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._fd = path, -1
        self.renew()
        _shared.add(self)

    def renew(self) -> None:
        """Lock the file that has the path now, if that is another one than before."""
        if sys.platform == "win32":
            return
        with suppress(OSError):
            if self._fd >= 0 and os.path.samestat(os.fstat(self._fd), self.path.stat()):
                return
            fd = os_calls.open_plain(self.path, OPEN_FLAGS)
            self._close()
            self._fd = fd
            self.switch(locked=True)

    def _close(self, close: Callable[[int], object] = os.close) -> None:
        if self._fd >= 0:
            close(self._fd)  # also when the interpreter has lost its modules
            self._fd = -1

    __del__ = _close

    def __reduce__(self) -> tuple[type["SharedLock"], tuple[Path]]:
        return SharedLock, (self.path,)

    def switch(self, *, locked: bool) -> None:
        """Release the lock, or take it again."""
        with suppress(OSError):
            if sys.platform != "win32" and self._fd >= 0:
                fcntl.flock(self._fd, (fcntl.LOCK_SH if locked else fcntl.LOCK_UN) | fcntl.LOCK_NB)


_shared: WeakSet[SharedLock] = WeakSet()  # those of this process


def is_in_use(files: Iterable[Path]) -> bool:
    """Return whether another process, of whichever program, holds a lock of one of these files."""
    own = list(_shared)
    for mine in own:
        mine.switch(locked=False)
    try:
        return any(map(_is_locked, files))
    finally:
        for mine in own:
            mine.switch(locked=True)


def _is_locked(file: Path) -> bool:
    try:
        fd = os_calls.open_plain(file, OPEN_FLAGS)
    except OSError:
        return False
    try:
        if sys.platform != "win32":
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EAGAIN)
    finally:
        os.close(fd)
    return False


def owner_tag() -> str:
    """Return a unique part of a name that tells others whether this process is still alive."""
    process = os.getpid()
    return f"{process}-{_start_time(process) or 0}-{os.urandom(4).hex()}-{_machine_id()}"


def owner_alive(tag: str, path: Path) -> bool:
    """Return whether the owner of a file or folder may be alive; what is no tag has no owner.

    A process of another machine or container counts as alive until what it owns is `STALE_AFTER`
    old.
    """
    match = re.fullmatch(OWNER_TAG, tag)
    if match is None:
        return False
    process, started, machine = match.groups()
    if machine != _machine_id():
        return not is_stale(path, STALE_AFTER)
    start_time = _start_time(int(process))
    return start_time is not None and str(start_time) == started


def owner_dead(tag: str, path: Path) -> bool:
    """Return whether this is the tag of a process that is no longer alive."""
    return re.fullmatch(OWNER_TAG, tag) is not None and not owner_alive(tag, path)


def is_stale(path: Path, seconds: float) -> bool:
    """Return whether a folder has not changed for so long, or does not exist."""
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:
        return True


def _machine_id() -> str:
    """Return what tells machines apart and, on one of them, the name spaces of process numbers."""
    numbers = ""
    with suppress(OSError):  # Linux alone has them: containers of one host name
        numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no file
    return hashlib.sha256(f"{os_calls.node_name()} {numbers}".encode()).hexdigest()[:8]


def _start_time(process: int) -> int | None:
    """Return a process's start in clock ticks, unlike that of any other of its number."""
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - a name, not a path
            state, *rest = file.read().rpartition(")")[2].split()
        return None if state in "ZX" else int(rest[18])
    except (OSError, ValueError, IndexError):
        if Path("/proc/self").exists():
            return None
    with suppress(OSError):  # on systems that do not tell it, a living process has 0
        os.kill(process, 0)
        return 0
    return None
