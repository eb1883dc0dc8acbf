"""The current folder of a training run."""

from pathlib import Path

import pytest

from tests.helpers.training import MODELS


@pytest.fixture
def folder(here: Path) -> Path:
    """Return the current folder, with models of the user's own in it."""
    (here / "models.py").write_text(MODELS)
    return here
