"""Worker processes and a cluster's give the same bytes; one that is killed costs time, not data."""

import fcntl
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import pixelprep
from pixelprep import WorkerError
from pixelprep.system import parallel, staging
from pixelprep.system.parallel import WorkerPool
from tests.helpers.cli import failure, run
from tests.helpers.data import arrays, bytes_of
from tests.helpers.process import seen
from tests.helpers.sources import nothing_is_left
from tests.helpers.team import Team
from tests.helpers.workers import (
    OPTIONS,
    PHASES,
    ended,
    finished,
    floats,
    reached,
    start,
    wait_for,
    working,
)

LONG = pytest.mark.long


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=LONG)])
def test_a_folder_gives_the_same_bytes(
    team: Team, folder: Path, cache: Path, right: dict[str, str], count: int
) -> None:
    """Several workers make every file, the manifest and the key as one process does; they add
    nothing to what is printed, nor does Dask's log.
    """
    done = run("prepare", str(folder), *OPTIONS, "--json", *team.options(count))
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count("\n"), done.stderr.count("\n")) == (1, 2)
    assert all(line.startswith("raw ") for line in done.stderr.splitlines())
    answer = json.loads(done.stdout)
    assert answer["hit"] is False
    assert bytes_of(answer["path"]) == right
    assert list(cache.glob(".tmp/*")) == []


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=LONG)])
@pytest.mark.parametrize(
    "scaling",
    [
        {"mode": "robust", "quantiles": (0.01, 0.99), "clip": True},
        {"mode": "normalize", "limits": "data", "range": (-1, 1)},
    ],
    ids=["robust", "normalize"],
)
def test_quantiles_and_extremes_merge_to_the_same_bytes(
    team: Team, cache: Path, scaling: dict[str, Any], count: int
) -> None:
    """Histograms of 65,536 bins add up alike, whoever counted which images."""
    source = arrays(train=15_000, test=100, shape=(8, 8, 3), dtype="uint16")  # 6 MB: two blocks
    options = {**scaling, "val_fraction": 0.2, "shard_rows": 4096, "quiet": True}
    alone = pixelprep.prepare(source, cache_dir=cache / "alone", **options)
    shared = pixelprep.prepare(source, cache_dir=cache / "shared", **options, **team.choice(count))
    assert bytes_of(shared.path) == bytes_of(alone.path)


def test_floats_in_memory_give_the_same_bytes(team: Team, cache: Path) -> None:
    """Statistics of floats of this process, over several blocks, are no exception."""
    source = floats(arrays(train=15_000, test=100, shape=(8, 8, 3)))  # 11 MB: three blocks
    options: dict[str, Any] = {"val_fraction": 0.2, "shard_rows": 4096, "quiet": True}
    alone = pixelprep.prepare(source, cache_dir=cache / "alone", **options)
    shared = pixelprep.prepare(source, cache_dir=cache / "shared", **options, **team.choice())
    assert bytes_of(shared.path) == bytes_of(alone.path)


def test_a_damaged_image_is_the_same_error(
    team: Team, folder: Path, tmp_path: Path, cache: Path
) -> None:
    """What a worker finds wrong is said as one process says it, and nothing is left behind, to go
    on with or otherwise.
    """
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "train" / "c1" / "zzz.png").write_bytes(b"no picture")
    command = ["prepare", str(copy), *OPTIONS]
    alone = failure(run(*command))
    assert nothing_is_left(cache)
    assert failure(run(*command, *team.options())) == alone
    assert "zzz.png" in alone[0]
    assert nothing_is_left(cache)


# Killed


def die_once(marker: str) -> str:
    """Return a task that kills its worker the first time."""
    with suppress(FileExistsError):
        Path(marker).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return marker


def test_tasks_that_kill_workers(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task whose worker was killed is done again, and the map goes on; one that kills every
    worker is given up after some tries, with a hint.
    """
    monkeypatch.setattr(parallel, "MAX_RESTARTS", 2)  # so a cluster's scheduler has it here
    tasks = [str(tmp_path / str(i)) for i in range(6)]
    for marker in tasks[:2] + tasks[3:]:
        Path(marker).touch()
    with WorkerPool(**team.choice(3 if team.servers else 2)) as pool:
        assert list(pool.map(die_once, tasks)) == tasks
        with pytest.raises(WorkerError, match=r"died (2 times|again and again)") as caught:
            list(pool.map(signal.raise_signal, [signal.SIGKILL]))
    assert "memory" in (caught.value.hint or "")
    assert team.servers is None or team.servers.address in caught.value.message


@pytest.mark.parametrize("phase", [pytest.param("decoding", marks=LONG), "writing"])
def test_a_killed_worker_costs_only_time(
    team: Team, folder: Path, cache: Path, right: dict[str, str], phase: str
) -> None:
    """SIGKILL of a worker leaves the result as it would have been."""
    process = start(folder, "--json", "--quiet", *team.options())
    reached(process, cache, phase)
    team.lose_one(process)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert bytes_of(json.loads(out)["path"]) == right
    assert list(cache.glob(".tmp/*")) == []


def test_a_worker_killed_amid_statistics_costs_only_time(
    team: Team, folder: Path, cache: Path
) -> None:
    """SIGKILL of a worker before all is summed up leaves the result as it would have been.

    What train holds is told before the other splits are summed up, and whoever tells it into a full
    pipe waits: until the pipe is read, `prepare` is surely not done with the statistics.
    """
    options: dict[str, Any] = {"val_fraction": 0.2, "shard_rows": 40, "quiet": True}
    alone = pixelprep.prepare(folder, cache_dir=cache / "alone", **options)
    reader, writer = os.pipe()
    os.write(writer, b"\n" * fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096))
    choice = ("--val-fraction", "0.2", "--json", *team.options())
    with os.fdopen(reader) as told, start(folder, *choice, stderr=writer) as process:
        os.close(writer)
        wait_for(process, lambda: seen(cache, ".tmp/*-standardize-*/"))
        team.lose_one(process)
        said = [line[:9] for line in told.read().split("\n") if line]
        out, _ = process.communicate()
    assert process.returncode == 0
    assert [line for line in said if line != "a worker "] == ["raw train", "raw val  ", "raw test "]
    assert team.servers or "a worker " in said[:2]  # process died; Dask keeps that to itself
    assert bytes_of(json.loads(out)["path"]) == bytes_of(alone.path)
    assert list(cache.glob(".tmp/*")) == []


OFTEN = {
    ("processes", "decoding", signal.SIGKILL),
    ("alone", "writing", signal.SIGINT),
    ("cluster", "writing", signal.SIGKILL),
}


@pytest.mark.parametrize(
    ("team", "phase", "number"),
    [
        pytest.param(
            *case, marks=() if case in OFTEN else LONG, id="-".join([*case[:2], case[2].name])
        )
        for case in itertools.product(
            ("alone", "processes", "cluster"), PHASES, (signal.SIGKILL, signal.SIGINT)
        )
    ],
    indirect=["team"],
)
def test_an_interrupted_prepare_goes_on(
    team: Team,
    folder: Path,
    cache: Path,
    right: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    number: signal.Signals,
) -> None:
    """What was finished when all was killed, or Ctrl-C came, is taken up by the next run."""
    process = start(folder, "--quiet", *team.options())
    reached(process, cache, phase, 2)
    pool = working(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    said = process.communicate()[1]
    assert ended(pool)
    kept = finished(cache, PHASES[phase])
    if process.returncode == 0 or not kept:
        pytest.skip("it was too fast to be interrupted")
    ways = {signal.SIGKILL: (-signal.SIGKILL, ""), signal.SIGINT: (130, "error: interrupted\n")}
    assert (process.returncode, said) == ways[number]
    damaged = next(cache.glob(f".tmp/*/files/{min(kept)}"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    seen: set[str] = set()
    made = staging.run_step

    def noting(work: Path, name: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        path = work / staging.FILES / name
        before = path.stat().st_ino if name in kept else 0
        record = made(work, name, make)
        if kept.get(name) == before == path.stat().st_ino:
            seen.add(name)
        return record

    monkeypatch.setattr(staging, "run_step", noting)
    entry = pixelprep.prepare(folder, shard_rows=40, quiet=True)
    assert seen == set(kept) - {min(kept)}  # and the damaged one was made again
    assert bytes_of(entry.path) == right
    assert list(cache.glob(".tmp/*")) == []
