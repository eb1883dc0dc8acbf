#!/usr/bin/env python3
"""Train the reference CNN on every mode with several seeds and print a Markdown table.

    scripts/accuracy.py mnist --source DIR --seeds 3

Each run is a `pixelprep train` of its own, in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pixelprep.scaling import MODES


def test_accuracy(dataset: str, mode: str, seed: int, epochs: int, source: str | None) -> float:
    """Train once; the accuracy on the test split, 0 to 1."""
    command = [sys.executable, "-m", "pixelprep", "train", dataset, "--mode", mode, "--json"]
    command += ["--seed", str(seed), "--epochs", str(epochs)]
    command += ["--source", source] if source else []
    with tempfile.TemporaryDirectory() as place:
        command += ["--run-dir", str(Path(place) / "run")]
        shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(json.loads(shown)["test_accuracy"])


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="mnist")
    parser.add_argument("--source", help="folder with the raw files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    seeds = range(given.seeds)
    print("| mode |" + "".join(f" seed {seed} |" for seed in seeds) + " mean | lowest |")
    print("|---|" + "---|" * (given.seeds + 2))
    for mode in MODES:
        found = [test_accuracy(given.dataset, mode, s, given.epochs, given.source) for s in seeds]
        cells = [*found, statistics.mean(found), min(found)]
        print(f"| {mode} |" + "".join(f" {cell:.2%} |" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
