"""Prepare the embedded dataset in a private cache, and compare it with figures that are known."""

import json
import sys
import time

from pixelprep.exporters.export import export
from pixelprep.pipeline.prepare import prepare
from pixelprep.pipeline.verify import verify

MEAN, STD = 26.190697278911564, 63.380245953686995  # of the sample's training images
FIRST_BATCH_SUM = 1_244_791  # of its first 64 raw images


def run(folder: str) -> dict[str, object]:
    """Prepare, verify, read and export; an AssertionError says what is not as it should be."""
    started = time.perf_counter()
    entry = prepare("sample", mode="standardize", offline=True, cache_dir=folder, quiet=True)
    _expect("mean", MEAN, entry.scaling.mean.item())
    _expect("standard deviation", STD, entry.scaling.std.item())
    [verdict] = verify(entry.path, cache_dir=folder, quiet=True)
    _expect("problems", (), verdict.problems)
    images, _ = next(iter(entry.train.batches(64)))
    _expect("sum of a batch", FIRST_BATCH_SUM, int(entry.scaling.invert(images).sum()))
    export(entry, f"{folder}/npz", "npz", quiet=True)  # which reads it back
    return {"result": "right, to the last bit", "took_seconds": time.perf_counter() - started}


def _expect(what: str, expected: object, got: object) -> None:
    if got != expected:
        raise AssertionError(f"{what}: expected {expected}, got {got}")


def main(folder: str) -> None:
    """Print the result as JSON."""
    is_able = sys.platform != "win32"  # where nothing is prepared
    print(json.dumps(run(folder) if is_able else {"result": "not tried on Windows"}))
