"""What docs/sharing.md says of exports is so: its commands make what its programs read."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from tests.helpers.cli import command_line, parse
from tests.helpers.packages import ROOT
from tests.package.test_api import blocks

PAGE = (ROOT / "docs" / "sharing.md").read_text().partition("## Exports")[2]
PAGE = PAGE.partition("\n## ")[0]
COMMANDS = [
    shlex.split(line)[1:]
    for language, text in blocks(PAGE)
    if not language
    for line in text.splitlines()
]
PROGRAMS = [text for language, text in blocks(PAGE) if language == "python"]


def test_commands_are_taken() -> None:
    """The commands of the page have no unknown option."""
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        parse(command)


@pytest.mark.long
@pytest.mark.parametrize(
    "library", ["pyarrow", "datasets", "webdataset", "tensorflow_datasets", "mlcroissant"]
)
def test_a_program_reads_what_a_command_makes(here: Path, library: str) -> None:
    """It runs as it stands, and what it has of a row is the entry's: its picture and its class."""
    pytest.importorskip(library, reason="it is what is tried")
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
