"""Whole commands, from the start of their process to its end."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.clock import Measure
from benchmarks.contest import Contest
from benchmarks.place import LeftOut, Place
from benchmarks.process import console, seconds

PEERS = Path(__file__).parents[1] / "peers"

COLD_PREPARE = Contest(
    "cold-prepare", "`pixelprep prepare` of MNIST into an empty cache, the whole process", "s", 7
)
CACHE_HIT = Contest(
    "cache-hit", "`pixelprep prepare` of what is prepared, the whole process", "s", 15
)
TRAIN_SAMPLE = Contest(
    "train-sample", "`pixelprep train sample --epochs 1`, the whole process", "s", 5
)
VERIFY = Contest("verify", "`pixelprep verify` of MNIST's entry, the whole process", "s", 7)
HELP = Contest("help", "`pixelprep --help`, the whole process", "s", 15)


def _prepare(place: Place) -> list[str]:
    return [*console(place), "prepare", "--source", str(place.source), "--quiet", "--json"]


@COLD_PREPARE.contestant("pixelprep prepare, cold")
def _cold(place: Place) -> Measure:
    def measure() -> float:
        with place.folder() as cache:
            os.sync()  # what others left to write is not ours to wait for
            return seconds(_prepare(place), PIXELPREP_CACHE_DIR=str(cache))

    return measure


COLD_PREPARE.before("pixelprep prepare, cold", "< 1")


def _script(script: str, needs: str) -> Callable[[Place], Measure]:
    """Run a script that is given the raw files and an empty folder."""

    def make(place: Place) -> Measure:
        if importlib.util.find_spec(needs) is None:
            raise LeftOut(f"{needs} is not installed")
        command = [sys.executable, str(PEERS / script), str(place.source)]

        def measure() -> float:
            with place.folder() as target:
                os.sync()
                return seconds([*command, str(target)], HF_HOME=str(target / "hf"))

        return measure

    return make


COLD_PREPARE.peer(
    "unpack, float32, tofile, fsync, SHA-256",
    target="≤ 0.85",
    note="both unpack gzip, write and sync 219.5 MB of float32 and digest it",
)(_script("raw_copy.py", "numpy"))
COLD_PREPARE.peer(
    "NumPy and h5py script",
    target="≤ 0.45",
    note="the script neither syncs, nor checksums, nor digests what it writes",
)(_script("numpy_h5py.py", "h5py"))
COLD_PREPARE.peer(
    "HF datasets",
    target="< 1",
    note="Dataset.from_dict, batched map in NumPy format, save_to_disk; importing it alone takes"
    " over a second",
)(_script("hf_datasets.py", "datasets"))


@CACHE_HIT.contestant("pixelprep prepare, a hit")
def _hit(place: Place) -> Measure:
    # Each build has a cache of its own, since they may not remember in the same way.
    cache = str(place.work / ("hits-before" if place.before else "hits"))
    seconds(_prepare(place), PIXELPREP_CACHE_DIR=cache)
    return lambda: seconds(_prepare(place), PIXELPREP_CACHE_DIR=cache)


CACHE_HIT.before("pixelprep prepare, a hit", "< 1")


@HELP.contestant("pixelprep --help")
def _help(place: Place) -> Measure:
    return lambda: seconds([*console(place), "--help"])


def _beside_imports(row: Contest, modules: str, target: str) -> None:
    code = f"import {modules}"
    peer = row.peer(f'python -c "{code}"', target=target, note="imports")
    peer(lambda place: lambda: seconds([sys.executable, "-c", code]))


_beside_imports(CACHE_HIT, "numpy, h5py, typer, tqdm", "≤ 0.5")
_beside_imports(HELP, "typer", "≤ 3.5")
HELP.before("pixelprep --help")


@TRAIN_SAMPLE.contestant("pixelprep train sample --epochs 1")
def _train(place: Place) -> Measure:
    def measure() -> float:
        with place.folder() as folder:
            command = [*console(place), "train", "sample", "--epochs", "1", "--quiet"]
            command += ["--run-dir", str(folder / "run")]
            return seconds(command, PIXELPREP_CACHE_DIR=str(folder / "cache"))

    return measure


TRAIN_SAMPLE.before("pixelprep train sample --epochs 1", "≤ 0.8")


@TRAIN_SAMPLE.peer('python -c "import tensorflow"', note="of which Keras is a part")
def _import_tensorflow(place: Place) -> Measure:
    return lambda: seconds([sys.executable, "-c", "import tensorflow, keras"])


@VERIFY.contestant("pixelprep verify")
def _verify(place: Place) -> Measure:
    command = [*console(place), "verify", str(place.entry().path), "--quiet"]
    return lambda: seconds(command)


VERIFY.before("pixelprep verify", "< 1")


@VERIFY.peer(
    "sha256sum, and inverting in NumPy",
    target="≤ 1.5",
    note="the digests of all its files, then x × divisor + shift in float64 of all images: two"
    " processes, one after the other",
)
def _digests(place: Place) -> Measure:
    path = place.entry().path
    files = [str(file) for file in sorted(path.iterdir()) if file.is_file()]
    inverting = [sys.executable, str(PEERS / "inverting.py"), str(path)]
    return lambda: seconds(["sha256sum", *files]) + seconds(inverting)
