"""Whatever order workers finish in, bytes are the same; none outlives whoever has started it."""

import os
import random
import re
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loky import ProcessPoolExecutor
from PIL import Image

import pixelprep
from pixelprep import SourceError, UsageError, WorkerError, sources
from pixelprep.pipeline import fit
from pixelprep.sources import digest, lazy_arrays
from pixelprep.sources.pictures import image_folder
from pixelprep.sources.pictures.image_file import ImageDecoder
from pixelprep.system import fs, parallel, staging
from pixelprep.system.parallel import WorkerPool
from tests.helpers.cli import failure, run
from tests.helpers.data import arrays, bytes_of
from tests.helpers.process import execute
from tests.helpers.workers import ended, floats, leave_unfinished, start, wait_for, working


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


def test_a_folder_gives_the_same_bytes(folder: Path, right: dict[str, str]) -> None:
    """Threads make every file, manifest and key as one process does."""
    entry = pixelprep.prepare(folder, shard_rows=40, workers=Shuffled(), quiet=True)
    assert bytes_of(entry.path) == right


def test_workers_in_another_folder_read_the_same_images(
    folder: Path, right: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder is that of the caller, also where a worker has one of the same name."""
    there = tmp_path / "there"
    for path in folder.rglob("*.png"):
        other = there / path.relative_to(folder.parent)
        other.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(other)
    monkeypatch.chdir(folder.parent)
    with ProcessPoolExecutor(1, initializer=os.chdir, initargs=(there,)) as workers:
        entry = pixelprep.prepare(f"./{folder.name}", shard_rows=40, workers=workers, quiet=True)
    assert bytes_of(entry.path) == right


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, digests and tasks of some rows, so that little data has many."""
    monkeypatch.setattr(lazy_arrays, "BLOCK_BYTES", 4 * 6 * 5 * 3 * 8)
    monkeypatch.setattr(digest, "DIGEST_BYTES", 16 * 6 * 5 * 3 * 8)
    monkeypatch.setattr(fit, "FIT_BYTES", 16 * 6 * 5 * 3 * 8)


OFTEN = {("uint8", "image"), ("uint16", "pixel"), ("float32", "channel")}


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("kind", "per"),
    [
        pytest.param(kind, per, marks=() if (kind, per) in OFTEN else pytest.mark.long)
        for kind in ("uint8", "uint16", "float32")
        for per in ("dataset", "channel", "pixel", "image")
    ],
)
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
    assert bytes_of(made[0].path) == bytes_of(made[1].path) == bytes_of(made[2].path)


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
    print(len(set(pool.map(write, range(150)))))
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


@pytest.mark.parametrize("workers", [1, Shuffled()], ids=["1", "shuffled"])
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


@pytest.fixture
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process use three processors, whatever the machine has."""
    monkeypatch.setattr(parallel, "cores", lambda: 3)


@pytest.mark.usefixtures("three_cores")
def test_threads_share_the_work_by_default(
    folder: Path, right: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without workers the files are those that one worker makes, in several threads of this
    process, and nothing is left of them.
    """
    monkeypatch.setattr(image_folder, "SMALL", 0)  # or one thread would decode them
    names, made = set[str](), staging.run_step

    def noting(work: Path, name: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        names.add(threading.current_thread().name)
        return made(work, name, make)

    monkeypatch.setattr(staging, "run_step", noting)
    alone = pixelprep.prepare(folder, shard_rows=40, workers=1, cache_dir=cache / "1", quiet=True)
    assert names == {threading.current_thread().name}
    entry = pixelprep.prepare(folder, shard_rows=40, cache_dir=cache / "3", quiet=True)
    assert sum(name.startswith("pixelprep") for name in names) > 1
    assert not [one for one in threading.enumerate() if one.name.startswith("pixelprep")]
    assert bytes_of(entry.path) == bytes_of(alone.path) == right


@pytest.mark.usefixtures("three_cores")
def test_no_more_pictures_than_processors_are_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a task has, each thread holds the one that it writes, and the next."""
    monkeypatch.setattr(image_folder, "SMALL", 0)
    lock, alive, most, read = threading.Lock(), list[Any](), list[int](), ImageDecoder.read

    def noting(decoder: ImageDecoder, path: str) -> Any:
        pixels = np.array(read(decoder, path))
        with lock:
            alive.append(weakref.ref(pixels))
            most.append(sum(one() is not None for one in alive))
        return pixels

    monkeypatch.setattr(ImageDecoder, "read", noting)
    pixelprep.prepare(folder, quiet=True)
    assert len(most) == 300
    assert max(most) <= 2 * 3


@pytest.mark.usefixtures("three_cores")
@pytest.mark.parametrize("can_start", [True, False])
def test_many_small_pictures_are_for_processes(
    folder: Path, right: dict[str, str], monkeypatch: pytest.MonkeyPatch, can_start: bool
) -> None:
    """They make the very files that one thread makes, which does it where none can be started."""
    monkeypatch.setattr(image_folder, "MANY", 300)
    asked, make = list[int](), ProcessPoolExecutor.__init__

    def start_pool(pool: ProcessPoolExecutor, count: int, **options: Any) -> None:
        asked.append(count)
        if not can_start:
            raise OSError(30, "Read-only file system")
        make(pool, count, **options)

    monkeypatch.setattr(ProcessPoolExecutor, "__init__", start_pool)
    assert bytes_of(pixelprep.prepare(folder, shard_rows=40, quiet=True).path) == right
    assert asked == [3]


def work_until_unwanted(number: int) -> int:
    """Never end by itself, but for two tasks: one that fails, and one that is Ctrl-C."""
    if number < 0:
        raise SourceError("less than nothing")
    if number == 0:
        os.kill(os.getpid(), signal.SIGINT)
    while True:
        parallel.check_wanted()


@pytest.mark.usefixtures("three_cores")
@pytest.mark.parametrize(("number", "error"), [(-1, SourceError), (0, KeyboardInterrupt)])
def test_threads_end_what_is_not_wanted(number: int, error: type[BaseException]) -> None:
    """After a failure or Ctrl-C what other threads do is ended, also where it would take long; the
    next map begins anew.
    """
    with WorkerPool() as pool:
        with pytest.raises(error):
            list(pool.map(work_until_unwanted, [number, 1, 2, 3]))
        assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]


@pytest.mark.parametrize("workers", [0, -1, 10**6, "x", 1.5])
def test_a_number_of_workers_that_cannot_be(workers: Any) -> None:
    """Numbers of workers are whole, 1 to 1024."""
    with pytest.raises(UsageError, match=r"`workers=.* expected"):
        pixelprep.prepare("sample", workers=workers)


@pytest.mark.parametrize(
    "options",
    [
        *(f"--workers {number}" for number in ("0", "-1", "x", "1000000")),
        "--workers 2 --scheduler tcp://127.0.0.1:1",
        "--scheduler localhost",
    ],
)
def test_wrong_workers_are_wrong_usage(options: str) -> None:
    """The command line refuses them with exit 2 and one line."""
    error, _ = failure(run("prepare", "sample", *options.split()), 2)
    assert options.split()[0] in error


def test_no_main_guard_is_needed(tmp_path: Path, folder: Path) -> None:
    """A plain script may prepare with workers."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pixelprep\n"
        f"print(pixelprep.prepare({str(folder)!r}, workers=2, quiet=True).cached)\n"
    )
    done = execute([sys.executable, str(script)])
    assert (done.stdout, done.stderr) == ("False\n", "")


# Killed


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system has no /proc")
def test_workers_end_with_the_main_process_alone(folder: Path, cache: Path) -> None:
    """No worker, the first that is started included, is reached by Ctrl-C; when the main process is
    killed, they end too.
    """
    process = start(folder, "--workers", "2")
    wait_for(process, lambda: len(working(process.pid)) == 2)
    pool = working(process.pid)
    blocked = [Path(f"/proc/{pid}/status").read_text() for pid in pool]
    process.kill()
    process.communicate()
    try:
        assert ended(pool)
    finally:
        for worker in pool:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    masks = [int(re.findall(r"SigBlk:\s*([0-9a-f]+)", status)[0], 16) for status in blocked]
    assert [mask >> (signal.SIGINT - 1) & 1 for mask in masks] == [1, 1]


def test_old_unfinished_work_is_swept(folder: Path, cache: Path) -> None:
    """Work that nobody went on with for a week is removed by the next `prepare`; newer is kept."""
    for name, age in (("old", 8), ("new", 6)):
        leave_unfinished(cache, name)
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


@pytest.mark.parametrize(
    "problem",
    [OSError(30, "Read-only file system"), AssertionError("daemonic processes may not have any")],
)
def test_workers_that_cannot_be_started_are_one_clear_error(
    problem: Exception, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Where there is no shared memory, or the process may have no children, the cache is well."""

    def refuse(*_: object, **__: object) -> None:
        raise problem

    if isinstance(problem, OSError):
        monkeypatch.setattr("loky.ProcessPoolExecutor.__init__", refuse)
    else:
        monkeypatch.setattr("loky.ProcessPoolExecutor.submit", refuse)
    with pytest.raises(WorkerError, match="worker processes cannot be started: ") as caught:
        pixelprep.prepare(arrays(), workers=2, quiet=True)
    assert str(problem.args[-1]) in caught.value.message
    assert str(cache) not in str(caught.value)
