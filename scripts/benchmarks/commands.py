"""Whole commands, from the start of their process to its end."""

import importlib.util
import os
import sys
from pathlib import Path

from benchmarks.contest import Contest, Contestant, Duel, Measure, Reading, Target
from benchmarks.place import LeftOut, Place, console
from benchmarks.process import seconds

PEERS = Path(__file__).parent / "peers"


def _prepare(place: Place) -> list[str]:
    return [*console(), "prepare", "--source", place.source, "--quiet", "--json"]


def _cold(place: Place) -> Measure:
    def measure(number: int) -> Reading:
        with place.folder() as cache:
            os.sync()  # what others left to write is not ours to wait for
            environment = place.environment(PIXELPREP_CACHE_DIR=str(cache))
            return Reading(seconds(_prepare(place), environment))

    return measure


def _peer(name: str, script: str, needs: str) -> Contestant:
    """A script that is given the raw files and an empty folder."""

    def make(place: Place) -> Measure:
        if importlib.util.find_spec(needs) is None:
            raise LeftOut(f"{needs} is not installed")
        command = [sys.executable, str(PEERS / script), place.source]

        def measure(number: int) -> Reading:
            with place.folder() as target:
                os.sync()
                environment = place.environment(HF_HOME=str(target / "hf"))
                return Reading(seconds([*command, str(target)], environment))

        return measure

    return Contestant(name, make)


def _hit(place: Place) -> Measure:
    place.entry()
    environment = place.environment()
    return lambda number: Reading(seconds(_prepare(place), environment))


def _help(place: Place) -> Measure:
    return lambda number: Reading(seconds([*console(), "--help"], place.environment()))


def _import(modules: str) -> Contestant:
    code = f"import {modules}"

    def make(place: Place) -> Measure:
        command = [sys.executable, "-c", code]
        return lambda number: Reading(seconds(command, place.environment()))

    return Contestant(f'python -c "{code}"', make)


RAW, H5PY, HF = "unpack, float32, tofile, fsync, SHA-256", "NumPy and h5py script", "HF datasets"

COLD_PREPARE = Contest(
    "cold-prepare",
    "`pixelprep prepare` of MNIST into an empty cache, the whole process",
    "s",
    7,
    (
        Contestant("pixelprep prepare, cold", _cold),
        _peer(RAW, "raw_copy.py", "numpy"),
        _peer(H5PY, "numpy_h5py.py", "h5py"),
        _peer(HF, "hf_datasets.py", "datasets"),
    ),
    (
        Duel(
            "pixelprep prepare, cold",
            RAW,
            Target("≤", 1.5),
            "both unpack gzip, write and sync 219.5 MB of float32 and digest it",
        ),
        Duel(
            "pixelprep prepare, cold",
            H5PY,
            Target("<", 1),
            "the script neither syncs, nor checksums, nor digests what it writes",
        ),
        Duel(
            "pixelprep prepare, cold",
            HF,
            Target("<", 1),
            "Dataset.from_dict, batched map in NumPy format, save_to_disk; importing it alone"
            " takes over a second",
        ),
    ),
)

LIBRARIES, TYPER = "numpy, h5py, typer, tqdm", "typer"

CACHE_HIT = Contest(
    "cache-hit",
    "`pixelprep prepare` of what is prepared, the whole process",
    "s",
    15,
    (Contestant("pixelprep prepare, a hit", _hit), _import(LIBRARIES)),
    (
        Duel(
            "pixelprep prepare, a hit",
            f'python -c "import {LIBRARIES}"',
            Target("≤", 1.5),
            "imports",
        ),
    ),
)

HELP = Contest(
    "help",
    "`pixelprep --help`, the whole process",
    "s",
    15,
    (Contestant("pixelprep --help", _help), _import(TYPER)),
    (Duel("pixelprep --help", f'python -c "import {TYPER}"', Target("≤", 3.5), "imports"),),
)
