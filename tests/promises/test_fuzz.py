"""Damaged and malicious files, some of those that `scripts/fuzz` throws: always the same ones.

And the most telling ones of those that did harm once.
"""

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

import pixelprep
from tests.helpers.packages import ROOT
from tests.helpers.process import execute

SCRIPTS = ROOT / "scripts"
INPUTS = {"idx": 500, "npz": 500, "manifest": 400, "entry": 60, "hdf5": 80}

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Return a process of its own, from which children can be forked."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **one_thread, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, *arguments]
    return execute(command, env=environment)


@pytest.mark.parametrize("target", INPUTS)
def test_no_file_does_harm(target: str) -> None:
    """Whatever is in a file: it is taken or refused in one line, soon, in little memory."""
    done = python("-m", "fuzzing", "--target", target, "--inputs", str(INPUTS[target]))
    assert done.returncode == 0, done.stdout + done.stderr[-20_000:]
    counted = re.search(
        r"inputs: ([\d,]+) accepted, ([\d,]+) refused .*contained: ([\d,]+);", done.stdout
    )
    assert counted is not None
    accepted, refused, contained = (int(n.replace(",", "")) for n in counted.groups())
    assert accepted + refused + contained == INPUTS[target]
    assert min(accepted, refused) > INPUTS[target] // 50  # it is worth the trying


DIES = "list(sandbox.run_in_sandbox('os:abort'))"
HARM = {
    "a mistake": ("error", "raise TypeError('a mistake')"),
    "much memory": ("memory", "bytearray(b'x') * (300 << 20)"),
    "a crash": ("crash", "os.kill(os.getpid(), 11)"),
    "a hang": ("hang", "time.sleep(60)"),
    "another process dies": (
        "contained",
        f"try: {DIES}\n        except sandbox.SandboxError: raise PixelprepError('refused')",
    ),
    "it dies and nobody cares": (
        "error",
        f"try: {DIES}\n        except sandbox.SandboxError: pass",
    ),
    "it dies and so does its caller": ("error", DIES),
    "only the real one does harm": (
        "hang",
        f"if whole: time.sleep(60)\n        try: {DIES}"
        "\n        except sandbox.SandboxError: raise PixelprepError('refused')",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm_is_noticed(tmp_path: Path, harm: str) -> None:
    """Whatever an input does is noticed, and the next input is tried."""
    kind, does = HARM[harm]
    program = f"""
import os, time
from pathlib import Path
from fuzzing import children, targets
from pixelprep import PixelprepError
from pixelprep.format import sandbox

def use(folder, whole):
    if (folder / "bad").exists():
        {does}

children.PATIENCE = {1.5 if kind == "hang" else 60}
make = lambda random: {{"bad" if random.random() < 0.5 else "good": b""}}
children.TARGETS["x"] = targets.Target(make, use, lambda: {{"good": b""}})
for outcome in children.outcomes("x", 0, range(4), Path({str(tmp_path / "work")!r})):
    bad = "bad" in children.made("x", 0, outcome.number)
    print(outcome.number, bad, outcome.kind)
"""
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sorted(number for number, _, _ in lines) == ["0", "1", "2", "3"]
    assert {(bad, got) for _, bad, got in lines} == {("True", kind), ("False", "accepted")}


# What did harm once

IMAGES, LABELS = np.zeros((4, 3, 2), "u1"), np.array([0, 1, 0, 1])


def refused(path: Path, **options: Any) -> str:
    """Why a file is refused, which is one line."""
    with pytest.raises(pixelprep.SourceError) as caught:
        pixelprep.prepare(path, quiet=True, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def with_chunk(path: Path, rows: int, content: bytes, **storage: Any) -> Path:
    """So many images promised, one row or four a chunk; of the last the stored bytes are these."""
    with h5py.File(path, "w", libver="latest") as file:
        images = file.create_dataset("images", (rows, 3, 2), **storage)
        images.id.write_direct_chunk((rows - images.chunks[0], 0, 0), content)
        file["labels"] = LABELS
    return path


@pytest.mark.parametrize("packed", [None, "gzip", "lzf"])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_a_chunk_shorter_than_its_checksum(tmp_path: Path, packed: str | None, size: int) -> None:
    """A stored chunk of fewer bytes than its Fletcher checksum has is refused: libhdf5 crashes."""
    storage = {"dtype": "u1", "chunks": (4, 3, 2), "fletcher32": True, "compression": packed}
    path = with_chunk(tmp_path / "x.h5", 4, b"x" * size, **storage)
    assert "a chunk is shorter than its checksum" in refused(path, test_fraction=0.5)


def test_more_chunks_than_bytes(tmp_path: Path) -> None:
    """A small file that promises 2**30 chunks is refused: libhdf5 counts them one by one."""
    storage = {"dtype": "u1", "chunks": (1, 3, 2), "maxshape": (None, 3, 2)}
    path = with_chunk(tmp_path / "x.h5", 1 << 30, b"123456", **storage)
    assert "declares more than the file holds" in refused(path, test_fraction=0.5)


@pytest.mark.parametrize(
    "packing", [hdf5plugin.SZ(absolute=0.1), hdf5plugin.SZ3(absolute=0.1), hdf5plugin.Blosc()]
)
def test_filters_that_are_not_known(tmp_path: Path, packing: Any) -> None:
    """Such a filter is refused before its code runs, which of some ends the process."""
    storage = {"dtype": "f4", "chunks": (4, 3, 2), **packing}
    path = with_chunk(tmp_path / "x.h5", 4, b"x" * 100, **storage)
    filters = f"the filter {packing['compression']} is not supported"
    assert filters in refused(path, test_fraction=0.5)


HEADERS = {
    "deep": "{'descr': '|u1', 'fortran_order': False, 'shape': " + "(" * 250,
    "keys that have no order": "{1: 2, 'descr': '|u1', 'fortran_order': False, 'shape': (4, 3, 2)}",
    "a type of nothing": "{'descr': (), 'fortran_order': False, 'shape': (4, 3, 2)}",
    "a name of no hash": "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 3, 2), []: 1}",
}


@pytest.mark.parametrize("header", HEADERS)
def test_npz_headers(tmp_path: Path, header: str) -> None:
    """A header that has NumPy's parser raise something else than a ValueError is refused."""
    content = HEADERS[header].encode().ljust(117) + b"\n"
    member = b"\x93NUMPY\1\0" + len(content).to_bytes(2, "little") + content + bytes(24)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", member)
    assert "x_train: not a readable .npz file" in refused(tmp_path / "x.npz")


def test_an_npz_directory_that_lies(tmp_path: Path) -> None:
    """An archive whose members begin before the file does is refused."""
    made = io.BytesIO()
    np.savez(made, x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS)
    content = bytearray(made.getvalue())
    place = content.rindex(b"PK\5\6") + 16  # of the directory's own place
    further = int.from_bytes(content[place : place + 4], "little") + 900
    content[place : place + 4] = further.to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(content)
    assert "x_train: cannot read" in refused(tmp_path / "x.npz")


@pytest.mark.parametrize("place", ["their number", "bytes of each", "the first"])
def test_an_entry_whose_chunks_have_no_sides(place: str) -> None:
    """A signed entry whose chunks have 0 sides, or sides of 0, is refused: libhdf5 divides by it.

    In a process of its own here too, so that a crash is only that one's.
    """
    program = f"""
import sys, tempfile
from pathlib import Path
import pixelprep
from fuzzing import seals, seeds, targets

entry = seeds.entries()["plain"]
written = entry["train.h5"]
sides = written.index(bytes([5, 1, 8, 3, 2, 1, 4]))  # number, bytes of each, (8, 3, 2, 1) floats
damaged = bytearray(written)
damaged[sides + {("their number", "bytes of each", "the first").index(place)}] = 0
entry["train.h5"] = seals.sealed(bytes(damaged), seals.seals(written))
entry |= targets.signed(entry, believe=False)
with tempfile.TemporaryDirectory() as folder:
    for name, content in entry.items():
        Path(folder, name).write_bytes(content)
    try:
        pixelprep.open(folder)
    except pixelprep.EntryError as error:
        print(error)
"""
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "train.h5: not a readable HDF5 file" in done.stdout
