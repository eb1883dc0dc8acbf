"""Any number of workers gives the same bytes, and one that is killed costs time, not data."""

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pixelprep
from pixelprep import SourceError, UsageError, WorkerError, sources
from pixelprep.pipeline import fit
from pixelprep.sources import digest, lazy_arrays
from pixelprep.system import fs, staging
from pixelprep.system.parallel import WorkerPool
from tests.helpers.cli import run
from tests.helpers.data import arrays
from tests.helpers.process import execute
from tests.helpers.workers import (
    PHASES,
    begun,
    bytes_of,
    finished,
    floats,
    start,
    wait_for,
    working,
)


class Shuffled(Executor):
    """Threads that finish tasks in an order of their own."""

    def __init__(self, seed: int = 0) -> None:
        self.threads, self.random = ThreadPoolExecutor(4), random.Random(seed)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Later tasks often overtake this one."""
        wait = self.random.uniform(0, 0.01)

        def late() -> Any:
            time.sleep(wait)
            return fn(*args, **kwargs)

        return self.threads.submit(late)


# The same bytes


@pytest.mark.parametrize("workers", [2, 4, Shuffled()], ids=["2", "4", "shuffled"])
def test_a_folder_gives_the_same_bytes(
    folder: Path, right: dict[str, bytes], workers: int | Executor
) -> None:
    """Two and four processes, and threads, make every file, manifest and key as one does."""
    entry = pixelprep.prepare(folder, shard_rows=40, workers=workers, quiet=True)
    assert bytes_of(entry) == right


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, digests and tasks of some rows, so that little data has many."""
    monkeypatch.setattr(lazy_arrays, "BLOCK_BYTES", 4 * 6 * 5 * 3 * 8)
    monkeypatch.setattr(digest, "DIGEST_BYTES", 16 * 6 * 5 * 3 * 8)
    monkeypatch.setattr(fit, "FIT_BYTES", 16 * 6 * 5 * 3 * 8)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("per", ["dataset", "channel", "pixel", "image"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_shuffled_completion_changes_nothing(cache: Path, kind: str, per: str) -> None:
    """Whatever order tasks finish in, keys, statistics and every file are the same."""
    source = arrays(train=500, test=90, dtype="uint16" if kind == "uint16" else "uint8")
    source = floats(source) if kind == "float32" else source
    options: dict[str, Any] = {"per": per, "shard_rows": 64, "val_fraction": 0.2, "quiet": True}
    teams: tuple[int | Executor, ...] = (1, Shuffled(1), Shuffled(2))
    made = [
        pixelprep.prepare(source, workers=workers, cache_dir=cache / str(i), **options)
        for i, workers in enumerate(teams)
    ]
    assert made[0].manifest == made[1].manifest
    assert bytes_of(made[0]) == bytes_of(made[1]) == bytes_of(made[2])


def test_floats_in_worker_processes(cache: Path) -> None:
    """Statistics of floats over several blocks are bit for bit those of one process."""
    source = floats(arrays(train=40_000, test=400, shape=(8, 8, 3)))  # 31 MB: eight blocks
    made = [
        pixelprep.prepare(source, workers=n, cache_dir=cache / str(n), quiet=True) for n in (1, 2)
    ]
    assert made[0].scaling.std.tolist() == made[1].scaling.std.tolist()
    assert bytes_of(made[0]) == bytes_of(made[1])


MANY = """
import sys, numpy as np
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pixelprep.format.writer import create
from pixelprep.format.layout import FileLayout

layout = FileLayout((64, 6, 5, 3), "float32", 16)
images, labels = np.ones((16, 6, 5, 3), np.float32), np.arange(16)

def write(number):
    with create(Path(sys.argv[1]) / str(number), layout) as writer:
        for _ in range(4):
            writer.append(images=images, labels=labels)
    return writer.sha256

with ThreadPoolExecutor(4) as pool:
    print(len(set(pool.map(write, range(400)))))
"""


def test_threads_may_write_at_the_same_time(tmp_path: Path) -> None:
    """Files that several threads of one process write are whole, and the process survives it."""
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    done = execute(command)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


# The pool


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 99))
def test_a_map_keeps_the_order(delays: list[int], seed: int) -> None:
    """Results come in the order of the tasks, whoever finishes first."""
    with WorkerPool(Shuffled(seed)) as pool:
        assert list(pool.map(abs, [-delay for delay in delays])) == delays


def test_tasks_are_taken_as_they_are_needed() -> None:
    """A map over endless tasks can be begun and left."""
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield -len(taken)

    with WorkerPool(Shuffled()) as pool:
        results = pool.map(abs, tasks())
        assert [next(results) for _ in range(3)] == [1, 2, 3]
    assert len(taken) < 40


def fail_at_seven(number: int) -> int:
    """Return one task that fails, after others that take longer."""
    if number == 7:
        raise SourceError("seven")
    time.sleep(0.01)
    return number


@pytest.mark.parametrize("workers", [1, 2, Shuffled()], ids=["1", "2", "shuffled"])
def test_the_first_failure_is_the_maps(workers: int | Executor) -> None:
    """What a task raises is raised where its result would have come, and ends the map."""
    with WorkerPool(workers) as pool:
        results = pool.map(fail_at_seven, range(100))
        assert [next(results) for _ in range(7)] == list(range(7))
        with pytest.raises(SourceError, match="seven"):
            next(results)


def test_what_waits_is_not_done_after_a_failure() -> None:
    """Once a task has failed, those that no worker has begun are cancelled."""
    done: list[int] = []

    def task(number: int) -> None:
        time.sleep(0.02)
        if number == 0:
            raise SourceError("the first")
        done.append(number)

    with ThreadPoolExecutor(1) as threads, WorkerPool(threads) as pool:
        with pytest.raises(SourceError, match="the first"):
            list(pool.map(task, range(100)))
        assert len(done) < 2
        assert threads.submit(int).result() == 0  # the pool stays its owner's


def die_once(marker: str) -> str:
    """Return a task that kills its worker the first time."""
    with suppress(FileExistsError):
        Path(marker).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return marker


def die(number: int) -> int:
    """Return a task that always kills its worker."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_dies_costs_only_time(tmp_path: Path) -> None:
    """Tasks whose workers were killed are done again, and the map goes on."""
    tasks = [str(tmp_path / str(i)) for i in range(6)]
    for marker in tasks[:2] + tasks[3:]:
        Path(marker).touch()
    with WorkerPool(2) as pool:
        assert list(pool.map(die_once, tasks)) == tasks


def test_workers_that_always_die_end_in_an_error() -> None:
    """A task that kills every worker is given up after some tries, with a hint."""
    with WorkerPool(2) as pool, pytest.raises(WorkerError, match="died 3 times") as caught:
        list(pool.map(die, range(4)))
    assert "memory" in (caught.value.hint or "")


@pytest.mark.parametrize("workers", [0, -1, 10**6, "x", 1.5])
def test_a_number_of_workers_that_cannot_be(workers: Any) -> None:
    """Numbers of workers are whole, 1 to 1024."""
    with pytest.raises(UsageError, match=r"`workers=.* expected"):
        pixelprep.prepare("sample", workers=workers)


@pytest.mark.parametrize("options", ["0", "-1", "x", "1000000", "2 --scheduler tcp://127.0.0.1:1"])
def test_wrong_workers_are_wrong_usage(options: str) -> None:
    """The command line refuses them with exit 2 and one line."""
    done = run("prepare", "sample", "--workers", *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    error, *hints = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert "--workers" in error
    assert all(hint.startswith("hint: ") for hint in hints)


def test_no_main_guard_is_needed(tmp_path: Path) -> None:
    """A plain script may prepare with workers."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pixelprep\n"
        "print(pixelprep.prepare('sample', workers=2, shard_rows=2000, quiet=True).cached)\n"
    )
    done = execute([sys.executable, str(script)])
    assert (done.stdout, done.stderr) == ("False\n", "")


# Killed


def ended(pids: list[int]) -> bool:
    """Return whether none of these processes is alive a little later."""
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system has no /proc")
@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_worker_is_replaced(
    folder: Path, cache: Path, right: dict[str, bytes], phase: str
) -> None:
    """SIGKILL of a worker in any phase leaves the result as it would have been."""
    process = start(folder, "--workers", "2", "--json")
    wait_for(process, lambda: working(process.pid) and begun(cache, phase))
    worker = working(process.pid)[0]
    os.kill(worker, signal.SIGKILL)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert bytes_of(pixelprep.open(json.loads(out)["path"])) == right
    assert list(cache.glob(".tmp/*")) == []


def test_interrupts_are_for_the_first_process_alone(folder: Path) -> None:
    """No worker, the first that is started included, is reached by Ctrl-C."""
    process = start(folder, "--workers", "2")
    wait_for(process, lambda: len(working(process.pid)) == 2)
    masks = [Path(f"/proc/{pid}/status").read_text() for pid in working(process.pid)]
    process.communicate()
    blocked = [int(re.findall(r"SigBlk:\s*([0-9a-f]+)", mask)[0], 16) for mask in masks]
    assert len(blocked) == 2
    assert all(mask >> (signal.SIGINT - 1) & 1 for mask in blocked)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("phase", ["decoding", "writing"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda n: n.name)
def test_an_interrupted_prepare_goes_on(
    folder: Path,
    cache: Path,
    right: dict[str, bytes],
    workers: str,
    phase: str,
    number: signal.Signals,
) -> None:
    """What was finished when all was killed, or Ctrl-C came, is taken up by the next run."""
    pattern = PHASES[phase]
    process = start(folder, "--workers", workers)
    wait_for(process, lambda: len(finished(cache, pattern)) > 1)
    pool = working(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    said = process.communicate()[1]
    assert ended(pool)
    if number == signal.SIGINT and process.returncode:
        assert (process.returncode, said) == (130, "error: interrupted\n")
    kept = finished(cache, pattern)
    if process.returncode == 0 or not kept:
        pytest.skip("it was too fast to be interrupted")
    damaged = cache.glob(f".tmp/*/files/{min(kept)}").__next__()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    seen: dict[str, int] = {}
    made = staging.run_step

    def noting(work: Path, name: str, make: Any) -> dict[str, Any]:
        before = (work / staging.FILES / name).stat().st_ino if name in kept else 0
        record = made(work, name, make)
        if before == (work / staging.FILES / name).stat().st_ino:
            seen[name] = before
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "run_step", noting)
        entry = pixelprep.prepare(folder, shard_rows=40, quiet=True)
    believed = {name for name in kept if kept[name] == seen.get(name)}
    assert believed == set(kept) - {min(kept)}  # and the damaged one was made again
    assert bytes_of(entry) == right
    assert list(cache.glob(".tmp/*")) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda n: n.name)
def test_workers_end_with_the_main_process(
    folder: Path, cache: Path, number: signal.Signals
) -> None:
    """A signal to the main process alone, even SIGKILL, and its workers end too."""
    process = start(folder, "--workers", "2")
    wait_for(process, lambda: begun(cache, "decoding"))
    pool = working(process.pid)
    process.send_signal(number)
    process.wait(timeout=60)
    try:
        assert ended(pool)
    finally:
        for worker in pool:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    said = process.communicate()[1]
    assert number == signal.SIGKILL or said == "error: interrupted\n"


def test_json_with_workers_is_one_object(folder: Path) -> None:
    """Workers add nothing to what is printed, on standard output or standard error."""
    done = run("prepare", str(folder), "--json", "--workers", "2")
    assert json.loads(done.stdout)["hit"] is False
    assert (done.stdout.count("\n"), done.stderr.count("\n")) == (1, 2)
    assert all(line.startswith("raw ") for line in done.stderr.splitlines())


def test_a_failed_run_leaves_nothing_to_go_on_with(folder: Path, cache: Path) -> None:
    """An error takes away what was finished, with workers as without."""
    extra = folder / "train" / "c0" / "zzz.png"
    extra.write_bytes(b"no picture")
    try:
        for workers in (1, 2):
            with pytest.raises(SourceError, match=r"zzz\.png"):
                pixelprep.prepare(folder, shard_rows=40, workers=workers, quiet=True)
            assert list(cache.glob(".tmp/*")) == []
    finally:
        extra.unlink()


def test_old_unfinished_work_is_swept(folder: Path, cache: Path) -> None:
    """Work that nobody went on with for a week is removed by the next `prepare`; newer is kept."""
    for name, age in (("old", 8), ("new", 6)):
        with suppress(KeyboardInterrupt), staging.workspace(cache, name, resumable=True) as work:
            staging.run_step(work, "x", lambda path: {"sha256": "", "n": path.write_bytes(b"")})
            raise KeyboardInterrupt
        then = time.time() - age * 24 * 3600
        (done,) = cache.glob(f".tmp/{name}.*/{staging.RECEIPTS}")
        os.utime(done, (then, then))
    pixelprep.prepare(folder, quiet=True)
    assert [path.name.split(".")[0] for path in cache.glob(".tmp/*")] == ["new"]


def test_work_is_not_found_where_there_is_none(tmp_path: Path) -> None:
    """A worker that does not see the work folder says on which machine, and what is needed."""
    with pytest.raises(pixelprep.CacheError, match="as seen from") as caught:
        staging.run_step(tmp_path / "gone", "x", lambda path: {})
    assert "share" in (caught.value.hint or "")


def test_raw_data_for_workers_is_in_files(tmp_path: Path) -> None:
    """Arrays in memory are written once where workers can read them; rows stay what they were."""
    source = arrays(train=30)
    with sources.SourceContext(tmp_path) as place:
        raw = source.load(place).materialize(place)
        split = raw.splits["train"].take(np.array([3, 4, 9, 0]))
        assert isinstance(raw.splits["train"].images, lazy_arrays.FileArray)
        assert (split.images[1:3] == source.train[0][[4, 9]]).all()
        assert (
            lazy_arrays.slice_rows(split.labels, range(2, 4))[:] == source.train[1][[9, 0]]
        ).all()
    assert list((tmp_path / fs.TMP).iterdir()) == []
