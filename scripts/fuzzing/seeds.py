"""Make valid files to mutate: small, and of every kind that the readers tell apart."""

import gzip
import io
import json
import re
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

import pixelprep
from fuzzing.seals import sealed, seals

Files = dict[str, bytes]  # of a folder: content by name

SHAPE = (4, 3, 2)
IMAGES = np.arange(24, dtype=np.uint8).reshape(SHAPE)
LABELS = np.array([0, 1, 0, 1])
IDX = {
    **{f"{name}-images-idx3-ubyte": IMAGES for name in ("train", "t10k")},
    **{f"{name}-labels-idx1-ubyte": LABELS.astype(np.uint8) for name in ("train", "t10k")},
}


def idx() -> Files:
    """Return a folder of IDX files, all plain."""
    return {
        name: struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        + array.tobytes()
        for name, array in IDX.items()
    }


def npz() -> list[bytes]:
    """Return archives as NumPy writes them."""
    kinds: list[tuple[Any, Any]] = [
        (IMAGES, LABELS),
        (IMAGES[..., None].astype(">u2"), LABELS[:, None].astype(np.int32)),
        (np.asfortranarray(IMAGES.astype(np.float32)), LABELS.astype(np.uint8)),
    ]
    return [_npz(save, *kind) for kind in kinds for save in (np.savez, np.savez_compressed)]


def _npz(save: Callable[..., None], images: Any, labels: Any) -> bytes:
    file = io.BytesIO()
    save(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return _undated(file.getvalue())


def members(archive: bytes) -> Files:
    """Return what is in an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def zipped(held: list[tuple[str, bytes]], kind: int) -> bytes:
    """Return an archive of these members, whatever their names."""
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", kind) as file:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in held:
            file.writestr(zipfile.ZipInfo(name), content, kind)
    return made.getvalue()


def _undated(archive: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        kind = file.infolist()[0].compress_type
    return zipped(list(members(archive).items()), kind)


# HDF5

PLUGINS = (
    *(hdf5plugin.Bitshuffle(), hdf5plugin.Blosc(), hdf5plugin.Blosc2(), hdf5plugin.BZip2()),
    *(hdf5plugin.LZ4(), hdf5plugin.Sperr(), hdf5plugin.Zfp(reversible=True), hdf5plugin.Zstd()),
    *(hdf5plugin.SZ(absolute=0.1), hdf5plugin.SZ3(absolute=0.1)),
)


def hdf5() -> Files:
    """Return files that others wrote, by what is special about them."""
    made = {name: _hdf5(versions, _usual(keys, **kind)) for name, versions, keys, kind in _kinds()}
    for fill in (_linked, _many, _typed, _whole):
        for versions in ("earliest", "latest"):
            made[f"{fill.__name__} {versions}"] = _hdf5(versions, fill)
    for filters in PLUGINS:
        made[f"filter {filters['compression']}"] = _hdf5("earliest", _filtered(filters))
    return made


def _kinds() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    chunks = {"chunks": True}
    storages: dict[str, dict[str, Any]] = {
        "plain": {},
        "chunked": chunks,
        "growing": {"chunks": True, "maxshape": True},
        "gzip": {"compression": "gzip", "shuffle": True, "fletcher32": True},
        "lzf": {"compression": "lzf"},
        "scaled": {"scaleoffset": 0},
        "filled": {"chunks": True, "fillvalue": 7},
    }
    for versions in ("earliest", "latest"):
        for name, kind in storages.items():
            keys = "{}/images {}/labels" if versions == "earliest" else "x_{} y_{}"
            yield f"{name} {versions}", versions, keys, kind


def _hdf5(versions: str, fill: Callable[[Any], None]) -> bytes:
    file = io.BytesIO()
    # No times of objects, so that equal inputs are made in every run.
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    low = h5py.h5f.LIBVER_EARLIEST if versions == "earliest" else h5py.h5f.LIBVER_V110
    access.set_libver_bounds(low, h5py.h5f.LIBVER_V110)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, file)
    with h5py.File(h5py.h5f.create(b"seed", h5py.h5f.ACC_EXCL, creation, access)) as made:
        fill(made)
    return _timeless(file.getvalue())


def _timeless(content: bytes) -> bytes:
    """Clear the times of objects that HDF5 wrote all the same, so that every run is alike."""
    places = seals(content)
    made = bytearray(
        re.sub(rb"(\x12\0\x08\0.\0{3}\x01\0{3})....", rb"\g<1>\0\0\0\0", content, flags=re.S)
    )
    for seal in places:
        if made[seal.start : seal.start + 4] == b"OHDR" and made[seal.start + 5] & 0x20:
            made[seal.start + 6 : seal.start + 22] = bytes(16)
    return sealed(bytes(made), places)


def _usual(keys: str, **storage: Any) -> Callable[[Any], None]:
    """Store images and labels of train and test in this way."""

    def fill(file: Any) -> None:
        for split in ("train", "test"):
            for key, array in zip(keys.split(), (IMAGES, LABELS), strict=True):
                _add(file, key.format(split), array, **storage)

    return fill


def _add(file: Any, key: str, array: NDArray[Any], **storage: Any) -> None:
    if storage.get("chunks"):
        storage["chunks"] = (2, *array.shape[1:])
    if storage.get("maxshape"):
        storage["maxshape"] = (None,) * array.ndim
    file.create_dataset(key, data=array, **storage)


def _filtered(filters: Any) -> Callable[[Any], None]:
    """Pack images by a filter of hdf5plugin: some pack only floats, and not too few."""

    def fill(file: Any) -> None:
        images = np.arange(8**3, dtype=np.float32).reshape(8, 8, 8)
        for split in ("train", "test"):
            file.create_dataset(f"x_{split}", data=images, chunks=images.shape, **filters)
            file[f"y_{split}"] = np.tile(LABELS, 2)

    return fill


def _linked(file: Any) -> None:
    """Write links of all kinds, data in other files, attributes."""
    _usual("{}/images {}/labels")(file)
    file["x_train"], file["x_test"] = h5py.SoftLink("/train/images"), file["test/images"]
    file["y_train"] = h5py.ExternalLink("seed.h5", "/train/labels")
    file.create_dataset("images", SHAPE, "u1", external=[("/dev/zero", 0, 24)])
    virtual = h5py.VirtualLayout(SHAPE, "u1")
    virtual[:] = h5py.VirtualSource("seed.h5", "/train/images", SHAPE)
    file.create_virtual_dataset("virtual", virtual)
    file["train/images"].attrs["note"] = "variable length"
    file["train"].attrs["numbers"] = LABELS


def _many(file: Any) -> None:
    """Write so many names that they take trees and heaps, with compact datasets among them."""
    for number in range(20):
        file.create_group(f"group with a long name {number:03d}")
    kept = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    kept.set_layout(h5py.h5d.COMPACT)
    for split in ("train", "test"):
        for key, array in ((f"x_{split}", IMAGES), (f"y_{split}", LABELS)):
            space = h5py.h5s.create_simple(array.shape)
            kind = h5py.h5t.py_create(array.dtype)
            made = h5py.h5d.create(file.id, key.encode(), kind, space, kept)
            made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array))


def _typed(file: Any) -> None:
    """Write types that are no plain numbers, under the usual keys."""
    text = h5py.string_dtype()
    file.create_dataset("train/images", data=["a", "bc"], dtype=text)
    file["train/labels"] = np.zeros(3, [("a", "u1"), ("b", "f4", (2,))])
    kind = h5py.enum_dtype({"cat": 0, "dog": 1}, "u1")
    file.create_dataset("test/images", data=IMAGES % 2, dtype=kind)
    file.create_dataset("test/labels", (2,), h5py.vlen_dtype(np.int32))
    file["test/labels"][0] = [1, 2, 3]
    file["kind"] = np.dtype("f8")
    file.create_dataset("x_train", data=IMAGES.astype(">i2"))
    file.create_dataset("y_train", (4,), h5py.ref_dtype)


def _whole(file: Any) -> None:
    """Write floats in growing rows, and no test split."""
    images = np.concatenate([IMAGES, IMAGES]).astype(np.float32)
    file.create_dataset("images", data=images, maxshape=(None, 3, 2), chunks=(1, 3, 2))
    file.create_dataset("labels", data=np.tile(LABELS, 2), maxshape=(None,), chunks=(2,))


# Entries


def entries() -> dict[str, Files]:
    """Return entries as `prepare` makes them."""
    choices: dict[str, dict[str, Any]] = {
        "plain": {},
        "per pixel": {"per": "pixel", "mode": "center"},
        "per image": {"per": "image", "compression": "gzip"},
        "sharded": {"shard_rows": 3, "val_fraction": 0.25, "dtype": "float16"},
        "lzf": {"compression": "lzf", "mode": "normalize"},
        "lz4": {"compression": "lz4", "rescale": True},
        "zstd": {"compression": "zstd"},
    }
    pair = (np.concatenate([IMAGES, IMAGES]), np.tile(LABELS, 2))
    source = pixelprep.Arrays("little", pair, (IMAGES, LABELS), ("cat", "dog"))
    made = {name: _entry(source, **chosen) for name, chosen in choices.items()}
    # So large that there are two chunks, the last not full; packed they are small.
    large = np.zeros((3, 256, 512), np.uint8)
    large[:, 0, 0] = 1, 2, 3
    source = pixelprep.Arrays("large", (large, LABELS[:3]), (large[:1], LABELS[:1]))
    return made | {f"{name} chunks": _entry(source, compression=name) for name in ("gzip", "zstd")}


def _entry(source: pixelprep.Arrays, **chosen: Any) -> Files:
    with tempfile.TemporaryDirectory() as cache:
        path = pixelprep.prepare(source, **chosen, cache_dir=cache, quiet=True).path
        return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def alike(entry: Files) -> Files:
    """Rewrite an entry in HDF5's oldest format, which is no reason to refuse it."""

    def written(content: bytes) -> bytes:
        def fill(made: Any) -> None:
            for name in source:
                old = source[name].id
                kept = old.get_create_plist()
                new = h5py.h5d.create(made.id, name.encode(), old.get_type(), old.get_space(), kept)
                new.write(h5py.h5s.ALL, h5py.h5s.ALL, source[name][:])
            for name, value in source.attrs.items():
                made.attrs.create(name, value, dtype=source.attrs.get_id(name).dtype)

        with h5py.File(io.BytesIO(content), "r") as source:
            return _hdf5("earliest", fill)

    return entry | {name: written(entry[name]) for name in entry if name.endswith(".h5")}


def hostile(entry: Files) -> dict[str, Files]:
    """Return the entry with files written by others, who sign what they like."""
    kinds: dict[str, dict[str, Any]] = {
        "contiguous": {},
        "one chunk": {"chunks": True},
        "gzip": {"compression": "gzip", "shuffle": True, "chunks": True},
        "scaled": {"scaleoffset": 3, "chunks": True},
        "growing": {"chunks": True, "maxshape": True, "fletcher32": True},
        "blosc": {**hdf5plugin.Blosc(), "chunks": True},
        "sz": {**hdf5plugin.SZ(absolute=0.1), "chunks": True},
    }
    return {
        f"{name} {versions}": {**entry, "train.h5": _rewritten(entry["train.h5"], versions, kind)}
        for name, kind in kinds.items()
        for versions in ("earliest", "latest")
    }


def _rewritten(content: bytes, versions: str, kind: dict[str, Any]) -> bytes:
    with h5py.File(io.BytesIO(content), "r") as file:
        arrays = {name: file[name][:] for name in file}

    def fill(made: Any) -> None:
        for name, array in arrays.items():
            _add(made, name, array, **(kind if name == "images" else {}))

    return _hdf5(versions, fill)


def manifest(entry: Files) -> Any:
    """Return an entry's manifest."""
    return json.loads(entry["manifest.json"])


def gzipped(content: bytes) -> bytes:
    """Return a gzip file without a time."""
    return gzip.compress(content, mtime=0)
