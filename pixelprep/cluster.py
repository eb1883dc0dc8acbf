"""A Dask cluster that is there already, as a `concurrent.futures.Executor`."""

import logging
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from typing import TypeVar

from pixelprep import __version__
from pixelprep.errors import WorkerError, missing_extra

LOG = logging.getLogger("pixelprep")

Result = TypeVar("Result")

PATIENCE = 10.0  # seconds until a scheduler must have answered, or a first worker be there
REMINDER = 30.0  # seconds between looks at whether there are workers at all


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
            from distributed import Client
        except ImportError as error:
            raise missing_extra("Dask", "cluster", "--scheduler") from error
        self._address = address
        try:
            self._client = Client(address, timeout=PATIENCE, set_as_default=False)
        except Exception as error:  # whatever Dask's transports raise for an address
            raise WorkerError(
                f"--scheduler {address}: no Dask scheduler answers there: {error}",
                "start one (`dask scheduler`), or leave the option out",
            ) from error
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        with suppress(Late):  # said below
            self._client.wait_for_workers(1, timeout=PATIENCE)
        try:
            versions = set(self._client.run(_version).values())
        except Exception as error:
            raise WorkerError(
                f"{self._address}: its workers cannot run pixelprep: {error}",
                "install pixelprep where the workers run",
            ) from error
        if not versions:
            raise WorkerError(
                f"{self._address}: the scheduler has no workers",
                f"start some: dask worker {self._address}",
            )
        if versions != {__version__}:
            found = ", ".join(sorted(versions))
            raise WorkerError(
                f"{self._address}: its workers have pixelprep {found}, this is {__version__}",
                "install the same version where the workers run",
            )

    def executor(self) -> Executor:
        """What tasks are submitted to."""
        executor: Executor = self._client.get_executor(pure=False)
        return executor

    def threads(self) -> int:
        """How many tasks the workers do at a time."""
        return int(sum(self._client.nthreads().values()))

    def result(self, future: "Future[Result]") -> Result:
        """What a task returned, waited for as long as there is somebody to do it."""
        from distributed import KilledWorker

        while True:
            try:
                return future.result(timeout=REMINDER)
            except KilledWorker as error:
                raise WorkerError(
                    f"{self._address}: workers died again and again: {error}",
                    "they may have run out of memory",
                ) from error
            except CancelledError as error:
                raise WorkerError(
                    f"{self._address}: the scheduler is gone", "start it again, and run this again"
                ) from error
            except Late:
                if future.done():
                    raise  # the task's own
                if not self._client.nthreads():
                    LOG.warning("%s has no workers; waiting for one", self._address)

    def close(self) -> None:
        """Leave the cluster."""
        with suppress(Exception):
            self._client.close()


def _version() -> str:
    """A worker's pixelprep."""
    from pixelprep import __version__ as version

    return version
