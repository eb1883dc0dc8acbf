"""data/FORMAT.md suffices: a reader written from it alone, without libhdf5, reads entries."""

import ast
import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import pixelprep
from pixelprep import prepare
from tests.helpers import second_reader
from tests.helpers.data import arrays
from tests.helpers.malicious import Json, manifest_of, sign
from tests.helpers.packages import ROOT
from tests.helpers.process import execute

READER = Path(second_reader.__file__)
COMMITTED = sorted((ROOT / "data" / "format-1").iterdir())


def read(folder: Path) -> subprocess.CompletedProcess[str]:
    """Return what the second reader says, without any package that is installed."""
    command = [sys.executable, "-I", "-S", str(READER), str(folder)]
    return execute(command)


def refusal(folder: Path) -> str:
    """Return its one line on an entry that it refuses."""
    done = read(folder)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def seen(entry: pixelprep.Entry) -> Json:
    """Return the second reader's answer, by pixelprep's reading."""
    splits = {}
    for title, split in entry.splits.items():
        splits[title] = {"rows": len(split), "shape": list(split.shape), "dtype": str(split.dtype)}
        for name in split.column_names:
            raw = split.read_raw(0, len(split)) if name == "images" else None
            values = split.read(0, len(split), name) if raw is None else raw
            little = values.astype(values.dtype.newbyteorder("<"))
            splits[title][name] = sha256(little.tobytes()).hexdigest()
    manifest = entry.manifest
    return {k: getattr(manifest, k) for k in ("dataset", "mode", "per", "key")} | {"splits": splits}


def agreed(folder: Path) -> None:
    """Both readers find the same."""
    done = read(folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == seen(pixelprep.open(folder))


def chunks(file: Path, name: str) -> list[Any]:
    """Return where a dataset's chunks are, by HDF5's library."""
    with h5py.File(file) as opened:
        dataset = opened[name].id
        return [dataset.get_chunk_info(i) for i in range(dataset.get_num_chunks())]


# What both read


def test_the_second_reader_needs_nothing_but_python() -> None:
    """It imports modules of the standard library only."""
    nodes = list(ast.walk(ast.parse(READER.read_text())))
    names = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: path.name)
def test_both_read_the_same_of_the_committed_entries(folder: Path) -> None:
    """Every value of the committed entries is the same for both readers."""
    agreed(folder)


@pytest.mark.parametrize(
    ("rows", "shape", "expected", "compression"),
    [
        (5000, (6, 5, 3), 3, "none"),
        (5000, (6, 5, 3), 3, "gzip"),
        (4, (400, 400, 1), 4, "gzip"),
        (1, (2, 2, 1), 1, "none"),
    ],
)
def test_both_read_the_same_of_many_chunks(
    rows: int, shape: tuple[int, ...], expected: int, compression: str
) -> None:
    """So it is with an edge chunk that is not full, with an image a chunk, with a single row."""
    source = arrays(train=rows, test=1, shape=shape, classes=1)
    entry = prepare(source, compression=compression, per="image", quiet=True)
    assert len(chunks(entry.path / "train.h5", "images")) == expected
    agreed(entry.path)


@pytest.mark.long
def test_both_read_the_same_where_the_tree_of_chunks_has_levels() -> None:
    """So it is with more than 1,024 chunks, of which HDF5 keeps a tree of several levels.

    A chunk has more than half a MiB unpacked, so their images compress well.
    """
    rows, numbers = 1030, (1 << 17) + 1
    images = np.zeros((rows, numbers, 1), np.uint8)
    images[:, 0, 0] = np.arange(rows) % 251
    images[:, -1, 0] = np.arange(rows) // 251 + 1
    source = pixelprep.Arrays("pages", (images, np.arange(rows)), (images[:1], np.arange(1)))
    options: Json = {"mode": "normalize", "compression": "gzip", "shard_rows": rows}
    entry = prepare(source, quiet=True, **options)
    assert len(chunks(entry.path / "train.h5", "images")) == rows
    agreed(entry.path)


def test_a_checksum_that_is_zero_is_stored_as_its_modulus() -> None:
    """Both read a chunk whose two sums are multiples of 65,535; they are stored as 65,535."""
    images = np.full((1, 4369, 1), 255, np.uint8)  # 1.0 is the word 60 of float16
    source = pixelprep.Arrays("sums", (images, np.arange(1)), (images, np.arange(1)))
    path = prepare(source, mode="normalize", dtype="float16", quiet=True).path
    (chunk,) = chunks(path / "test.h5", "images")
    stored = (path / "test.h5").read_bytes()[chunk.byte_offset :][: chunk.size]
    assert stored == b"\x00\x3c" * 4369 + b"\xff" * 4
    agreed(path)


# What it refuses


def test_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    """Both say which version an entry has and which they read, though nothing in it is damaged,
    or nothing else is as it was.
    """
    copy = Path(shutil.copytree(COMMITTED[1], tmp_path / COMMITTED[1].name))
    for newer in (
        manifest_of(copy) | {"format_version": 2},
        {"format": "pixelprep", "format_version": 2},
    ):
        sign(copy, newer)
        assert refusal(copy) == f"{copy}/manifest.json: format version 2; this reads version 1"
        with pytest.raises(pixelprep.NewerFormatError, match=r"version 2.*version 1.*newer"):
            pixelprep.open(copy)


@pytest.mark.parametrize(
    ("compression", "says"),
    [("lzf", "filter 32000 (LZF)"), ("lz4", "filter 32004 (LZ4)"), ("zstd", "32015 (Zstandard)")],
)
def test_a_filter_that_is_not_read_is_refused_by_name(compression: str, says: str) -> None:
    """What the second reader cannot unpack it names."""
    if compression != "lzf":
        pytest.importorskip("hdf5plugin")
    assert says in refusal(prepare(arrays(), compression=compression, quiet=True).path)
