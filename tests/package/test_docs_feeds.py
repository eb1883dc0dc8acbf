"""The loops of docs/feeds.md run as they stand, and learn."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pages import PAGES, programs
from tests.helpers.process import execute

PAGE = PAGES["feeds.md"].read_text()
LOOPS = dict(re.findall(r"(?ms)^## ([^\n]+)$(?:(?!^## ).)*?^```python\n(.*?)^```$", PAGE))
BATCHES = LOOPS.pop("Batches")
NEEDED = {
    "Keras": "keras",
    "PyTorch, whole batches": "torch",
    "PyTorch, map-style": "torch",
    "skorch": "skorch",
    "fastai": "fastai",
    "NumPy": "numpy",
    "Grain": "grain",
    "PyTorch, several processes": "torch",
    "PyTorch, resumed": "torchdata",
    "Lightning": "lightning",
    "JAX": "optax",
    "Flax": "flax",
    "TensorFlow and Keras, resumed": "keras",
}
QUICK = ("NumPy", "PyTorch, map-style", "Grain")
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
assert LOOPS.keys() == NEEDED.keys()
assert len(programs("feeds.md")) == 1 + len(LOOPS)


@pytest.fixture(autouse=True)
def cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the programs' cache into the current folder."""
    monkeypatch.setenv("PIXELPREP_CACHE_DIR", "cache")


NAMES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in LOOPS]


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_learns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of the page tells most of the images apart that it has not seen: chance is 0.1."""
    pytest.importorskip(NEEDED[name], reason=f"{NEEDED[name]} is not installed")
    if "dist." in LOOPS[name]:
        for variable, value in ALONE.items():
            monkeypatch.setenv(variable, value)
    names: dict[str, object] = {}
    exec(LOOPS[name], names)
    accuracy = names["accuracy"]
    assert isinstance(accuracy, float)
    assert accuracy > 0.5


@pytest.mark.long
def test_the_calls_of_batches() -> None:
    """They run, and a pass that is resumed has all batches but the one that was taken."""
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    names: dict[str, Any] = {}
    exec(BATCHES, names)
    assert len(list(names["rest"])) == len(names["shard"]) - 1


@pytest.mark.long
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_keras_needs_no_tensorflow(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of Keras learns on JAX and on PyTorch where TensorFlow cannot be imported."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    pytest.importorskip("keras", reason="keras is not installed")
    monkeypatch.setenv("KERAS_BACKEND", backend)
    hidden = "import sys\nsys.modules['tensorflow'] = None\n"
    done = execute([sys.executable, "-c", f"{hidden}{LOOPS['Keras']}\nassert accuracy > 0.5"])
    assert done.returncode == 0, done.stderr
