"""Whatever befalls a Dask cluster is said in one line (what its workers make: `test_workers`)."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import SourceError, UsageError, WorkerError
from pixelprep.system import dask
from pixelprep.system.parallel import WorkerPool
from tests.helpers.cli import Done, failure, run
from tests.helpers.cluster import Servers, end, serving
from tests.helpers.data import bytes_of
from tests.helpers.process import execute
from tests.helpers.sources import nothing_is_left
from tests.helpers.workers import OPTIONS, children, reached, start

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
if not Path("/proc/self/task").exists():
    pytest.skip("the system has no /proc", allow_module_level=True)


LONG = pytest.mark.long

# For a command with less patience than it has.
HASTY = "from pixelprep.system import dask; dask.CONNECT_TIMEOUT = 2"


def prepared(folder: Path, *options: str, **settings: Any) -> Done:
    """Run ``prepare`` to its end."""
    return run("prepare", str(folder), *OPTIONS, "--quiet", "--json", *options, **settings)


def test_a_hit_asks_no_scheduler(folder: Path) -> None:
    """What is there already needs no cluster, wherever it is said to be."""
    made = pixelprep.prepare(folder, shard_rows=40, quiet=True)
    found = pixelprep.prepare(folder, shard_rows=40, scheduler="tcp://127.0.0.1:1", quiet=True)
    assert (found.path, found.cached) == (made.path, True)


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


@LONG
def test_a_nanny_starts_its_worker_anew(
    servers: Servers, folder: Path, cache: Path, right: dict[str, str]
) -> None:
    """SIGKILL of the only worker costs only time, where it has a nanny."""
    servers.have(0)
    process = start(folder, "--quiet", "--json", "--scheduler", servers.have(1, "--nanny"))
    reached(process, cache, "writing")
    (worker,) = [
        pid
        for pid in children(servers.workers[0].pid)
        if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(worker, signal.SIGKILL)
    out, said = process.communicate(timeout=60)
    servers.have(0)
    assert (process.returncode, said) == (0, "")
    assert bytes_of(json.loads(out)["path"]) == right


@LONG
@pytest.mark.parametrize("phase", ["decoding", "writing"])
def test_a_killed_scheduler_is_an_error(
    tmp_path: Path, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """When the scheduler goes away, `prepare` says so in one line and leaves nothing behind; what
    is to be done later, soon or long after, is the same error.
    """
    monkeypatch.setattr(dask, "CONNECT_TIMEOUT", 2)
    monkeypatch.setattr(dask, "REMINDER_INTERVAL", 3)
    with serving(tmp_path) as servers, WorkerPool(scheduler=servers.have(2)) as pool:
        with WorkerPool(scheduler=servers.address) as other:
            maps = [one.map(abs, itertools.count()) for one in (pool, other)]
            assert [next(results) for results in maps] == [0, 0]
            process = start(folder, "--quiet", "--scheduler", servers.address)
            reached(process, cache, phase)
            end(servers.scheduler)
            for results, pause in zip(maps, (0, 4), strict=True):
                time.sleep(pause)
                with pytest.raises(WorkerError, match="the scheduler is gone"):
                    list(results)
        out, said = process.communicate(timeout=60)
    done = subprocess.CompletedProcess(process.args, process.returncode, out, said)
    error, hint = failure(done)
    assert error.startswith(f"{servers.address}: the scheduler is gone")
    assert "again" in hint
    assert nothing_is_left(cache)


# Not there, or not fit


NO_ADDRESSES = """localhost 127.0.0.1:8786 tcp:// tcp://127.0.0.1 http://127.0.0.1:8786
tcp://127.0.0.1:port tcp://127.0.0.1:1/status tcp://:8786 inproc://1"""


@pytest.mark.parametrize("address", ["", *NO_ADDRESSES.split()])
def test_what_is_no_address_is_wrong_usage(folder: Path, cache: Path, address: str) -> None:
    """An address names the transport, host and port."""
    with pytest.raises(UsageError, match=r"`scheduler=.*`: expected tcp://HOST:PORT"):
        pixelprep.prepare(folder, scheduler=address)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("listens", "code"),
    [
        pytest.param(False, HASTY, marks=LONG),
        pytest.param(True, HASTY, marks=LONG),
        pytest.param(False, "", marks=LONG),
    ],
)
def test_a_scheduler_that_is_not_there(folder: Path, cache: Path, listens: bool, code: str) -> None:
    """It is waited for a little; then an error names the address, and a hint what to start. What
    takes connections and says nothing is no scheduler either.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if not listens:
            server.close()
        started = time.monotonic()
        error, hint = failure(prepared(folder, "--scheduler", address, code=code))
    assert time.monotonic() - started < 20
    assert error.startswith(f"--scheduler {address}: no Dask scheduler answers there: ")
    assert "dask scheduler" in hint
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
    address = servers.have(1, PYTHONPATH=theirs(tmp_path, code))
    error, hint = failure(prepared(folder, "--scheduler", address))
    servers.have(0)
    assert error.startswith(f"{address}: {expected}")
    assert "in the environment of the workers" in hint
    assert nothing_is_left(cache)


def test_a_scheduler_that_is_not_fit(folder: Path, cache: Path, tmp_path: Path) -> None:
    """Tasks pass through the scheduler: it too must have pixelprep, which the error says."""
    without = theirs(tmp_path, "raise ImportError('not there')")
    with serving(tmp_path, PYTHONPATH=without) as servers:
        error, hint = failure(prepared(folder, "--scheduler", servers.have(1)))
    assert error.startswith(f"{servers.address}: ")
    assert "pixelprep" in error
    assert "scheduler" in error + hint
    assert nothing_is_left(cache)


# Encrypted


# Dask's settings are read when it is imported, which a warm process has done.
REFRESHED = "from dask import config; config.refresh()"


@pytest.mark.long
def test_an_encrypted_cluster(
    tmp_path: Path, folder: Path, cache: Path, right: dict[str, str]
) -> None:
    """With the certificates in Dask's own settings, ``tls://`` works as ``tcp://`` does; without
    them, or without encryption, it is one clear error.
    """
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    key, signed = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subject = ["-subj", "/CN=localhost", "-days", "2"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *curve, "-keyout", key, "-out", signed, *subject]
    execute(command, check=True)
    known = {"CA_FILE": signed, "CLIENT__CERT": signed, "CLIENT__KEY": key}
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": value for name, value in known.items()}
    options = ("--tls-ca-file", signed, "--tls-cert", signed, "--tls-key", key)
    with serving(tmp_path, "--protocol", "tls", *options) as servers:
        address = servers.have(1)
        assert address.startswith("tls://")
        for wrong in (address, address.replace("tls:", "tcp:")):
            error, _ = failure(prepared(folder, "--scheduler", wrong))
            assert error.startswith(f"--scheduler {wrong}: ")
            assert nothing_is_left(cache)
        settings = {"env": os.environ | tls, "code": REFRESHED}
        done = prepared(folder, "--scheduler", address, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert bytes_of(json.loads(done.stdout)["path"]) == right
