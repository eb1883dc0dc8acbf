"""Memory does not grow with the data: ten times the images take no more of it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import pixelprep
from tests.helpers.process import execute

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system has no /proc"
)

LONG = pytest.mark.long

CODE = """
import resource, sys, pixelprep
source, entry, out = sys.argv[1:4]
{work}
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
PREPARE = "pixelprep.prepare(source, cache_dir=out, quiet=True, dtype='float16', workers={})"
EXPORT = "pixelprep.export(entry, out, '{}', quiet=True)"
WORK = {
    "prepare": PREPARE.format(1),
    "workers": PREPARE.format(2),
    "epoch": "for _ in pixelprep.open(entry).train.batches(64, shuffle=True): pass",
    "report": "from pixelprep.reports.entry_report import report; report(entry, out, quiet=True)",
    **{name: EXPORT.format(name) for name in ("npz", "hdf5-single", "png", "tfrecord")},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, Path]]:
    """Return archives of 6,000 images and of ten times as many, and the entries made of them."""
    folder, found = tmp_path_factory.mktemp("sizes"), {}
    for rows in (6_000, 60_000):
        x = np.random.default_rng(0).integers(0, 256, (rows, 28, 28), np.uint8)
        y, path = np.arange(rows) % 10, folder / f"{rows}.npz"
        np.savez(path, x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
        found[rows] = path, pixelprep.prepare(path, cache_dir=folder / "cache", quiet=True).path
    return found


@pytest.mark.parametrize(
    "work", [name if name == "prepare" else pytest.param(name, marks=LONG) for name in WORK]
)
def test_memory_does_not_grow_with_the_images(
    made: dict[int, tuple[Path, Path]], tmp_path: Path, work: str
) -> None:
    """Neither in the main process nor in a worker (169 MB more of scaled images)."""
    pytest.importorskip({"tfrecord": "tensorflow", "report": "matplotlib"}.get(work, "numpy"))
    # An arena a thread would blur what is compared.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    peaks = []
    for rows, (source, entry) in made.items():
        code = CODE.format(work=WORK[work])
        command: list[str | Path] = [sys.executable, "-c", code, source, entry]
        command.append(tmp_path / str(rows))
        printed = execute(command, check=True, env=environment, timeout=600).stdout
        peaks.append([int(line) for line in printed.split()])
    for small, large in zip(*peaks, strict=True):
        assert large < small * 1.1 + 16_384, peaks
