"""Make each target's inputs, and do with them everything that may be done."""

import ctypes
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

import pixelprep
from fuzzing import seeds
from fuzzing.isolation import in_a_fork
from fuzzing.mutations import NUMBERS, mutated, mutated_json, nested
from fuzzing.seals import (
    ChunkSeal,
    Seal,
    canonical,
    gzip_sealed,
    key_of,
    manifest_files,
    sealed,
    seals,
)
from fuzzing.seeds import Files
from pixelprep.cli.app import app
from pixelprep.sources.base import Options, SourceContext
from pixelprep.sources.containers.hdf5 import Hdf5Files
from pixelprep.sources.containers.idx import read as read_idx
from pixelprep.sources.containers.npz import NumpyFiles
from pixelprep.sources.digest import survey
from pixelprep.sources.local import LocalSource

PERTURB = -6  # option of mallopt
CACHE = "cache"  # beside an input's folder
WHOLE = 0.2  # share of the users' files that are prepared from beginning to end


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that reads files.

    Parameters
    ----------
    make : callable
        A folder's files from a `Random`: equal ones for equal states.
    use : callable
        Does with a folder all that may be done with it, or rather (if asked for) all that users
        do; raises what is wrong with it.
    valid : callable
        A folder that nothing is wrong with.
    """

    make: Callable[[Random], Files]
    use: Callable[[Path, bool], None]
    valid: Callable[[], Files]


def prepared(dataset: Path, **options: Any) -> None:
    """Prepare a user's own data, which leaves nothing behind where it is refused."""
    cache = dataset.parents[1] / CACHE
    shutil.rmtree(cache, ignore_errors=True)
    try:
        entry = pixelprep.prepare(dataset, cache_dir=cache, quiet=True, **options)
    except pixelprep.PixelprepError:
        left = [*cache.glob("[!.]*"), *cache.glob(".tmp/*"), *cache.glob(".trash/*")]
        assert not left, f"refused, but left behind: {left}"
        raise
    entry.train.to_numpy()


def looked_at(source: LocalSource) -> None:
    """Do what `prepare` does with a user's own data before it writes anything; much faster."""
    with SourceContext(source.path.parents[1] / CACHE, quiet=True) as place:
        survey(source.load(place), place.pool, source.name, True, {})


# IDX


def make_idx(random: Random) -> Files:
    """Make one IDX file, plain or gzipped; sometimes with the three that belong to it."""
    folder = seeds.idx()
    name = random.choice(list(folder))
    content = folder.pop(name)
    if random.random() < 0.6:
        content = mutated(_other_header(content, random), random)
    if random.random() < 0.6:
        name, content = f"{name}.gz", seeds.gzipped(content)
        if random.random() < 0.6:
            content = mutated(content, random)
        if random.random() < 0.5:
            content = gzip_sealed(content)
    return {name: content, **(folder if random.random() < WHOLE else {})}


def _other_header(content: bytes, random: Random) -> bytes:
    """Change the promised sides, sometimes."""
    made = bytearray(content)
    for place in range(4, 4 + 4 * content[3], 4):
        if random.random() < 0.2:
            made[place : place + 4] = (random.choice(NUMBERS) % 2**32).to_bytes(4, "big")
    return bytes(made)


def use_idx(folder: Path, whole: bool) -> None:
    """Prepare the folder, or read the file where there is only one."""
    paths = sorted(folder.iterdir())
    if len(paths) > 1:
        prepared(folder)
        return
    with SourceContext(folder.parent / CACHE) as place:
        found = read_idx(paths[0], 3 if "idx3" in paths[0].name else 1, place)
        if 0 not in found.shape:  # as `prepare` goes no further with
            assert found[:].shape == found.shape


# NPZ


def make_npz(random: Random) -> Files:
    """Make an archive: its arrays changed and packed again, or the archive itself changed."""
    archive = random.choice(ARCHIVES)
    if random.random() < 0.6:
        held = list(seeds.members(archive).items())
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            _change_member(held, random)
        archive = seeds.zipped(held, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    if random.random() < 0.45:
        archive = mutated(archive, random, ARCHIVES)
    return {"whole.npz" if random.random() < WHOLE else "x.npz": archive}


def _change_member(held: list[tuple[str, bytes]], random: Random) -> None:
    number = random.randrange(len(held))
    name, content = held[number]
    way = random.randrange(10)
    if way == 0:
        name = random.choice(
            ("x_train", "y_test.npy", "../x_train.npy", "é.npy", "x_train.npy.npy")
        )
    elif way == 1:
        held.append((name, mutated(content, random)))
    elif way == 2:
        name, content = random.choice(held)
    elif way == 3:
        content = mutated(content, random)
    else:
        content = _npy(_header(random), content[128:])
    held[number] = name, content


def _npy(header: str, data: bytes) -> bytes:
    """Return a ``.npy`` file with whatever header."""
    text = header.encode(errors="replace")
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(8, "little")[:2] + text + data


def _header(random: Random) -> str:
    """Write an array's header as somebody would who knows how it is read."""
    descr = random.choice(
        (
            *("'|u1'", "'<i8'", "'<f4'", "'>u2'", "'|O'", "'<f2'", "'<U4'", "'|S3'", "'|V8'"),
            *("'<c8'", "'<M8[s]'", "[('a', '<f4')]", "'<f16'", "'|b1'", "'u1,f4'", "None", "5"),
            *("('<f4', (2,))", "'i0'", "'|V0'", "{'names': ['a'], 'formats': ['u1']}", "''"),
            *("[]", "()", "1" * 5000),
        )
    )
    side = ("0", "1", "2", "3", "4", "24", "-1", "True", "1.0", "4294967296", "1" * 30, "'a'")
    shape = "".join(
        f"{random.choice(side)}, " for _ in range(random.choice((0, 1, 2, 3, 4, 5, 70)))
    )
    shapes = (f"({shape})", "(4, 3, 2)", "(4, 3, 2)", "(4,)", f"[{shape}]", "None", "(" * 300)
    fortran = random.choice(("False", "False", "True", "1", "None", "[]"))
    fields = [
        f"'descr': {descr}",
        f"'fortran_order': {fortran}",
        f"'shape': {random.choice(shapes)}",
    ]
    if random.random() < 0.1:
        fields.append(random.choice(("'more': 1", "1: 2", "[]: 1", "'shape': (1,)", "**{}", "f()")))
    if random.random() < 0.1:
        fields.pop(random.randrange(len(fields)))
    text = "{" + ", ".join(fields) + "}"
    if random.random() < 0.2:
        text = mutated(text.encode(), random).decode(errors="replace")
    return text.ljust(117) + "\n"


def use_npz(folder: Path, whole: bool) -> None:
    """Prepare it, or as much of it as reads the file."""
    for path in folder.iterdir():
        prepared(path) if whole or path.stem == "whole" else looked_at(NumpyFiles(path, Options()))


# Entries


def make_manifest(random: Random) -> Files:
    """Make an entry whose manifest was changed and signed again."""
    folder = random.choice(list(ENTRIES.values()))
    if random.random() < 0.05:
        return {**folder, **_unreadable(folder, random)}
    made = mutated_json(seeds.manifest(folder), random)
    if random.random() < 0.8:
        _agree(made)
    content = canonical(made) + b"\n"
    if random.random() < 0.05:
        content = mutated(content, random)
    return {**folder, **manifest_files(content)}


def _unreadable(folder: Files, random: Random) -> Files:
    """Make a manifest that is no JSON of use, or one that is not signed."""
    if random.random() < 0.5:
        return {name: mutated(folder[name], random) for name in ("manifest.sha256",)}
    depth = random.choice((100, 1000, 100_000))
    return manifest_files(random.choice((nested(depth, random), b"1" * 5000, b"", b"\xff\xfe[]")))


def _agree(manifest: Any) -> None:
    """Make fields that say the same agree again, as far as they are there."""
    try:
        recipe = manifest["recipe"]
        if len(str(manifest["mode"])) % 2:  # now from one side, now from the other
            manifest["mode"], manifest["per"] = recipe["mode"], recipe["per"]
        else:
            recipe["mode"], recipe["per"] = manifest["mode"], manifest["per"]
        manifest["key"] = key_of(recipe)
    except (KeyError, TypeError, IndexError, ValueError):
        return


def make_entry(random: Random) -> Files:
    """Make an entry with a changed HDF5 file, all digests being right."""
    folder = dict(random.choice(list(ATTACKED.values())))
    name = random.choice([name for name in folder if name.endswith(".h5")])
    folder[name] = _mutated_hdf5(folder[name], random)
    return {**folder, **signed(folder, believe=random.random() < 0.7)}


def signed(folder: Files, believe: bool) -> Files:
    """Return the manifest that belongs to these files, repeating what they say of themselves."""
    manifest = seeds.manifest(folder)
    for split in manifest["splits"].values():
        for file in split["files"]:
            content = folder[file["name"]]
            file |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
            if believe:
                _believe(content, file, split)
        split["bytes"] = sum(file["bytes"] for file in split["files"])
        split["rows"] = split["shape"][0] = sum(file["rows"] for file in split["files"])
    return manifest_files(canonical(manifest) + b"\n")


def _believe(content: bytes, file: dict[str, Any], split: dict[str, Any]) -> None:
    # In a fork: what a damaged file does to libhdf5 must not be taken for pixelprep's doing.
    said = in_a_fork(lambda: _shape_and_type(content))
    if said is not None:
        shape, split["dtype"] = said
        file["rows"], split["shape"][1:] = shape[0], shape[1:]


def _shape_and_type(content: bytes) -> tuple[list[int], str]:
    with h5py.File(io.BytesIO(content), "r") as opened:
        return list(opened["images"].shape), opened["images"].dtype.name


def _mutated_hdf5(content: bytes, random: Random) -> bytes:
    places = SEALS[content]
    chunks = [place for place in places if isinstance(place, ChunkSeal)]
    if chunks and random.random() < 0.4:
        made = _inside(content, random.choice(chunks), random)
    else:
        made = mutated(content, random)
    return sealed(made, places) if random.random() < 0.9 else made


def _inside(content: bytes, chunk: Seal, random: Random) -> bytes:
    """Change only what one chunk packs: with the right checksum it is unpacked."""
    size = chunk.stop - chunk.start
    packed = mutated(content[chunk.start : chunk.stop], random)[:size].ljust(size, b"\0")
    return content[: chunk.start] + packed + content[chunk.stop :]


def use_entry(folder: Path, whole: bool) -> None:
    """Use everything that an opened entry offers."""
    entry = pixelprep.open(folder, cache_dir=folder.parent / CACHE)
    repr(entry), entry.size, entry.class_names, entry.dataset
    scaling = entry.scaling
    _ = scaling.mean, scaling.std, scaling.scale, scaling.offset
    for split in entry.splits.values():
        _read(entry, split)
    raw = np.zeros((2, *entry.train.shape[1:]), scaling.raw_dtype)
    scaling.apply(raw)
    json.dumps(entry.manifest.to_dict(), allow_nan=False)


def use_manifest(folder: Path, whole: bool) -> None:
    """Use the entry, and print what `pixelprep info` prints of it."""
    use_entry(folder, whole)
    with redirect_stdout(io.StringIO()):
        app(["info", str(folder)], standalone_mode=False)


def _read(entry: pixelprep.Entry, split: pixelprep.Split) -> None:
    images, _ = split.to_numpy()
    perturbed(len(images))
    again, _ = split.to_numpy()
    assert images.tobytes() == again.tobytes(), "what is read is not in the file"
    own = {"mean": split.mean, "std": split.std} if split.per_image else {}
    with np.errstate(all="ignore"):
        entry.scaling.invert(images, **own)
    for shuffle in (False, True):
        for _ in split.batches(3, shuffle=shuffle, seed=1):
            pass


def perturbed(value: int) -> None:
    """Fill memory that is handed out from now on with something else, to expose who reads it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(PERTURB, 1 + value % 254)


# HDF5 files of others


def make_hdf5(random: Random) -> Files:
    """Make a changed file, its checksums made right."""
    name = random.choice(list(FOREIGN))
    return {"x.h5": _mutated_hdf5(FOREIGN[name], random)}


def use_hdf5(folder: Path, whole: bool) -> None:
    """Prepare it, or as much of it as reads the file."""
    for path in folder.iterdir():
        if whole:
            prepared(path)
        else:
            looked_at(Hdf5Files(path, Options()))


ENTRIES: dict[str, Files] = {}
ATTACKED: dict[str, Files] = {}
FOREIGN: Files = {}
ARCHIVES: list[bytes] = []
SEALS: dict[bytes, list[Seal]] = {}


def warm(names: Collection[str]) -> None:
    """Make what the inputs of these targets start from; once, before there are children."""
    ARCHIVES.extend(seeds.npz())
    ENTRIES.update(seeds.entries())
    if "entry" in names:
        written = seeds.hostile(ENTRIES["plain"])
        ATTACKED.update(ENTRIES)
        packed = (n for n in ENTRIES if n not in ("plain", "per pixel", "sharded"))
        written |= {f"{name} alike": seeds.alike(ENTRIES[name]) for name in packed}
        ATTACKED.update({n: {**folder, **signed(folder, True)} for n, folder in written.items()})
    if "hdf5" in names:
        FOREIGN.update(seeds.hdf5())
        FOREIGN.update({f"own {n}": f["train.h5"] for n, f in ENTRIES.items() if "train.h5" in f})
    attacked = [folder[n] for folder in ATTACKED.values() for n in folder if n.endswith(".h5")]
    SEALS.update({content: seals(content) for content in {*attacked, *FOREIGN.values()}})


TARGETS: Mapping[str, Target] = {
    "idx": Target(make_idx, use_idx, seeds.idx),
    "npz": Target(make_npz, use_npz, lambda: {"whole.npz": ARCHIVES[0]}),
    "manifest": Target(make_manifest, use_manifest, lambda: ENTRIES["plain"]),
    "entry": Target(make_entry, use_entry, lambda: ENTRIES["plain"]),
    "hdf5": Target(make_hdf5, use_hdf5, lambda: {"x.h5": FOREIGN["plain earliest"]}),
}
