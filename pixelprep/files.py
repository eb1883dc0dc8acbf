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
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pixelprep.errors import CacheError, UsageError

LOG = logging.getLogger("pixelprep")

RESUMABLE = ".resumable"  # at the end of a work folder's name
FILES, DONE, PARTS = "files", "done", "parts"  # in a work folder: finished, their receipts, begun
KEPT = 7 * 24 * 3600  # seconds that unfinished work is kept to go on with

# A file system without locks, or a cache that cannot be written.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES, errno.EROFS, errno.ENOENT)
READ_ONLY = (errno.EACCES, errno.EROFS, errno.EPERM)

RAW, SOURCES, LOCKS, TMP, TRASH, TRUST = (
    ".raw",
    ".sources",
    ".locks",
    ".tmp",
    ".trash",
    ".trust",
)


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


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    with _held(cache / LOCKS / f"{name}.lock", f"waiting for another process: {name}"):
        yield


@contextmanager
def _held(path: Path, waiting: str = "") -> Iterator[None]:
    from filelock import FileLock, Timeout

    held = FileLock(path)
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

    Its neighbour ``FOLDER.lock`` is locked as long as the owner lives, which is how `sweep` tells
    the folder of a killed process from one in use. A resumable folder keeps its name: what an
    interrupted process finished there (see `once`) is found again by the next one.
    """
    with ExitStack() as held:
        folder = _made(cache / TMP) / f"{name}{RESUMABLE}"
        if not (resumable and held.enter_context(_held_now(_lock_of(folder)))):
            folder = folder.with_name(f"{name}.{uuid.uuid4().hex[:12]}")
            held.enter_context(_held(_lock_of(folder)))
        keep = False
        try:
            folder.mkdir(exist_ok=True)
            yield folder
        except Exception:
            raise
        except BaseException:  # interrupted, which only costs time
            keep = folder.name.endswith(RESUMABLE) and any((folder / DONE).glob("*"))
            raise
        finally:
            if not keep:
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

    held = FileLock(path)
    try:
        held.acquire(timeout=0)
    except (Timeout, OSError):  # a file system without locks could not tell
        yield False
        return
    try:
        yield True
    finally:
        held.release()


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
    from filelock import FileLock, Timeout

    for alive in (cache / TMP).glob("*.lock"):
        folder = alive.with_suffix("")
        if folder.name.endswith(RESUMABLE) and _recent(folder / DONE):
            continue
        with suppress(Timeout, OSError), FileLock(alive, timeout=0):
            LOG.info("removing the leftovers of a killed process: %s", folder.name)
            shutil.rmtree(folder, ignore_errors=True)
            alive.unlink(missing_ok=True)
    for old in (cache / TRASH).glob("*"):
        _remove(old)


def _recent(folder: Path) -> bool:
    with suppress(OSError):
        return time.time() - folder.stat().st_mtime < KEPT
    return False


def publish(folder: Path, final: Path, cache: Path) -> None:
    """Give a finished private folder its final name, durably.

    Every file in `folder` must have been fsynced. A rename never lands on an existing folder:
    what is there goes to ``.trash`` first.
    """
    fsync(folder)
    _made(final.parent)
    if os.path.lexists(final):
        discard(final, cache)
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        LOG.info("another process published %s first", final.name)
    fsync(final.parent)
    fsync(cache)


def discard(folder: Path, cache: Path) -> None:
    """Take what stands here out of sight with one rename, then delete it."""
    old = _made(cache / TRASH) / f"{folder.name}.{uuid.uuid4().hex[:12]}"
    folder.rename(old)
    _remove(old)


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
    """Keep a record that only saves time; a cache that cannot be written does without."""
    with suppress(OSError):
        write_whole(_made(path.parent) / path.name, canonical_json(record))


def recall(path: Path) -> dict[str, Any] | None:
    """The record kept under this path; None when there is none or it is damaged."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def state(file: Path | int) -> tuple[int, ...]:
    """Inode, size in bytes and modification time in ns of a path or descriptor: while they stay,
    a file that was found right is taken to be right.
    """
    status = os.stat(file)  # noqa: PTH116 - pathlib knows no descriptors
    return status.st_ino, status.st_size, status.st_mtime_ns


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
