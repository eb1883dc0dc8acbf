"""Files that somebody sent are safe to open: refused before they are followed, run or allocated.

Each test makes a really malicious file. Beside it lies a canary, outside of what was sent: nobody
may open, change or remove it (the system's own watch on its folder tells).
"""

import ast
import io
import json
import os
import random
import resource
import shutil
import socket
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import EntryError, SourceError, TrainError
from pixelprep.sources import REGISTRY
from pixelprep.sources.known.cifar import Cifar
from pixelprep.sources.known.registered import embedded
from pixelprep.training.run_folder import unfinished
from tests.helpers.cli import failure, run
from tests.helpers.data import idx, write_digits
from tests.helpers.malicious import (
    MIB,
    ROWS,
    SECRET,
    SHAPE,
    WHOLE,
    Answer,
    Canary,
    Json,
    Opener,
    Watch,
    at,
    deflate_bomb,
    forge,
    manifest_of,
    put_chunk,
    settle,
    sign,
    store,
    with_rows,
)
from tests.helpers.process import execute
from tests.helpers.raw_files import PAIRS, cifar_members, npy, npz, npz_with, png, write_hdf5
from tests.helpers.raw_files import Canary as PickleCanary
from tests.helpers.recipes import write_folder

Sent = Callable[[str], Path]  # copies an entry of a kind
KINDS: dict[str, Json] = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "lzf": {"compression": "lzf"},
    "own": {"per": "image"},
    "zstd": {"compression": "zstd"},
    "lz4": {"compression": "lz4"},
}


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """Provide what nobody may touch."""
    made = Canary(tmp_path / "outside")
    yield made
    made.close()


@pytest.fixture(scope="module")
def opener() -> Iterator[Opener]:
    """Provide the child that opens what was sent."""
    made = Opener()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return good entries, by kind."""
    top = tmp_path_factory.mktemp("good")
    digits, cache = write_digits(top / "digits"), top / "cache"
    return {
        kind: pixelprep.prepare(digits, quiet=True, cache_dir=cache, mode="center", **options).path
        for kind, options in KINDS.items()
        if kind not in ("lz4", "zstd") or find_spec("hdf5plugin")
    }


@pytest.fixture
def sent(good: dict[str, Path], tmp_path: Path) -> Sent:
    """Make a copy of a good entry of this kind, in the sender's hands."""

    def copied(kind: str = "plain") -> Path:
        if kind not in good:
            pytest.skip("hdf5plugin is not installed")
        return Path(shutil.copytree(good[kind], tmp_path / "sent" / kind))

    return copied


def is_refused(answer: Answer, where: Path, error: str = "EntryError") -> str:
    """Return the message of an error of ours: one short line that begins with what it is about."""
    assert answer.error in (error, "NewerFormatError"), answer
    assert answer.message.startswith(str(where)), answer
    assert len(answer.message) - len(str(where)) < 500, answer
    assert answer.message.isprintable(), answer
    return answer.message


def test_a_good_entry_is_opened(
    opener: Opener, good: dict[str, Path], sent: Sent, canary: Canary
) -> None:
    """The opener reads good entries of every kind, signed anew, in its memory."""
    canary.watched()
    for kind in good:
        forge(path := sent(kind))
        answer = opener("open", path)
        assert answer.read is not None, answer
        assert len(answer.read["splits"]["train"][0]) == ROWS
    assert canary.untouched()


def test_the_canary_is_awake(canary: Canary) -> None:
    """Whoever opens the canary is noticed, also libhdf5; and so is whoever makes a file."""
    canary.watched()
    assert canary.untouched()
    with h5py.File(canary.h5) as file:
        assert file["images"].shape == WHOLE
    assert not canary.untouched()
    assert canary.untouched()
    (canary.folder / "more").touch()
    assert not canary.untouched()


# HDF5 files of an entry, the whole folder in the attacker's hands


def linked(file: Any, to: Any, name: str = "images") -> None:
    """Give a name to a link, or to whatever h5py can give one; what had it is gone."""
    file.pop(name, None)
    file[name] = to


def made(file: Any, name: str, *shape_and_type: Any, **storage: Any) -> None:
    """Make a dataset as h5py makes it, in the place of one."""
    del file[name]
    file.create_dataset(name, *shape_and_type, **storage)


def stored(
    file: Any, name: str, dtype: str = "", change: Callable[[Any], Any] = np.array, **storage: Any
) -> Any:
    """Store a dataset's values, or changed ones, as the format has it but for these changes."""
    values = change(file[name][()])
    del file[name]
    return store(file, name, values, dtype or {"labels": "<i8"}.get(name, "<f4"), **storage)


def low_level(file: Any, kind: Any = None, **settings: Any) -> Any:
    """Make images with settings of HDF5's own property list; return the dataset."""
    del file["images"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    for name, arguments in settings.items():
        getattr(plist, f"set_{name}")(*arguments)
    space = h5py.h5s.create_simple(WHOLE)
    return h5py.h5d.create(file.id, b"images", kind or h5py.h5t.IEEE_F32LE, space, plist)


def other_floats(file: Any, canary: Canary) -> None:
    """Of 32 bits like any other, but with 3 bits fewer of a fraction: h5py calls them float32."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 23, 8, 3, 20)
    found = low_level(file, kind, chunk=(WHOLE,), fletcher32=())
    found.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(WHOLE, "<f4"))


def virtual(shape: tuple[int, ...], canary: Canary) -> Any:
    """Return a dataset that is a view of the canary's images."""
    layout = h5py.VirtualLayout(shape, "<f4")
    layout[:] = h5py.VirtualSource(canary.h5, "images", shape)
    return layout


ORDERS = "\x1b]0;owned\a\x1b[2J\n\u202e"  # to a terminal
UNKNOWN = (40_000, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))  # a filter that nobody has
SHARED_TYPE = np.dtype(("<f4", SHAPE))

BAD_H5: dict[str, Callable[[Any, Canary], Any]] = {
    "soft-link": lambda f, _: linked(f, h5py.SoftLink("/labels")),
    "link-to-itself": lambda f, _: linked(f, h5py.SoftLink("/images")),
    "external-link": lambda f, c: linked(f, h5py.ExternalLink(c.h5, "images")),
    "external-link-for-labels": lambda f, c: linked(f, h5py.ExternalLink(c.h5, "labels"), "labels"),
    "external-storage": lambda f, c: made(
        f, "images", WHOLE, "<f4", external=[(c.raw, 0, c.raw.stat().st_size)]
    ),
    "virtual-dataset": lambda f, c: [
        f.pop("images"),
        f.create_virtual_dataset("images", virtual(WHOLE, c)),
    ],
    "group-that-is-the-root": lambda f, _: linked(f, f["/"], "loop"),
    "groups-in-each-other": lambda f, _: linked(f, f.create_group("a/b").parent, "a/b/c"),
    "unknown-filter": lambda f, _: low_level(
        f, chunk=(WHOLE,), filter=UNKNOWN, fletcher32=()
    ).write_direct_chunk((0, 0, 0, 0), bytes(5760 + 4)),
    "no-checksum": lambda f, _: stored(f, "images", fletcher32=False),
    "checksum-skipped": lambda f, _: stored(f, "images").id.write_direct_chunk(
        (0, 0, 0, 0), bytes(5760), 1
    ),
    "gzip-of-labels": lambda f, _: stored(f, "labels", compression="gzip"),
    "scale-offset": lambda f, _: stored(f, "images", scaleoffset=1, fletcher32=False),
    "contiguous": lambda f, _: made(f, "images", data=f["images"][()]),
    "chunks-of-7-rows": lambda f, _: stored(f, "images", chunks=(7, *SHAPE)),
    "chunk-of-3-gb": lambda f, _: made(
        f,
        "images",
        WHOLE,
        "<f4",
        chunks=(20 * MIB, *SHAPE),
        maxshape=(None, *SHAPE),
        fletcher32=True,
    ),
    "can-grow": lambda f, _: stored(f, "images", maxshape=(None, *SHAPE)),
    "no-chunk": lambda f, _: made(f, "images", WHOLE, "<f4", chunks=WHOLE, fletcher32=True),
    "big-endian": lambda f, _: stored(f, "images", ">f4"),
    "other-floats": other_floats,
    "text-for-images": lambda f, _: made(f, "images", WHOLE, h5py.string_dtype()),
    "references": lambda f, _: made(f, "labels", (ROWS,), h5py.ref_dtype),
    "arrays-for-pixels": lambda f, _: made(f, "images", (ROWS,), SHARED_TYPE, chunks=(ROWS,)),
    "null-for-images": lambda f, _: linked(f, h5py.Empty("<f4")),
    "times-for-images": lambda f, _: low_level(f, h5py.h5t.UNIX_D32LE),
    "a-group": lambda f, _: store(f, "deep/" * 200 + "more", [1.0]),
    "many-groups": lambda f, _: [f.create_group(f"number-{i:05}") for i in range(5000)],
    "names-that-speak": lambda f, _: linked(f, h5py.SoftLink("/images"), ORDERS),
    "names-of-odd-bytes": lambda f, _: f.id.links.create_soft(b"\xff\xfe", b"/images"),
    "no-labels": lambda f, _: f.pop("labels"),
    "a-label-too-few": lambda f, _: stored(f, "labels", change=lambda y: y[:-1]),
}


@pytest.mark.parametrize("bad", BAD_H5)
def test_a_malicious_hdf5_file_is_refused(
    opener: Opener, sent: Sent, canary: Canary, bad: str
) -> None:
    """What version 1 does not allow in a file is refused at opening, though all digests be right;
    nothing outside is touched, and no memory taken.
    """
    path = sent("plain")
    with h5py.File(path / "train.h5", "r+", libver=("v110", "v110")) as file:
        BAD_H5[bad](file, canary)
    forge(path)
    canary.watched()
    answer = opener("open", path)
    assert canary.untouched()
    is_refused(answer, path / "train.h5")


# Promises of an entry that its file does not keep


@pytest.mark.parametrize("rows", [10**6, 2**62])
@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_rows_that_are_not_there_take_no_memory(
    opener: Opener, sent: Sent, kind: str, rows: int
) -> None:
    """Some kB that claim terabytes, manifest and shape agreeing, are refused at opening."""
    path = sent(kind)
    packed: Json = {"compression": "gzip", "shuffle": True} if kind == "gzip" else {}
    own: Json = {"fletcher32": True, "fill_time": "ifset"}
    with h5py.File(path / "train.h5", "w", libver=("v110", "v110")) as file:
        # In chunks of as many rows as the format has for images of 6×6; not one is stored.
        images: Json = {"shape": (rows, *SHAPE), "dtype": "<f4", "chunks": (4096, *SHAPE)}
        file.create_dataset("images", **images, **own, **packed)
        file.create_dataset("labels", (rows,), "<i8", chunks=(4096,), **own)
    forge(path, with_rows(rows))
    assert (path / "train.h5").stat().st_size < 1 << 20
    is_refused(opener("open", path), path)


def rewritten(path: Path, start: Any = None, packing: Any = (), **options: Any) -> Any:
    """Write a file anew with these options of h5py's, and its images packed so, or as `start` makes
    them.
    """
    with h5py.File(path) as file:
        images, labels = file["images"][()], file["labels"][()]
    with h5py.File(path, "w", **options) as file:
        if start is None:
            store(file, "images", images, **dict(packing))
        else:
            start(file)
        store(file, "labels", labels, "<i8")


def zstd_frame(size: int) -> bytes:
    """Return a frame of zstd that says that it is so large, and is 100 zeros."""
    head = b"\x28\xb5\x2f\xfd" + b"\xa0" + size.to_bytes(4, "little")
    return head + (100 << 3 | 3).to_bytes(3, "little") + b"\0"


# How h5py is asked for each filter.
FILTERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: {"compression": 4},
    "lzf": lambda: {"compression": "lzf"},
    "zstd": lambda: pytest.importorskip("hdf5plugin").Zstd(3),
    "lz4": lambda: pytest.importorskip("hdf5plugin").LZ4(nbytes=0),
}


def zstd_bomb() -> bytes:
    """Return a frame that says 3 GiB, and so it is."""
    block = (128 << 10) << 3 | 1 << 1  # 128 KiB of one byte, given once
    blocks = (block.to_bytes(3, "little") + b"\0") * (3072 * 8 - 1)
    head = b"\x28\xb5\x2f\xfd" + b"\xa0" + (3072 * MIB).to_bytes(4, "little")
    return head + blocks + (block | 1).to_bytes(3, "little") + b"\0"


def lz4(block: bytes, size: int = 5760, length: int | None = None) -> bytes:
    """Return a chunk of one block, said to be so long packed and unpacked."""
    return struct.pack(">QII", size, size, len(block) if length is None else length) + block


# Chunks of 5,760 bytes by their shape: the filter, and what is stored for them.
BAD_CHUNKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip-bomb": ("gzip", lambda: deflate_bomb(1024 * MIB)),
    "zstd-bomb": ("zstd", zstd_bomb),
    "lz4-bomb": ("lz4", lambda: struct.pack(">QI", 3072 * MIB, 1 << 30) + bytes(3000)),
    "lzf-of-noise": ("lzf", lambda: b"\xff" * 3000),  # references to what lies before the start
    "lzf-of-too-little": ("lzf", lambda: b"\x1f" + bytes(32)),
    "gzip-of-noise": ("gzip", lambda: bytes(range(256)) * 9),
    "gzip-of-too-little": ("gzip", lambda: zlib.compress(bytes(100))),
    "gzip-of-too-much": ("gzip", lambda: zlib.compress(random.Random(1).randbytes(5761))),
    "zstd-of-too-little": ("zstd", lambda: zstd_frame(100)),
    "lz4-of-too-little": ("lz4", lambda: lz4(bytes(100), 100)),
    "lz4-past-its-end": ("lz4", lambda: lz4(b"\xff" * 84, length=0x7FFFFFFF)),
    "lz4-of-noise": ("lz4", lambda: lz4(b"\xff" * 84)),
    "lz4-literals-past-its-end": ("lz4", lambda: lz4(b"\xf0" + b"\xff" * 22 + b"\x87" + bytes(10))),
    "lz4-blocks-of-no-bytes": ("lz4", lambda: struct.pack(">QI", 5760, 0) + bytes(100)),
}


@pytest.mark.parametrize("bad", BAD_CHUNKS)
def test_a_chunk_that_does_not_unpack_is_refused(opener: Opener, sent: Sent, bad: str) -> None:
    """A chunk that unpacks to nothing, to less or to more than its rows is refused when it is read,
    at the latest, and one that unpacks to GiB at opening; its checksum is right, and the process
    lives on.
    """
    kind, chunk = BAD_CHUNKS[bad]
    path = sent(kind)

    def put(file: Any) -> None:
        packing = {"chunks": WHOLE, "fletcher32": True, "shuffle": True, **FILTERS[kind]()}
        put_chunk(file.create_dataset("images", WHOLE, "<f4", **packing), chunk())

    rewritten(path / "train.h5", put, libver=("v110", "v110"))
    forge(path)
    answer = opener("open", path)
    is_refused(answer, path / "train.h5")
    assert not (answer.opened and bad.endswith("bomb"))


def test_a_filters_own_numbers_take_no_memory(opener: Opener, sent: Sent) -> None:
    """LZF told by the file to unpack a chunk into 4 GB is refused."""
    path = sent("lzf")
    train = path / "train.h5"
    # Of HDF5's oldest format, whose object headers have no checksum that would have to fit.
    rewritten(train, packing={"compression": "lzf", "shuffle": True}, libver="earliest")
    content = train.read_bytes()
    held = (5760).to_bytes(4, "little")  # the filter's third number: bytes of a chunk
    place = content.index(held, content.index(b"lzf\0"))
    train.write_bytes(content[:place] + b"\xf0\xff\xff\xff" + content[place + 4 :])
    with h5py.File(train) as file:
        assert file["images"].id.get_create_plist().get_filter(1)[2][2] == 0xFFFFFFF0
    forge(path)
    is_refused(opener("open", path), train)


def huge_attributes(train: Path) -> None:
    """Give a file 48 MB of attributes, and many of them."""
    with h5py.File(train, "r+", libver=("v110", "v110")) as file:
        file.attrs["class_names"] = np.zeros(4 * MIB, "S8")
        file.attrs["mean"] = np.zeros(2 * MIB)
        for i in range(500):
            file.attrs[f"more {i}"] = "x" * 100


ODDITIES: dict[str, Callable[[Path], object]] = {
    "junk-behind": lambda p: p.write_bytes(p.read_bytes() + b"#!/bin/sh\n" * 1000),
    "a-user-block": lambda p: rewritten(p, userblock_size=1024),
    "an-older-format": lambda p: rewritten(p, libver="earliest"),
    "huge-attributes": huge_attributes,
}


@pytest.mark.parametrize("odd", ODDITIES)
def test_what_else_is_in_a_file_changes_no_row(opener: Opener, sent: Sent, odd: str) -> None:
    """A user block, junk behind the end, huge attributes: refused, or read to the last bit."""
    path = sent("plain")
    right = opener("open", path).read
    ODDITIES[odd](path / "train.h5")
    forge(path)
    answer = opener("open", path)
    if answer.error:
        is_refused(answer, path / "train.h5")
    else:
        assert answer.read["splits"] == right["splits"]


def test_a_file_of_terabytes_is_refused_by_its_size(opener: Opener, sent: Sent) -> None:
    """A sparse file far larger than its rows can be is not even hashed, though its size be that
    of the manifest.
    """
    path = sent("plain")
    size = 4 << 40
    manifest = manifest_of(path)
    split = manifest["splits"]["train"]
    split["bytes"] = split["files"][0]["bytes"] = size
    sign(path, manifest)
    os.truncate(path / "train.h5", size)
    answer = opener("open", path, patience=10)
    assert "train.h5 is too large" in is_refused(answer, path / "manifest.json")


# Manifests


# What is no count and no number, beside what `test_manifest_schema` puts in every field.
ENDLESS = (float("inf"), float("nan"))
NO_COUNTS: tuple[Any, ...] = (0, 40.0, [40], 10**30, *ENDLESS)
NO_NUMBERS: tuple[Any, ...] = (10**400, 10**4000, *ENDLESS)
COUNTS = """splits.train.rows splits.train.bytes splits.train.shape.1 splits.train.files.0.rows
splits.train.files.0.bytes recipe.chunk_rows scaling.unit format_version
source.splits.train.shape.0"""
NUMBERS = """scaling.mean.0 scaling.std.0 scaling.minimum.0 scaling.scale.0 scaling.offset.0
splits.train.first_batch.min splits.train.first_batch.std splits.train.raw.minimum
recipe.val_fraction"""


@pytest.mark.parametrize("field", [*COUNTS.split(), *NUMBERS.split()])
def test_what_is_no_count_or_number_is_refused(opener: Opener, sent: Sent, field: str) -> None:
    """Rows, bytes, sides and versions are positive whole numbers, figures are finite ones."""
    path = sent("plain")
    right = manifest_of(path)
    put = at(*(int(name) if name.isdigit() else name for name in field.split(".")))
    for value in NO_COUNTS if field in COUNTS.split() else NO_NUMBERS:
        manifest = deepcopy(right)
        put(manifest, value)
        sign(path, settle(manifest))
        is_refused(opener("open", path), path)


# By what is wrong: a change of a good manifest, after which everything is signed.
BAD_MANIFESTS: dict[str, Callable[[Json], Any]] = {
    "two-means-of-one-channel": lambda m: at("scaling", "mean")(m, [1.0, 2.0]),
    "means-in-a-list": lambda m: at("scaling", "mean")(m, [[1.0]]),
    "no-such-per": lambda m: [at("per")(m, "row"), at("recipe", "per")(m, "row")],
    "per-image": lambda m: [at("per")(m, "image"), at("recipe", "per")(m, "image")],
    "no-such-mode": lambda m: [at("mode")(m, "../.."), at("recipe", "mode")(m, "../..")],
    "mode-not-of-the-recipe": lambda m: at("mode")(m, "standardize"),
    "unit-of-another-type": lambda m: at("scaling", "raw_dtype")(m, "uint16"),
    "type-of-objects": lambda m: [
        at("scaling", "raw_dtype")(m, "O"),
        at("source", "splits", "train", "dtype")(m, "O"),
        at("source", "splits", "test", "dtype")(m, "O"),
    ],
    "compression-of-another-kind": lambda m: at("recipe", "compression")(m, "gzip"),
    "a-dataset-above": lambda m: at("dataset")(m, "../../escaped"),
    "a-dataset-that-is-hidden": lambda m: at("dataset")(m, ".trash"),
    "a-dataset-that-speaks": lambda m: at("dataset")(m, "\x1b]0;owned\a"),
    "a-long-dataset": lambda m: at("dataset")(m, "x" * 5000),
    "names-that-are-no-text": lambda m: at("source", "class_names")(m, [1, 2, 3, 4]),
    "no-names": lambda m: at("source", "class_names")(m, []),
    "no-splits": lambda m: at("splits")(m, {}),
    "a-split-too-many": lambda m: at("splits", "../x")(m, m["splits"]["train"]),
    "a-val-that-is-train": lambda m: at("splits", "val")(m, m["splits"]["train"]),
    "a-val-of-its-own": lambda m: at("splits", "val")(m, m["splits"]["test"]),
    "rows-that-do-not-add-up": lambda m: at("splits", "train", "files", 0, "rows")(m, ROWS - 1),
    "bytes-that-do-not-add-up": lambda m: at("splits", "train", "bytes")(m, 1),
    "fewer-rows-than-the-file": with_rows(ROWS - 1),
    "more-rows-than-the-file": with_rows(ROWS + 1),
    "three-sides": lambda m: at("splits", "train", "shape")(m, [ROWS, 6, 6]),
    "five-sides": lambda m: at("splits", "train", "shape")(m, [ROWS, 6, 6, 1, 1]),
    "two-negative-sides": lambda m: at("splits", "train", "shape")(m, [ROWS, -6, -6, 1]),
    "other-sides": lambda m: at("splits", "train", "shape")(m, [ROWS, 4, 9, 1]),
    "sides-of-terabytes": lambda m: at("splits", "train", "shape")(m, [ROWS, 2**31, 2**31, 1]),
    "chunks-of-7": lambda m: at("recipe", "chunk_rows")(m, 7),
    "shards-of-1": lambda m: at("recipe", "shard_rows")(m, 1),
    "half-a-character": lambda m: at("provenance", "title")(m, "\ud800"),
}


@pytest.mark.parametrize("bad", BAD_MANIFESTS)
def test_a_malicious_manifest_is_refused(opener: Opener, sent: Sent, bad: str) -> None:
    """A manifest that lies, or is of other types, is refused before libhdf5 sees a file, though
    everything in it be signed.
    """
    path = sent("plain")
    manifest = manifest_of(path)
    BAD_MANIFESTS[bad](manifest)
    content = json.dumps(settle(manifest))
    sign(path, content.encode("utf-8", "surrogatepass"))
    is_refused(opener("open", path), path)


NAMES: tuple[Any, ...] = (
    *("../train.h5", "/etc/passwd", ".", "", "train.h5\0", "train.h5\n", "manifest.json", 7),
    "test.h5",  # of another split
    "train-00001-of-00002.h5",  # of another place
    "train-0000\u0660-of-0000\u0661.h5",  # with other digits
    "\x1b]0;owned\a.h5",
    ["train.h5"],
)


def test_a_file_has_the_name_of_its_place(opener: Opener, sent: Sent, canary: Canary) -> None:
    """A file's name is that of its split and number: nothing else is opened, wherever it lies,
    though it is a real file with its real digest.
    """
    path = sent("plain")
    shutil.copyfile(path / "train.h5", path.parent / "train.h5")
    right = manifest_of(path)
    content = canary.h5.read_bytes()
    facts = {"rows": ROWS, "bytes": len(content), "sha256": sha256(content).hexdigest()}
    leading = [{"name": os.path.relpath(canary.h5, path)}, {"name": str(canary.h5)}]
    for fields in [*({"name": name} for name in NAMES), *(facts | name for name in leading)]:
        manifest = deepcopy(right)
        manifest["splits"]["train"]["files"][0].update(fields)
        at("splits", "train", "bytes")(manifest, manifest["splits"]["train"]["files"][0]["bytes"])
        sign(path, settle(manifest))
        canary.watched()
        answer = opener("open", path)
        assert canary.untouched()
        is_refused(answer, path)
        assert answer.parsed == ()


def inserted(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Put something in the place of what is there first."""
    return lambda text: text.replace(old, new, 1)


BAD_JSON: dict[str, Callable[[bytes], bytes]] = {
    "infinity": inserted(b'"mean":[', b'"mean":[Infinity],"x":['),
    "more-than-a-float": inserted(b'"mean":[', b'"mean":[1e999],"x":['),
    "key-twice": inserted(b"{", b'{"mode":"standardize",'),
    "rows-twice": inserted(b'"rows":', b'"rows":41,"rows":'),
    "nested": inserted(b"{", b'{"more":' + b"[" * 200_000 + b"]" * 200_000 + b","),
    "nested-objects": inserted(
        b"{", b'{"more":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b","
    ),
    "huge-lists": lambda text: b'{"more":[' + b"[]," * (24 * MIB) + b"0]," + text[1:],
    "huge-text": lambda text: b'{"more":"' + b"x" * (70 * MIB) + b'",' + text[1:],
    "not-text": inserted(b'"title":"', b'"title":"\xff\xfe'),
    "of-16-bits": lambda text: text.decode().encode("utf-16"),
    **{f"only {text!r}": lambda _, text=text: text for text in (b"", b"{}", b"[]", b"null")},  # type: ignore[misc]
}


@pytest.mark.parametrize("bad", BAD_JSON)
def test_malicious_json_is_refused(opener: Opener, sent: Sent, bad: str) -> None:
    """A signed manifest that is not the JSON of the format, or large beyond reason, is refused."""
    path = sent("plain")
    sign(path, BAD_JSON[bad]((path / "manifest.json").read_bytes()))
    is_refused(opener("open", path), path)


# Files that are none


def make_device(path: Path) -> None:
    """Make a device of zeros without end."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("devices are made by root only")


def make_socket(path: Path) -> None:
    """Make a socket, whose path is short: the current folder is the test's own."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def pipe_at(path: Path) -> Path:
    """Return a pipe."""
    os.mkfifo(path)
    return path


NO_FILES: dict[str, Callable[[Path, Canary], object]] = {
    "zero": lambda path, _: path.symlink_to("/dev/zero"),
    "pipe": lambda path, _: pipe_at(path),
    "link-to-a-pipe": lambda path, _: path.symlink_to(pipe_at(path.with_name("pipe"))),
    "folder": lambda path, _: path.mkdir(),
    "device": lambda path, _: make_device(path),
    "socket": lambda path, _: make_socket(path),
    "canary": lambda path, canary: path.symlink_to(
        canary.h5 if path.suffix == ".h5" else canary.text
    ),
    "link-to-itself": lambda path, _: path.symlink_to(path.name),
    "terabytes": lambda path, _: path.open("wb").truncate(4 << 40),
}


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256", "train.h5"])
@pytest.mark.parametrize("bad", NO_FILES)
def test_what_is_no_plain_file_is_refused(
    opener: Opener, sent: Sent, canary: Canary, name: str, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link, a pipe, a device, a folder or a file without end in the place of one of an entry's
    files is refused: nothing waits, and nothing is read.
    """
    path = sent("plain")
    (path / name).unlink()
    monkeypatch.chdir(path)
    NO_FILES[bad](path / name, canary)
    canary.watched()
    answer = opener("open", path, patience=5)
    assert canary.untouched()
    is_refused(answer, path)


# What is printed

SPEAKS = "\x1b]0;owned\a\x1b[2J\x9b31m\r\n\x00\x7f\u202e\u2066\u200f\u2028end"


def is_quiet(text: str) -> bool:
    """Return whether a terminal shows lines of text, and does nothing else."""
    return all(line.isprintable() for line in text.replace("\n", " ").split(" "))


TEXTS = ("title", "licence", "citation", "homepage")


def test_info_prints_no_orders_to_the_terminal(sent: Sent) -> None:
    """Escape sequences, control characters and marks that turn text around are not printed."""
    path = sent("plain")

    def say(text: str) -> None:
        forge(path, lambda manifest: manifest["provenance"].update(dict.fromkeys(TEXTS, text)))

    say("harmless")
    lines = run("info", str(path)).stdout.count("\n")
    say(SPEAKS)
    for options in ([], ["--json"]):
        done = run("info", str(path), *options)
        assert done.returncode == 0
        assert is_quiet(done.stdout), ascii(done.stdout)
        assert is_quiet(done.stderr), ascii(done.stderr)
        assert options or done.stdout.count("\n") == lines
    assert json.loads(done.stdout)["provenance"] == dict.fromkeys(TEXTS, SPEAKS)


@pytest.mark.parametrize(
    "command", ["info", "prepare", pytest.param("train", marks=pytest.mark.long)]
)
def test_errors_give_no_orders_to_the_terminal(tmp_path: Path, command: str) -> None:
    """The name of a folder that is no good may hold anything; what is said of it is one line."""
    folder = tmp_path / "\x1b]0;owned\a\x9b2Ja\nb\u202etxt"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    done = run(command, str(folder / "x.npz" if command == "prepare" else folder))
    assert done.returncode == 1
    assert is_quiet(done.stderr), ascii(done.stderr)
    assert len(done.stderr.splitlines()) <= 2


# The user's own cache


def test_a_forged_note_is_not_believed(tmp_path: Path, cache: Path) -> None:
    """A note of trust that differs in anything from what is there is as good as none; so notes do
    not come with a copied cache.
    """
    entry = pixelprep.prepare(write_digits(tmp_path / "digits"), quiet=True)
    (note,) = cache.glob(".trust/*/*")
    known = json.loads(note.read_text())
    train = entry.path / "train.h5"
    content = bytearray(train.read_bytes())
    content[len(content) // 2] ^= 1
    train.write_bytes(content)
    is_now = train.stat()
    state = [is_now.st_ino, is_now.st_size, is_now.st_mtime_ns, is_now.st_ctime_ns]
    digest = known["train.h5"][-1]
    for lie in (
        *([number + (i == k) for i, number in enumerate(state)] + [digest] for k in range(4)),
        [*state, "0" * 64],
        [*map(str, state), digest],
        [[[*state, digest]]],
        known["test.h5"],
    ):
        note.write_text(json.dumps(known | {"train.h5": lie}))
        with pytest.raises(EntryError, match="differs from its SHA-256"):
            pixelprep.open(entry.path, cache_dir=cache)
    note.write_text(json.dumps(known | {"train.h5": [*state, digest]}))
    pixelprep.open(entry.path, cache_dir=cache)  # these are the facts that are compared


@pytest.mark.parametrize("folder", [".trust", ".sources"])
@pytest.mark.parametrize("bad", ["zero", "pipe", "folder", "canary", "terabytes"])
def test_a_note_that_is_no_file_costs_only_time(
    opener: Opener, tmp_path: Path, canary: Canary, folder: str, bad: str
) -> None:
    """A pipe, a device or a link in the place of what the cache notes for itself is not followed,
    and the answer stays the same.
    """
    cache, digits = tmp_path / "copied", write_digits(tmp_path / "digits")
    options: Json = {"cache_dir": str(cache)}
    right = opener("prepare", digits, **options).read
    (note,) = [path for path in (cache / folder).rglob("*") if path.is_file()]
    note.unlink()
    NO_FILES[bad](note, canary)
    canary.watched()
    answer = opener("prepare", digits, patience=5, **options)
    assert canary.untouched()
    assert answer.read is not None, answer
    assert answer.read["splits"] == right["splits"]


@pytest.mark.parametrize("folder", [".trust", ".sources"])
def test_a_note_of_any_content_costs_only_time(tmp_path: Path, cache: Path, folder: str) -> None:
    """Nested or endless JSON in a note, and facts on a source that are none, are as good as no
    note.
    """
    digits = write_digits(tmp_path / "digits")
    key = pixelprep.prepare(digits, quiet=True).key
    (note,) = [path for path in (cache / folder).rglob("*") if path.is_file()]
    held = json.loads(note.read_text())
    no_facts: list[Json] = [{}, {"splits": {}}, {"splits": []}, {"splits": {"train": 1}}]
    for content in (
        *("[" * 100_000, '{"a":' * 100_000, "9" * 5000, "{" * 9),
        *(json.dumps(held | {"about": about}) for about in no_facts),
    ):
        note.write_text(content)
        assert pixelprep.prepare(digits, quiet=True).key == key


# Digests come first


def test_libhdf5_never_sees_what_has_another_digest(opener: Opener, sent: Sent) -> None:
    """A file that was edited, its digest not, is refused before libhdf5 opens it."""
    path = sent("plain")
    with h5py.File(path / "train.h5", "r+") as file:
        file["images"][0, 0, 0, 0] = SECRET
    os.truncate(path / "train.h5", manifest_of(path)["splits"]["train"]["bytes"])
    answer = opener("open", path)
    assert "differs from its SHA-256" in is_refused(answer, path / "train.h5")
    assert not [one for one in answer.parsed if "train.h5" in one]


def test_libhdf5_never_sees_a_file_of_an_edited_manifest(opener: Opener, sent: Sent) -> None:
    """A manifest that was edited, its digest not, is refused before any file is opened."""
    path = sent("plain")
    text = (path / "manifest.json").read_text()
    for change in (text.replace("MIT", "mit"), text + " ", text[:-1], text.replace("40", "41")):
        (path / "manifest.json").write_text(change)
        if change != text:
            answer = opener("open", path)
            assert "differs from its digest" in is_refused(answer, path / "manifest.json")
            assert answer.parsed == ()


def test_what_is_changed_after_it_was_checked_is_not_parsed(sent: Sent, canary: Canary) -> None:
    """A file that is swapped for the canary, or for a link to it, after opening is not read."""
    path = sent("plain")
    entry = pixelprep.open(path)
    (path / "train.h5").unlink()
    (path / "train.h5").symlink_to(canary.h5)
    canary.watched()
    with pytest.raises(EntryError, match=r"train\.h5"):
        entry.train.to_numpy()
    assert canary.untouched()
    (path / "train.h5").unlink()
    shutil.copyfile(canary.h5, path / "train.h5")
    with pytest.raises(EntryError, match="changed after it was checked"):
        entry.train.to_numpy()


# .npz files


def evil_npz(path: Path, members: dict[str, bytes], keep: bool = True) -> Path:
    """Return a good archive with these members too; `keep` those of their names, or not."""
    good = io.BytesIO(npz())
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            if keep or Path(info.filename).name not in {Path(name).name for name in members}:
                new.writestr(info, old.read(info))
        for name, content in members.items():
            new.writestr(name, content)
    return path


def test_names_in_an_archive_lead_nowhere(
    opener: Opener, tmp_path: Path, cache: Path, canary: Canary
) -> None:
    """Members whose names lead out of any folder make no file; alone, they are no arrays."""
    x = npy("(40, 6, 5, 3)", 3600)
    names = ("../../x_train.npy", f"{canary.folder}/x_train.npy", "..\\..\\x_train.npy", "/x_train")
    members = dict.fromkeys(names, x)
    path = evil_npz(tmp_path / "evil.npz", members)
    before = set(tmp_path.rglob("*"))
    canary.watched()
    right = opener("prepare", path, cache_dir=str(cache))
    assert right.read is not None, right
    evil_npz(path, members, keep=False)
    answer = opener("prepare", path, cache_dir=str(cache))
    assert "no images of train under a usual name" in is_refused(answer, path, "SourceError")
    assert canary.untouched()
    assert all(found.is_relative_to(cache) for found in set(tmp_path.rglob("*")) - before)


def header(text: str) -> bytes:
    """Return a .npy file with this header and no data."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


def shaped(shape: object, kind: str = "'|u1'", start: str = "") -> str:
    """Return a header that says so."""
    return f"{{{start}'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}"


def gigabytes_of_header() -> bytes:
    """Return an archive with a header of 1 GiB, as version 2 can have it, packed into 1 MB."""
    start = b"\x93NUMPY\2\0" + struct.pack("<I", 1 << 30) + b"{"
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    spaces = packer.compress(b" " * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += spaces * 1024 + packer.flush()
    file = io.BytesIO(npz(x_train=None))
    with zipfile.ZipFile(file, "a") as archive:
        info = zipfile.ZipInfo("x_train.npy")
        info.compress_type, info.compress_size = zipfile.ZIP_DEFLATED, len(packed)
        info.file_size, info.header_offset = len(start) + 1024 * MIB, archive.start_dir
        info.CRC = 0
        assert archive.fp is not None
        archive.fp.seek(archive.start_dir)
        archive.fp.write(info.FileHeader() + packed)
        archive.start_dir = archive.fp.tell()
        archive.filelist.append(info)
        archive._didModify = True  # type: ignore[attr-defined] # the directory is written anew
    return file.getvalue()


def encrypted() -> bytes:
    """Return an archive whose first member is said to be encrypted."""
    content = bytearray(npz())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


NO_HEADER = "x_train: not a readable .npz file"
OBJECTS = "holds pickled Python objects"
BAD_HEADERS = {  # and what is said of them; MADE is a file of the canary's that may not be made
    "(" * 5000: NO_HEADER,
    shaped("(" * 250): NO_HEADER,
    "-" * 9000 + "1": NO_HEADER,
    "{" + " " * 60_000 + "}": "its header is longer than",
    shaped((40,), "'|O'"): OBJECTS,
    shaped((40,), "[('a', '|O')]"): OBJECTS,
    shaped((10**10, 6, 6), "'|V0'"): "differ in image shape or type",
    shaped(f"({'1,' * 1000})"): "the header promises 1 bytes",
    shaped((40, True, None, 3)): NO_HEADER,
    shaped((40, 2**32, 2**32, 3)): "the header promises 2,213,609,288,845,146,193,920 bytes",
    shaped((4, 3, 2), start="1: 2, "): NO_HEADER,  # keys that have no order
    shaped((4, 3, 2), "()"): NO_HEADER,  # a type of nothing
    shaped((4, 3, 2), start="[]: 1, "): NO_HEADER,  # a name of no hash
    shaped("(open('MADE', 'w'),)"): NO_HEADER,
    shaped((40,), "__import__('os').open('MADE', 65)"): NO_HEADER,
    "[open('MADE', 'w') for _ in range(1)]": NO_HEADER,
}


@pytest.mark.parametrize("text", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_a_malicious_npy_header_is_refused(
    opener: Opener, tmp_path: Path, cache: Path, canary: Canary, text: str
) -> None:
    """A header that NumPy's parser fails at, that promises too much or that is Python to run is
    refused in one line, and does nothing.
    """
    path = tmp_path / "evil.npz"
    told = text.replace("MADE", os.fspath(canary.folder / "made"))
    path.write_bytes(npz_with(x_train=header(told)))
    canary.watched()
    answer = opener("prepare", path, cache_dir=str(cache))
    assert BAD_HEADERS[text] in is_refused(answer, path, "SourceError")
    assert canary.untouched()


def directory_that_lies() -> bytes:
    """Return an archive whose members begin before the file does."""
    content = bytearray(npz())
    place = content.rindex(b"PK\5\6") + 16  # of the directory's own place
    further = int.from_bytes(content[place : place + 4], "little") + 900
    content[place : place + 4] = further.to_bytes(4, "little")
    return bytes(content)


BAD_ARCHIVES: dict[str, Callable[[], bytes]] = {
    "gigabytes-of-header": gigabytes_of_header,
    "encrypted": encrypted,
    "a-directory-that-lies": directory_that_lies,
}


@pytest.mark.parametrize("bad", BAD_ARCHIVES)
def test_a_malicious_npz_file_is_refused(
    opener: Opener, tmp_path: Path, cache: Path, bad: str
) -> None:
    """What a .npz file promises, hides or nests takes no memory, and is one line."""
    path = tmp_path / "evil.npz"
    path.write_bytes(BAD_ARCHIVES[bad]())
    is_refused(opener("prepare", path, cache_dir=str(cache)), path, "SourceError")


# HDF5 files of others


def packed(chunk: bytes, dtype: str = "u1", **packing: Any) -> Callable[[Any], None]:
    """Store images whose one chunk is these bytes."""

    def put(group: Any) -> None:
        shape = (ROWS, 6, 5, 3)
        images = group.create_dataset("images", shape, dtype, chunks=shape, **packing)
        images.id.write_direct_chunk((0, 0, 0, 0), chunk)

    return put


def chunk_of_gigabytes(group: Any) -> None:
    """40 rows in a chunk for 8 million, packed into 1 MB."""
    side: Json = {"chunks": (8 * MIB, 16, 16, 1), "maxshape": (None, 16, 16, 1), "compression": 4}
    images = group.create_dataset("images", (ROWS, 16, 16, 1), "u1", **side)
    images.id.write_direct_chunk((0, 0, 0, 0), deflate_bomb(2048 * MIB))


def unknown_filter(group: Any) -> None:
    """Store a chunk by a filter that nobody has."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((ROWS, 6, 5, 3))
    plist.set_filter(*UNKNOWN)
    space = h5py.h5s.create_simple((ROWS, 6, 5, 3))
    images = h5py.h5d.create(group.id, b"images", h5py.h5t.STD_U8LE, space, plist)
    images.write_direct_chunk((0, 0, 0, 0), bytes(3600))


def of_plugin(name: str, content: bytes, **options: Any) -> Callable[[Any], None]:
    """Store a chunk for a filter of hdf5plugin's."""
    return lambda group: packed(
        content, "f4", **getattr(pytest.importorskip("hdf5plugin"), name)(**options)
    )(group)


ANOTHER_SIZE = "unpacks to another size"
NO_SUM = "a chunk differs from its checksum"  # at which libhdf5 crashes
# What train/images is, and what is said of it: nowhere that libhdf5 has begun to unpack it.
BAD_SOURCES: dict[str, tuple[Callable[[Any], None], str]] = {
    "an-unknown-filter": (unknown_filter, "the filter 40000 is not supported"),
    "a-filter-that-crashes": (
        of_plugin("SZ", b"x" * 100, absolute=0.1),
        "the filter 32017 is not supported",
    ),
    "another-plugin": (of_plugin("Blosc", b"x" * 100), "the filter 32001 is not supported"),
    "a-chunk-of-gigabytes": (chunk_of_gigabytes, "has chunks of 2,147,483,648 bytes"),
    "a-bomb-in-a-chunk": (packed(deflate_bomb(1024 * MIB), compression=4), ANOTHER_SIZE),
    "less-than-a-chunk": (packed(zlib.compress(bytes(100)), compression=4), ANOTHER_SIZE),
    "less-than-a-chunk-shuffled": (packed(bytes(100), shuffle=True), ANOTHER_SIZE),
    "less-than-a-chunk-checked": (packed(bytes(104), fletcher32=True), ANOTHER_SIZE),
    "no-room-for-a-checksum": (packed(b"x", fletcher32=True), NO_SUM),
    "a-checksum-cut-off": (packed(b"xxx", fletcher32=True, compression=4), NO_SUM),
    "a-checksum-of-nothing": (packed(b"xxxx", fletcher32=True, compression="lzf"), NO_SUM),
    "a-lie-of-zstd": (of_plugin("Zstd", zstd_frame(3 << 30)), "not valid zstd data"),
}


@pytest.mark.parametrize("bad", BAD_SOURCES)
def test_a_malicious_hdf5_source_is_refused(
    opener: Opener, tmp_path: Path, cache: Path, bad: str
) -> None:
    """A user's HDF5 file unpacks to no more and no less than its rows, by filters that are known;
    that it leads nowhere else is in `test_sources`.
    """
    put, reason = BAD_SOURCES[bad]
    path = write_hdf5(tmp_path / "evil.h5", PAIRS)
    with h5py.File(path, "r+") as file:
        del file["train/images"]
        put(file["train"])
    answer = opener("prepare", path, cache_dir=str(cache))
    assert reason in is_refused(answer, path, "SourceError")


# Archives and IDX files of known datasets


def test_a_bomb_in_the_place_of_a_known_file_stops_at_its_size(tmp_path: Path, cache: Path) -> None:
    """`--source` with a bomb under an official name: no more is unpacked than that file holds."""
    folder = Path(shutil.copytree(embedded("sample"), tmp_path / "given"))
    bomb = b"\x1f\x8b\x08" + bytes(7) + deflate_bomb(4096 * MIB)[2:]  # gzipped
    (folder / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    limit = 16 * MIB  # the four files hold 5.5 MB
    little = {resource.RLIMIT_FSIZE: limit}
    error, _ = failure(run("prepare", "sample", "--source", str(folder), limits=little))
    assert "not the official train-images-idx3-ubyte.gz" in error


def test_terabytes_of_nothing_are_refused_before_they_are_copied(
    opener: Opener, tmp_path: Path, cache: Path
) -> None:
    """A sparse file that keeps its promise of terabytes finds no room, and fills none."""
    folder = write_digits(tmp_path / "digits")
    images = folder / "train-images-idx3-ubyte"
    images.write_bytes(idx(np.zeros((1, 1, 1), np.uint8), (2**30, 64, 64))[:16])
    os.truncate(images, 16 + (1 << 42))
    limit = 16 * MIB
    little = {resource.RLIMIT_FSIZE: limit}
    error, _ = failure(run("prepare", str(folder), limits=little))
    assert "not enough space" in error


Member = tuple[str, bytes, Json]


def tar(path: Path, members: list[Member]) -> None:
    """Write a tar archive of these members: name, content, and what their heads say."""
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name, content, told in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in told.items():
                setattr(info, field, value)
            archive.addfile(info)  # the head alone
            assert archive.fileobj is not None
            archive.fileobj.write(content + bytes(-len(content) % 512))
            archive.offset += len(content) + -len(content) % 512


BAD_MEMBERS: dict[str, Member] = {
    "terabytes": ("data_batch_1.bin", bytes(512), {"size": 1 << 42}),
    "more-than-told": ("data_batch_1.bin", b"\7" * 12_000, {"size": 3 * 3073}),
    "a-name-above": ("../data_batch_1.bin", bytes(3 * 3073), {}),
    "twice": ("data_batch_2.bin", bytes(3 * 3073), {}),
}


@pytest.mark.parametrize("bad", BAD_MEMBERS)
def test_a_malicious_member_of_cifar10_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    """Were the official archive such a one: lies about sizes and names make no entry."""
    name, content, told = BAD_MEMBERS[bad]
    members: list[Member] = [(key, held, {}) for key, held in cifar_members().items()]
    gone = "data_batch_2" if bad == "twice" else "data_batch_1"
    rest = [one for one in members if gone not in one[0] or bad == "twice"]
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "cifar-10-binary.tar.gz"
    tar(path, [(f"cifar-10-batches-bin/{name}", content, told), *rest])
    known, digest = REGISTRY["cifar10"], sha256(path.read_bytes()).hexdigest()
    assert isinstance(known, Cifar)
    pin = replace(known.archive, size=path.stat().st_size, sha256=digest)
    little = replace(known, archive=pin, part_rows=3, test_rows=3)
    monkeypatch.setattr(sys.modules["pixelprep.sources.resolve"], "REGISTRY", {"cifar10": little})
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SourceError) as caught:
        pixelprep.prepare("cifar10", source=folder, quiet=True)
    assert caught.value.message.isprintable()
    assert all(found.is_relative_to(cache) for found in set(tmp_path.rglob("*")) - before)


# Image files


def picture_of(kind: str) -> bytes:
    """Return a little picture of a format."""
    file = io.BytesIO()
    Image.new("RGB", (7, 9)).save(file, kind)
    return file.getvalue()


def sized(kind: str, form: str, size: tuple[Any, ...], other: tuple[Any, ...]) -> bytes:
    """Return a little picture whose header has another size."""
    content, told = picture_of(kind), struct.pack(form, *size)
    assert content.count(told) == 1
    return content.replace(told, struct.pack(form, *other))


def text_bomb() -> bytes:
    """Return a PNG with 256 MiB of text beside its pixels."""
    held = png(7, 9, 8, 2, bytes(9 * 22))
    data = b"k\0\0" + deflate_bomb(256 * MIB)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return held[:33] + chunk + held[33:]


PICTURES: dict[str, Callable[[], bytes]] = {
    "bmp-bomb": lambda: sized("BMP", "<ii", (7, 9), (60_000, 60_000)),
    "bmp-below-0": lambda: sized("BMP", "<ii", (7, 9), (-60_000, -60_000)),
    "jpeg-bomb": lambda: sized("JPEG", ">HH", (9, 7), (65_500, 65_500)),
    "png-of-text": text_bomb,
    "gif": lambda: picture_of("GIF"),
    "pdf": lambda: picture_of("PDF"),
    "ppm": lambda: b"P6\n7 9\n255\n" + bytes(189),
    "eps": lambda: picture_of("EPS"),
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    "windows-metafile": lambda: b"\xd7\xcd\xc6\x9a" + bytes(100),
    "script": lambda: b"#!/bin/sh\ntouch x\n",
}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Return a folder with pictures of four classes."""
    write_folder(tmp_path / "pets")
    return tmp_path / "pets"


PET = "train/class1/01.png"


@pytest.mark.parametrize("bad", PICTURES)
def test_a_malicious_picture_is_refused(pets: Path, opener: Opener, cache: Path, bad: str) -> None:
    """A picture of huge size or of another format, under whatever name, is not decoded: no memory
    is taken, and no other program started.
    """
    path = pets / PET
    path.write_bytes(PICTURES[bad]())
    answer = opener("prepare", pets, cache_dir=str(cache))
    is_refused(answer, path, answer.error)
    assert answer.error in ("SourceError", "ImageError")


def test_no_other_program_is_started(pets: Path, tmp_path: Path) -> None:
    """PostScript under the name of a picture does not start the program that would draw it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("gs", "gswin64c", "djpeg", "convert"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (programs / name).chmod(0o755)
    (pets / PET).write_bytes(picture_of("EPS"))
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    execute(["gs"], env=environment, check=True)
    (tmp_path / "started").unlink()
    error, _ = failure(run("prepare", str(pets), env=environment))
    assert "not an image" in error
    assert not (tmp_path / "started").exists()


def test_what_is_behind_a_picture_changes_no_pixel(pets: Path) -> None:
    """A file that is a picture and something else too is the picture."""
    right = pixelprep.prepare(pets, quiet=True).key
    path = pets / PET
    held = path.read_bytes()
    for behind in (b"junk" * 999, npz(), b"%PDF-1.4\n"):
        path.write_bytes(held + behind)
        assert pixelprep.prepare(pets, quiet=True).key == right


@pytest.mark.parametrize("what", [PET, "train/class1", "train"])
def test_a_link_out_of_a_folder_is_not_followed(
    pets: Path, opener: Opener, cache: Path, canary: Canary, what: str
) -> None:
    """Links to a picture, a class or a split outside are refused before they are followed."""
    place = pets / what
    outside = canary.folder / place.name
    shutil.move(place, outside)
    place.symlink_to(outside)
    watch = Watch(outside if outside.is_dir() else canary.folder)
    answer = opener("prepare", pets, cache_dir=str(cache))
    assert watch.noticed() == b""
    watch.close()
    assert "a link that leaves" in is_refused(answer, place, "SourceError")


def test_names_of_pictures_give_no_orders_to_the_terminal(pets: Path) -> None:
    """Names of damaged, skipped or other files, and of classes, are printed harmlessly."""
    name = "\x1b]0;owned\a\x9b2J\u202ea\rb.png"
    (pets / PET).with_name(name).write_bytes(b"no picture")
    (pets / PET).with_name(f"{name}.txt").write_bytes(b"no picture")
    for split in ("train", "test"):
        shutil.copytree(pets / split / "class1", pets / split / name)
    for options in ([], ["--on-error", "skip"]):
        done = run("prepare", str(pets), *options)
        assert done.returncode == (0 if options else 1)
        assert is_quiet(done.stdout), ascii(done.stdout)
        assert is_quiet(done.stderr), ascii(done.stderr)
        assert options or "cannot read the image" in done.stderr


@pytest.mark.parametrize("name", ["x.npz", "x.h5", "folder"])
@pytest.mark.parametrize("bad", ["zero", "pipe", "terabytes"])
def test_a_dataset_that_is_no_file_is_refused(
    tmp_path: Path, opener: Opener, cache: Path, canary: Canary, name: str, bad: str
) -> None:
    """A pipe, a device or a file without end in the place of a dataset is refused at once."""
    NO_FILES[bad](tmp_path / name, canary)
    answer = opener("prepare", tmp_path / name, patience=5, cache_dir=str(cache))
    is_refused(answer, tmp_path / name, "SourceError")


# Runs and models


@pytest.mark.parametrize("member", ["progress", "arr_0"])
def test_a_checkpoint_is_never_unpickled(tmp_path: Path, member: str) -> None:
    """Python objects in a run's checkpoint do nothing."""
    made, folder = tmp_path / "made", tmp_path / "run.unfinished"
    folder.mkdir()
    state = {"entry": "x", "key": "y", "settings": {}, "history": {"loss": [1.0]}}
    held: dict[str, Any] = {"progress": np.array(json.dumps(state)), "arr_0": np.zeros(3)}
    evil: Any = np.array([PickleCanary(made)], object)
    np.savez(folder / "checkpoint.npz", **held | {member: evil})
    with pytest.raises(TrainError, match="not a checkpoint, or a damaged one"):
        unfinished(tmp_path / "run").load()
    assert not made.exists()
    with np.load(folder / "checkpoint.npz", allow_pickle=True) as saved:
        saved[member]
    assert made.exists()  # the canary is awake


# Calls that run or unpack what is in a file, by the name that is called.
NEVER = {
    *("eval", "exec", "compile", "__import__", "system", "popen", "extractall", "extract"),
    *("Unpickler", "dill", "cloudpickle", "load_weights", "unpack_archive", "import_string"),
}
OF_MODULES = {"pickle", "marshal", "shelve", "yaml", "joblib", "torch", "dill"}


def dangerous(code: str) -> list[str]:
    """Return the calls in a module that may run what is in a file, as they are written."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [ast.unparse(node) for node in nodes if is_dangerous(node)]


def is_dangerous(call: ast.Call) -> bool:
    said = {word.arg: ast.unparse(word.value) for word in call.keywords}
    name = ast.unparse(call.func)
    module, _, function = name.rpartition(".")
    if said.get("allow_pickle") not in (None, "False") or said.get("shell") not in (None, "False"):
        return True
    if function == "load_model":
        return said.get("safe_mode") != "True"
    if function == "compile" and module:  # a Keras model's, or a pattern's
        return False
    loads = function in ("load", "loads", "open") and module in OF_MODULES
    return loads or function in NEVER or "enable_unsafe_deserialization" in name


def test_nothing_in_the_package_runs_what_is_in_a_file() -> None:
    """No call of the package unpickles, evaluates or extracts; models are loaded in safe mode."""
    for path in Path(pixelprep.__file__).parent.rglob("*.py"):
        assert dangerous(path.read_text()) == [], path
    evil = "np.load(f, allow_pickle=True)\npickle.load(f)\neval('1')\nkeras.models.load_model(f)\n"
    evil += "keras.saving.load_model(f, safe_mode=False)\ntar.extractall()\nyaml.load(f)"
    assert len(dangerous(evil)) == len(evil.splitlines())  # the test is awake
