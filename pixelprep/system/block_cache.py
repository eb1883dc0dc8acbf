"""Keep blocks of bytes on the disk, up to a size, for all processes that use the folder.

A block's name says what is in it, so that none ever changes. It is written under a private name and
renamed, so that who is killed leaves no half of one, and has a checksum behind it, since nobody
waits for the disk. The blocks that were used least recently are given up.
"""

import os
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pixelprep.system import fs, os_calls

SUM_BYTES = 4  # of a block's checksum
USED_STEP = 60  # seconds between two notes of a block's use
SHARE = 64  # of the size: the part that a process writes before it looks for what to give up
ROOM = 8  # of the size: the part that is then free


@dataclass(slots=True)
class BlockCache:
    """Blocks in files below a folder, of `max_bytes` together."""

    folder: Path
    max_bytes: int
    _written: int = field(default=0, compare=False)  # by this process since it last gave up blocks

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def read(self, name: str, target: memoryview, skipped: int, check: bool) -> bool:
        """Fill a buffer from a block, some bytes from its start; return False if it cannot be.

        `check` compares the block with its checksum, and removes it where it differs.
        """
        path = os.path.join(self.folder, name)  # noqa: PTH118 - half of pathlib's time
        try:
            fd = os_calls.open_plain(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            status = os.fstat(fd)
            if abs(time.time() - status.st_mtime) > USED_STEP:
                with suppress(OSError):
                    os.utime(fd)
            if check and not _is_right(os_calls.pread(fd, status.st_size, 0)):
                Path(path).unlink(missing_ok=True)
                return False
            whole = skipped + len(target) + SUM_BYTES <= status.st_size
            return whole and os_calls.read_into(fd, target, skipped) == len(target)
        except OSError:
            return False
        finally:
            os.close(fd)

    def get(self, name: str, check: bool = True) -> bytes | None:
        """Return a block; None if it is not here, or damaged as `check` would find out."""
        with suppress(OSError):
            content = fs.read_regular_file(self.folder / name, self.max_bytes + SUM_BYTES)
            if not check or _is_right(content):
                return content[:-SUM_BYTES]
        return None

    def put(self, name: str, content: bytes) -> bool:
        """Write a block; return False where the disk does not take it."""
        path = self.folder / name
        private = path.with_name(f"{path.name}.{os.urandom(6).hex()}")
        try:
            fs.ensure_dir(path.parent)
            with private.open("xb", buffering=0) as file:
                for part in (content, zlib.crc32(content).to_bytes(SUM_BYTES, "little")):
                    if file.write(part) < len(part):
                        raise OSError
            private.rename(path)
        except OSError:
            with suppress(OSError):
                private.unlink(missing_ok=True)
            return False
        self._written += len(content)
        if self._written > self.max_bytes // SHARE:
            self._written = 0
            self.prune()
        return True

    def remove(self, name: str) -> None:
        with suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)

    def prune(self) -> None:
        """Give up the blocks that were used least recently, if there are too many."""
        blocks = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118 - as above
                with suppress(OSError):  # another process has removed it
                    status = os.stat(path)  # noqa: PTH116
                    blocks.append((status.st_mtime_ns, status.st_size, path))
        stored, most = sum(size for _, size, _ in blocks), self.max_bytes - self.max_bytes // ROOM
        for _, size, path in sorted(blocks):
            if stored <= most:
                return
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108
            stored -= size


def _is_right(content: bytes) -> bool:
    view = memoryview(content)
    stored = int.from_bytes(view[-SUM_BYTES:], "little")
    return len(view) >= SUM_BYTES and zlib.crc32(view[:-SUM_BYTES]) == stored
