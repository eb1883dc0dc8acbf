"""The terminal: tables at any width, colours where they are wanted, and nothing else in a pipe."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import pixelprep
from pixelprep.system import formatting
from tests.helpers.cli import on_terminal, run
from tests.helpers.data import arrays, write_digits


def shown(columns: int, *arguments: str, **options: Any) -> str:
    """Return what a command shows on a terminal of so many columns, on both of its outputs."""
    return on_terminal(*arguments, columns=columns, both=True, **options)[1]


def test_tables_fit() -> None:
    """No line is longer than the terminal, but for paths and digests; nothing is left out. Splits
    become columns where their figures do not fit side by side.
    """
    key, texts = pixelprep.prepare("sample", quiet=True).key, {}
    for arguments in (["info", key], ["datasets"], ["cache", "list"]):
        words = set(run(*arguments).stdout.split()) - {"name"}
        for columns in (60, 80, 120):
            text = texts[arguments[0], columns] = shown(columns, *arguments)
            for line in text.splitlines():
                assert len(line) <= columns or max(map(len, line.split())) > columns - 12, line
            assert words <= set(text.split())
    assert "train  6,000   28×28×1  float32" in texts["info", 120]
    assert "images      6,000       1,000" in texts["info", 60]
    assert shown(50, "datasets").splitlines()[:2] == ["mnist", "  train     60,000"]


def test_wide_letters_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Letters that take two places count as two."""
    source = arrays()
    named = pixelprep.Arrays("wide", source.train, source.test, ("一二三", "b", "c", "d"))
    from pixelprep.cli import output

    output._columns([("一二三b", "x"), ("cccc", "y")])
    assert capsys.readouterr().out == "一二三b  x\ncccc     y\n"
    text = run("info", pixelprep.prepare(named).key).stdout
    assert "classes   一二三, b, c, d" in text


def test_colours_only_where_they_are_wanted() -> None:
    """Errors are in colour on a terminal, not with NO_COLOR, and not in a pipe."""
    red = "\x1b[31m"
    assert red in shown(80, "info", "nothing", status=1)
    plain = os.environ | {"NO_COLOR": "1"}
    assert "\x1b" not in shown(80, "info", "nothing", status=1, env=plain)
    assert "\x1b" not in run("info", "nothing").stderr


@pytest.mark.parametrize("columns", [60, 100])
def test_bars_settle_cleanly(columns: int, tmp_path: Path) -> None:
    """Bars are one line each and are gone at the end; what stays is what a pipe has."""
    text = shown(columns, "prepare", "sample", "--cache-dir", str(tmp_path / "one"))
    assert "%" in text
    screen = [line.split("\r")[-1].removeprefix("\x1b[A").strip() for line in text.split("\n")]
    assert not [line for line in screen if "%|" in line]
    longest = max(len(part) for part in text.replace("\n", "\r").split("\r") if "%|" in part)
    assert longest <= columns


@pytest.mark.parametrize(
    ("columns", "mark", "status"),
    [
        pytest.param(60, "", 0, marks=pytest.mark.long),
        pytest.param(80, "loss ", 130, marks=pytest.mark.long),
    ],
)
def test_the_bar_of_training_is_whole(columns: int, mark: str, status: int, tmp_path: Path) -> None:
    """It fits, no figure is cut, and Ctrl-C takes it away: the error stands alone on its line."""
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    digits = write_digits(tmp_path / "digits", 9000, 100)
    command = ["train", str(digits), "--epochs", "1", "--model", "tests.helpers.models:tiny"]
    command += ["--run-dir", str(tmp_path / "run")]
    text = shown(columns, *command, interrupted_at=mark, status=status)
    bars = [part for part in text.replace("\n", "\r").split("\r") if "epoch 1/1: " in part]
    assert len(bars) > 1
    assert all(len(part) <= columns and part.rstrip().endswith("]") for part in bars), bars
    assert any("loss" in part for part in bars) == (columns == 80)
    screen = [line.split("\r")[-1] for line in text.split("\n")]
    assert not [line for line in screen if "%|" in line]
    errors = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in screen if "interrupted" in line]
    assert [line.strip() for line in errors] == (["error: interrupted"] if mark else [])


def test_hashing_has_a_bar(tmp_path: Path) -> None:
    """Raw data is read, and an entry from elsewhere is hashed, behind a bar with a rate; none is on
    standard output.
    """
    cache = tmp_path / "one"
    printed, text = on_terminal("prepare", "sample", "--json", "--cache-dir", str(cache))
    assert json.loads(printed)["hit"] is False
    assert re.search(r"reading train: .*images/s", text)
    assert "writing: " in text
    [entry] = cache.glob("sample/*")
    shutil.copytree(entry, tmp_path / "copy")
    for command in (["info"], ["verify"], ["report", "--format", "json", "--out", str(tmp_path)]):
        text = shown(100, command[0], str(tmp_path / "copy"), *command[1:])
        assert re.search(r"hashing: .*B/s", text), command
    quiet = shown(100, "prepare", "sample", "--cache-dir", str(tmp_path / "two"), "--quiet")
    assert "%" not in quiet + shown(100, "verify", str(tmp_path / "copy"), "--quiet")
    assert "hashing:" not in shown(100, "info", str(entry), "--cache-dir", str(cache))


def test_durations_are_short() -> None:
    """In the units that people use, from seconds to hours."""
    from pixelprep.system.formatting import format_duration

    assert [format_duration(one) for one in (0.4, 89.4, 91, 3540, 3599, 3900, 90_000)] == [
        *("0 s", "89 s", "2 min", "59 min", "1 h 0 min", "1 h 5 min", "25 h 0 min")
    ]


def test_values_are_shown_as_people_write_them() -> None:
    """Pages show a size as 64×64, and no brackets or quotes of Python's; many names are cut."""
    shown = {
        "64×64": [64, 64],
        "none": None,
        "cat, dog": ("cat", "dog"),
        "train source, test train": {"train": "source", "test": "train"},
        "test in train 2": {"test in train": 2},
        "a, b, c, d, e, … (7 in all)": list("abcdefg"),
        "True": True,
    }
    assert {text: formatting.format_value(value) for text, value in shown.items()} == {
        text: text for text in shown
    }
