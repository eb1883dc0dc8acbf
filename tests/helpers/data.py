"""Small datasets: arrays in memory, and files of raw images."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np

from pixelprep.sources import Arrays


def arrays(
    train: int = 40,
    test: int = 20,
    shape: tuple[int, ...] = (6, 5, 3),
    dtype: str = "uint8",
    classes: int = 4,
    seed: int = 0,
    name: str = "little",
) -> Arrays:
    """Return a small source of random integer images in memory, every class in every split."""
    random = np.random.default_rng(seed)
    limits = np.iinfo(dtype)

    def split(rows: int) -> tuple[np.ndarray, np.ndarray]:
        images = random.integers(limits.min, limits.max, (rows, *shape), dtype, endpoint=True)
        return images, random.permutation(np.arange(rows) % classes)

    return Arrays(name, split(train), split(test))


def idx(images: np.ndarray, shape: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    """Return an IDX file of these values; its header may promise another shape or type."""
    sizes = b"".join(size.to_bytes(4, "big") for size in shape or images.shape)
    return bytes([0, 0, kind, len(shape or images.shape)]) + sizes + images.tobytes()


def write_digits(folder: Path, train: int = 40, test: int = 20, side: int = 6) -> Path:
    """Return images of the user's own: four IDX files of random grey images in four classes."""
    random = np.random.default_rng(7)
    folder.mkdir(parents=True)
    for name, rows in (("train", train), ("t10k", test)):
        images = random.integers(0, 256, (rows, side, side), np.uint8)
        images[0, 0, :2] = 0, 255
        labels = (np.arange(rows) % 4).astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def content(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[tuple[bytes, bytes]]:
    """Return the bytes of each batch's images and labels."""
    return [(images.tobytes(), labels.tobytes()) for images, labels in batches]


def bytes_of(folder: str | Path) -> dict[str, str]:
    """Return the digest of every file in a folder."""
    return {f.name: sha256(f.read_bytes()).hexdigest() for f in Path(folder).iterdir()}


def flipped(content: bytes, place: int) -> bytes:
    """Return one byte of it inverted."""
    changed = bytearray(content)
    changed[place] ^= 0xFF
    return bytes(changed)
