"""The bytes of entries are promises: the same for ever, whatever is changed in the code."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.helpers.recipes import digests

HELD = json.loads(Path(__file__).with_name("bytes.json").read_bytes())
COMPRESSED = {"gzip", "lzf", "lz4", "zstd"}  # as one version of a compressor makes them


def test_entries_have_the_bytes_that_they_always_had(tmp_path: Path) -> None:
    """Every mode, `per`, type, compression and kind of source gives the digests of `bytes.json`."""
    pytest.importorskip("hdf5plugin", reason="no lz4 or zstd")
    made_with = HELD["made with"]
    same_compressors = {name: version(name) for name in made_with} == made_with
    found = dict(digests(tmp_path))
    assert found.keys() == HELD.keys() - {"made with"}
    for name, files in found.items():
        if same_compressors or name not in COMPRESSED:
            assert files == HELD[name], name
