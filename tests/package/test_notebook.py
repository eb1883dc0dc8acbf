"""docs/notebook.ipynb: what it stores is what its cells show, and tells nothing of a machine."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import pixelprep
from tests.helpers.packages import ROOT

PATH = ROOT / "docs" / "notebook.ipynb"
# Cells that no two machines do alike.
TRAINED = "pixelprep.train|model.fit|run.report|pixelprep.evaluate"


def code(notebook: Any) -> list[Any]:
    """Return the cells of code of a notebook."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def shown(cell: Any) -> list[tuple[str, str]]:
    """Return what a cell shows: what kind it is, and its text without tags and pictures."""
    found = []
    for one in cell["outputs"]:
        assert one["output_type"] != "error", one
        assert one.get("name") != "stderr", one
        data = one["data"] if "data" in one else {"stdout": one["text"]}
        kind = next(kind for kind in ("text/html", "stdout", "text/plain") if kind in data)
        found.append((kind, text_of("".join(data[kind]))))
    return found


def text_of(part: str) -> str:
    """Return the words of a part of a page."""
    return " ".join(re.sub("<[^>]*>", " ", part).split())


def test_it_is_stored_with_what_it_shows() -> None:
    """Its cells ran once each, in order, without an error or a warning; it is not large."""
    notebook = json.loads(PATH.read_text())
    counts = [cell["execution_count"] for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert all(shown(cell) for cell in code(notebook))
    assert PATH.stat().st_size < 400_000


def test_it_tells_nothing_of_a_machine() -> None:
    """No path of the machine that ran it is stored, in text, page or metadata."""
    text = PATH.read_text()
    assert re.findall(r"(?:/home|/root|/tmp|/work|/var|/Users|ipykernel_)[/\w]*", text) == []
    assert str(Path.home()) not in text


def test_its_entry_is_todays() -> None:
    """The entry and the scaling that it shows are those that the package makes and shows now."""
    entry = pixelprep.prepare("sample", quiet=True)
    stored = [text for cell in code(json.loads(PATH.read_text())) for _, text in shown(cell)]
    card, _, place = text_of(str(entry._repr_html_())).rpartition(" in ")
    assert f"{card} in ~/.cache/pixelprep/sample/{Path(place).name}" in stored
    assert text_of(str(entry.scaling._repr_html_())) in stored


@pytest.mark.long
def test_it_runs_and_shows_the_same() -> None:
    """Run again, each cell shows what is stored; where a model is trained, as much of it."""
    nbformat = pytest.importorskip("nbformat", reason="nbclient and ipykernel are not installed")
    pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    run = runpy.run_path(str(ROOT / "scripts" / "notebook.py"))["run"]
    again, stored = run(nbformat.read(PATH, as_version=4)), json.loads(PATH.read_text())
    for now, then in zip(code(again), code(stored), strict=True):
        assert [kind for kind, _ in shown(now)] == [kind for kind, _ in shown(then)]
        assert shown(now) == shown(then) or re.search(TRAINED, now["source"])
