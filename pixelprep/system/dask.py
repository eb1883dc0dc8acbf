"""Use a running Dask cluster as a `concurrent.futures.Executor`."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import TimeoutError as DeadlineError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar  # Any: Dask has no types

from pixelprep._version import __version__
from pixelprep.errors import WorkerError, missing_extra

LOG = logging.getLogger("pixelprep")

Result = TypeVar("Result")

CONNECT_TIMEOUT = 10.0  # seconds for the scheduler to answer, and for a first worker to appear
REMINDER_INTERVAL = 30  # seconds between checks for workers
POLL_INTERVAL = 2  # seconds between checks for the scheduler


class Cluster:
    """A connected Dask client; certificates for ``tls://`` are from Dask's own configuration."""

    def __init__(self, address: str) -> None:
        try:
            import distributed  # noqa: F401 - sets its loggers up
        except ImportError as error:
            raise missing_extra("Dask", "cluster", "`scheduler`") from error
        self._address, self._silenced = address, ExitStack()
        self._silenced.enter_context(_silence_dask())
        try:
            self._client = _with_timeout(partial(_connect, address), 2 * CONNECT_TIMEOUT)
        except Exception as error:  # whatever Dask's transports raise for an address
            self._silenced.close()
            reason = str(error) or "no response"
            raise WorkerError(
                f"`scheduler={address}`: no Dask scheduler answers there: {reason}",
                "start one (`dask scheduler`), or leave the option out",
            ) from error
        try:
            with suppress(DeadlineError):  # then there are no versions below
                self._client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
            self._check_versions("workers", lambda: set(self._client.run(_version).values()))
            self._check_versions("scheduler", lambda: {self._client.run_on_scheduler(_version)})
        except BaseException:
            self.close()
            raise

    def _check_versions(self, where: str, get_versions: Callable[[], set[str]]) -> None:
        try:
            versions = get_versions()
        except Exception as error:  # anything: pixelprep may be missing there
            raise WorkerError(
                f"{self._address}: its {where} cannot run pixelprep: {error}",
                f"install pixelprep in the environment of the {where}",
            ) from error
        if not versions:
            raise WorkerError(
                f"{self._address}: the scheduler has no workers",
                f"start some: dask worker {self._address}",
            )
        if versions != {__version__}:
            listed = ", ".join(sorted(versions))
            raise WorkerError(
                f"{self._address}: pixelprep {listed} on its {where}, {__version__} here",
                f"install the same version in the environment of the {where}",
            )

    def executor(self) -> Executor:
        executor: Executor = self._client.get_executor(pure=False)
        return executor

    def threads(self) -> int:
        """Return how many tasks the workers run at a time."""
        try:
            return int(sum(self._client.nthreads().values()))
        except Exception as error:  # anything, from a closed client
            raise self.lost_error() from error

    def result(self, future: "Future[Result]") -> Result:
        """Wait for a task's result while there is a scheduler, warning if it has no workers."""
        from distributed import KilledWorker

        waited = 0
        while True:
            try:
                return future.result(timeout=POLL_INTERVAL)
            except KilledWorker as error:
                raise WorkerError(
                    f"{self._address}: workers died again and again: {error}",
                    "they may have run out of memory",
                ) from error
            except CancelledError as error:
                raise self.lost_error() from error
            except DeadlineError:
                if future.done():
                    raise  # the task itself raised it
                if self.lost:
                    raise self.lost_error() from None  # Dask may leave the future pending
                waited += POLL_INTERVAL
                if waited % REMINDER_INTERVAL == 0 and not self.threads():
                    LOG.warning("%s has no workers; waiting for one", self._address)

    @property
    def lost(self) -> bool:
        """Whether Dask has given up on the scheduler."""
        return self._client.status not in ("running", "connecting")

    def lost_error(self) -> WorkerError:
        return WorkerError(
            f"{self._address}: the scheduler is gone", "start it again, and run this again"
        )

    def close(self) -> None:
        with self._silenced, suppress(Exception):
            self._client.close()


def _with_timeout(function: Callable[[], Result], seconds: float) -> Result:
    """Call a function in a thread: Dask may wait forever for a service that never answers."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)


def _connect(address: str) -> Any:
    """Make a Dask client that only `Cluster.close` closes."""
    from distributed import Client

    class ConnectedClient(Client):  # type: ignore[misc] # Dask has no types
        def __del__(self) -> None:
            """Do nothing: Dask's own waits for a scheduler that is gone, and complains."""

    return ConnectedClient(address, timeout=CONNECT_TIMEOUT, set_as_default=False)


@contextmanager
def _silence_dask() -> Iterator[None]:
    """Suppress Dask's log of lost workers and schedulers, which are reported as errors here."""
    names = (
        "distributed.client",
        "distributed.core",
        "distributed.comm.tcp",
        "tornado.application",
    )
    logs = [logging.getLogger(name) for name in names]
    before = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _version() -> str:
    return __version__  # of the machine where this runs
