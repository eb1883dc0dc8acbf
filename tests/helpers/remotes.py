"""A remote that fails: a folder behind fsspec, where one request, the k-th, goes wrong.

It is a file system of fsspec's own interface, under the protocol ``faulty``, so it is found by its
URL as any other. What a test says of `FaultyFileSystem` holds in its own process; `code` makes the
same of another one.
"""

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem

import pixelprep.cache.remotes
import pixelprep.system.remote

PIECE = 1 << 14  # bytes read at once here, so that a small file takes several requests


class FaultyFileSystem(LocalFileSystem):  # type: ignore[misc] # fsspec is not typed
    """A folder; its `at`-th request has the `fault`, and where that is `for_good`, all later ones.

    A request is one call of fsspec's interface, or one piece that is read.
    """

    protocol = "faulty"
    cachable = False
    requests: ClassVar[list[str]] = []
    fault: ClassVar[str] = ""  # kill, die after it, drop, deny, truncate, flip
    at: ClassVar[int] = -1
    for_good: ClassVar[bool] = False

    @classmethod
    def set(cls, fault: str = "", at: int = -1, for_good: bool = False) -> None:
        """Forget the requests so far, and say what goes wrong with the next."""
        cls.fault, cls.at, cls.for_good = fault, at, for_good
        cls.requests.clear()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return super()._strip_protocol(str(path).removeprefix("faulty://"))

    @classmethod
    def meets(cls, what: str) -> str:
        """Count a request; return the fault that it has, unless that has happened already."""
        number = len(cls.requests)
        cls.requests.append(what)
        if number != cls.at and not (cls.for_good and number > cls.at >= 0):
            return ""
        if cls.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if cls.fault == "drop":
            raise ConnectionResetError(f"dropped at https://user:secret@host/x?sig=secret, {what}")
        if cls.fault == "deny":
            raise PermissionError("the token secret-token-1234 has expired")
        return cls.fault

    def info(self, path: Any, **kwargs: Any) -> Any:
        self.meets("info")
        return super().info(path, **kwargs)

    def put_file(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> None:
        fault = self.meets("put")
        super().put_file(lpath, rpath, *args, **kwargs)
        self._after(fault, Path(self._strip_protocol(rpath)))

    def pipe_file(self, path: Any, value: bytes, *args: Any, **kwargs: Any) -> None:
        fault = self.meets("pipe")
        Path(self._strip_protocol(path)).write_bytes(value)
        self._after(fault, Path(self._strip_protocol(path)))

    @staticmethod
    def _after(fault: str, path: Path) -> None:
        if fault in ("truncate", "die"):
            os.truncate(path, path.stat().st_size // 2)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)

    def mv(self, path1: Any, path2: Any, **kwargs: Any) -> None:
        self.meets("move")
        super().mv(path1, path2, **kwargs)

    def makedirs(self, path: Any, exist_ok: bool = False) -> None:
        self.meets("folder")
        super().makedirs(path, exist_ok)

    def rm_file(self, path: Any) -> None:
        self.meets("remove")
        super().rm_file(path)

    def find(self, *args: Any, **kwargs: Any) -> Any:
        self.meets("list")
        return super().find(*args, **kwargs)

    def _open(self, path: Any, mode: str = "rb", **kwargs: Any) -> Any:
        self.meets("open")
        return _FaultyFile(super()._open(path, mode))


class _FaultyFile:
    def __init__(self, file: LocalFileOpener) -> None:
        self.file = file

    def __enter__(self) -> "_FaultyFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def seek(self, place: int) -> None:
        self.file.seek(place)

    def read(self, size: int) -> bytes:
        fault = FaultyFileSystem.meets("read")
        piece = bytes(self.file.read(size))
        if fault == "truncate":
            return b""
        return bytes([piece[0] ^ 1]) + piece[1:] if fault == "flip" and piece else piece


def faulty(folder: Path) -> str:
    """Return the URL of a folder behind the faulty file system, which has no fault yet."""
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
    for module in (pixelprep.system.remote, pixelprep.cache.remotes):
        module.PIECE = PIECE  # type: ignore[attr-defined]
    pixelprep.system.remote.BACK_OFF = 0.0
    FaultyFileSystem.set()
    return f"faulty://{folder}"


def code(folder: Path, fault: str, at: int) -> str:
    """Return what gives another process the same file system, with a fault."""
    return (
        "from pathlib import Path; from tests.helpers import remotes as r;"
        f"r.faulty(Path({str(folder)!r})); r.FaultyFileSystem.set({fault!r}, {at})"
    )
