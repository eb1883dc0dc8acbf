"""Read, write and hash files safely; find the cache folder."""

import errno
import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pixelprep.errors import REPAIR_HINT, CacheError, EntryError, PixelprepError, UsageError
from pixelprep.system import os_calls

Result = TypeVar("Result")

HASH_BYTES = 1 << 18  # hashed at once: what the processor's cache holds
SECOND = 10**9  # ns
FINE_STEP = SECOND // 100  # ns, at least the step of a file system's times that have fractions
COARSE_STEP = 2 * SECOND  # likewise of times in whole seconds

# The path holds no regular file, or the disk has lost it.
NO_FILE_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV)
DAMAGE_ERRNOS = (*NO_FILE_ERRNOS, errno.EINVAL, errno.EIO)
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY_ERRNOS = (errno.EACCES, errno.EROFS, errno.EPERM)

# The folders of a cache beside its entries (data/FORMAT.md does not know them).
RAW, SOURCES, ORIGINS, LOCKS = ".raw", ".sources", ".origins", ".locks"
TMP, TRASH, TRUST, REMOTE = ".tmp", ".trash", ".trust", ".remote"


def cache_dir(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder: `path`, else ``PIXELPREP_CACHE_DIR``, else the system's default."""
    if chosen := path or os.environ.get("PIXELPREP_CACHE_DIR"):
        return expand_user(chosen).absolute()
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # without a home folder; older ones return a path below "~" then
        default = user_cache_path("pixelprep", appauthor=False)
        if default.is_absolute():
            return default
    where = "set PIXELPREP_CACHE_DIR, or give `cache_dir`"
    raise UsageError("no home folder is known, so none for the cache", where)


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Replace a leading ``~`` by the home folder; a UsageError says that there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{os.fspath(path)}: {error}") from None
    except TypeError:
        raise UsageError(f"{path!r}: expected a path") from None


def sha256(file: Path | int, on_progress: Callable[[int], object] = lambda _: None) -> str:
    """Return a file's SHA-256 in hex, given its path or descriptor; report each read's bytes."""
    if isinstance(file, int):
        os.lseek(file, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    with open(file, "rb", buffering=0, closefd=not isinstance(file, int)) as stream:
        while data := stream.read(HASH_BYTES):
            digest.update(data)
            on_progress(len(data))
    return digest.hexdigest()


@contextmanager
def translate_oserror(path: Path) -> Iterator[None]:
    """Turn a system error about the cache at this path into a `CacheError` with a hint."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        named = error.filename is not None and not isinstance(error.filename, int)
        where = os.fspath(error.filename) if named else os.fspath(path)
        where = where if isinstance(where, str) else os.fsdecode(where)
        if error.errno in DISK_FULL_ERRNOS:
            if not Path(where).is_relative_to(path):
                raise CacheError(f"cannot write {where}: {reason}", "free some space") from error
            hint = "free some space, or choose another place with `cache_dir`"
            raise CacheError(f"cannot write in {path}: {reason}", hint) from error
        if error.errno is None:  # a library's own, about anything
            raise CacheError(f"{type(error).__name__}: {reason}") from error
        hint = "choose a writable folder: `cache_dir` or PIXELPREP_CACHE_DIR"
        in_cache = Path(where).is_relative_to(path) or path.is_relative_to(where)
        of_machine = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
        helps = in_cache and not of_machine  # another folder
        raise CacheError(f"cannot use {where}: {reason}", hint if helps else None) from error


def sorted_dir(folder: Path) -> list[Path]:
    """List a folder in the order of the names; a missing folder is empty."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def is_damage(error: OSError) -> bool:
    """Return whether the file itself is at fault, not a limit or a right of the moment."""
    return error.errno in DAMAGE_ERRNOS


def unreadable(path: Path, error: OSError) -> PixelprepError:
    """Make the error for a file of an entry that cannot be read."""
    message = f"{path}: cannot read: {error.strerror or error}"
    return EntryError(message, REPAIR_HINT) if is_damage(error) else CacheError(message)


def require_free_space(
    folder: Path, needed: int, elsewhere: str = "choose another place with `cache_dir`"
) -> None:
    """Refuse to start writing more than fits on the disk; `elsewhere` completes the hint."""
    import shutil  # what only reads needs it not

    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CacheError(
            f"not enough space in {folder}: {needed:,} bytes are needed, {free:,} are free",
            f"free some space, or {elsewhere}",
        )


def fsync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # which cannot open a folder
    fd = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os_calls.fsync(fd)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise  # some file systems cannot fsync a folder
    finally:
        os.close(fd)


def write_atomically(path: Path, content: bytes, aside: Path) -> None:
    """Write a small file durably, whole or not at all: first in the folder `aside`."""
    private = aside / f"{path.name}.{os.urandom(6).hex()}"
    try:
        with private.open("xb") as file:
            file.write(content)
            file.flush()
            os_calls.fsync(file.fileno())
        private.rename(path)
    finally:
        private.unlink(missing_ok=True)


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file, never following a link or waiting for a pipe."""
    fd = os_calls.open_plain(path, os.O_RDONLY | os_calls.NO_WAIT)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
            reason = f"not a regular file of at most {max_bytes:,} bytes"
            raise OSError(errno.EINVAL, reason, os.fspath(path))
        with open(fd, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(fd)


def retry_while_missing(action: Callable[[], Result]) -> Result:
    """Retry for a moment while files are missing: `staging.publish` may be replacing an entry."""
    for pause in (0.001, 0.01, 0.1, 0.2):  # seconds; replacing an entry takes two renames
        try:
            return action()
        except (OSError, EntryError) as error:
            if not isinstance(error.__cause__ or error, FileNotFoundError):
                raise
        time.sleep(pause)
    return action()


def file_stamp(file: Path | os.DirEntry[str] | int) -> tuple[int, ...]:
    """Return inode, bytes, and change times in ns: equal while a file is unchanged."""
    status = os.stat(file)  # noqa: PTH116 - pathlib knows no descriptors
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_settled(stamp: Sequence[int], now: int) -> bool:
    """Return whether every later change of a file will show in its stamp, at this time in ns.

    As in git, a file that was changed within the step of its times may be changed again unseen.
    """
    if sys.platform == "win32":
        return False  # the last of its times is that of the file's creation
    changed = stamp[3]  # which no user can set
    if changed % SECOND:
        return abs(now - changed) >= FINE_STEP  # a clock that differs costs nothing
    return now - changed >= COARSE_STEP


def is_settled_soon(stamp: Sequence[int], now: int) -> bool:
    """Return whether a file is not settled, but will be in a `FINE_STEP`."""
    return bool(stamp[3] % SECOND) and not is_settled(stamp, now)


def settle(stamp: Sequence[int]) -> bool:
    """Wait for a `FINE_STEP` at most until `is_settled`, and return whether it is."""
    if is_settled(stamp, time.time_ns()):
        return True
    time.sleep(FINE_STEP / SECOND)
    return is_settled(stamp, time.time_ns())


def is_empty_dir(path: Path) -> bool:
    """Return whether this is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def ensure_dir(folder: Path) -> Path:
    """Make the folder and its parents if they are missing, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
