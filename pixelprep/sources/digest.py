"""Compute the digests that identify raw data (data/FORMAT.md, section 4)."""

import hashlib
import math
from collections.abc import Callable

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.format.source_record import SourceRecord, SourceSplit
from pixelprep.sources.base import Raw
from pixelprep.sources.lazy_arrays import (
    AnyArray,
    LazyArray,
    block_ranges,
    iter_blocks,
    slice_rows,
)
from pixelprep.system import parallel, progress
from pixelprep.system.fs import HASH_BYTES

DIGEST_BYTES = 64 << 20  # pixels under one digest (data/FORMAT.md, section 4)


def describe(
    raw: Raw, pool: parallel.WorkerPool, where: str = "", quiet: bool = True
) -> SourceRecord:
    """Return what the source digest is taken over: equal for equal data.

    Raises
    ------
    SourceError
        When floats are not finite.
    """
    splits = {}
    for name, split in raw.splits.items():
        with progress.bar(f"hashing {name}", len(split.images), " images", quiet) as bar:
            digest = images_digest(split.images, pool, f"{where}: {name}", bar.update)
        images = split.images
        labels = labels_digest(split.labels)
        splits[name] = SourceSplit(images.dtype.name, tuple(images.shape), digest, labels)
    return SourceRecord(splits, tuple(raw.class_names), dict(raw.decode))


def labels_digest(labels: LazyArray) -> str:
    """Return the digest of labels as int64."""
    digest = hashlib.sha256()
    for block in iter_blocks(labels, HASH_BYTES):
        digest.update(block.astype("<i8").data)
    return digest.hexdigest()


def images_digest(
    images: LazyArray,
    pool: parallel.WorkerPool,
    where: str,
    on_progress: Callable[[int], object] = lambda _: None,
) -> str:
    """Return the digest of all pixels or, above `DIGEST_BYTES`, of the digests of their pieces.

    Pieces can be hashed in parallel; `on_progress` receives the number of images in each.
    """
    pieces = digest_pieces(images)
    tasks = ((slice_rows(images, rows), where, rows.start) for rows in pieces)
    with parallel.thread_pool() as threads:  # hashing releases the interpreter's lock
        workers = parallel.WorkerPool(threads) if pool.inline else pool
        digests = []
        for rows, digest in zip(pieces, workers.map(_piece_digest, tasks), strict=True):
            digests.append(digest)
            on_progress(len(rows))
    return join_digests(digests)


def digest_pieces(images: LazyArray) -> list[range]:
    """Return the rows under each digest: all, or pieces if there are many pixels."""
    if math.prod(images.shape) * images.dtype.itemsize <= DIGEST_BYTES:
        return [range(len(images))]
    return list(block_ranges(images, DIGEST_BYTES))


def join_digests(digests: list[bytes]) -> str:
    """Return the digest of all pixels, given those of the pieces, in hex."""
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex()


def _piece_digest(task: tuple[LazyArray, str, int]) -> bytes:
    images, where, first = task
    digest = hashlib.sha256()
    for block in iter_blocks(images, HASH_BYTES):
        if block.dtype.kind == "f":
            _check_finite(block, where, first)
        digest.update(pixel_bytes(block))
        first += len(block)
    return digest.digest()


def pixel_bytes(images: AnyArray) -> memoryview:
    """Return the bytes of images that are hashed: C order, little-endian."""
    return np.ascontiguousarray(images, images.dtype.newbyteorder("<")).data


def _check_finite(block: AnyArray, where: str, first: int) -> None:
    finite = np.isfinite(block).all(axis=(1, 2, 3))
    if not finite.all():
        row = int(np.argmin(finite))
        value = block[row][~np.isfinite(block[row])][0]
        raise SourceError(
            f"{where}: image {first + row} (counted from 0) holds {value}: expected finite numbers",
            "correct or leave out the image",
        )
