"""An ordered, windowed map over any `concurrent.futures.Executor`, or none.

Results come in the order of the tasks, whoever finishes first; so neither the number of workers nor
their speed can change what is made of them.
"""

import logging
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pixelprep.errors import UsageError, WorkerError, check_int

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from pixelprep.system.dask import Cluster


LOG = logging.getLogger("pixelprep")

Task = TypeVar("Task")
Result = TypeVar("Result")

ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://[^/]+:[0-9]+")  # Dask's transports
EXTRA_TASKS = 2  # tasks that wait for a worker, beside as many as there are workers
MAX_WORKERS = 1024
MAX_RESTARTS = 3  # times that workers may die before any finishes a task
CANCEL_TIMEOUT = (
    60.0  # seconds for what is under way in others' workers when it is no longer wanted
)


def thread_pool() -> "ThreadPoolExecutor":
    """Threads for whole pieces of work that release the interpreter: unpacking, digests, fsync.

    Two more than processors, so that some may wait for the disk.
    """
    from concurrent.futures import ThreadPoolExecutor  # a cache hit does without

    return ThreadPoolExecutor((os.cpu_count() or 1) + 2, thread_name_prefix="pixelprep")


class WorkerPool:
    """Who does the work: this process, worker processes, a Dask cluster, or any executor.

    Use it with ``with``; nothing is started before `map` or `start` is called.

    Parameters
    ----------
    workers : int or Executor
        Processes, 1 for this one alone; or an executor of the caller's, which stays his.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``.

    Raises
    ------
    UsageError
        For another number of workers, for workers as well as a scheduler, or for an address that
        is none.
    """

    def __init__(self, workers: int | Executor = 1, scheduler: str | None = None) -> None:
        self._given = workers if isinstance(workers, Executor) else None
        count = (os.cpu_count() or 1) if self._given else workers  # of another's, a guess
        self._workers = check_int("workers", count, 1, MAX_WORKERS)
        if scheduler is not None and workers != 1:
            raise UsageError("`scheduler` and `workers`: expected one of the two")
        if scheduler is not None and not ADDRESS.fullmatch(scheduler):
            expected = "expected tcp://HOST:PORT or tls://HOST:PORT"
            raise UsageError(f"`scheduler={scheduler}`: {expected}")
        self._scheduler = scheduler
        self._executor: Executor | None = None
        self._cluster: Cluster | None = None

    @property
    def inline(self) -> bool:
        """Whether all is done in this process."""
        return self._workers == 1 and self._given is None and self._scheduler is None

    def start(self) -> None:
        """Have the workers start, which takes a while, before there is work for them."""
        if self._executor is None and not self.inline:
            self._executor = self._given or self._started()

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """``map(function, tasks)``, in the order of the tasks.

        Parameters
        ----------
        function : callable
            Of a module's own level; doing a task twice must do no harm.
        tasks : iterable
            Small, and able to be pickled; taken as they are needed.

        Raises
        ------
        WorkerError
            When workers die again and again, or the cluster is not there.
        Exception
            What the function raised, of the first task that failed.
        """
        return map(function, tasks) if self.inline else self._in_order(function, iter(tasks))

    def _in_order(
        self, function: Callable[[Task], Result], tasks: Iterator[Task]
    ) -> Iterator[Result]:
        waiting: deque[tuple[Task, Future[Result]]] = deque()
        died, finished = 0, False
        self.start()
        window = self._window()
        try:
            while True:
                for task in islice(tasks, window - len(waiting)):
                    waiting.append((task, self._submit(function, task)))
                if not waiting:
                    break
                try:
                    result = self._result(waiting[0][1])
                except BrokenExecutor as error:
                    died += 1
                    self._replace(died, error)
                    waiting = deque(
                        (task, future if _is_complete(future) else self._submit(function, task))
                        for task, future in waiting
                    )
                    continue
                died = 0
                waiting.popleft()
                yield result
            finished = True
        finally:
            if not finished:
                self._stop([future for _, future in waiting])

    def _submit(self, function: Callable[[Task], Result], task: Task) -> "Future[Result]":
        assert self._executor is not None  # started before
        try:
            return self._executor.submit(function, task)
        except BrokenExecutor as error:  # a worker died meanwhile: as if the task had said it
            future: Future[Result] = Future()
            future.set_exception(error)
            return future
        except Exception as error:
            if self._cluster is not None and self._cluster.lost:
                raise self._cluster.lost_error() from error
            raise

    def _result(self, future: "Future[Result]") -> Result:
        if self._cluster is None:
            return future.result()
        return self._cluster.result(future)

    def _replace(self, died: int, error: BrokenExecutor) -> None:
        """Start workers anew; the tasks that died with the old ones are done again."""
        if self._given or died >= MAX_RESTARTS:
            raise WorkerError(
                f"worker processes died {died} times in a row: {error}",
                "they may have run out of memory: try fewer `workers`",
            ) from error
        LOG.info("a worker process died; what it did is done again")
        self._executor = self._started()

    def _stop(self, waiting: "list[Future[Any]]") -> None:
        """Have nobody work on what is no longer wanted, before its files are removed."""
        if self._given is None and self._cluster is None:
            self._shutdown(at_once=True)
            return
        for future in waiting:
            future.cancel()
        for future in waiting if self._given else ():  # a cluster's are left to end alone
            with suppress(Exception):
                future.exception(timeout=CANCEL_TIMEOUT)

    def _window(self) -> int:
        threads = self._cluster.threads() if self._cluster else self._workers
        return 2 * threads + EXTRA_TASKS

    def _started(self) -> Executor:
        if self._scheduler is not None:
            from pixelprep.system.dask import Cluster

            self._cluster = Cluster(self._scheduler)
            return self._cluster.executor()
        from multiprocessing import resource_tracker

        from loky import ProcessPoolExecutor

        # The first worker would have it started, and starting it lets interrupts through again.
        resource_tracker.ensure_running()
        executor: Executor = ProcessPoolExecutor(
            self._workers, initializer=_exit_with_parent, initargs=(os.getpid(),)
        )
        with _block_interrupts():  # workers inherit it: Ctrl-C is for this process alone
            executor.submit(int)  # the first task starts them
        return executor

    def _shutdown(self, at_once: bool) -> None:
        """End what was started here."""
        executor, self._executor = self._executor, None
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
        elif executor is not None and executor is not self._given:
            executor.shutdown(wait=True, kill_workers=at_once)  # type: ignore[call-arg] # loky's

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._shutdown(at_once=error[0] is not None)


@contextmanager
def _block_interrupts() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_with_parent(parent: int) -> None:
    """Have this worker end soon after the process that started it, however that ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_complete(future: "Future[Any]") -> bool:
    """Whether a task came to its own end before the workers died."""
    return future.done() and not isinstance(future.exception(), BrokenExecutor)
