"""Run docs/notebook.ipynb from top to bottom, and store what its cells show.

It runs in a new home folder, whose name nothing stored may tell. Needs nbclient and ipykernel.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT = 600  # seconds a cell


def run(notebook: Any) -> Any:
    """Return a notebook with what its cells show now, run in an empty home."""
    with tempfile.TemporaryDirectory() as folder:
        home = os.path.realpath(folder)
        env = {**os.environ, "HOME": home, "XDG_CACHE_HOME": f"{home}/.cache"}
        env = {name: value for name, value in env.items() if not name.startswith("PIXELPREP_")}
        (here := Path(home, "digits")).mkdir()
        resources = {"metadata": {"path": str(here)}}
        client = NotebookClient(notebook, timeout=TIMEOUT, resources=resources)
        client.execute(env=env)
        for cell in notebook.cells:
            cell.metadata = {}
            cell.get("outputs", [])[:] = tidied(cell.get("outputs", []), home)
    notebook.metadata.pop("widgets", None)  # of the bars
    return notebook


def tidied(outputs: list[Any], home: str) -> list[Any]:
    """Return the outputs of a cell, printed lines together, without bars and the name of home."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            if kept and kept[-1].get("name") == output.name:
                kept[-1].text += output.text
                continue
        elif WIDGET in output.data:  # a bar
            continue
        else:
            output.data = {kind: text.replace(home, "~") for kind, text in output.data.items()}
        kept.append(output)
    for output in kept:
        if output.output_type == "stream":  # of a line that is written over, what is left of it
            output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text).replace(home, "~")
    return [one for one in kept if one.get("text", "…")]


if __name__ == "__main__":
    nbformat.write(run(nbformat.read(NOTEBOOK, as_version=4)), NOTEBOOK)
