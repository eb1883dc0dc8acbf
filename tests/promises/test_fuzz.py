"""Damaged and malicious files, some of those that `scripts/fuzz` throws: always the same ones.

The most telling ones of those that did harm once are here and in `test_untrusted`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.packages import ROOT
from tests.helpers.process import execute

SCRIPTS = ROOT / "scripts"
INPUTS = {"idx,npz,manifest": 40, "entry,hdf5": 7}  # of each target; one process starts them all

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Return a process of its own, from which children can be forked."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **one_thread, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, *arguments]
    return execute(command, env=environment)


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.long)])
@pytest.mark.parametrize("targets", INPUTS)
def test_no_file_does_harm(targets: str, times: int) -> None:
    """Whatever is in a file: it is taken or refused in one line, soon, in little memory."""
    inputs, number = INPUTS[targets] * times, len(targets.split(","))
    done = python("-m", "fuzzing", "--target", targets, "--inputs", str(inputs * number))
    assert done.returncode == 0, done.stdout + done.stderr[-20_000:]
    counted = re.findall(
        r"inputs: ([\d,]+) accepted, ([\d,]+) refused .*contained: ([\d,]+);", done.stdout
    )
    assert len(counted) == number
    for counts in counted:
        accepted, refused, contained = (int(n.replace(",", "")) for n in counts)
        assert accepted + refused + contained == inputs
        assert min(accepted, refused) > inputs // 50  # it is worth the trying


DIES = "list(sandbox.run_in_sandbox('os:abort'))"
REFUSED = f"try: {DIES}\nexcept sandbox.SandboxError: raise PixelprepError('refused')"
HARM = {  # what an input does, and what is noted of it
    "raise TypeError('a mistake')": "error",
    "bytearray(b'x') * (300 << 20)": "memory",
    "os.kill(os.getpid(), 11)": "crash",
    "time.sleep(60)": "hang",
    REFUSED: "contained",  # another process dies
    f"try: {DIES}\nexcept sandbox.SandboxError: pass": "error",  # it dies and nobody cares
    DIES: "error",  # it dies and so does its caller
    f"if whole: time.sleep(60)\n{REFUSED}": "hang",  # only the real one does harm
}


@pytest.mark.long
def test_harm_is_noticed(tmp_path: Path) -> None:
    """Whatever an input does is noticed, and the next input is tried."""
    program = f"""
import os, time
from pathlib import Path
from fuzzing import children, targets
from pixelprep import PixelprepError
from pixelprep.format import sandbox

def use(folder, whole):
    if (folder / "bad").exists():
        exec(does)

make = lambda random: {{"bad" if random.random() < 0.5 else "good": b""}}
children.TARGETS["x"] = targets.Target(make, use, lambda: {{"good": b""}})
for does, kind in {HARM!r}.items():
    children.PATIENCE = 1.5 if kind == "hang" else 60
    for outcome in children.outcomes("x", 0, range(4), Path({str(tmp_path / "work")!r})):
        bad = "bad" in children.made("x", 0, outcome.number)
        assert outcome.kind == (kind if bad else "accepted"), (does, outcome)
        print(outcome.number, bad)
"""
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sorted(number for number, _ in lines) == sorted("0123" * len(HARM))
    assert {bad for _, bad in lines} == {"True", "False"}


def test_an_entry_whose_chunks_have_no_sides() -> None:
    """A signed entry whose chunks have 0 sides, or sides of 0, is refused: libhdf5 divides by it.

    In a process of its own here too, so that a crash is only that one's.
    """
    program = """
import struct, tempfile
from pathlib import Path
import pixelprep
from fuzzing import seals, seeds, targets

entry = seeds.entries()["plain"]
written = entry["train.h5"]
sides = written.index(struct.pack("<5I", 8, 3, 2, 1, 4))  # (8, 3, 2, 1) floats
for place in (-9, 0, 4):  # their number, which is before the tree's place, and two of them
    damaged = bytearray(written)
    damaged[sides + place] = 0
    entry["train.h5"] = seals.sealed(bytes(damaged), seals.seals(written))
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (entry | targets.signed(entry, believe=False)).items():
            Path(folder, name).write_bytes(content)
        try:
            pixelprep.open(folder)
        except pixelprep.EntryError as error:
            print(error)
"""
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    refusals = done.stdout.splitlines()
    assert ["train.h5: not a readable HDF5 file" in line for line in refusals] == [True] * 3
