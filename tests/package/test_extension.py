"""What is added in one place is there everywhere: a mode, an option of `prepare`."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import failure
from tests.helpers.packages import ROOT, done
from tests.helpers.process import execute

MODE = """
from pixelprep.numerics.modes import MODES, Mode

MODES["floor"] = Mode("x - minimum", "minimum 0", shift=lambda s: s.minimum)

import json
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO

from pixelprep.cli.app import main


def said(*arguments):
    sys.argv = ["pixelprep", *arguments]
    with suppress(SystemExit), redirect_stdout(StringIO()) as out:
        main()
    return " ".join(out.getvalue().split())


made = json.loads(said("prepare", "sample", "--mode", "floor", "--json"))
print(json.dumps([made, said("info", made["path"]), said("verify", made["path"]),
                  said("prepare", "--help"), said("compare", "--help")]))
"""
OPTION = """
    tint: str | None = option(None, "Colour of the images.", env="PIXELPREP_TINT")
    flavor: str = option(
        "plain", "Taste of the images.", choices=("plain", "sweet")
    )
"""
SEEN = """
import inspect, os
import pixelprep

parameter = inspect.signature(pixelprep.prepare).parameters["flavor"]
assert (parameter.annotation, parameter.default, parameter.kind.name) == (
    str, "plain", "KEYWORD_ONLY"
)
assert 'flavor : {"plain", "sweet"}' in pixelprep.prepare.__doc__
plain = pixelprep.prepare("sample", quiet=True)
sweet = pixelprep.prepare("sample", flavor="sweet", quiet=True)
assert (plain.manifest.recipe.flavor, sweet.manifest.recipe.flavor) == ("plain", "sweet")
assert plain.key != sweet.key
sweet.path.joinpath("train.h5").unlink()
[result] = pixelprep.verify(sweet.path, repair=True, quiet=True)
assert result.repaired and pixelprep.open(sweet.path).manifest.recipe.flavor == "sweet"
os.environ["PIXELPREP_TINT"] = "red"
assert pixelprep.prepare("sample", mode="center", quiet=True).manifest.recipe.tint == "red"
"""


def test_a_mode_is_one_entry() -> None:
    """A mode that is added to `MODES` is prepared, described, verified and helped with."""
    made, info, verified, shown, compared = json.loads(done([sys.executable, "-c", MODE]))
    assert (made["mode"], made["splits"]["train"]["first_batch"]["min"]) == ("floor", 0.0)
    assert "sample, floor per channel" in info
    assert "ok" in verified
    assert "normalize|center|standardize|fixed|robust|floor" in shown
    assert "floor gives minimum 0" in shown
    assert "[default: normalize,center,standardize,floor]" in compared


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Return a folder to run Python in, with a copy of the package that has one more option."""
    shutil.copytree(ROOT / "pixelprep", tmp_path / "pixelprep")
    (tmp_path / "data").symlink_to(ROOT / "data")
    path = tmp_path / "pixelprep" / "format" / "options.py"
    before, found, after = path.read_text().partition("class RecipeOptions:\n")
    docstring, rest = after.split("\n", 1)
    path.write_text(f"{before}{found}{docstring}\n{OPTION}{rest}")
    return tmp_path


def test_an_option_is_one_declaration(scratch: Path, cache: Path) -> None:
    """An option is in the help, the signature, its documentation, the key and the repair record;
    its environment variable and its choices are checked.
    """
    python = [sys.executable, "-m", "pixelprep"]
    shown = " ".join(done([*python, "prepare", "--help"], cwd=scratch).split())
    assert "Colour of the images. [env var: PIXELPREP_TINT]" in shown
    assert "--flavor plain|sweet Taste of the images." in shown
    done([sys.executable, "-c", SEEN], cwd=scratch)
    kept = [json.loads(path.read_text()) for path in (cache / ".origins").rglob("*.json")]
    assert sorted(record["flavor"] for record in kept) == ["plain", "plain", "sweet"]
    wrong = [*python, "prepare", "sample", "--flavor", "sour"]
    error, _ = failure(execute(wrong, cwd=scratch), 2)
    assert error == "unknown --flavor 'sour': expected one of plain, sweet"
