"""Files and what is noted of them: where the cache is, digests, states, durable writing."""

import errno
import hashlib
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pixelprep.errors import REPAIR_HINT, CacheError, EntryError, PixelprepError, UsageError
from pixelprep.system.canonical import dumps

Result = TypeVar("Result")


HASH_BYTES = 1 << 18  # bytes that are hashed at once, which the processor's cache holds
MAX_RECORD_BYTES = 64 << 20  # bytes of a note: that is 400,000 files of an entry
MTIME_RESOLUTION = (
    0.01  # seconds, no less than the steps in which systems count the time of a change
)

RETRY_PAUSES = (0.001, 0.01, 0.1, 0.2)  # seconds; to replace an entry takes two renames

# What is there is not a plain file, or the disk has lost it.
DAMAGE_ERRNOS = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV),
    *(errno.EINVAL, errno.EIO),
)

DISK_FULL_ERRNOS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
)  # no room on the disk, or for so large a file

# A cache that cannot be written.
READ_ONLY_ERRNOS = (errno.EACCES, errno.EROFS, errno.EPERM)

RAW, SOURCES, ORIGINS, LOCKS = ".raw", ".sources", ".origins", ".locks"
TMP, TRASH, TRUST = ".tmp", ".trash", ".trust"


def cache_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: the given one, else ``PIXELPREP_CACHE_DIR``, else the system's place."""
    if chosen := given or os.environ.get("PIXELPREP_CACHE_DIR"):
        return expand_user(chosen).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("pixelprep", appauthor=False)


def expand_user(path: str | os.PathLike[str]) -> Path:
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


def sha256(file: Path | int, note: Callable[[int], object] = lambda _: None) -> str:
    """The SHA-256 of a file, or of all that is behind a descriptor, in hex.

    `note` is told how many more bytes were read.
    """
    if isinstance(file, int):
        os.lseek(file, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    with open(file, "rb", buffering=0, closefd=not isinstance(file, int)) as opened:
        while piece := opened.read(HASH_BYTES):
            digest.update(piece)
            note(len(piece))
    return digest.hexdigest()


@contextmanager
def translate_oserror(path: Path) -> Iterator[None]:
    """Turn a system error about the cache into one line that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in DISK_FULL_ERRNOS:
            hint = "free some space, or choose another place with `cache_dir`"
            raise CacheError(f"cannot write in {path}: {reason}", hint) from error
        where = str(error.filename or path)
        hint = "choose a folder that can be written: `cache_dir` or PIXELPREP_CACHE_DIR"
        ours = Path(where).is_relative_to(path) or path.is_relative_to(where)
        ours = ours and error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
        raise CacheError(f"cannot use {where}: {reason}", hint if ours else None) from error


def sorted_dir(folder: Path) -> list[Path]:
    """What is in a folder, in the order of the names; nothing in one that is not there."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def is_damage(error: OSError) -> bool:
    """Whether it is the file that is wrong, and not what the machine allows just now."""
    return error.errno in DAMAGE_ERRNOS


def unreadable(path: Path, error: OSError) -> PixelprepError:
    """The error for a file of an entry that cannot be read."""
    message = f"{path}: cannot read: {error.strerror or error}"
    return EntryError(message, REPAIR_HINT) if is_damage(error) else CacheError(message)


def require_free_space(
    folder: Path, needed: int, elsewhere: str = "choose another place with `cache_dir`"
) -> None:
    """Refuse to start writing what the disk has no room for; `elsewhere` is the other way out.

    Raises
    ------
    CacheError
        When fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CacheError(
            f"not enough room in {folder}: {needed:,} bytes are needed, {free:,} are free",
            f"free some space, or {elsewhere}",
        )


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


def write_atomically(path: Path, content: bytes, aside: Path) -> None:
    """Write a small file durably: it is there whole, or not at all.

    What is written halfway lies `aside`, in another folder: its own may be gone on with.
    """
    private = aside / f"{path.name}.{uuid.uuid4().hex[:12]}"
    try:
        with private.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        private.rename(path)
    finally:
        private.unlink(missing_ok=True)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Keep a record that only saves time; a cache that cannot be written does without.

    It is written in place, so that a process killed meanwhile leaves nothing but it; what was
    written halfway, or by two at a time, is no JSON and as good as nothing.
    """
    with suppress(OSError):
        try:
            _write_record(path, record)
        except FileNotFoundError:  # another process just took the empty folder away (`forget`)
            _write_record(path, record)


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    ensure_dir(path.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(dumps(record))


def read_record(path: Path) -> dict[str, Any] | None:
    """The record kept under this path; None when there is none or it is damaged."""
    try:
        record = json.loads(read_regular_file(path, MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def delete_record(path: Path) -> None:
    """Drop the record kept under this path, and its folder where that was its last."""
    path.unlink(missing_ok=True)
    with suppress(OSError):  # others are in it
        path.parent.rmdir()


def read_regular_file(path: Path, most: int) -> bytes:
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


def retry_while_missing(action: Callable[[], Result]) -> Result:
    """Do something again, a moment later, while files are missing.

    Another process may just be replacing an entry (see `staging.publish`).
    """
    for pause in RETRY_PAUSES:
        try:
            return action()
        except (OSError, EntryError) as error:
            if not isinstance(error.__cause__ or error, FileNotFoundError):
                raise
        time.sleep(pause)
    return action()


def file_stamp(file: Path | os.DirEntry[str] | int) -> tuple[int, ...]:
    """Inode, size in bytes, modification and change time in ns of a path or descriptor: while they
    stay, a file is taken to be what it was when it was read.
    """
    status = os.stat(file)  # noqa: PTH116 - pathlib knows no descriptors
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stamp_age(found: Sequence[int]) -> float:
    """Seconds since a file came into this state; below `TICK`, a change may not show in it."""
    return time.time() - found[3] / 1e9


def ensure_dir(folder: Path) -> Path:
    """The folder, made if it was not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
