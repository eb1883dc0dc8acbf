"""A Dask cluster's workers make the same bytes, and whatever befalls them is said in one line.

Scheduler and workers are processes of their own, as ``dask scheduler`` and ``dask worker`` are.
"""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import SourceError, UsageError, WorkerError
from pixelprep.system import dask
from pixelprep.system.parallel import WorkerPool
from tests.helpers.cli import Done, run
from tests.helpers.data import arrays
from tests.helpers.process import Process, execute
from tests.helpers.workers import (
    OPTIONS,
    PHASES,
    begun,
    bytes_of,
    children,
    finished,
    floats,
    start,
    wait_for,
)

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
if not Path("/proc/self/task").exists():
    pytest.skip("the system has no /proc", allow_module_level=True)


LONG = pytest.mark.long

STARTING = 60  # seconds that a server may take to start

# For a command with less patience than it has.
HASTY = "from pixelprep.system import dask; dask.CONNECT_TIMEOUT = 2"


def until(ready: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + STARTING
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)


class Servers:
    """A scheduler and its workers.

    Parameters
    ----------
    top : Path
        An empty folder for what they say and keep.
    options : str
        Of both.
    environment : str
        Of the scheduler.
    """

    def __init__(self, top: Path, *options: str, **environment: str) -> None:
        self.top, self.options = top, ("--host", "127.0.0.1", "--no-dashboard", *options)
        self.workers: list[Process] = []
        told = top / "scheduler.json"
        self.scheduler = self._run(
            "scheduler", "--port", "0", "--scheduler-file", str(told), **environment
        )
        until(lambda: told.exists() and told.stat().st_size)
        self.address: str = json.loads(told.read_text())["address"]

    def _run(self, kind: str, *options: str, **environment: str) -> Process:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, *self.options]
        settings: dict[str, Any] = {"cwd": self.top, "env": os.environ | environment}
        with (self.top / f"{kind}.log").open("ab") as log:
            return Process(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **settings)

    def have(self, count: int, nanny: str = "--no-nanny", **environment: str) -> str:
        """Have so many workers, by starting or ending some; the scheduler's address."""
        alive = [worker for worker in self.workers if worker.poll() is None]
        for worker in alive[count:]:
            end(worker)
        known = self._registered()
        threads = ("--nthreads", "1", "--memory-limit", "0", "--local-directory", str(self.top))
        self.workers = alive[:count]
        for _ in range(count - len(self.workers)):
            worker = self._run("worker", self.address, nanny, *threads, **environment)
            self.workers.append(worker)
        until(lambda: self._registered() >= known + max(0, count - len(alive)))
        return self.address

    def _registered(self) -> int:
        log = self.top / "worker.log"
        return log.read_text().count("Registered to:") if log.exists() else 0

    def stop(self) -> None:
        """End them all."""
        for process in (*self.workers, self.scheduler):
            end(process)


def end(process: Process) -> None:
    """Kill it, and what a nanny has started."""
    below = children(process.pid) if process.poll() is None else []
    process.kill()
    for pid in below:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@contextmanager
def serving(top: Path, *options: str, **environment: str) -> Iterator[Servers]:
    """Provide servers that are ended in any case."""
    servers = Servers(top, *options, **environment)
    try:
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Provide a scheduler that is never killed."""
    with serving(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


def prepared(folder: Path, *options: str, **settings: Any) -> Done:
    """Run ``prepare`` to its end."""
    return run("prepare", str(folder), *OPTIONS, "--json", *options, **settings)


def failure(done: Done, status: int = 1) -> tuple[str, str]:
    """Return error and hint of a command that says nothing else."""
    assert (done.returncode, done.stdout) == (status, "")
    error, *hints = done.stderr.splitlines()
    assert error.startswith("error: "), done.stderr
    assert len(hints) <= 1, done.stderr
    assert all(hint.startswith("hint: ") for hint in hints), done.stderr
    return error.removeprefix("error: "), "".join(hints).removeprefix("hint: ")


def nothing_is_left(cache: Path) -> bool:
    """Return whether the cache has neither entries nor work in progress."""
    return [*cache.glob("[!.]*"), *cache.glob(".tmp/*"), *cache.glob(".trash/*")] == []


# The same bytes


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_cluster_gives_the_same_bytes(
    servers: Servers, folder: Path, cache: Path, right: dict[str, bytes], workers: int
) -> None:
    """One, two and four workers make every file, the manifest and the key as one process does."""
    done = prepared(folder, "--scheduler", servers.have(workers))
    assert (done.returncode, done.stderr) == (0, "")  # Dask's log does not show
    answer = json.loads(done.stdout)
    assert answer["hit"] is False
    assert bytes_of(pixelprep.open(answer["path"])) == right
    assert list(cache.glob(".tmp/*")) == []


def test_arrays_in_memory_on_a_cluster(servers: Servers, cache: Path) -> None:
    """Floats of this process, over several blocks and with a validation split, are no exception."""
    source = floats(arrays(train=20_000, test=400, shape=(8, 8, 3)))  # 15 MB: four blocks
    options: dict[str, Any] = {"val_fraction": 0.2, "shard_rows": 4096, "quiet": True}
    alone = pixelprep.prepare(source, cache_dir=cache / "alone", **options)
    address = servers.have(2)
    shared = pixelprep.prepare(source, scheduler=address, cache_dir=cache / "shared", **options)
    assert bytes_of(shared) == bytes_of(alone)


def test_a_hit_asks_no_scheduler(folder: Path) -> None:
    """What is there already needs no cluster, wherever it is said to be."""
    made = pixelprep.prepare(folder, shard_rows=40, quiet=True)
    found = pixelprep.prepare(folder, shard_rows=40, scheduler="tcp://127.0.0.1:1", quiet=True)
    assert (found.path, found.cached) == (made.path, True)


def test_a_damaged_image_is_the_same_error(servers: Servers, folder: Path, cache: Path) -> None:
    """What a worker finds wrong is said as one process says it, and nothing is left behind."""
    damaged = folder / "train" / "c1" / "zzz.png"
    damaged.write_bytes(b"no picture")
    try:
        alone = failure(prepared(folder))
        assert failure(prepared(folder, "--scheduler", servers.have(2))) == alone
        assert "zzz.png" in alone[0]
        assert nothing_is_left(cache)
    finally:
        damaged.unlink()


@LONG
def test_tasks_under_way_leave_nothing(servers: Servers, cache: Path, tmp_path: Path) -> None:
    """What workers still write when another's task has failed is removed with all the rest."""
    address, numbers = servers.have(4), np.random.default_rng(0)
    for i in range(1000):
        path = tmp_path / "slow" / ("test" if i % 5 == 0 else "train") / f"c{i % 2}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    (tmp_path / "slow" / "train" / "c1" / "zzz.png").write_bytes(b"no picture")
    for _ in range(10):
        with pytest.raises(SourceError, match=r"zzz\.png"):
            pixelprep.prepare(tmp_path / "slow", scheduler=address, quiet=True)
        time.sleep(0.2)  # for what is under way
        assert nothing_is_left(cache)


# Killed


def reached(servers: Servers, folder: Path, cache: Path, phase: str) -> Process:
    """Return a `prepare` that has just come to this phase."""
    process = start(folder, "--scheduler", servers.address, "--json")
    wait_for(process, lambda: begun(cache, phase))
    return process


@pytest.mark.parametrize(
    ("phase", "nanny"),
    [*((phase, "--no-nanny") for phase in list(PHASES)[1:]), ("writing", "--nanny")],
)
def test_a_killed_worker_costs_only_time(
    servers: Servers, folder: Path, cache: Path, right: dict[str, bytes], phase: str, nanny: str
) -> None:
    """SIGKILL of a worker in any phase leaves the result as it would have been.

    Without a nanny another worker does the work; the only one that has a nanny is started anew.
    """
    servers.have(0)
    servers.have(2 if nanny == "--no-nanny" else 1, nanny)
    process = reached(servers, folder, cache, phase)
    worker = servers.workers[0].pid
    os.kill(worker if nanny == "--no-nanny" else working(worker), signal.SIGKILL)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert bytes_of(pixelprep.open(json.loads(out)["path"])) == right
    assert list(cache.glob(".tmp/*")) == []
    servers.have(0)


def working(nanny: int) -> int:
    """Return the worker that a nanny has started."""
    found = [
        pid
        for pid in children(nanny)
        if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(found) == 1, found
    return found[0]


def test_a_task_that_kills_every_worker_is_given_up(servers: Servers) -> None:
    """After some dead workers the task is the error, with a hint."""
    address = servers.have(4)
    with (
        WorkerPool(scheduler=address) as pool,
        pytest.raises(WorkerError, match="again and") as caught,
    ):
        list(pool.map(signal.raise_signal, [signal.SIGKILL]))
    assert address in caught.value.message
    assert "memory" in (caught.value.hint or "")


@pytest.mark.parametrize("phase", [pytest.param("decoding", marks=LONG), "writing"])
def test_a_killed_scheduler_is_an_error(
    tmp_path: Path, folder: Path, cache: Path, phase: str
) -> None:
    """When the scheduler goes away, `prepare` says so in one line and leaves nothing behind."""
    with serving(tmp_path) as servers:
        servers.have(2)
        process = reached(servers, folder, cache, phase)
        end(servers.scheduler)
        out, said = process.communicate(timeout=60)
    done = subprocess.CompletedProcess(process.args, process.returncode, out, said)
    error, hint = failure(done)
    assert error.startswith(f"{servers.address}: the scheduler is gone")
    assert "again" in hint
    assert nothing_is_left(cache)


@pytest.mark.parametrize("pause", [0, pytest.param(0.5, marks=LONG), 4])
def test_tasks_for_a_lost_scheduler_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """What is to be done when the scheduler has gone, just now or long ago, is the same error."""
    monkeypatch.setattr(dask, "CONNECT_TIMEOUT", 2)
    monkeypatch.setattr(dask, "REMINDER_INTERVAL", 3)
    with serving(tmp_path) as servers, WorkerPool(scheduler=servers.have(1)) as pool:
        results = pool.map(abs, itertools.count())
        assert next(results) == 0
        time.sleep(0.5)  # the next few are done too
        end(servers.scheduler)
        time.sleep(pause)
        with pytest.raises(WorkerError, match="the scheduler is gone"):
            for _ in results:
                pass


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        pytest.param("decoding", signal.SIGKILL, marks=LONG, id="decoding-SIGKILL"),
        pytest.param("writing", signal.SIGKILL, id="writing-SIGKILL"),
        pytest.param("writing", signal.SIGINT, marks=LONG, id="writing-SIGINT"),
    ],
)
def test_an_interrupted_prepare_goes_on(
    servers: Servers,
    folder: Path,
    cache: Path,
    right: dict[str, bytes],
    phase: str,
    number: signal.Signals,
) -> None:
    """What a cluster finished for a `prepare` that was ended is taken up by the next one."""
    servers.have(2)
    process = reached(servers, folder, cache, phase)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    expected = (-9, "") if number == signal.SIGKILL else (130, "error: interrupted\n")
    assert (process.returncode, said) == expected
    kept = finished(cache, PHASES[phase])
    assert kept
    process = start(folder, "--scheduler", servers.address, "--json")
    believed: dict[str, int] = {}
    while process.poll() is None:
        believed |= finished(cache, PHASES[phase])
        time.sleep(0.001)
    out, said = process.communicate()
    assert (process.returncode, said) == (0, "")
    made = Path(json.loads(out)["path"])
    if phase == "writing":
        believed = {path.name: path.stat().st_ino for path in made.iterdir()}
    assert kept.items() <= believed.items()
    assert bytes_of(pixelprep.open(made)) == right
    assert list(cache.glob(".tmp/*")) == []


# Not there, or not fit


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        "127.0.0.1:8786",
        "tcp://",
        "tcp://127.0.0.1",
        "http://127.0.0.1:8786",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:1/status",
        "tcp://:8786",
        "inproc://1",
    ],
)
def test_what_is_no_address_is_wrong_usage(folder: Path, cache: Path, address: str) -> None:
    """An address names the transport, host and port."""
    with pytest.raises(UsageError, match=r"`scheduler=.*`: expected tcp://HOST:PORT"):
        pixelprep.prepare(folder, scheduler=address)
    assert not cache.exists()


def test_wrong_addresses_exit_with_2(folder: Path) -> None:
    """The command line says it in one line."""
    error, _ = failure(prepared(folder, "--scheduler", "localhost"), status=2)
    assert error.startswith("--scheduler localhost: expected")


def free_port() -> int:
    """Return a port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("code", [HASTY, pytest.param("", marks=LONG)], ids=["2 s", "10 s"])
def test_a_scheduler_that_is_not_there(folder: Path, cache: Path, code: str) -> None:
    """It is waited for a few seconds; then an error names the address, and a hint what to start."""
    address, started = f"tcp://127.0.0.1:{free_port()}", time.monotonic()
    error, hint = failure(prepared(folder, "--scheduler", address, code=code))
    assert time.monotonic() - started < 20
    assert error.startswith(f"--scheduler {address}: no Dask scheduler answers there: ")
    assert "dask scheduler" in hint
    assert nothing_is_left(cache)


def test_what_is_there_and_no_scheduler(folder: Path, cache: Path) -> None:
    """A server that accepts connections and says nothing is an error too, not a hang."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        error, _ = failure(prepared(folder, "--scheduler", address, code=HASTY))
    assert error.startswith(f"--scheduler {address}: no Dask scheduler answers there: ")
    assert nothing_is_left(cache)


def test_a_scheduler_without_workers(servers: Servers, folder: Path, cache: Path) -> None:
    """It is an error that says how to start one."""
    address = servers.have(0)
    error, hint = failure(prepared(folder, "--scheduler", address, code=HASTY))
    assert error == f"{address}: the scheduler has no workers"
    assert hint == f"start some: dask worker {address}"
    assert nothing_is_left(cache)


def theirs(top: Path, code: str) -> str:
    """Another pixelprep, as a folder for PYTHONPATH."""
    package = top / "theirs" / "pixelprep"
    (package / "system").mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    (package / "system" / "__init__.py").touch()
    version = "def _version():\n    from pixelprep import __version__\n    return __version__\n"
    (package / "system" / "dask.py").write_text(version)
    return str(package.parent)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("__version__ = '0.0.1'", f"pixelprep 0.0.1 on its workers, {pixelprep.__version__} here"),
        ("raise ImportError('not there')", "its workers cannot run pixelprep: "),
    ],
    ids=["another version", "none"],
)
def test_workers_that_are_not_fit(
    servers: Servers, folder: Path, cache: Path, tmp_path: Path, code: str, expected: str
) -> None:
    """Workers must have the same pixelprep as whoever asks them."""
    servers.have(0)
    try:
        address = servers.have(1, PYTHONPATH=theirs(tmp_path, code))
        error, hint = failure(prepared(folder, "--scheduler", address))
    finally:
        servers.have(0)
    assert error.startswith(f"{address}: {expected}")
    assert "in the environment of the workers" in hint
    assert nothing_is_left(cache)


def test_a_scheduler_that_is_not_fit(folder: Path, cache: Path, tmp_path: Path) -> None:
    """Tasks pass through the scheduler: it too must have pixelprep, which the error says."""
    without = theirs(tmp_path, "raise ImportError('not there')")
    with serving(tmp_path, PYTHONPATH=without) as servers:
        error, hint = failure(prepared(folder, "--scheduler", servers.have(1, PYTHONPATH="")))
    assert error.startswith(f"{servers.address}: ")
    assert "pixelprep" in error
    assert "scheduler" in error + hint
    assert nothing_is_left(cache)


# Encrypted


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return a key and a certificate that is signed with it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    top = tmp_path_factory.mktemp("tls")
    key, signed = str(top / "key.pem"), str(top / "certificate.pem")
    subject = ["-subj", "/CN=localhost", "-days", "2"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *curve, "-keyout", key, "-out", signed, *subject]
    execute(command, check=True)
    return key, signed


@pytest.fixture(scope="session")
def encrypted(
    certificate: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """Provide a scheduler that takes only those who know its certificate."""
    key, signed = certificate
    options = ("--tls-ca-file", signed, "--tls-cert", signed, "--tls-key", key)
    with serving(tmp_path_factory.mktemp("encrypted"), "--protocol", "tls", *options) as servers:
        yield servers


def test_an_encrypted_cluster(
    encrypted: Servers, certificate: tuple[str, str], folder: Path, right: dict[str, bytes]
) -> None:
    """With the certificates in Dask's own settings, ``tls://`` works as ``tcp://`` does."""
    key, signed = certificate
    address, tls = encrypted.have(1), "DASK_DISTRIBUTED__COMM__TLS__"
    known = {"CA_FILE": signed, "CLIENT__CERT": signed, "CLIENT__KEY": key}
    settings = {tls + name: value for name, value in known.items()}
    assert address.startswith("tls://")
    done = prepared(folder, "--scheduler", address, env=os.environ | settings, cold=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert bytes_of(pixelprep.open(json.loads(done.stdout)["path"])) == right


@pytest.mark.parametrize("transport", ["tls", "tcp"])
def test_an_encrypted_cluster_without_certificates(
    encrypted: Servers, folder: Path, cache: Path, transport: str
) -> None:
    """Without the certificates, or without encryption, it is one clear error."""
    address = encrypted.address.replace("tls:", f"{transport}:")
    started = time.monotonic()
    error, _ = failure(prepared(folder, "--scheduler", address))
    assert time.monotonic() - started < 20
    assert error.startswith(f"--scheduler {address}: ")
    assert nothing_is_left(cache)
