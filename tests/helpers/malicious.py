"""Files as an attacker makes them, a canary that nothing may touch, and a child that opens them."""

import ctypes
import json
import os
import select
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import h5py
import numpy as np

from tests.helpers.process import Process
from tests.helpers.second_reader import fletcher32

Json = dict[str, Any]

MIB = 1 << 20
ROOM = 384 * MIB  # bytes that a child may take beyond what it has when it is ready
PATIENCE = 30.0  # seconds until a child is said to hang
SECRET = 31337.0  # every pixel of the canary
ROWS, SHAPE = 40, (6, 6, 1)  # of the training split of `write_digits`
WHOLE = (ROWS, *SHAPE)


# The canary


class Watch:
    """Notices whoever opens, changes, makes or removes something in a folder, libhdf5 too.

    Where the system cannot tell (it is Linux's inotify), nothing is noticed.
    """

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        if hasattr(libc, "inotify_init1"):
            self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            # Opened, read, written, and whatever happens to the names: all but closing.
            libc.inotify_add_watch(self._fd, os.fsencode(folder), 0xFE7)

    def noticed(self) -> bytes:
        """Return what happened since it was asked last; empty where nothing did."""
        with suppress(OSError):
            return os.read(self._fd, 1 << 16)
        return b""

    def close(self) -> None:
        """Stop watching."""
        with suppress(OSError):
            os.close(self._fd)


class Canary:
    """Files outside of everything that is given to pixelprep; whoever opens them is noticed.

    ``secret.h5`` is a train.h5 like any other, whose pixels are all `SECRET`; ``secret.raw`` holds
    the same pixels, and ``secret.txt`` some text.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.h5, self.raw, self.text = (folder / f"secret.{kind}" for kind in ("h5", "raw", "txt"))
        pixels = np.full(WHOLE, SECRET, "<f4")
        self.raw.write_bytes(pixels.tobytes())
        self.text.write_text("the secret\n")
        with h5py.File(self.h5, "w", libver=("v110", "v110")) as file:
            store(file, "images", pixels)
            store(file, "labels", np.arange(ROWS) % 4, "<i8")
        self._before = self._state()
        self._watch: Watch | None = None

    def watched(self) -> None:
        """From now on nobody may open what is in the folder."""
        self.close()
        self._watch = Watch(self.folder)

    def untouched(self) -> bool:
        """Return whether nobody has touched anything since it was asked last."""
        assert self._watch is not None
        noticed, now = self._watch.noticed(), self._state()
        self._watch.noticed()  # our own reading just now
        return noticed == b"" and now == self._before

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.close()
        self._watch = None

    def _state(self) -> dict[str, str]:
        return {path.name: sha256(path.read_bytes()).hexdigest() for path in self.folder.iterdir()}


# A child that opens what it is told to

OPENER = """
import json, resource, sys
import h5py, numpy as np
import pixelprep
from pixelprep.errors import PixelprepError

parsed, room, answers = [], int(sys.argv[1]), open(int(sys.argv[2]), "w")
h5open = h5py.h5f.open


def noted(name, *rest, **named):
    parsed.append(str(name))
    return h5open(name, *rest, **named)


h5py.h5f.open = noted
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))


def read(kind, path, options):
    if kind == "prepare":
        entry = pixelprep.prepare(path, quiet=True, mode="center", **options)
    else:
        entry = pixelprep.open(path, **options)
    progress["opened"] = True
    found = {}
    for name, split in entry.splits.items():
        images, labels = split.to_numpy()
        shuffled = [len(x) for x, _ in split.batches(7, shuffle=True)]
        found[name] = [images.tolist(), labels.tolist(), sum(shuffled)]
    entry.scaling
    return {"key": entry.key, "mode": entry.mode, "hit": entry.cached, "splits": found}


print("ready", file=answers, flush=True)
for line in sys.stdin:
    parsed.clear()
    progress = {"opened": False}
    try:
        answer = {"read": read(*json.loads(line))}
    except BaseException as error:
        hint = getattr(error, "hint", None)
        message = getattr(error, "message", str(error))
        answer = {"error": type(error).__name__, "message": message, "hint": hint}
        del error
    answer |= progress | {"parsed": parsed}
    print(json.dumps(answer), file=answers, flush=True)
"""


@dataclass(frozen=True)
class Answer:
    """What came of opening an entry, or of preparing a dataset.

    error : the class of the error; empty where there was none
    message, hint : of the error
    parsed : what libhdf5 opened
    opened : whether the entry was opened, whatever came of reading it
    read : what was read: mode, key, hit, and by split images, labels and rows of its batches
    """

    error: str = ""
    message: str = ""
    hint: str | None = None
    parsed: tuple[str, ...] = ()
    opened: bool = False
    read: Any = None


class Opener:
    """A child with little memory that opens one thing after the other; killed when it hangs."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._answers: TextIO | None = None

    def __call__(
        self, kind: str, path: Path | str, patience: float = PATIENCE, **options: Any
    ) -> Answer:
        """Open an entry or prepare a dataset, and read it all."""
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps([kind, os.fspath(path), options]) + "\n")
        process.stdin.flush()
        line = self._line(patience)
        if line is None:
            return Answer("Hung", f"no answer within {patience:g} s")
        if not line:
            return Answer("Died", f"status {process.wait()}")
        answer = json.loads(line)
        return Answer(**answer | {"parsed": tuple(answer["parsed"])})

    def stop(self) -> None:
        """End the child."""
        if self._process is not None and self._answers is not None:
            self._process.kill()
            self._process.communicate()
            self._answers.close()
            self._process = None

    def _started(self) -> Process:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            # A thread of the linear algebra library reserves much; one arena holds the heap.
            little = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
            here, there = os.pipe()  # filters of HDF5's print what they think of a file
            self._answers = open(here)  # noqa: PTH123, SIM115 - a descriptor, closed at the end
            self._process = Process(
                [sys.executable, "-c", OPENER, str(ROOM), str(there)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                pass_fds=[there],
                env=os.environ | little,
            )
            os.close(there)
            assert self._line(PATIENCE) == "ready\n"
        return self._process

    def _line(self, patience: float) -> str | None:
        """Return its next line; None, and an end to it, when there is none for so many seconds."""
        assert self._answers is not None
        if not select.select([self._answers], [], [], patience)[0]:
            self.stop()
            return None
        return self._answers.readline()


# Entries


def canonical(value: object) -> bytes:
    """Return the one spelling of a JSON value that digests are taken over, also of no numbers."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def manifest_of(entry: Path) -> Json:
    """Return an entry's manifest, unchecked."""
    manifest: Json = json.loads((entry / "manifest.json").read_bytes())
    return manifest


def sign(entry: Path, manifest: Mapping[str, Any] | bytes) -> None:
    """Give an entry this manifest, with the digest that belongs to it."""
    content = manifest if isinstance(manifest, bytes) else canonical(manifest) + b"\n"
    (entry / "manifest.json").write_bytes(content)
    line = f"{sha256(content).hexdigest()}  manifest.json\n"
    (entry / "manifest.sha256").write_text(line)


def settle(manifest: Json) -> Json:
    """Return the manifest with every digest and sum in it as its other fields have it."""
    source, recipe = manifest["source"], manifest["recipe"]
    about = {name: source[name] for name in ("splits", "task", "class_names", "decode")}
    source["digest"] = recipe["source"] = sha256(canonical(about)).hexdigest()
    manifest["key"] = sha256(canonical(recipe)).hexdigest()[:12]
    return manifest


def forge(entry: Path, change: Callable[[Json], Any] = lambda _: None) -> None:
    """Sign an entry's manifest after a change, all digests and sizes being those of its files."""
    manifest = manifest_of(entry)
    change(manifest)
    for split in manifest["splits"].values():
        for file in split["files"]:
            path = entry / file["name"]
            file["bytes"] = path.stat().st_size
            file["sha256"] = sha256(path.read_bytes()).hexdigest()
        split["bytes"] = sum(file["bytes"] for file in split["files"])
    sign(entry, settle(manifest))


def at(*names: str | int) -> Callable[[Json, Any], None]:
    """Put a value under these names of a manifest."""

    def put(manifest: Json, value: Any) -> None:
        inner: Any = manifest
        for name in names[:-1]:
            inner = inner[name]
        inner[names[-1]] = value

    return put


def with_rows(rows: int) -> Callable[[Json], None]:
    """Return a change that has all of a manifest agree on another number of training rows."""

    def change(manifest: Json) -> None:
        split = manifest["splits"]["train"]
        split["rows"] = split["files"][0]["rows"] = split["shape"][0] = rows
        manifest["source"]["splits"]["train"]["shape"][0] = rows

    return change


# HDF5


def store(file: Any, name: str, data: Any, dtype: str = "<f4", **storage: Any) -> Any:
    """Return a dataset as the format has it, but for these changes."""
    array = np.asarray(data, dtype)
    own: Json = {"chunks": array.shape, "fletcher32": True, "fill_time": "ifset"}
    return file.create_dataset(name, data=array, dtype=dtype, **own | storage)


def put_chunk(dataset: Any, content: bytes, start: tuple[int, ...] | None = None) -> None:
    """Store one chunk's bytes as they are, past all filters; its checksum is right."""
    whole = content + struct.pack("<I", fletcher32(content))
    dataset.id.write_direct_chunk(start or (0,) * dataset.ndim, whole)


def deflate_bomb(size: int) -> bytes:
    """Return a zlib stream of so many zeros (whole MiB), 1/1000 of that long; its checksum is
    right.
    """
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, wbits=-zlib.MAX_WBITS).flush()
    return b"\x78\xda" + block * (size // MIB) + end + struct.pack(">HH", size % 65521, 1)
