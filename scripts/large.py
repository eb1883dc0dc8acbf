#!/usr/bin/env python3
"""Prepare a large generated dataset and print what every step costs, as a base for larger plans.

    scripts/large.py --stored-gb 20 --workers 2
    scripts/large.py --stored-gb 2 --cluster 2        # a Dask scheduler and workers, started here

Writes plain IDX files of random 28×28 bytes, prepares them, and deletes everything. Prints
Markdown: bytes a second of each step, bytes a row, peak memory, and, on a cluster, the messages of
its scheduler for each file that was written.
"""

import argparse
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.process import family, memory

import pixelprep
from pixelprep import sources
from pixelprep.pipeline import build, prepare
from pixelprep.sources.local import IdxFolder

SIDE, PIECE = 28, 100_000  # images that are generated at once
MB = 1e6
# Loaded by the scheduler: every message that it gets and every one that it sends is counted.
COUNTER = """
import functools
import inspect
from distributed import batched
sent = [0]
# This module may be loaded twice, but each message is to be counted once.
send = batched.pixelprep_send = getattr(batched, "pixelprep_send", batched.BatchedSend.send)

def counted(self, *messages):
    sent[0] += len(messages)
    return send(self, *messages)

batched.BatchedSend.send = counted

def counting(handler, got):
    @functools.wraps(handler)  # its signature is looked at
    def count(*args, **kwargs):
        got[0] += 1
        return handler(*args, **kwargs)
    return count

async def dask_setup(scheduler):
    got = scheduler.pixelprep_messages = [0]
    for name, handler in scheduler.stream_handlers.items():
        if not inspect.iscoroutinefunction(handler):
            scheduler.stream_handlers[name] = counting(handler, got)
    scheduler.pixelprep_sent = sent
"""


def write_idx(folder: Path, rows: int) -> None:
    """Write random images as training rows, a hundredth as many as test rows."""
    random = np.random.default_rng(0)
    block = random.integers(0, 256, (PIECE, SIDE * SIDE), np.uint8)
    for name, count in (("train", rows), ("t10k", max(1, rows // 100))):
        with (folder / f"{name}-images-idx3-ubyte").open("wb") as file:
            file.write(struct.pack(">IIII", 0x803, count, SIDE, SIDE))
            for start in range(0, count, PIECE):
                np.bitwise_xor(block, start // PIECE % 251, out=block)
                file.write(block[: count - start].data)
        labels = (np.arange(count) % 10).astype(np.uint8)
        content = struct.pack(">II", 0x801, count) + labels.tobytes()
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(content)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Time each step of a `prepare` in this process."""
    taken: dict[str, float] = {}
    steps: list[tuple[str, Any, str]] = [
        ("unpack", IdxFolder, "load"),
        ("digest", sources, "survey"),
        ("statistics", build, "sum_up"),
        ("write", build, "_write_files"),
    ]

    def clocked(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken[step] = time.perf_counter() - begun

        return call

    before = [getattr(owner, name) for _, owner, name in steps]
    for (step, owner, name), function in zip(steps, before, strict=True):
        setattr(owner, name, clocked(step, function))
    try:
        yield taken
    finally:
        for (_, owner, name), function in zip(steps, before, strict=True):
            setattr(owner, name, function)


def anonymous(pid: int) -> int:
    """Return the bytes of a process that are no file's; 0 of one that has ended."""
    with suppress(OSError):
        return memory(pid, "RssAnon")
    return 0


@contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Watch the most memory that this process, and that any of its children, has."""
    peak = {"this process": 0, "largest worker": 0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            mine, *others = family(os.getpid())
            peak["this process"] = max(peak["this process"], anonymous(mine))
            peak["largest worker"] = max([peak["largest worker"], *map(anonymous, others)])

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
    finally:
        over.set()
        watching.join()


@contextmanager
def cluster(workers: int, folder: Path) -> Iterator[str]:
    """Start a Dask scheduler and workers on this machine; yield the scheduler's address."""
    (folder / "counter.py").write_text(COUNTER)
    where = folder / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli"]
    scheduler = [f"{dask[2]}.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    scheduler += ["--no-dashboard", "--scheduler-file", f"{where}"]
    scheduler += ["--preload", f"{folder / 'counter.py'}"]
    worker = [f"{dask[2]}.dask_worker", "--scheduler-file", f"{where}", "--nthreads", "1"]
    worker += ["--no-dashboard", "--local-directory", f"{folder}", "--host", "127.0.0.1"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for arguments in (scheduler, *[worker] * workers):
            command = [sys.executable, "-m", *arguments]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
            started.append(process)
            while not where.exists():
                time.sleep(0.05)
        yield str(json.loads(where.read_text())["address"])
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def messages(address: str) -> dict[str, int]:
    """Return how many messages the scheduler got and sent until now."""
    from distributed import Client

    def counts(dask_scheduler: Any) -> dict[str, int]:
        got, sent = dask_scheduler.pixelprep_messages, dask_scheduler.pixelprep_sent
        return {"got": int(got[0]), "sent": int(sent[0])}

    with Client(address, set_as_default=False) as client:
        return dict(client.run_on_scheduler(counts))


def main() -> None:
    """Generate, prepare, show, delete."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stored-gb", type=float, default=20.0, metavar="GB")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--cluster", type=int, default=0, metavar="N", help="Dask workers instead")
    parser.add_argument("--work", type=Path, metavar="DIR")
    given = parser.parse_args()
    rows = int(given.stored_gb * 1e9 / (SIDE * SIDE * 4 + 8) / 1.01)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.work)))
        raw = work / "raw"
        raw.mkdir()
        write_idx(raw, rows)
        os.sync()
        address = stack.enter_context(cluster(given.cluster, work)) if given.cluster else None
        before = messages(address) if address else {}
        with timed() as taken, watched() as peak:
            begun = time.perf_counter()
            entry = prepare.prepare(
                raw,
                workers=1 if address else given.workers,
                scheduler=address,
                cache_dir=work / "cache",
                quiet=True,
            )
            taken["all"] = time.perf_counter() - begun
        after = messages(address) if address else {}
        show(entry, given.cluster or given.workers, taken, peak)
        files = sum(len(split.files) for split in entry.manifest.splits.values())
        for name in after:
            count = after[name] - before[name]
            print(f"- messages the scheduler {name}: {count:,}, {count / files:.1f} a file")


def show(
    entry: pixelprep.Entry, workers: int, taken: dict[str, float], peak: dict[str, int]
) -> None:
    """Print the figures as Markdown."""
    rows = sum(len(split) for split in entry.splits.values())
    raw, stored = rows * SIDE * SIDE, entry.size
    files = sum(len(split.files) for split in entry.manifest.splits.values())
    print(
        f"- {rows:,} images, {raw / 1e9:.2f} GB raw, {stored / 1e9:.2f} GB stored in {files} files"
    )
    print(f"- {stored / rows:,.1f} bytes a row, {workers} workers")
    for name, size in peak.items():
        print(f"- most memory of {name}: {size / MB:.0f} MB")
    print("\n| step | seconds | raw MB/s | stored MB/s |\n|---|---|---|---|")
    for step, seconds in taken.items():
        print(
            f"| {step} | {seconds:.1f} | {raw / seconds / MB:,.0f} | {stored / seconds / MB:,.0f} |"
        )


if __name__ == "__main__":
    main()
