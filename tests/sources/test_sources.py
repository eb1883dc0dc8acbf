"""Raw data from every kind of source: equal data is equal whatever file held it; bad is refused."""

import hashlib
import io
import json
import pickle
import resource
import shutil
import struct
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import pixelprep
from pixelprep import SourceError, UsageError
from pixelprep.sources import REGISTRY, Arrays, Provenance
from pixelprep.sources.containers.npz import NumpyFiles
from pixelprep.sources.file_types import FILE_TYPES
from pixelprep.sources.known.cifar import Cifar
from pixelprep.system import fs
from tests.helpers.cli import failure, run
from tests.helpers.data import flipped, idx, write_digits
from tests.helpers.raw_files import (
    CIFAR_FOLDER,
    CIFAR_IMAGES,
    CIFAR_LABELS,
    PAIRS,
    ROWS,
    Canary,
    cifar_members,
    npy,
    npz,
    npz_with,
    random_pairs,
    write_hdf5,
    write_npz,
)
from tests.helpers.sources import SPLITS, Pair, check, nothing_is_left, prepared, refused

LONG = pytest.mark.long

# One dataset in every file that can hold it


def write_idx(folder: Path, pairs: tuple[Pair, Pair]) -> Path:
    """Return a folder with MNIST's four file names."""
    folder.mkdir()
    for name, (images, labels) in zip(("train", "t10k"), pairs, strict=True):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))
    return folder


def test_equal_data_makes_equal_files_whatever_held_it(tmp_path: Path) -> None:
    """Arrays, .npz, HDF5 and IDX files of the same images give the same digests to the last."""
    pairs = random_pairs(shape=(6, 5))
    sources: list[Arrays | Path] = [
        Arrays("data", *pairs),
        write_npz(tmp_path / "data.npz", pairs, np.savez_compressed),
        write_hdf5(tmp_path / "data.hdf5", pairs, chunks=True, compression="gzip"),
        write_idx(tmp_path / "data", pairs),
    ]
    made = [prepared(one, cache_dir=tmp_path / f"cache{i}") for i, one in enumerate(sources)]
    for entry in made:
        check(entry, *pairs)
        assert entry.manifest.to_dict()["splits"] == made[0].manifest.to_dict()["splits"]
        assert entry.path.relative_to(entry.path.parents[1]) == Path("data", made[0].path.name)


@pytest.mark.parametrize(
    "kind",
    [
        "i1",
        ">u2",
        "f2",
        *(pytest.param(kind, marks=LONG) for kind in ["u1", "u2", ">i2", "f4", "f8", ">f4"]),
    ],
)
def test_numbers_of_every_kind_are_read(tmp_path: Path, kind: str) -> None:
    """Type and byte order, the order of axes and compression change no pixel of a file."""
    pairs = random_pairs(kind)
    (x, y), (x2, _) = pairs
    turned: dict[str, Any] = {"x_train": np.asfortranarray(x), "x_test": np.asfortranarray(x2)}
    packed: dict[str, Any] = {"y_train": y[:, None].astype(">i4")}
    for path in (
        write_npz(tmp_path / "plain.npz", pairs),
        write_npz(tmp_path / "turned.npz", pairs, **turned),
        write_npz(tmp_path / "packed.npz", pairs, np.savez_compressed, **packed),
        write_hdf5(tmp_path / "plain.h5", pairs, "x_{} y_{}"),
        write_hdf5(tmp_path / "packed.h5", pairs, chunks=True, compression="lzf", shuffle=True),
    ):
        check(prepared(path, mode="center"), *pairs)


@given(
    st.tuples(*[st.integers(1, 6)] * 3) | st.tuples(*[st.integers(1, 6)] * 4),
    st.sampled_from(["u1", "<u2", ">u2", ">i2"]),
    st.booleans(),
    st.sampled_from([np.savez, np.savez_compressed]),
    st.integers(0, 2**32),
)
def test_any_npz_file_gives_its_rows(
    shape: tuple[int, ...], kind: str, turned: bool, save: Callable[..., None], seed: int
) -> None:
    """Whatever shape, order and type an archive's arrays have, its pixels and labels come out."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 100, shape).astype(kind)
    y = random.permutation(len(x)).astype("<u2")
    names = tuple(map(str, range(len(x))))
    with tempfile.TemporaryDirectory() as folder:
        given = np.asfortranarray(x) if turned else x
        path = write_npz(Path(folder, "any.npz"), ((given, y), (given, y[:, None])), save)
        layout = "nhwc" if x.ndim == 4 else None  # some look like channels first
        entry = prepared(path, mode="center", layout=layout, cache_dir=Path(folder, "cache"))
        check(entry, (x, y), (x, y), names)


def test_a_new_kind_of_file_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has an entry in `FILE_TYPES` is read, and named where nothing fits."""
    path = write_npz(tmp_path / "data.npz", PAIRS).rename(tmp_path / "data.pack")
    with pytest.raises(SourceError, match=r"ends in \.npz, \.npy, \.h5, \.hdf5, \.mat"):
        prepared(path)
    monkeypatch.setitem(FILE_TYPES, ".pack", NumpyFiles)
    check(prepared(path), *PAIRS)


# Bad .npz files


def sized(content: bytes, size: int) -> bytes:
    """Return the archive, its directory saying that x_train.npy unpacks to so many bytes."""
    place = content.rindex(b"x_train.npy") - 46  # the entry of the directory at the end
    return content[: place + 24] + struct.pack("<I", size) + content[place + 28 :]


X, Y = PAIRS[0]
BAD_NPZ: dict[str, tuple[bytes, str]] = {
    "an array missing": (
        npz(y_train=None),
        "no array under the key y_train; it holds x_test",
    ),
    "a label too few": (npz(y_train=Y[:-1]), "40 images but 39 labels"),
    "labels of floats": (npz(y_train=Y / 2), "labels are float64"),
    "labels in two columns": (npz(y_train=np.stack([Y, Y], 1)), "labels are int64 (40, 2)"),
    "a label below 0": (npz(y_test=PAIRS[1][1] - 1), "got -1 to 2"),
    "labels far apart": (npz(y_train=Y * 10**6), "labels up to 3,000,000 of 60 images"),
    "images that are rows": (
        npz(x_train=X[:, 0, 0], x_test=PAIRS[1][0][:, 0, 0]),
        "expected images of (N, H, W, C)",
    ),
    "no images": (
        npz(x_train=X[:0], y_train=Y[:0]),
        "expected images of (N, H, W, C), each at least 1",
    ),
    "images of 32 bits": (npz(x_train=X.astype("i4"), x_test=PAIRS[1][0].astype("i4")), "int32"),
    "yes and no": (npz(x_train=X > 9, x_test=PAIRS[1][0] > 9), "images are bool"),
    "images of another type": (npz(x_test=PAIRS[1][0].astype("u2")), "differ in image shape or"),
    "no number": (
        npz(x_train=np.where(X > 254, np.nan, X), x_test=PAIRS[1][0] * 1.0),
        "holds nan: expected finite numbers",
    ),
    "records": (
        npz(x_train=np.zeros((40, 2, 2), "u1,u1"), x_test=np.zeros((20, 2, 2), "u1,u1")),
        "images are",
    ),
    "more promised than held": (
        npz_with(x_train=npy("(40, 6, 5, 3)", 3599)),
        "promises 3,600 bytes",
    ),
    "less promised than held": (
        npz_with(x_train=npy("(40, 6, 5, 3)", 3601)),
        "promises 3,600 bytes",
    ),
    "a header to evaluate": (npz_with(x_train=npy("(10**14, 6, 5, 3)", 9)), "not a readable .npz"),
    "a number of 10**14": (
        npz_with(x_train=npy(f"({10**14}, 6, 5, 3)", 9)),
        "promises 9,000,000,000,",
    ),
    "sizes below 0": (npz_with(x_train=npy("(40, -6, 5, -3)", 3600)), ""),
    "rows below 0": (
        npz_with(x_train=npy("(-40, 6, 5, -3)", 3600), y_train=npy("(-40, -1)", 40)),
        "",
    ),
    "another magic number": (npz_with(x_train=b"NUMPY!" + npy("(40, 6, 5, 3)", 3600)), "magic"),
    "a newer .npy": (npz_with(x_train=npy("()", 9, b"\x93NUMPY\3\0")), "header of version 1 or 2"),
    "an empty .npy": (npz_with(x_train=b""), "not a readable .npz file"),
    "packed by LZMA": (
        npz_with(zipfile.ZIP_LZMA, x_train=npy("(1,)", 1)),
        "in a way that NumPy does not",
    ),
    "a bomb by its directory": (sized(npz(np.savez_compressed), 1 << 31), "more than it can hold"),
    "shorter than its directory says": (
        sized(
            npz_with(y_train=npy("(400,)", 400), x_train=npy("(400, 6, 5, 3)", 3600)),
            128 + 36000,
        ),
        "x_train",
    ),
    "a damaged pixel": (flipped(npz(), npz().index(X[20:21].tobytes())), "Bad CRC-32"),
    "a damaged packed pixel": (flipped(npz(np.savez_compressed), 1500), "not a readable .npz"),
    "cut off": (npz()[:-30], "File is not a zip file"),
    "no zip": (b"no zip file at all", "File is not a zip file"),
    "nothing": (b"", "File is not a zip file"),
}


@pytest.mark.parametrize("bad", BAD_NPZ)
def test_a_bad_npz_file_is_refused(tmp_path: Path, cache: Path, bad: str) -> None:
    """Whatever is wrong in an .npz file, one line names the file and says what is wrong."""
    content, reason = BAD_NPZ[bad]
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    refused(cache, path, path if bad != "no number" else "bad: train: image", reason)


def test_nothing_goes_on_when_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded beside has ended: a thread that is left would break off with a traceback."""
    ended = threading.Event()

    def load() -> None:
        time.sleep(0.05)
        ended.set()

    monkeypatch.setattr("pixelprep.pipeline.prepare._load_build", load)
    path = tmp_path / "bad.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(pixelprep.SourceError):
        pixelprep.prepare(path, quiet=True)
    assert ended.is_set()


@pytest.mark.parametrize("name", ["x_train", "y_test"])
def test_nothing_is_unpickled(tmp_path: Path, cache: Path, name: str) -> None:
    """Python objects in a file are refused before they can do anything, also as the whole file."""
    canary, path = tmp_path / "canary", tmp_path / "bad.npz"
    objects: dict[str, Any] = {name: np.array([Canary(canary)] * 40, object)}
    write_npz(path, PAIRS, **objects)
    refused(cache, path, f"{path}: {name}", "holds pickled Python objects, which are never loaded")
    path.write_bytes(pickle.dumps(Canary(canary)))
    refused(cache, path, path, "a pickle, which could run anything: never loaded")
    assert not canary.exists()
    pickle.loads(path.read_bytes())
    assert canary.exists()  # the canary is awake


# HDF5 files


@pytest.mark.parametrize(
    ("keys", "storage"),
    [
        ("{}/images {}/labels", {}),
        ("x_{} y_{}", {"chunks": True}),
        ("/a/{}/b/x a/{}-y", {"chunks": True, "compression": "gzip", "fletcher32": True}),
    ],
)
def test_hdf5_files_are_read_under_their_keys(
    tmp_path: Path, keys: str, storage: dict[str, Any]
) -> None:
    """Two usual pairs of keys are found, others are given; how the data is stored is no matter."""
    path = write_hdf5(tmp_path / "some.h5", PAIRS, keys, **storage)
    images, labels = keys.format(*["{split}"] * 2).split()
    own = {"images_key": images, "labels_key": labels}
    check(prepared(path, **own if "/a/" in keys else {}), *PAIRS)


@pytest.mark.parametrize(
    ("held", "keys", "fraction", "seed"),
    [
        ("", {}, 1 / 3, 2**64 - 1),
        ("", {"images_key": "images", "labels_key": "labels"}, 0.1, 0),
        ("train/", {}, 0.25, 7),
    ],
)
def test_a_test_split_is_taken_from_an_hdf5_file(
    tmp_path: Path, held: str, keys: dict[str, str], fraction: float, seed: int
) -> None:
    """Rows of one array, which may be called train, go to test by the page's rule and keep their
    order; without a share, all are train.
    """
    path = tmp_path / "whole.h5"
    with h5py.File(path, "w") as file:
        file[f"{held}images"], file[f"{held}labels"] = X, Y
    entry = prepared(path, test_fraction=fraction, split_seed=seed, **keys)
    assert entry.splits.keys() == {"train", "test"}
    check(entry, (X, Y), None)
    check(prepared(path, **keys), (X, Y), None)


def test_equal_labels_may_be_packed_tightly(tmp_path: Path) -> None:
    """Filters that shrink equal numbers more than deflate can are no reason to refuse a file."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    (x, y), test = random_pairs(shape=(2, 2))
    x, y = np.repeat(x, 1000, axis=0), np.sort(np.repeat(y, 1000))
    path = write_hdf5(tmp_path / "tight.h5", ((x, y), test))
    with h5py.File(path, "a") as file:
        del file["train/labels"]
        file.create_dataset("train/labels", data=y, chunks=y.shape, **hdf5plugin.Zstd(9))
    check(prepared(path), (x, y), test)


def write_raw(path: Path) -> list[tuple[str, int, int]]:
    """Return a file of pixels beside an HDF5 file, for its external storage."""
    path.with_suffix(".raw").write_bytes(X.tobytes())
    return [(f"{path.stem}.raw", 0, X.nbytes)]


def virtual(file: Any) -> None:
    """Make a virtual dataset over one that is there."""
    file["own"] = X
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:] = h5py.VirtualSource(file["own"])
    file.create_virtual_dataset("train/images", layout)


def timed(file: Any) -> None:
    """Numbers of a type that NumPy does not have."""
    space = h5py.h5s.create_simple((40,))
    h5py.h5d.create(file["train"].id, b"images", h5py.h5t.UNIX_D32LE, space)


VARYING = h5py.vlen_dtype(np.dtype(np.uint8))
KEY = "train/images"
# By what is wrong: what is put in the place of the training images, and the reason given.
BAD_HDF5: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nothing": (lambda file: None, "it holds test/images"),
    "a soft link": (
        lambda file: file.update({"own": X, KEY: h5py.SoftLink("/own")}),
        f"{KEY} is a link",
    ),
    "a link to itself": (
        lambda file: file.update({KEY: h5py.SoftLink(f"/{KEY}")}),
        "train",
    ),
    "a link to nowhere": (lambda file: file.update({KEY: h5py.SoftLink("/no")}), "train"),
    "a group that is a link": (
        lambda file: [file.move("train", "own"), file.update({"train": h5py.SoftLink("/own")})],
        "train/images is a link",
    ),
    "an external link": (
        lambda file: file.update({KEY: h5py.ExternalLink("other.h5", KEY)}),
        f"{KEY} is a link",
    ),
    "external storage": (
        lambda file: file.create_dataset(
            KEY, X.shape, X.dtype, external=write_raw(Path(file.filename))
        ),
        f"{KEY} is stored in other files",
    ),
    "a virtual dataset": (virtual, f"{KEY} is stored in other files"),
    "a group": (lambda file: file.create_group(KEY), "it holds test/images"),
    "one number": (lambda file: file.update({KEY: 3}), "no array under the key train/images"),
    "no shape": (lambda file: file.update({KEY: h5py.Empty("u1")}), "train/images"),
    "text": (lambda file: file.update({KEY: ["one"] * 40}), "is object: expected numbers"),
    "bytes": (lambda file: file.update({KEY: [b"one"] * 40}), "expected numbers"),
    "rows of any length": (
        lambda file: file.create_dataset(KEY, (40,), VARYING),
        "is object: expected numbers",
    ),
    "references": (
        lambda file: file.create_dataset(KEY, (40,), h5py.ref_dtype),
        "is object: expected numbers",
    ),
    "records": (lambda file: file.update({KEY: np.zeros(40, "u1,u1")}), "expected numbers"),
    "times": (timed, "train/images"),
    "yes and no": (lambda file: file.update({KEY: X > 9}), "is bool: expected numbers"),
    "a promise": (
        lambda file: file.create_dataset(KEY, (10**12, 6, 5, 3), "u1", chunks=(9, 6, 5, 3)),
        "declares more than the file holds",
    ),
    "a promise with a row kept": (
        lambda file: file.create_dataset(KEY, (10**12, 9), "u1", chunks=(1, 9)).write_direct(
            np.ones((1, 9), np.uint8), dest_sel=np.s_[:1]
        ),
        "declares more than the file holds",
    ),
    "rows never written": (
        lambda file: file.create_dataset(KEY, X.shape, "u1", chunks=(9, 6, 5, 3)).write_direct(
            X, np.s_[9:18], np.s_[9:18]
        ),
        "31 of 40 rows were never written, the first of them row 0",
    ),
    "rows": (lambda file: file.update({KEY: X[:, 0, 0]}), "flat rows"),
    "an image too few": (lambda file: file.update({KEY: X[1:]}), "39 images but 40 labels"),
    "images of another size": (lambda file: file.update({KEY: X[:, :5]}), "differ in image shape"),
}


OFTEN = {"nothing", "a soft link", "external storage", "text"}


@pytest.mark.parametrize(
    ("bad", "given"),
    [
        *(pytest.param(bad, False, marks=LONG if i % 3 else ()) for i, bad in enumerate(BAD_HDF5)),
        *(pytest.param(bad, True, marks=() if bad in OFTEN else LONG) for bad in BAD_HDF5),
    ],
)
def test_a_bad_hdf5_file_is_refused(tmp_path: Path, cache: Path, bad: str, given: bool) -> None:
    """What is no array of numbers in this one file is refused, found or named; no link leads on."""
    put, reason = BAD_HDF5[bad]
    write_hdf5(tmp_path / "other.h5", PAIRS)
    path = write_hdf5(tmp_path / "bad.h5", PAIRS)
    with h5py.File(path, "a") as file:
        del file[KEY]
        put(file)
    keys = {"images_key": "{split}/images", "labels_key": "{split}/labels"}
    if bad == "a group that is a link" and not given:  # it is as if there were no such group
        refused(cache, path, "bad", "expected a train split to fit the scaling to, found test")
        return
    refused(cache, path, path, reason, **keys if given else {})


@pytest.mark.parametrize("size", [0, 7, 100, 3000, -1])
def test_a_cut_hdf5_file_is_refused(tmp_path: Path, cache: Path, size: int) -> None:
    """An HDF5 file that ends too early, wherever, is not a readable HDF5 file."""
    path = write_hdf5(tmp_path / "cut.h5", PAIRS)
    path.write_bytes(path.read_bytes()[:size])
    refused(cache, path, path, "not a readable HDF5 file")


def test_a_damaged_chunk_is_refused(tmp_path: Path, cache: Path) -> None:
    """Where an HDF5 file has checksums, a wrong byte is found."""
    path = write_hdf5(tmp_path / "damaged.h5", PAIRS, chunks=True, fletcher32=True)
    content = path.read_bytes()
    path.write_bytes(flipped(content, content.index(X[21:22].tobytes())))
    refused(cache, path, path, "differs from its checksum")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"images_key": "{split}/images", "labels_key": "train/labels"}, "in both or none"),
    ],
)
def test_keys_must_fit_each_other(
    tmp_path: Path, cache: Path, options: dict[str, Any], reason: str
) -> None:
    """One split alone: wrong usage."""
    path = write_hdf5(tmp_path / "good.h5", PAIRS)
    assert isinstance(refused(cache, path, "", reason, **options), UsageError)


@pytest.mark.parametrize("key", ["no/{split}", "{split}/images/x", ".", "..", "/", "./no"])
def test_a_key_that_is_not_there_is_named(tmp_path: Path, cache: Path, key: str) -> None:
    """Where a key leads to no array, the error says so and what the file holds."""
    path = write_hdf5(tmp_path / "good.h5", PAIRS)
    refused(cache, path, path, "it holds test/images", images_key=key, labels_key=key)


# CIFAR-10


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make an archive of these members, which is then the official one; returns its folder."""

    def make(members: Mapping[str, bytes], links: Mapping[str, tuple[bytes, str]]) -> Path:
        path = tmp_path / "in" / "cifar-10-binary.tar.gz"
        path.parent.mkdir()
        with tarfile.open(path, "w:gz") as archive:
            for name, (kind, target) in links.items():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = kind, target
                archive.addfile(link)
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        known, digest = REGISTRY["cifar10"], hashlib.sha256(path.read_bytes()).hexdigest()
        assert isinstance(known, Cifar)
        pin = replace(known.archive, size=path.stat().st_size, sha256=digest)
        little = replace(known, archive=pin, part_rows=ROWS, test_rows=ROWS)
        finder = sys.modules["pixelprep.sources.resolve"]
        monkeypatch.setattr(finder, "REGISTRY", {**REGISTRY, "cifar10": little})
        return path.parent

    return make


def test_cifar10_is_read_from_its_archive(tmp_path: Path, cifar: Callable[..., Path]) -> None:
    """Planes become H×W×C, files keep their numbers' order, and no other member does anything."""
    evil = {"../escaped": b"x", f"{tmp_path}/absolute": b"x", f"{CIFAR_FOLDER}/../../up": b"x"}
    links = {
        f"{CIFAR_FOLDER}/data_batch_1.bin": (tarfile.SYMTYPE, "/etc/passwd"),
        f"{CIFAR_FOLDER}/data_batch_2.bin": (tarfile.LNKTYPE, "../escaped"),
        f"{CIFAR_FOLDER}/data_batch_3.bin": (tarfile.FIFOTYPE, ""),
        "link": (tarfile.SYMTYPE, str(tmp_path)),
    }
    folder = cifar(evil | cifar_members() | {"link/through": b"x"}, links)
    entry = prepared("cifar10", source=folder)
    train = CIFAR_IMAGES[:5].reshape(-1, 32, 32, 3), CIFAR_LABELS[:5].reshape(-1)
    check(entry, train, (CIFAR_IMAGES[5], CIFAR_LABELS[5]), REGISTRY["cifar10"].class_names)
    assert entry.manifest.to_dict()["provenance"] == REGISTRY["cifar10"].provenance.to_dict()
    assert prepared("cifar10", source=folder).cached
    names = {path.name for path in tmp_path.rglob("*")}
    assert names.isdisjoint({"escaped", "absolute", "up", "link", "through"})


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data_batch_4.bin", None, "expected 6 files, found 5"),
        ("test_batch.bin", None, "expected 6 files, found 5"),
        ("data_batch_2.bin", bytes(3 * 3073 - 1), "expected 3 records, it ends early"),
        ("data_batch_2.bin", b"\x0a" + bytes(3 * 3073 - 1), "expected labels 0 to 9, got 0 to 10"),
    ],
)
def test_a_wrong_member_of_cifar10_is_refused(
    cache: Path, cifar: Callable[..., Path], name: str, content: bytes | None, reason: str
) -> None:
    """An archive without one of its six files, or with a wrong one, makes no entry."""
    members = cifar_members() | {f"{CIFAR_FOLDER}/{name}": content}
    folder = cifar({name: held for name, held in members.items() if held is not None}, {})
    with pytest.raises(SourceError) as caught:
        prepared("cifar10", source=folder)
    assert reason in caught.value.message
    assert nothing_is_left(cache)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\0"])
def test_only_the_official_archive_is_cifar10(
    cache: Path, cifar: Callable[..., Path], change: Callable[[bytes], bytes]
) -> None:
    """An archive of another digest is refused before it is opened, and a missing one is named."""
    path = cifar(cifar_members(), {}) / "cifar-10-binary.tar.gz"
    path.write_bytes(change(path.read_bytes()))
    for reason in ("not the official cifar-10-binary.tar.gz", "found neither"):
        with pytest.raises(SourceError) as caught:
            prepared("cifar10", source=path.parent)
        assert reason in caught.value.message
        assert str(path.parent) in caught.value.message
        path.unlink(missing_ok=True)
    assert nothing_is_left(cache)


# Datasets known by name

# The SHA-256 of what `published` returns for each.
PUBLISHED = {
    "mnist": "f7d280ea9a1f1df749f03b9dc0ff36e5c929a25f0612067d219fe426ce40eb78",
    "fashion-mnist": "0f54932b3ca0a34086538043df131ebb4c82a220cfc55a9fd05bd775d12aa70f",
    "kmnist": "41f36e33d14160f4daac3709df3cd8bcc916e0630f9fe48e285f8ffa54b28f0a",
    "cifar10": "bc56fedea7c33fb03ffa4568278c156417aa18e3406e1d1f5f517b8f30236d98",
}


def published(name: str) -> str:
    """Return a dataset's files with their sizes and digests, and its mirrors, one a line."""
    known = REGISTRY[name]
    files = (f"{pin.name} {pin.size} {pin.sha256}" for pin in known.files)
    return "\n".join((*files, *known.mirrors))


@pytest.mark.parametrize("name", PUBLISHED)
def test_known_datasets_are_pinned(name: str) -> None:
    """The published datasets are the published files, to the byte, on terms that are told."""
    known = REGISTRY[name]
    assert hashlib.sha256(published(name).encode()).hexdigest() == PUBLISHED[name], published(name)
    assert all(known.provenance.to_dict().values())
    assert len(known.class_names) == len(set(known.class_names)) == 10
    count = 50_000 if name == "cifar10" else 60_000
    assert known.rows == {"train": count, "test": 10_000}


# Datasets of other packages

PLUGIN = '''
"""Datasets that another package brings."""
import numpy as np
from pixelprep.sources import Arrays, Options, Provenance

LABELS = np.arange(30) % 3
IMAGES = np.broadcast_to(LABELS[:, None, None] * 50, (30, 4, 4)).astype(np.uint8)


def stripes(options: Options) -> Arrays:
    pair = IMAGES, LABELS
    return Arrays("stripes", pair, pair, provenance=Provenance("stripes", "CC0 1.0"))


def none(options):
    return None


def no_options():
    return None


def fails(options):
    raise ValueError("no stripes today")


def known(options):
    return Arrays("mnist", (IMAGES, LABELS), (IMAGES, LABELS))
'''
POINTS = {  # what is wrong with each, and what the error says
    "no-attribute": ("stripes:nothing", "stripes:nothing"),
    "no-module": ("no_stripes:stripes", "no_stripes:stripes"),
    "no-options": ("stripes:no_options", "stripes:no_options"),
    "no-function": ("stripes:LABELS", "stripes:LABELS"),
    "no-source": ("stripes:none", "stripes:none"),
    "no-python": ("not_python:stripes", "not_python:stripes"),
    "fails": ("stripes:fails", "no stripes today"),
    "fails-early": ("fails_early:stripes", "fails_early:stripes"),
    "a-known-name": ("stripes:known", "is that of a known dataset"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a package with datasets is installed, as it is by pip."""
    target = tmp_path_factory.mktemp("installed")
    points = {"stripes": "stripes:stripes", "mnist": "stripes:stripes"}
    points |= {name: value for name, (value, _) in POINTS.items()}
    about = target / "stripes_for_pixelprep-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: stripes-for-pixelprep\nVersion: 1\n"
    )
    lines = ["[pixelprep.sources]", *(f"{name} = {value}" for name, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    (target / "stripes.py").write_text(PLUGIN)
    (target / "not_python.py").write_text("def stripes(:\n")
    (target / "fails_early.py").write_text("raise RuntimeError('not\\ntoday')\n")
    return target


def test_another_package_brings_a_dataset(installed: Path) -> None:
    """Once a package with an entry point is installed, its dataset is known by its name."""
    with_it: dict[str, Any] = {"code": f"import sys; sys.path.append({str(installed)!r})"}
    done = run("prepare", "stripes", "--mode", "normalize", "--json", **with_it)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["dataset"], answer["splits"]["train"]["shape"]) == ("stripes", [30, 4, 4, 1])
    listed = run("datasets", **with_it).stdout.splitlines()
    assert any(line.startswith("stripes  from stripes") for line in listed)
    assert not any(line.startswith("mnist  from") for line in listed)  # a known name stays known
    _, hint = failure(run("prepare", "stripe", **with_it), 2)
    assert hint == "did you mean 'stripes'?"


@pytest.mark.parametrize("name", POINTS)
def test_a_broken_dataset_of_another_package_is_one_line(
    installed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever is wrong with another package's dataset, the error is one of ours and names it."""
    monkeypatch.syspath_prepend(str(installed))
    with pytest.raises((SourceError, UsageError)) as caught:
        prepared(name)
    assert POINTS[name][1] in caught.value.message
    assert name != "no-attribute" or caught.value.message.startswith(
        "no-attribute: its package's stripes:nothing does not work: "
    )
    assert "\n" not in str(caught.value)
    assert nothing_is_left(cache)


@pytest.mark.parametrize("field", ["title", "licence", "homepage", "citation"])
def test_provenance_is_text(field: str) -> None:
    """A field that is anything else, by a mistake of another package, is refused by name."""
    fields: dict[str, Any] = {"title": "stripes", "licence": "CC0 1.0", field: None}
    with pytest.raises(SourceError, match=f"^provenance: {field}: expected text, got NoneType$"):
        Provenance(**fields)


# Options and names


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with one dataset of each kind in it."""
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "k.npz", PAIRS)
    write_hdf5(tmp_path / "k.h5", PAIRS)
    write_digits(tmp_path / "digits")
    for name in ("a", "b"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "0.png").write_bytes(b"")
    return tmp_path


DECODING: dict[str, Any] = {
    "size": "3x3",
    "color": "grey",
    "on_error": "skip",
    "images_key": "x",
    "labels_key": "y",
}
MEANING = {
    "./k.npz": "images_key labels_key on_error",
    "./digits": "",
    "mnist": "",
    "sample": "",
    "cifar10": "",
    "./k.h5": "images_key labels_key on_error",
    "./pets": "size color on_error",
}


@pytest.mark.parametrize("dataset", MEANING)
def test_options_that_mean_nothing_are_refused(here: Path, cache: Path, dataset: str) -> None:
    """An option that a source has no use for is wrong usage, rather than silently ignored."""
    for option in DECODING.keys() - MEANING[dataset].split():
        with pytest.raises(UsageError) as caught:
            prepared(dataset, **{option: DECODING[option]})
        assert caught.value.message == f"`{option}`: does not apply to {dataset}"
    assert nothing_is_left(cache)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("size", size) for size in ("3x", "axb", "0x3", "3x-1", "1x2x3", "70000x1", "")),
        *(("size", size) for size in ((3, 4, 5), (0, 1), (3.5, 4.5), (None, 3))),
        *(("color", color) for color in ("blue", "")),
        ("on_error", "ignore"),
        *(("test_fraction", fraction) for fraction in (1.0, -0.5, float("nan"), 1e9)),
    ],
)
def test_values_that_cannot_be_are_refused(
    here: Path, cache: Path, option: str, value: object
) -> None:
    """A value that an option cannot have is wrong usage, and the option is named."""
    with pytest.raises(UsageError, match=f"`{option}"):
        prepared("./pets", **{option: value})
    assert nothing_is_left(cache)


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (["./k.npz", "--size", "3x3"], 2, "--size: does not apply to ./k.npz"),
        (["./pets", "--images-key", "x"], 2, "--images-key: does not apply to ./pets"),
        (["./pets", "--test-fraction", "1.5"], 2, "--test-fraction 1.5: expected 0 or more"),
        (["./k.npz", "--source", "."], 2, "takes no --source"),
        (["z.npz"], 2, "unknown dataset 'z.npz'"),
        (["./k.nzp"], 1, "./k.nzp: no such file or folder".removeprefix("./")),
        (["./x.txt"], 1, "a file that ends in .npz, .npy, .h5, .hdf5"),
    ],
)
def test_the_command_line_says_so(
    here: Path, cache: Path, command: list[str], status: int, reason: str
) -> None:
    """Wrong options exit 2, what is no dataset exits 1; the line says what could have been."""
    Path("x.txt").write_bytes(b"")
    error, hint = failure(run("prepare", *command), status)
    assert reason in error
    assert command != ["z.npz"] or hint == (
        "a path to images of your own is written with a slash: ./z.npz"
    )
    assert nothing_is_left(cache)


@pytest.mark.parametrize("dataset", ["./k.npz", "./k.h5", "./digits", "./pets"])
def test_a_full_disk_is_no_fault_of_the_data(here: Path, cache: Path, dataset: str) -> None:
    """Where there is no room for the raw data, the cache is named and not the user's file."""
    for path in Path("pets").glob("*/*.png"):
        for name in ("0.png", "1.png"):
            Image.fromarray(X[:, :, 0, 0]).save(path.with_name(name))
    limits = {resource.RLIMIT_FSIZE: 100}
    options = ["--test-fraction", "0.5"] if dataset == "./pets" else []
    error, hint = failure(run("prepare", dataset, *options, limits=limits))
    assert error.startswith(f"cannot write in {cache}: ")
    assert "--cache-dir" in hint


@pytest.mark.parametrize("name", ["k.NPZ", "k.Hdf5"])
def test_suffixes_may_be_written_large(here: Path, name: str) -> None:
    """A suffix says what kind a file is in whatever letters."""
    old = Path("k.npz" if name.endswith("Z") else "k.h5")
    check(prepared(f"./{old.rename(name)}"), *PAIRS)


def write_bmp(folder: Path, pairs: tuple[Pair, Pair]) -> Path:
    """Return a folder of images, sorted by class, all files of one size."""
    for name, (images, labels) in zip(SPLITS, pairs, strict=True):
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / name / str(label) / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


def write_again(folder: Path, pairs: tuple[Pair, Pair]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return write_idx(folder, pairs)


@pytest.mark.parametrize("write", [write_npz, write_hdf5, write_again, write_bmp])
def test_other_pixels_within_a_coarse_step_of_file_times_are_other_data(
    write: Callable[[Path, Any], Path], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where times are in steps of two seconds, files written twice in one step look alike; none of
    them is remembered before the step is over.
    """
    start, passed, stamp = time.time_ns() // fs.SECOND * fs.SECOND, [0], fs.file_stamp
    monkeypatch.setattr(fs, "file_stamp", lambda file: (1, stamp(file)[1], start, start))
    monkeypatch.setattr(time, "time_ns", lambda: start + passed[0])
    path = tmp_path / ("data.npz" if write is write_npz else "data.h5")
    path = path if write in (write_npz, write_hdf5) else tmp_path / "data"
    (x, y), (x2, y2) = random_pairs(shape=(6, 5))
    keys = []
    for turn in range(3):
        entry = prepared(write(path, ((x + np.uint8(turn), y), (x2, y2))))
        keys.append(entry.key)
    assert len(set(keys)) == 3
    assert not [*cache.glob(".sources/*")]
    passed[0] = fs.COARSE_STEP
    assert prepared(path).key == keys[-1]
    assert len([*cache.glob(".sources/*")]) == 1


@pytest.mark.parametrize("file", ["", "train.h5"])
def test_what_is_scaled_already_is_not_scaled_again(file: str) -> None:
    """An entry's folder and one of its files are no raw data (exports: see test_exported)."""
    entry = pixelprep.prepare("sample", mode="center", quiet=True)
    with pytest.raises(SourceError, match="pixelprep has scaled these images already"):
        pixelprep.prepare(entry.path / file, quiet=True)


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    """A key of an npz file that is no split's is told of."""
    path = tmp_path / "more.npz"
    np.savez(path, x_train=X, y_train=Y, x_extra=X[:2])
    with pytest.warns(pixelprep.PixelprepWarning, match="more: arrays not used: x_extra"):
        pixelprep.prepare(path, quiet=True)


def test_names_of_a_split_that_is_not_there_are_refused() -> None:
    """A misspelt split loses no names in silence, nor what is no list of names; labels of no class
    are no labels.
    """
    for odd in (5, "ab"):
        with pytest.raises(UsageError, match="expected a list of each split's names"):
            Arrays("named", (X[:2], Y[:2]), names={"train": odd})  # type: ignore[dict-item]
    source = Arrays("named", (X, Y), names={"tarin": ["a"] * len(X)})
    with pytest.raises(SourceError, match="names of 'tarin': expected those of train"):
        pixelprep.prepare(source, quiet=True)
    none = Arrays("none", (X, np.zeros((len(X), 0), int)), task="multilabel")
    with pytest.raises(SourceError, match=r"expected 0 and 1, \(N, K\)"):
        pixelprep.prepare(none, quiet=True)
