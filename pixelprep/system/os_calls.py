"""What operating systems lack: made good where that is cheap, refused elsewhere, all of it here.

| what | Linux | macOS | Windows |
|---|---|---|---|
| open, verify and feed a finished entry | yes | yes | yes; reads by `seek`, under a lock |
| links are not followed | `O_NOFOLLOW` | `O_NOFOLLOW` | looked for before |
| a file is hashed once | yes | yes | at each opening: nothing tells that it changed |
| whether an entry is in use | `flock` | `flock` | never told |
| data reach the disk | `fsync` | `F_FULLFSYNC` | refused: nothing is written but notes |
| HDF5 files of others | limits of memory, time | limit of time, told | refused |
| prepare, measure, train, export, push, pull, remove, repair | yes | yes | refused |
"""

import errno
import os
import sys
import threading

from pixelprep.errors import PixelprepError

if sys.platform != "win32":
    import fcntl

BINARY: int = getattr(os, "O_BINARY", 0)  # of Windows, which else turns line ends
NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)  # for a pipe's other end
CLOSED_BY_EXEC: int = getattr(os, "O_CLOEXEC", 0)  # Python does so anyway

_position = threading.Lock()  # of every descriptor, where its position must be moved to read


def require_posix(what: str) -> None:
    """Refuse what needs a POSIX system, before it has written anything."""
    if sys.platform == "win32":
        raise PixelprepError(
            f"{what} needs a POSIX system, and this is Windows",
            "use WSL (`wsl --install`); entries made there or elsewhere are read here, too",
        )


def open_plain(path: "str | os.PathLike[str]", flags: int) -> int:
    """Open a file that is no link, in binary."""
    if not NO_FOLLOW and os.path.islink(path):  # noqa: PTH114 - pathlib takes half of the time
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return os.open(path, flags | NO_FOLLOW | BINARY, 0o666)


def read_into(fd: int, target: memoryview, offset: int) -> int:
    """Fill a buffer from an offset on; return how many bytes there were."""
    if sys.platform != "win32" and hasattr(os, "preadv"):
        return os.preadv(fd, [target], offset)
    data = pread(fd, len(target), offset)
    target[: len(data)] = data
    return len(data)


def pread(fd: int, count: int, offset: int) -> bytes:
    """Read from an offset on, whoever else reads."""
    if sys.platform != "win32" and hasattr(os, "pread"):
        return os.pread(fd, count, offset)
    with _position:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)


def pwrite(fd: int, data: memoryview, offset: int) -> int:
    """Write from an offset on; return how many bytes were taken."""
    if sys.platform != "win32" and hasattr(os, "pwrite"):
        return os.pwrite(fd, data, offset)
    with _position:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def fsync(fd: int) -> None:
    """Have what was written on the disk itself, which macOS has `fsync` leave in its buffer."""
    if sys.platform != "win32" and hasattr(fcntl, "F_FULLFSYNC"):
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as error:  # of a file system that has it not, as one of a network
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(fd)


def node_name() -> str:
    """Return the machine's name."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def stored_bytes(status: os.stat_result) -> int:
    """Return the bytes that a file takes on the disk, holes left out where the system tells."""
    blocks: int = getattr(status, "st_blocks", -(-status.st_size // 512))
    return blocks * 512
