"""A plain `prepare` is read without Typer: to the same end, and loading next to nothing."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pixelprep.cli import app as commands
from pixelprep.cli.main import _plain_prepare
from pixelprep.errors import UsageError
from pixelprep.format.options import PrepareOptions
from tests.helpers.process import execute

HEAVY = {"numpy", "h5py", "typer", "pydantic", "tqdm", "tensorflow", "requests"}
READING = {"lazy_arrays", "gzip_file", "containers", "listing"}  # of raw data
HEAVY |= {f"pixelprep.sources.{name}" for name in READING}
HEAVY |= {"pixelprep.numerics.statistics", "pixelprep.numerics.histogram"}
LINES = [
    "",
    "sample",
    "./digits --mode center --json",
    "--mode=robust --quantiles 0.1,0.9 --clip sample -q",
    "cifar10 --source ./raw --cache-dir=/tmp/c --val-fraction 0.25 --split-seed 7 --quiet --force",
    "./photos --size 64x64 --color grey --workers 2 --shard-rows 100 --on-error skip --offline",
    "./photos --labels table.csv --columns file=NAME,label=SORT --labels-from 1 -f",
]
OTHERS = [
    *("--help", "a b", "--mode", "--mode center --mode center", "--workers x", "--workers -1"),
    *("-j 2", "--json=1", "--val-fraction .5", "--no-rescale", "--modes center", "-qf", "-- a"),
]


@pytest.mark.parametrize("line", LINES)
def test_it_is_read_as_typer_reads_it(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters of a plain line are those that Typer makes of it, where not the defaults."""
    monkeypatch.delenv("PIXELPREP_CACHE_DIR", raising=False)  # which Typer reads, too
    read: dict[str, Any] = {}
    words = ["prepare", *line.split()]
    usual = {"dataset": "mnist", "as_json": False, "quiet": False}
    given = _plain_prepare(words)
    assert given is not None
    plain = usual | given
    monkeypatch.setattr(
        commands,
        "run_prepare",
        lambda dataset, as_json, quiet, **choices: read.update(
            choices, dataset=dataset, as_json=as_json, quiet=quiet
        ),
    )
    commands.app(words, standalone_mode=False)
    defaults = {name: getattr(PrepareOptions, name, None) for name in read} | usual
    assert {n: v for n, v in read.items() if n in plain or v != defaults[n]} == plain


@pytest.mark.parametrize("line", OTHERS)
def test_whatever_is_in_doubt_is_left_to_typer(line: str) -> None:
    """Help, wrong values, short and unknown options are not read here."""
    assert _plain_prepare(["prepare", *line.split()]) is None


@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "table"])
def test_a_hit_loads_none_of_the_libraries(options: list[str], tmp_path: Path) -> None:
    """What is prepared already is found without NumPy, h5py, Typer, tqdm, and what reads data."""
    code = (
        "import atexit, gc, json, sys\n"
        f"loaded = lambda: sorted({HEAVY} & set(sys.modules))\n"
        "atexit.register(lambda: print(json.dumps([*loaded(), gc.isenabled()])))\n"
        f"sys.argv = ['pixelprep', 'prepare', 'sample', '--cache-dir', {str(tmp_path)!r}, "
        f"*{options}]\n"
        "from pixelprep.__main__ import main; main()"
    )
    made, found = (execute([sys.executable, "-c", code], check=True).stdout for _ in range(2))
    assert {"numpy", True} <= set(json.loads(made.splitlines()[-1]))
    assert json.loads(found.splitlines()[-1]) == [True]  # garbage is collected again
    if options:
        first, second = (json.loads(text.splitlines()[0]) for text in (made, found))
        assert (first.pop("hit"), second.pop("hit")) == (False, True)
        del first["seconds"], second["seconds"]
        assert first == second
    else:
        assert made.splitlines()[:6] == found.splitlines()[:6]


def test_a_switch_of_the_environment_may_have_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks around a value are no part of it, and nothing but blanks is no value."""
    for value, meant in ((" 1", True), ("yes ", True), ("0", False), (" ", None), ("", None)):
        monkeypatch.setenv("PIXELPREP_OFFLINE", value)
        assert PrepareOptions().offline is meant


def test_a_wrong_switch_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong in the environment is told by the variable's name, not as an option."""
    monkeypatch.setenv("PIXELPREP_OFFLINE", "maybe")
    with pytest.raises(UsageError) as caught:
        PrepareOptions()
    assert str(caught.value) == "`PIXELPREP_OFFLINE=maybe`: expected true or false"
