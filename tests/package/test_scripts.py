"""The scripts beside the package run."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.packages import ROOT, done

SCRIPTS = ROOT / "scripts"


def script(*arguments: str) -> str:
    """Return what a script or module printed, once it is sure to have worked."""
    return done([sys.executable, *arguments], env={**os.environ, "PYTHONPATH": str(SCRIPTS)})


def test_the_benchmark_compares_in_turns(tmp_path: Path) -> None:
    """Every round has a value of each contestant, and the ratio is that within a round."""
    for split in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / f"{split}-{kind}-ubyte.gz").touch()  # this row does not read them
    options = f"--source {tmp_path} --only help --rounds 2 --work {tmp_path}".split()
    shown = script("-m", "benchmarks", *options, "--json", str(tmp_path / "all.json"))
    assert "| help | pixelprep --help |" in shown
    [line] = json.loads((tmp_path / "all.json").read_text())["lines"]
    ours, theirs = line["values"].values()
    assert (len(ours), len(theirs), line["rounds"]) == (2, 2, 2)
    assert line["ratio"] == pytest.approx((ours[0] / theirs[0] + ours[1] / theirs[1]) / 2)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


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
