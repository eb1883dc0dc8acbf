"""What docs/sharing.md says of exports is so: its commands make what its programs read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from tests.helpers.cli import command_line
from tests.helpers.pages import arguments, blocks, programs

COMMANDS = [
    arguments(line) for one in blocks("sharing.md") for line in one.commands if "./sample-" in line
]
PROGRAMS = programs("sharing.md")


@pytest.mark.long
@pytest.mark.parametrize(
    "library", ["pyarrow", "datasets", "webdataset", "tensorflow_datasets", "mlcroissant"]
)
def test_a_program_reads_what_a_command_makes(here: Path, library: str) -> None:
    """It runs as it stands, and what it has of a row is the entry's: its picture and its class."""
    pytest.importorskip(library, reason="it is what is tried")
    assert len(COMMANDS) == 3
    (program,) = (one for one in PROGRAMS if f"import {library}" in one or f"from {library}" in one)
    entry, names = pixelprep.prepare("sample", quiet=True), dict[str, Any]()
    for command in COMMANDS:
        if command[-1].removeprefix("./") in program:
            command_line().main([*command, "--quiet"], standalone_mode=False)
    exec(program, names)
    if library == "tensorflow_datasets":
        assert tuple(names["names"]) == entry.class_names
        assert len(names["train"]) == len(entry.train)
        return
    split = entry.test if library == "mlcroissant" else entry.train  # which has files in order
    pixels = np.asarray(names["pixels"] if library == "pyarrow" else names["image"])
    pixels = pixels if pixels.ndim == 2 else pixels[..., 0]  # webdataset makes it RGB
    assert np.array_equal(pixels, entry.scaling.invert(split.to_numpy()[0][:1])[0, :, :, 0])
    assert str(names["label"]) in (str(split.labels[0]), entry.class_names[split.labels[0]])
