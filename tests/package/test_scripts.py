"""The scripts beside the package run."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.packages import ROOT, done

SCRIPTS = ROOT / "scripts"


def script(*arguments: str, **environment: str) -> str:
    """Return what a script or module printed, once it is sure to have worked."""
    found = {**os.environ, "PYTHONPATH": str(SCRIPTS), **environment}
    return done([sys.executable, *arguments], env=found)


def benchmark(tmp_path: Path, *options: str, **environment: str) -> dict[str, Any]:
    """Return what `scripts/bench` wrote of two rounds of rows that do not read MNIST."""
    for split in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / f"{split}-{kind}-ubyte.gz").touch()
    where = f"--source {tmp_path} --work {tmp_path} --json {tmp_path}/all.json --rounds 2".split()
    shown = script("-m", "benchmarks", *where, *options, **environment)
    written: dict[str, Any] = json.loads((tmp_path / "all.json").read_text())
    assert all(f"| {line['row']} | {line['what']} |" in shown for line in written["lines"])
    assert not list(tmp_path.glob("pixelprep-bench-*"))
    return written


def test_the_benchmark_compares_in_turns(tmp_path: Path) -> None:
    """Every round has a value of each contestant, and the ratio is that within a round."""
    found = benchmark(tmp_path, "--only", "help", PIXELPREP_BEFORE="")
    [line] = found["lines"]
    ours, theirs = line["values"].values()
    assert (len(ours), len(theirs), line["rounds"]) == (2, 2, 2)
    assert line["ratio"] == pytest.approx((ours[0] / theirs[0] + ours[1] / theirs[1]) / 2)
    [remark] = found["remarks"]
    assert remark.endswith(
        "the build before: PIXELPREP_BEFORE names no folder with the build before"
    )


def test_the_build_before_is_that_of_its_folder(tmp_path: Path) -> None:
    """What PIXELPREP_BEFORE names is imported and started where the build before is measured."""
    app = tmp_path / "before" / "pixelprep" / "cli" / "app.py"
    app.parent.mkdir(parents=True)
    (app.parents[1] / "__init__.py").touch()
    app.write_text(f"def main(): open({str(tmp_path / 'ran')!r}, 'a').write('once ')")
    found = benchmark(tmp_path, "--only", "help", PIXELPREP_BEFORE=str(app.parents[2]))
    assert [line["against"] for line in found["lines"]] == [
        'python -c "import typer"',
        "pixelprep --help, the build before",
    ]
    assert (tmp_path / "ran").read_text() == 3 * "once "  # it warms up once


ROWS = """
import json, sys
from benchmarks.contest import Contest
from benchmarks.rows import ROWS

contests = {name: getattr(row.run, "__self__", None) for name, row in ROWS.items()}
print(json.dumps({
    "pixelprep": "pixelprep" in sys.modules,
    "rows": {
        name: [list(contest.contestants), [[d.ours, d.theirs, d.target] for d in contest.duels]]
        for name, contest in contests.items() if isinstance(contest, Contest)
    },
}))
"""
WITH_THE_BUILD_BEFORE = (
    *("photos", "decoding", "workers", "packed", "raw", "batches", "batches-160", "cold-cache"),
    *("to_tf", "to_torch", "to_jax", "cold-prepare", "cache-hit", "train-sample", "verify"),
    *("cores", "cores-batches", "scheduler", "memory-photos"),
)


def test_rows_compare_what_is_measured() -> None:
    """Every line's contestants are measured, every target is a bound, no row imports ours first."""
    found = json.loads(script("-c", ROWS))
    assert not found["pixelprep"]  # else no process could run the build before
    for contestants, duels in found["rows"].values():
        for ours, theirs, target in duels:
            assert {ours, theirs} <= {*contestants, ""}
            assert re.fullmatch(r"([≤<≥>] (\d+/)?[\d.]+)?", target)
        assert {*contestants} == {name for ours, theirs, _ in duels for name in (ours, theirs)} - {
            ""
        }
    for name in WITH_THE_BUILD_BEFORE:
        assert any(one.endswith(", the build before") for one in found["rows"][name][0]), name


def test_each_peer_stores_and_feeds() -> None:
    """A peer of the rows `peers-…` is a module with `write` and `epochs`, whatever is installed."""
    code = """
from importlib import import_module
from benchmarks.rows.peers import PEERS
for name in PEERS:
    peer = import_module(f"benchmarks.peers.{name}")
    print(name, callable(peer.write) and callable(peer.epochs))
"""
    lines = script("-c", code).splitlines()
    assert len(lines) == 10
    assert all(line.endswith(" True") for line in lines)


def test_the_precision_of_ours_is_the_truth(tmp_path: Path) -> None:
    """`scripts/precision.py` finds that our figures of a few images are the true ones."""
    np.save(tmp_path / "x.npy", np.arange(24, dtype=np.uint16).reshape(2, 2, 2, 3))
    file = str(tmp_path / "x.npy")
    shown = script(str(SCRIPTS / "precision.py"), "--one", "pixelprep", file)
    mean, std = json.loads(shown)
    assert mean == [10.5, 11.5, 12.5]
    assert std == 3 * [3 * (63 / 12) ** 0.5]  # of eight numbers, three apart


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_run_times_every_step(tmp_path: Path) -> None:
    """`scripts/large.py`, run small here, has a figure for each step, and leaves nothing behind."""
    shown = script(str(SCRIPTS / "large.py"), "--stored-gb", "0.001", "--work", str(tmp_path))
    for step in ("unpack", "digest", "statistics", "write", "all"):
        assert f"| {step} | " in shown
    assert list(tmp_path.iterdir()) == []
