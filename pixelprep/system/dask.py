"""A Dask cluster that is there already, as a `concurrent.futures.Executor`."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import TimeoutError as Late
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from pixelprep._version import __version__
from pixelprep.errors import WorkerError, missing_extra

LOG = logging.getLogger("pixelprep")

Result = TypeVar("Result")

CONNECT_TIMEOUT = 10.0  # seconds until a scheduler must have answered, or a first worker be there
LOGGERS = ("distributed.client", "distributed.core", "distributed.comm.tcp", "tornado.application")
REMINDER_INTERVAL = 30  # seconds between looks at whether there are workers at all
POLL_INTERVAL = 2  # seconds between looks at whether there is a scheduler


class Cluster:
    """A Dask client, connected.

    Parameters
    ----------
    address : str
        Of the scheduler: ``tcp://HOST:PORT``, or ``tls://HOST:PORT`` with the certificates that
        Dask's own configuration names.

    Raises
    ------
    MissingExtraError
        When Dask is not installed.
    WorkerError
        When no scheduler answers, it has no workers, or they have another pixelprep.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed  # noqa: F401 - which sets its loggers up
        except ImportError as error:
            raise missing_extra("Dask", "cluster", "`scheduler`") from error
        self._address, self._held = address, ExitStack()
        self._held.enter_context(_silence_dask())
        try:
            self._client = _within(partial(_client, address), 2 * CONNECT_TIMEOUT)
        except Exception as error:  # whatever Dask's transports raise for an address
            self._held.close()
            reason = str(error) or "it says nothing"
            raise WorkerError(
                f"`scheduler={address}`: no Dask scheduler answers there: {reason}",
                "start one (`dask scheduler`), or leave the option out",
            ) from error
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        with suppress(Late):  # said below
            self._client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
        asked: dict[tuple[str, str, str], Callable[[], set[str]]] = {
            ("workers", "have", "run"): lambda: set(self._client.run(_version).values()),
            ("scheduler", "has", "runs"): lambda: {self._client.run_on_scheduler(_version)},
        }
        for (who, has, runs), ask in asked.items():
            try:
                versions = ask()
            except Exception as error:
                raise WorkerError(
                    f"{self._address}: its {who} cannot run pixelprep: {error}",
                    f"install pixelprep where the {who} {runs}",
                ) from error
            if not versions:
                raise WorkerError(
                    f"{self._address}: the scheduler has no workers",
                    f"start some: dask worker {self._address}",
                )
            if versions != {__version__}:
                found = ", ".join(sorted(versions))
                raise WorkerError(
                    f"{self._address}: its {who} {has} pixelprep {found}, this is {__version__}",
                    f"install the same version where the {who} {runs}",
                )

    def executor(self) -> Executor:
        """What tasks are submitted to."""
        executor: Executor = self._client.get_executor(pure=False)
        return executor

    def threads(self) -> int:
        """How many tasks the workers do at a time."""
        try:
            return int(sum(self._client.nthreads().values()))
        except Exception as error:  # of a client that is closed, whatever
            raise self.lost_error() from error

    def result(self, future: "Future[Result]") -> Result:
        """What a task returned, waited for as long as there is somebody to do it."""
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
            except Late:
                if future.done():
                    raise  # the task's own
                if self.lost:
                    raise self.lost_error() from None  # Dask may forget to tell the future
                waited += POLL_INTERVAL
                if waited % REMINDER_INTERVAL == 0 and not self.threads():
                    LOG.warning("%s has no workers; waiting for one", self._address)

    @property
    def lost(self) -> bool:
        """Whether Dask has given the scheduler up."""
        return self._client.status not in ("running", "connecting")

    def lost_error(self) -> WorkerError:
        """The error when nobody is there any more."""
        return WorkerError(
            f"{self._address}: the scheduler is gone", "start it again, and run this again"
        )

    def close(self) -> None:
        """Leave the cluster."""
        with self._held, suppress(Exception):
            self._client.close()


def _within(make: Callable[[], Result], seconds: float) -> Result:
    """What `make` returns; Dask may wait for ever for a service that takes calls and is silent."""
    made: Future[Result] = Future()

    def run() -> None:
        try:
            made.set_result(make())
        except Exception as error:
            made.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return made.result(seconds)


def _client(address: str) -> Any:
    """A client of Dask's, that nobody but `Cluster.close` closes."""
    from distributed import Client

    class Connected(Client):  # type: ignore[misc] # Dask has no types
        def __del__(self) -> None:
            """Nothing: Dask's own waits for a scheduler that is not there, and complains."""

    return Connected(address, timeout=CONNECT_TIMEOUT, set_as_default=False)


@contextmanager
def _silence_dask() -> Iterator[None]:
    """What Dask says of lost workers and schedulers is said here, in an error or not at all."""
    logs = [logging.getLogger(name) for name in LOGGERS]
    before = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _version() -> str:
    """A worker's pixelprep."""
    from pixelprep._version import __version__ as version

    return version
