"""The cache folder: where it is, locks, digests, private work folders, publishing by rename.

A final name means a finished thing. Whatever is made lies under a private name in ``.tmp`` of the
same cache until every byte of it is on the disk; one rename then gives it its final name.
"""

import errno
import hashlib
import json
import logging
import os
import platform
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pixelprep.errors import CacheError, UsageError

LOG = logging.getLogger("pixelprep")

RESUMABLE = ".resumable"  # at the end of a work folder's name
FILES, DONE, PARTS = "files", "done", "parts"  # in a work folder: finished, their receipts, begun
MOST_NOTED = 64 << 20  # bytes of a note: that is 400,000 files of an entry
TICK = 0.01  # seconds, no less than the steps in which systems count the time of a change
OWNER = "owner.json"  # in a work folder: whose it is
KEPT = 7 * 24 * 3600  # seconds that unfinished work is kept to go on with
GRACE = 60  # seconds in which a process that made a work folder will have said that it did
TRIES = 100  # times that others may take the place of what is being published
PAUSES = (0.001, 0.01, 0.1, 0.2)  # seconds; a replacement takes two renames

# A file system without locks, or a cache that cannot be written.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES, errno.EROFS, errno.ENOENT)
READ_ONLY = (errno.EACCES, errno.EROFS, errno.EPERM)

RAW, SOURCES, ORIGINS, LOCKS = ".raw", ".sources", ".origins", ".locks"
TMP, TRASH, TRUST = ".tmp", ".trash", ".trust"


def cache_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: the given one, else ``PIXELPREP_CACHE_DIR``, else the system's place."""
    if chosen := given or os.environ.get("PIXELPREP_CACHE_DIR"):
        return expanded(chosen).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("pixelprep", appauthor=False)


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path, its ``~`` replaced by the home folder.

    Raises
    ------
    UsageError
        When there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{os.fspath(path)}: {error}") from None


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value that digests are taken over: sorted, no spaces, UTF-8."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest(value: object) -> str:
    """The SHA-256 of a JSON value's one spelling, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256(file: Path | int) -> str:
    """The SHA-256 of a file, or of all that is behind a descriptor, in hex."""
    if isinstance(file, int):
        os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", closefd=not isinstance(file, int)) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a system error about the cache into one line that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = "free some space, or choose another place with --cache-dir"
            raise CacheError(f"cannot write in {path}: {reason}", hint) from error
        where = str(error.filename or path)
        hint = "choose a folder that can be written: --cache-dir or PIXELPREP_CACHE_DIR"
        ours = where.startswith(str(path)) or str(path).startswith(where)
        raise CacheError(f"cannot use {where}: {reason}", hint if ours else None) from error


def need_space(folder: Path, needed: int) -> None:
    """Refuse to start writing what the disk has no room for.

    Raises
    ------
    CacheError
        When fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CacheError(
            f"not enough room in {folder}: {needed:,} bytes are needed, {free:,} are free",
            "free some space, or choose another place with --cache-dir",
        )


@contextmanager
def lock(cache: Path, name: str) -> Iterator[None]:
    """Hold the lock of this name, waiting for whoever has it.

    Locks only save work (nobody does what another is doing); what keeps the cache right is the
    rename. So a file system that knows no locks is used without them.
    """
    with suppress(OSError):  # in a cache that is read-only there is nothing to lock
        _made(cache / LOCKS)
    with _held(_named(cache, name), f"waiting for another process: {name}"):
        yield


def _named(cache: Path, name: str) -> Path:
    return cache / LOCKS / f"{name}.lock"


@contextmanager
def _held(path: Path, waiting: str = "") -> Iterator[None]:
    from filelock import FileLock, Timeout

    held = FileLock(path, fallback_to_soft=False)  # such a lock would outlive its owner
    try:
        try:
            held.acquire(timeout=0)
        except Timeout:
            LOG.info("%s", waiting)
            held.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        LOG.debug("no locks at %s: work may be done twice", path)
    try:
        yield
    finally:
        held.release()


@contextmanager
def workspace(cache: Path, name: str, *, resumable: bool = False) -> Iterator[Path]:
    """A private folder in ``.tmp``, removed at the end.

    Its neighbour ``FOLDER.lock`` is locked as long as the owner lives, and `OWNER` in it says who
    that is, for file systems without locks; so `sweep` tells the folder of a killed process from
    one in use. A resumable folder keeps its name: what an interrupted process finished there (see
    `once`) is found again by the next one.
    """
    with ExitStack() as held:
        folder = _made(cache / TMP) / f"{name}{RESUMABLE}"
        free = resumable and held.enter_context(_held_now(_lock_of(folder)))
        if not (free and _claimed(folder)):
            folder = folder.with_name(f"{name}.{uuid.uuid4().hex[:12]}")
            held.enter_context(_held(_lock_of(folder)))
            folder.mkdir()
        keep = False
        try:
            remember(folder / OWNER, {"owner": tag()})
            yield folder
        except Exception:
            raise
        except BaseException:  # interrupted, which only costs time
            keep = folder.name.endswith(RESUMABLE) and any((folder / DONE).glob("*"))
            raise
        finally:
            if keep:
                remember(folder / OWNER, {"owner": ""})
            else:
                # Out of sight at once: whoever still works on it finds no place to leave things.
                with suppress(OSError):
                    discard(folder, cache)
                _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


@contextmanager
def _held_now(path: Path) -> Iterator[bool]:
    """Hold a lock unless somebody else has it; whether it is held."""
    from filelock import FileLock, Timeout

    held = FileLock(path, fallback_to_soft=False)  # such a lock would outlive its owner
    try:
        held.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield True
    finally:
        held.release()


def _claimed(folder: Path) -> bool:
    """Whether a folder could be made one's own: it is new, or its owner is gone."""
    try:
        folder.mkdir()
    except FileExistsError:
        if _in_use(folder):
            return False
        with suppress(FileNotFoundError):
            (folder / OWNER).rename(folder / f"{OWNER}.{uuid.uuid4().hex[:12]}")
            return True  # nobody else can have renamed it
        return False
    return True


def _in_use(folder: Path) -> bool:
    """Whether somebody may be working in a folder of ``.tmp``, whatever its lock says."""
    owner = (recall(folder / OWNER) or {}).get("owner")
    if owner is None:  # it may be about to say who it is
        return not _older(folder, GRACE)
    return lives(owner, folder)


def tag() -> str:
    """A name for what this process makes, which tells others whether its maker still lives."""
    process = os.getpid()
    return f"{process}-{_born(process)}-{uuid.uuid4().hex[:12]}-{platform.node()}"


def lives(tag: str, made: Path) -> bool:
    """Whether the process of this `tag` may live; one of another machine, for a week."""
    process, born, _, host = (*tag.split("-", 3), "", "", "")[:4]
    if host != platform.node():
        return bool(host) and not _older(made, KEPT)
    return process.isdigit() and _born(process) is not None and str(_born(process)) == born


def _born(process: object) -> int | None:
    """When a living process of this machine was started, in its own ticks; None if it is gone.

    Numbers of processes are used again, these pairs are not.
    """
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - a name, not a path
            state, *rest = file.read().rpartition(")")[2].split()
        return None if state in "ZX" else int(rest[18])
    except (OSError, ValueError, IndexError):
        return None if Path("/proc/self").exists() else _answers(process)


def _answers(process: object) -> int | None:
    """As `_born`, on systems that do not tell when: 0 for any that is there."""
    try:
        os.kill(int(str(process)), 0)
    except (OSError, ValueError):
        return None
    return 0


def once(work: Path, name: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Make one file of a work folder, unless it is there, finished and whole.

    It is made under a private name, so that it may be made twice at the same time, and its maker
    killed at any moment. It is not fsynced: what is believed to be finished later must have the
    digest that was noted of it, and what is published must be fsynced before.

    Parameters
    ----------
    work : Path
        A `workspace`. The file will be ``work/files/NAME``.
    name : str
        The file's name, which says what is in it: equal names, equal bytes.
    make : callable
        Makes the file at the path it is given; returns JSON values, with the file's ``sha256``.

    Returns
    -------
    dict
        What `make` returned, now or then.

    Raises
    ------
    CacheError
        When there is no such work folder.
    """
    path, receipt = work / FILES / name, work / DONE / f"{name}.json"
    record = recall(receipt)
    if record is not None and path.is_file() and sha256(path) == record.get("sha256"):
        return record
    private = work / PARTS / f"{name}.{uuid.uuid4().hex[:12]}"
    try:
        for folder in (path, receipt, private):
            folder.parent.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise CacheError(
            f"{work}: not there, as seen from {platform.node()}",
            "the cache must lie on a file system that all workers share",
        ) from error
    try:
        record = make(private)
        private.rename(path)
    except BaseException:
        private.unlink(missing_ok=True)
        raise
    receipt.write_bytes(canonical_json(record))
    return record


def sweep(cache: Path) -> None:
    """Remove what killed processes left in ``.tmp``, and what waits in ``.trash``.

    What somebody may want to go on with is kept for a week.
    """
    for path in leftovers(cache):
        LOG.info("removing the leftovers of a killed process: %s", path.name)
        clear(path, cache)
    for old in (cache / TRASH).glob("*"):
        _remove(old)


def leftovers(cache: Path, *, unfinished: bool = False) -> list[Path]:
    """What is in ``.tmp`` and has no owner any more, but for work that may be gone on with.

    Parameters
    ----------
    cache : Path
        The cache folder.
    unfinished : bool
        Also work of the last week that may be gone on with.
    """
    found = {path.with_suffix("") for path in (cache / TMP).glob("*.lock")}
    found |= {path for path in (cache / TMP).glob("*") if path.suffix != ".lock"}
    return sorted(path for path in found if _is_left(path, unfinished))


def clear(path: Path, cache: Path) -> bool:
    """Remove one of the `leftovers`, unless somebody took it up meanwhile; whether it is gone."""
    with _held_now(_lock_of(path)) as free:
        if not free or (path.is_dir() and _in_use(path)):
            return False
        with suppress(OSError):
            discard(path, cache)
        _lock_of(path).unlink(missing_ok=True)
    return not os.path.lexists(path)


def _is_left(path: Path, unfinished: bool) -> bool:
    if path.name.endswith(RESUMABLE) and not (unfinished or _older(path / DONE, KEPT)):
        return False
    return not (path.is_dir() and _in_use(path)) and _is_free(_lock_of(path))


def _is_free(lock: Path) -> bool:
    """Whether nobody holds a lock, as far as the file system can tell."""
    if not lock.exists():
        return True
    with _held_now(lock) as free:
        return free


def is_free(cache: Path, name: str) -> bool:
    """Whether nobody holds the lock of this name."""
    return _is_free(_named(cache, name))


def unlock(path: Path) -> bool:
    """Remove the file of a lock that nobody holds; whether it was so.

    Whoever waits for it meanwhile finds that the file is gone, and makes it anew.
    """
    with _held_now(path) as free:
        if free:
            path.unlink(missing_ok=True)
        return free


def _older(path: Path, seconds: float) -> bool:
    """Whether nothing was put into a folder for so long; of none, that is so."""
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:
        return True


def publish(
    folder: Path, final: Path, cache: Path, stays: Callable[[], bool] = lambda: False
) -> None:
    """Give a finished private folder its final name, durably.

    Every file in `folder` must have been fsynced. A rename never lands on an existing folder:
    what is there goes to ``.trash`` first, unless it stays and the new one is not needed.
    """
    fsync(folder)
    old: list[Path] = []
    try:
        _land(folder, final, cache, stays, old)
        fsync(final.parent)
        fsync(cache)
    except BaseException:
        if old and not os.path.lexists(final):
            with suppress(OSError):  # the entry that was there is better than none
                old[-1].rename(final)
        raise
    finally:
        for path in old:
            _remove(path)


def _land(
    folder: Path, final: Path, cache: Path, stays: Callable[[], bool], old: list[Path]
) -> None:
    """One rename to where nothing is; what was there is put away, and added to `old`."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):  # another process took it, or its folder, away
            _made(final.parent)
            try:
                folder.rename(final)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            if stays():
                LOG.info("another process published %s first", final.name)
                break
            old.append(_put_away(final, cache))


def awaited(path: Path) -> None:
    """Wait a moment for what another process may just be replacing (see `publish`)."""
    for pause in PAUSES:
        if os.path.lexists(path):
            return
        time.sleep(pause)


def discard(path: Path, cache: Path) -> None:
    """Take what stands here out of sight with one rename, then delete it."""
    _remove(_put_away(path, cache))


def _put_away(path: Path, cache: Path) -> Path:
    old = _made(cache / TRASH) / f"{path.name}.{uuid.uuid4().hex[:12]}"
    path.rename(old)
    return old


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():  # somebody was just about to make a file in it
            shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise  # some file systems cannot write a folder on demand
    finally:
        os.close(fd)


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file durably: it is there whole, or not at all."""
    private = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with private.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        private.rename(path)
    finally:
        private.unlink(missing_ok=True)


def remember(path: Path, record: Mapping[str, Any]) -> None:
    """Keep a record that only saves time; a cache that cannot be written does without.

    It is written in place, so that a process killed meanwhile leaves nothing but it; what was
    written halfway, or by two at a time, is no JSON and as good as nothing.
    """
    with suppress(OSError):
        _made(path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
            file.write(canonical_json(record))


def recall(path: Path) -> dict[str, Any] | None:
    """The record kept under this path; None when there is none or it is damaged."""
    try:
        record = json.loads(plain_content(path, MOST_NOTED))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def plain_content(path: Path, most: int) -> bytes:
    """What a plain file holds; a link, a pipe or a device is not waited for or followed.

    Raises
    ------
    OSError
        When it is something else, larger than `most` bytes, or cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            reason = f"not a plain file of at most {most:,} bytes"
            raise OSError(errno.EINVAL, reason, os.fspath(path))
        with open(fd, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(fd)


def state(file: Path | int) -> tuple[int, ...]:
    """Inode, size in bytes, modification and change time in ns of a path or descriptor: while they
    stay, a file that was found right is taken to be right.
    """
    status = os.stat(file)  # noqa: PTH116 - pathlib knows no descriptors
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def age(found: Sequence[int]) -> float:
    """Seconds since a file came into this state; below `TICK`, a change may not show in it."""
    return time.time() - found[3] / 1e9


def identity(path: Path | os.DirEntry[str]) -> list[int]:
    """What tells one state of a file from another without reading it.

    Returns
    -------
    list of int
        Size in bytes, modification and change time in ns, inode.
    """
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
