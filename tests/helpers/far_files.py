"""Files of this machine as if they were far away: fsspec's ``far://``, with latency and faults."""

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

Twist = Callable[[int, str, int | None, bytes], bytes]


class FarFileSystem(LocalFileSystem):  # type: ignore[misc]  # untyped
    """Local files, every request for which takes `latency` seconds more.

    `twist` gets a request's number, from 0 on, the path, the offset (None of an `info`) and the
    right answer, and returns what is answered; or it raises, or ends the process.
    """

    protocol = "far"
    latency = 0.0
    twist: Twist = staticmethod(lambda number, path, start, answer: answer)
    numbers = itertools.count()
    log: list[tuple[str, int | None]] = []  # noqa: RUF012 - of the class, as fsspec makes instances
    lock = threading.Lock()

    @classmethod
    def reset(cls, latency: float = 0.0, twist: Twist | None = None) -> None:
        cls.latency, cls.numbers, cls.log = latency, itertools.count(), []
        cls.twist = staticmethod(twist or (lambda number, path, start, answer: answer))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("far://"))

    def _answer(self, path: str, start: int | None, answer: bytes) -> bytes:
        with self.lock:
            number = next(self.numbers)
            self.log.append((path, start))
        time.sleep(self.latency)
        return type(self).twist(number, path, start, answer)

    def info(self, path: str, **options: Any) -> Any:
        self._answer(path, None, b"")
        return super().info(path, **options)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        with open(path, "rb") as file:  # noqa: PTH123 - a text, which may lack what a Path has
            file.seek(start or 0)
            answer = file.read() if end is None else file.read(end - (start or 0))
        return self._answer(path, start or 0, answer)


fsspec.register_implementation("far", FarFileSystem, clobber=True)
