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
    target="≤ 1.5",
    note="both unpack gzip, write and sync 219.5 MB of float32 and digest it",
)(_script("raw_copy.py", "numpy"))
COLD_PREPARE.peer(
    "NumPy and h5py script",
    target="< 1",
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
    place.entry()
    return lambda: seconds(_prepare(place))


@HELP.contestant("pixelprep --help")
def _help(place: Place) -> Measure:
    return lambda: seconds([*console(place), "--help"])


def _beside_imports(row: Contest, modules: str, target: str) -> None:
    code = f"import {modules}"
    peer = row.peer(f'python -c "{code}"', target=target, note="imports")
    peer(lambda place: lambda: seconds([sys.executable, "-c", code]))


_beside_imports(CACHE_HIT, "numpy, h5py, typer, tqdm", "≤ 1.5")
_beside_imports(HELP, "typer", "≤ 3.5")
HELP.before("pixelprep --help")
