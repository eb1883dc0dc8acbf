"""The bytes of raw files, good and bad."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.helpers.data import arrays
from tests.helpers.sources import SPLITS, Pair


def random_pairs(dtype: str = "uint8", shape: tuple[int, ...] = (6, 5, 3)) -> tuple[Pair, Pair]:
    """Return random images of a type and byte order, all four classes in both splits."""
    native = np.dtype(dtype).newbyteorder("=")
    source = arrays(shape=shape, dtype=native.name if native.kind != "f" else "int8")
    return tuple((x.astype(dtype), y) for x, y in source.splits.values())  # type: ignore[return-value]


def write_npz(
    path: Path, pairs: tuple[Pair, Pair], save: Callable[..., None] = np.savez, **changes: Any
) -> Path:
    """Return an archive with Keras's names; a change to None leaves the array out."""
    held: dict[str, Any] = {}
    for name, (images, labels) in zip(SPLITS, pairs, strict=True):
        held |= {f"x_{name}": images, f"y_{name}": labels}
    held |= changes
    save(path, **{name: array for name, array in held.items() if array is not None})
    return path


def write_hdf5(
    path: Path, pairs: tuple[Pair, Pair], keys: str = "{}/images {}/labels", **storage: Any
) -> Path:
    """Return a file with the arrays under these keys, stored in this way."""
    with h5py.File(path, "w") as file:
        for name, pair in zip(SPLITS, pairs, strict=True):
            for key, array in zip(keys.split(), pair, strict=True):
                chunks = (7, *array.shape[1:]) if storage.get("chunks") else None
                own = storage | {"chunks": chunks}
                file.create_dataset(key.format(name), data=array, **own)
    return path


class Canary:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


PAIRS = random_pairs()


def npz(save: Callable[..., None] = np.savez, **changes: Any) -> bytes:
    """Return the bytes of a good archive but for these changes."""
    file = io.BytesIO()
    write_npz(file, PAIRS, save, **changes)  # type: ignore[arg-type] # savez takes both
    return file.getvalue()


def npz_with(how: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """Return a good archive, the bytes of some of its .npy files being these."""
    changes: dict[str, Any] = dict.fromkeys(members)
    file = io.BytesIO(npz(**changes))
    with zipfile.ZipFile(file, "a") as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member, how)
    return file.getvalue()


def npy(shape: str, held: int, start: bytes = b"\x93NUMPY\1\0") -> bytes:
    """Return a .npy file of uint8 whose header says this shape, and so many bytes of data."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return start + struct.pack("<H", 118) + header.ljust(117).encode() + b"\n" + bytes(held)


ROWS = 3


RANDOM = np.random.default_rng(0)


CIFAR_IMAGES = RANDOM.integers(0, 256, (6, ROWS, 32, 32, 3), np.uint8)


CIFAR_LABELS = RANDOM.integers(0, 10, (6, ROWS), np.uint8)


CIFAR_FOLDER = "cifar-10-batches-bin"


def cifar_members() -> dict[str, bytes]:
    """Return the members of the official archive, with fewer records; in no order."""
    planes = CIFAR_IMAGES.transpose(0, 1, 4, 2, 3).reshape(6, ROWS, -1)
    records = np.concatenate([CIFAR_LABELS[..., None], planes], axis=2)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    found = {f"{CIFAR_FOLDER}/{names[i]}": records[i].tobytes() for i in (3, 5, 0, 4, 1, 2)}
    return {f"{CIFAR_FOLDER}/batches.meta.txt": b"airplane\n", **found}


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a part of a PNG, between its length and its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Return a PNG file that says this of itself, whatever is in it."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    held = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + held
