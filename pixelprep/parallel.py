"""An ordered map over an executor, with a bounded number of results in the air."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4  # results that are being made, or wait to be taken


def threads() -> ThreadPoolExecutor:
    """Threads for work that releases the interpreter: unpacking, digests, NumPy, reads, fsync.

    Two more than processors, so that some may wait for the disk.
    """
    return ThreadPoolExecutor((os.cpu_count() or 1) + 2, thread_name_prefix="pixelprep")


def ordered(
    executor: Executor, function: Callable[[T], R], items: Iterable[T], ahead: int = AHEAD
) -> Iterator[R]:
    """The results of ``function(item)``, in the items' order; at most `ahead` are not yet taken."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
