"""Batches of an entry that is read in place, 20 ms away, beside the same entry on the disk."""

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH, Epochs, Measure
from benchmarks.contest import Contest
from benchmarks.made import LARGE, entry
from benchmarks.place import Place
from benchmarks.rows.streaming import ours

LATENCY = 0.02  # seconds, of each request

REMOTE = Contest(
    "remote", "shuffled batches of 64 of an entry whose every request takes 20 ms", "images/s", 5
)
LOCAL, KEPT, COLD = "on the disk", "in place, all of it kept", "in place, nothing kept"


def _train(place: Place, folder: Path) -> Any:
    """Open the entry in place, with a cache of blocks in this folder."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    import pixelprep

    class Far(LocalFileSystem):  # type: ignore[misc]  # untyped
        protocol = "far"

        def info(self, path: str, **options: object) -> object:
            time.sleep(LATENCY)
            return super().info(path, **options)

        def cat_file(
            self, path: str, start: int | None = None, end: int | None = None, **_: object
        ) -> bytes:
            time.sleep(LATENCY)
            with Path(path).open("rb") as file:
                file.seek(start or 0)
                return file.read() if end is None else file.read(end - (start or 0))

        @classmethod
        def _strip_protocol(cls, path: str) -> object:
            return super()._strip_protocol(str(path).removeprefix("far://"))

    fsspec.register_implementation("far", Far, clobber=True)
    return pixelprep.open(f"far://{entry(place, LARGE).path}", cache_dir=folder).train


def _kept(place: Place) -> Epochs:
    train = _train(place, place.work / "kept")
    for _ in train.batches(BATCH):
        pass
    return Epochs(lambda k: train.batches(BATCH, shuffle=True, seed=0, epoch=k), len(train))


def _cold(place: Place) -> Measure:
    shutil.rmtree(folder := place.work / "cold", ignore_errors=True)
    train = _train(place, folder)

    def measure() -> float:
        begun = time.perf_counter()
        for _ in train.batches(BATCH, shuffle=True, seed=0):
            pass
        return len(train) / (time.perf_counter() - begun)

    return measure


REMOTE.contestant(KEPT, "kept")(_kept)
REMOTE.peer(LOCAL, "disk", "≥ 0.5", "the same arrays")(partial(ours, size=LARGE))
REMOTE.contestant(COLD, "cold", fresh=True)(_cold)
REMOTE.duel(COLD, LOCAL, note="all of it comes from there, and is written to the disk")
