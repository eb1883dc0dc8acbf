"""Map a function over tasks in order, by any `concurrent.futures.Executor` or none.

Results come in the order of the tasks, whichever finishes first; so neither the number of workers
nor their speed can change what is made from them.
"""

import logging
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeVar  # Any: results that are only waited for

from pixelprep.errors import UsageError, WorkerError, check_int

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from pixelprep.system.dask import Cluster

LOG = logging.getLogger("pixelprep")

Task = TypeVar("Task")
Result = TypeVar("Result")

ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://[^/]+:[0-9]+")  # Dask's transports
MAX_WORKERS = 1024
MAX_RESTARTS = 3  # deaths of workers in a row, with no task finished between

_THREAD = threading.local()  # of a thread of a pool: `stop`, set when its work is not wanted


def cores() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not every system has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def thread_pool(more: int = 2) -> "ThreadPoolExecutor":
    """Make a thread per processor, and some that wait for the disk, for work without the GIL."""
    from concurrent.futures import ThreadPoolExecutor  # not needed for a cache hit

    return ThreadPoolExecutor(cores() + more, thread_name_prefix="pixelprep")


def check_wanted() -> None:
    """Raise `CancelledError` in a thread whose map has failed or was interrupted meanwhile.

    Work that takes long calls it now and then, since a thread cannot be killed.
    """
    stop = getattr(_THREAD, "stop", None)
    if stop is not None and stop.is_set():
        raise CancelledError


def _in_thread(stop: threading.Event, function: Callable[[Task], Result], task: Task) -> Result:
    _THREAD.stop = stop
    check_wanted()
    return function(task)


class WorkerPool:
    """The workers of a call: threads, worker processes, a Dask cluster, or an executor.

    Use it in a ``with`` statement; nothing is started before `map` or `start` is called. `workers`
    is the number of processes (1: this one, and no threads), or the caller's executor, which is
    never shut down here; None: a thread for each processor. `scheduler` is a Dask scheduler's
    ``tcp://HOST:PORT`` or ``tls://HOST:PORT``.
    """

    def __init__(self, workers: int | Executor | None = None, scheduler: str | None = None) -> None:
        self._external = workers if isinstance(workers, Executor) else None
        self._threaded = workers is None and scheduler is None
        is_given = workers is not None and self._external is None
        count = workers if is_given else min(cores(), MAX_WORKERS)  # an executor's is unknown
        self._workers = check_int("workers", count, 1, MAX_WORKERS)
        self._stop = threading.Event()  # of threads
        if scheduler is not None and workers not in (None, 1):
            raise UsageError("`scheduler` and `workers`: expected one of the two")
        if scheduler is not None and not ADDRESS.fullmatch(scheduler):
            expected = "expected tcp://HOST:PORT or tls://HOST:PORT"
            raise UsageError(f"`scheduler={scheduler}`: {expected}")
        self._scheduler = scheduler
        self._executor: Executor | None = None
        self._cluster: Cluster | None = None

    @property
    def inline(self) -> bool:
        """Whether this process does all the work, perhaps in threads."""
        alone = self._workers == 1 and self._external is None and self._scheduler is None
        return self._threaded or alone

    @contextmanager
    def without_threads(self, is_long: bool) -> Iterator["WorkerPool"]:
        """Have processes in place of threads for a while, for work that holds Python's own lock.

        Where it `is_long`, and they can be started; else this thread alone.
        """
        if not self._threaded:
            yield self
            return
        with WorkerPool(self._workers if is_long else 1) as processes, WorkerPool(1) as alone:
            try:
                processes.start()
            except WorkerError as error:
                LOG.debug("%s", error)
                processes = alone
            yield processes

    def start(self) -> None:
        """Start the workers, which takes a while, before there is work for them."""
        if self._executor is None and self._threaded:
            # No more of them than processors: each may hold the largest picture.
            self._stop, self._executor = threading.Event(), thread_pool(0)
        elif self._executor is None and not self.inline:
            self._executor = self._external or self._start_executor()

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Map a function of a module's top level over small picklable tasks, in their order.

        Running it twice for a task must do no harm; tasks are taken when they are needed. The error
        of the first task that fails is raised, or a WorkerError.
        """
        if self.inline and self._workers == 1:
            return map(function, tasks)
        return self._map_ordered(function, iter(tasks))

    def _map_ordered(
        self, function: Callable[[Task], Result], tasks: Iterator[Task]
    ) -> Iterator[Result]:
        pending: deque[tuple[Task, Future[Result]]] = deque()
        deaths, finished = 0, False
        self.start()
        threads = self._cluster.threads() if self._cluster else self._workers
        window = 2 * threads + 2
        try:
            while True:
                for task in islice(tasks, window - len(pending)):
                    pending.append((task, self._submit(function, task)))
                if not pending:
                    break
                try:
                    future = pending[0][1]
                    result = self._cluster.result(future) if self._cluster else future.result()
                except BrokenExecutor as error:
                    deaths += 1
                    self._restart(deaths, error)
                    pending = deque(
                        (task, future if _is_complete(future) else self._submit(function, task))
                        for task, future in pending
                    )
                    continue
                deaths = 0
                pending.popleft()
                yield result
            finished = True
        finally:
            if not finished:
                self._cancel([future for _, future in pending])

    def _submit(self, function: Callable[[Task], Result], task: Task) -> "Future[Result]":
        assert self._executor is not None  # `start` was called
        if self._threaded:
            function = partial(_in_thread, self._stop, function)
        try:
            return self._executor.submit(function, task)
        except BrokenExecutor as error:  # a worker died meanwhile: let the task fail with it
            future: Future[Result] = Future()
            future.set_exception(error)
            return future
        except Exception as error:
            if self._cluster is not None and self._cluster.lost:
                raise self._cluster.lost_error() from error
            raise

    def _restart(self, deaths: int, error: BrokenExecutor) -> None:
        """Start new workers, which repeat the tasks that died with the old ones."""
        if self._external or deaths >= MAX_RESTARTS:
            raise WorkerError(
                f"worker processes died {deaths} times in a row: {error}",
                "they may have run out of memory: try fewer `workers`",
            ) from error
        LOG.info("a worker process died; its task is repeated")
        self._executor = self._start_executor()

    def _cancel(self, futures: "list[Future[Any]]") -> None:
        """Stop all work that is no longer needed, before its files are removed."""
        if self._external is None and self._cluster is None:
            self._shutdown(at_once=True)
            return
        for future in futures:
            future.cancel()
        if self._external is None:
            return  # a cluster's running tasks are not waited for
        for future in futures:
            with suppress(Exception):
                future.exception(timeout=60)  # seconds, for those that run

    def _start_executor(self) -> Executor:
        if self._scheduler is not None:
            from pixelprep.system.dask import Cluster

            self._cluster = Cluster(self._scheduler)
            return self._cluster.executor()
        from multiprocessing import resource_tracker

        from loky import ProcessPoolExecutor

        # Started now, since starting it with the first worker would unblock interrupts again.
        resource_tracker.ensure_running()
        try:
            executor: Executor = ProcessPoolExecutor(
                self._workers, initializer=_exit_with_parent, initargs=(os.getpid(),)
            )
        except OSError as error:
            raise _cannot_start(error) from error
        # Workers inherit that interrupts are blocked: Ctrl-C is for this process alone.
        if sys.platform != "win32":
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            executor.submit(int)  # the first task starts the workers
        except (OSError, AssertionError) as error:
            raise _cannot_start(error) from error
        finally:
            if sys.platform != "win32":
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return executor

    def _shutdown(self, at_once: bool) -> None:
        executor, self._executor = self._executor, None
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
        elif self._threaded and executor is not None:
            if at_once:
                self._stop.set()
            executor.shutdown(cancel_futures=at_once)
        elif executor is not None and executor is not self._external:
            executor.shutdown(wait=True, kill_workers=at_once)  # type: ignore[call-arg] # loky's

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._shutdown(at_once=error[0] is not None)


def _cannot_start(error: Exception) -> WorkerError:
    """Make the error for worker processes that the system or their parent does not allow."""
    reason = getattr(error, "strerror", None) or str(error)
    return WorkerError(
        f"worker processes cannot be started: {reason}",
        "they need shared memory (/dev/shm) and a parent that may have children: try `workers=1`",
    )


def _exit_with_parent(parent: int) -> None:
    """Make this worker exit soon after the process that started it, however that one ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_complete(future: "Future[Any]") -> bool:
    """Return whether a task ended by itself before the workers died."""
    return future.done() and not isinstance(future.exception(), BrokenExecutor)
