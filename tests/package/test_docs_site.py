"""`scripts/docs` builds the pages as a site, in an environment that it makes for itself."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.packages import ROOT, done
from tests.helpers.pages import PAGES
from tests.helpers.process import execute

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site() -> Path:
    """Return the site, newly built; whatever is wrong with the pages ends the build."""
    done([ROOT / "scripts" / "docs"], cwd=ROOT, timeout=1200)
    return ROOT / "site"


def test_the_site_has_every_page_and_needs_no_other(site: Path) -> None:
    """Every page is there, README as the first; no script, font, style or picture is another's."""
    for name in PAGES.keys() - {"README.md"}:
        text = (site / name).with_suffix(".html").read_text()
        assert re.findall(r'<(?:script|img|link)\b[^>]*(?:src|href)="?(?:https?:)?//', text) == []
        assert "&lt;!-- " not in text
    assert "Five terms used throughout" in (site / "index.html").read_text()


def test_commands_and_docstrings_are_there(site: Path) -> None:
    """The pages that are made while the site is built have options, and tables of parameters."""
    commands, python = (site / f"{name}.html" for name in ("commands", "python"))
    assert "--val-fraction F" in commands.read_text()
    assert re.search(r"(?s)<table>.*?Parameters.*?<code>val_fraction</code>", python.read_text())
    found = json.dumps(json.loads((site / "search.json").read_text()))
    assert "Fletcher" in found


def test_a_broken_link_ends_the_build(site: Path, tmp_path: Path) -> None:
    """So does an anchor that no heading has."""
    shutil.copytree(ROOT / "build", tmp_path / "build", ignore=shutil.ignore_patterns(".cache"))
    zensical = ROOT / ".venv-docs" / "bin" / "zensical"
    build = [str(zensical), "build", "--strict", "--config-file", "zensical.toml"]
    page = tmp_path / "build" / "docs" / "install.md"
    right = page.read_text()
    for wrong in ("[there](gone.md)", "[there](data.md#nowhere)"):
        page.write_text(f"{right}\n{wrong}\n")
        ran = execute(build, cwd=tmp_path / "build")
        assert ran.returncode == 1
        assert "install.md" in ran.stdout + ran.stderr
