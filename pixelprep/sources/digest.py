"""Compute the digests that identify raw data (data/FORMAT.md, section 4)."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.sources.base import Raw, RawSplit
from pixelprep.sources.lazy_arrays import LazyArray, block_ranges, iter_blocks, slice_rows
from pixelprep.system import parallel, progress
from pixelprep.system.fs import HASH_BYTES

DIGEST_BYTES = 64 << 20  # of pixels under one digest (data/FORMAT.md, section 4)


def describe(
    raw: Raw, pool: parallel.WorkerPool, where: str = "", quiet: bool = True
) -> dict[str, Any]:
    """What the source digest is taken over: equal for equal data, whatever way it came.

    Raises
    ------
    SourceError
        When floats are not finite.
    """
    splits = {}
    for name, split in raw.splits.items():
        with progress.bar(f"hashing {name}", len(split.images), " images", quiet) as bar:
            digest = images_digest(split.images, pool, f"{where}: {name}", bar.update)
        splits[name] = {
            "dtype": split.images.dtype.name,
            "shape": list(split.images.shape),
            "images": digest,
            "labels": labels_digest(split),
        }
    return {"splits": splits, "class_names": list(raw.class_names), "decode": dict(raw.decode)}


def labels_digest(split: RawSplit) -> str:
    """The digest of a split's labels as int64."""
    digest = hashlib.sha256()
    for block in iter_blocks(split.labels, HASH_BYTES):
        digest.update(block.astype("<i8").data)
    return digest.hexdigest()


def images_digest(
    images: LazyArray,
    pool: parallel.WorkerPool,
    where: str,
    note: Callable[[int], object] = lambda _: None,
) -> str:
    """The digest of all pixels or, of many, of the digests of their pieces.

    So that pieces may be taken side by side; `note` is told how many more images were.
    """
    few = math.prod(images.shape) * images.dtype.itemsize <= DIGEST_BYTES
    parts = [range(len(images))] if few else list(block_ranges(images, DIGEST_BYTES))
    tasks = ((slice_rows(images, rows), where, rows.start) for rows in parts)
    with parallel.thread_pool() as threads:  # hashing lets the interpreter go
        helpers = parallel.WorkerPool(threads) if pool.inline else pool
        digests = []
        for rows, digest in zip(parts, helpers.map(_piece_digest, tasks), strict=True):
            digests.append(digest)
            note(len(rows))
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex()


def _piece_digest(task: tuple[LazyArray, str, int]) -> bytes:
    images, where, first = task
    digest, little = hashlib.sha256(), images.dtype.newbyteorder("<")
    for block in iter_blocks(images, HASH_BYTES):
        if block.dtype.kind == "f":
            _check_finite(block, where, first)
        digest.update(np.ascontiguousarray(block, little).data)
        first += len(block)
    return digest.digest()


def _check_finite(block: NDArray[Any], where: str, first: int) -> None:
    finite = np.isfinite(block).all(axis=(1, 2, 3))
    if not finite.all():
        row = int(np.argmin(finite))
        value = block[row][~np.isfinite(block[row])][0]
        raise SourceError(
            f"{where}: image {first + row} (counted from 0) holds {value}: expected finite numbers",
            "mend or leave out the image",
        )
