"""What a notebook shows of work that goes on: bars, messages, warnings, a way to resume."""

import asyncio
import sys

import pytest

import pixelprep
from tests.helpers.process import execute

# What a kernel is to us, where Jupyter is not installed; its standard output is no terminal either.
STUB = """
import sys, types
shell = types.SimpleNamespace({attributes})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
"""
WORK = """
import logging, pixelprep
from pixelprep.system import notices, progress
progress.NOTEBOOK_DELAY = 0
with progress.bar("reading", 2, " images", quiet=False) as bar:
    bar.update(1)
logging.getLogger("pixelprep").info("epoch 1/2")
notices.tell("2 images are in train and in test")
print([name for name in sys.modules if name.startswith("tqdm.")] == [])
"""


def said(attributes: str) -> tuple[str, str]:
    """Return what such work prints, and what it says on standard error."""
    program = STUB.format(attributes=attributes) + WORK
    done = execute([sys.executable, "-c", program], check=True)
    return done.stdout, done.stderr


def test_a_kernel_shows_what_a_terminal_would() -> None:
    """Below a cell there are bar and messages; a warning is one line, without a place in code."""
    out, err = said("kernel=True")
    assert "reading:   0%" in out
    assert "epoch 1/2" in out
    assert err == "PixelprepWarning: 2 images are in train and in test\n"


def test_ipython_on_a_terminal_is_no_kernel() -> None:
    """Where IPython runs without a kernel, a pipe gets no bars, and logging is the user's own."""
    out, err = said("")
    assert out == "True\n"
    assert "<string>" in err


NOTEBOOK = [
    "import sys\nsys.modules['ipywidgets'] = None  # as if it were not installed",
    "import pixelprep\nentry = pixelprep.prepare('sample', quiet=True)\n"
    "print([name for name in sys.modules if name.startswith('tqdm')])",
    "run = pixelprep.train(entry, epochs=50, run_dir='run')",
    "resumed = pixelprep.resume('run.unfinished', epochs=3)",
]


@pytest.mark.long
def test_ctrl_c_leaves_a_run_that_goes_on(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel's interrupt ends training in two lines, the second of which goes on with it.

    Without ipywidgets there are text bars, and no warning; a hit loads no bar at all.
    """
    reason = "nbclient and ipykernel are not installed"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    monkeypatch.setenv("PIXELPREP_CACHE_DIR", f"{tmp_path}/cache")
    pixelprep.prepare("sample", quiet=True)
    cells = [nbformat.v4.new_code_cell(source) for source in NOTEBOOK]
    book = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(book, timeout=100, allow_errors=True, resources=resources)
    process = client.process_message
    interrupts: list[object] = []

    def watched(message: object, cell: object, cell_index: int) -> object:
        shown, outputs = process(message, cell, cell_index), cells[2].outputs
        if outputs and "epoch 2/50" in outputs[-1].get("text", "") and not interrupts:
            interrupts.append(asyncio.ensure_future(client.km.interrupt_kernel()))
        return shown

    client.process_message = watched
    client.execute()
    _, hit, trained, resumed = (cell.outputs for cell in cells)
    assert [one.text for one in hit] == ["[]\n"]
    *shown, error = trained
    assert error.ename == "KeyboardInterrupt", error.evalue
    assert {one.name for one in shown} == {"stdout"}
    assert error.traceback == ["KeyboardInterrupt", "go on with pixelprep.resume('run.unfinished')"]
    assert "epoch 3/3  loss" in "".join(one.text for one in resumed)
