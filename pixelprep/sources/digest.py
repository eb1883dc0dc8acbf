"""Compute the digests that identify raw data (data/FORMAT.md, section 4)."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.source_record import SourceRecord, SourceSplit
from pixelprep.numerics.statistics import AnyMoments, PairwiseSum, moments_of, pairwise_sum
from pixelprep.sources import leaks
from pixelprep.sources.base import Raw
from pixelprep.sources.lazy_arrays import (
    AnyArray,
    LazyArray,
    block_ranges,
    iter_blocks,
    pixel_bytes,
    slice_rows,
)
from pixelprep.system import progress
from pixelprep.system.fs import HASH_BYTES
from pixelprep.system.parallel import WorkerPool, check_wanted

OnProgress = Callable[[int], object]  # receives the number of images that were read
DIGEST_BYTES = 64 << 20  # pixels under one digest (data/FORMAT.md, section 4)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found out about raw data by reading it."""

    raw: Raw  # without what was left out
    record: SourceRecord  # what the source digest is taken over
    moments: Mapping[str, AnyMoments]  # by split, of its images; none where they were not wanted
    keys: Mapping[str, AnyArray]  # by split, of its images (`leaks.KEY`)


def survey(
    raw: Raw,
    pool: WorkerPool,
    where: str,
    quiet: bool,
    scopes: Mapping[str, str],
    on_leak: str | None = None,
) -> Survey:
    """Describe raw data and sum up its splits, reading it once.

    The moments are of those splits for which `scopes` says what pixels share a statistic (`PER`).
    Images that are in several splits are told of or, by `on_leak`, refused or left out; then the
    rest is read again.
    """
    splits, moments, numbers = {}, {}, {}
    for name, split in raw.splits.items():
        images, per = split.images, scopes.get(name)
        title = f"{'reading' if per else 'hashing'} {name}"
        with progress.bar(title, len(images), " images", quiet) as bar:
            pieces = list(
                _read_pieces(images, pool, f"{where}: {name}", per, bar.update, numbered=True)
            )
        numbers[name] = np.concatenate([piece.numbers for piece in pieces])
        splits[name] = SourceSplit(
            dtype=images.dtype.name,
            shape=tuple(images.shape),
            images=join_digests([piece.digest for piece in pieces]),
            labels=labels_digest(split.labels),
            names=None if split.names is None else names_digest(split.names),
            name_bytes=None if split.names is None else split.names.dtype.itemsize,
        )
        if per:
            sums = (piece.moments for piece in pieces)
            moments[name] = pairwise_sum(one for one in sums if one is not None)
    keys = leaks.keys_of({name: split.images for name, split in raw.splits.items()}, numbers)
    equal = leaks.EqualImages.among(keys)
    rest = leaks.handle_leaks(raw, equal, where, on_leak)
    if rest is not raw:
        return survey(rest, pool, where, quiet, scopes)
    leaks.tell_conflicts(raw, equal, where)
    record = SourceRecord(splits, raw.task, tuple(raw.class_names), dict(raw.decode))
    return Survey(raw, record, moments, keys)


def labels_digest(labels: LazyArray) -> str:
    """Return the digest of labels as int64 or, of several a row, as uint8."""
    digest, dtype = hashlib.sha256(), "<i8" if len(labels.shape) == 1 else "u1"
    for block in iter_blocks(labels, HASH_BYTES):
        digest.update(np.ascontiguousarray(block, dtype).data)
    return digest.hexdigest()


def names_digest(names: LazyArray) -> str:
    """Return the digest of names, each with a zero byte behind it."""
    digest = hashlib.sha256()
    for block in iter_blocks(names, HASH_BYTES):
        digest.update(b"".join(name + b"\0" for name in block.tolist()))
    return digest.hexdigest()


def images_digest(
    images: LazyArray, pool: WorkerPool, where: str, on_progress: OnProgress = lambda _: None
) -> str:
    """Return the digest of all pixels or, above `DIGEST_BYTES`, of the digests of their pieces."""
    pieces = _read_pieces(images, pool, where, None, on_progress, numbered=False)
    return join_digests([piece.digest for piece in pieces])


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is taken from a piece of images."""

    digest: bytes
    moments: AnyMoments | None
    numbers: NDArray[np.uint64]  # of all images, `leaks.numbers_of`; none if they are not wanted


def _read_pieces(
    images: LazyArray,
    pool: WorkerPool,
    where: str,
    per: str | None,
    on_progress: OnProgress,
    *,
    numbered: bool,
) -> Iterator[_Piece]:
    """Yield the digest and, if they are wanted, moments and numbers of each piece of images."""
    pieces = digest_pieces(images)
    tasks = ((slice_rows(images, rows), where, rows.start, per, numbered) for rows in pieces)
    for rows, result in zip(pieces, pool.map(_read_piece, tasks), strict=True):
        yield result
        on_progress(len(rows))


def digest_pieces(images: LazyArray) -> list[range]:
    """Return the rows under each digest: all, or pieces if there are many pixels."""
    if math.prod(images.shape) * images.dtype.itemsize <= DIGEST_BYTES:
        return [range(len(images))]
    return list(block_ranges(images, DIGEST_BYTES))


def join_digests(digests: list[bytes]) -> str:
    """Return the digest of all pixels, given those of the pieces, in hex."""
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex()


def _read_piece(task: tuple[LazyArray, str, int, str | None, bool]) -> _Piece:
    images, where, first, per, numbered = task
    digest, sums, numbers = hashlib.sha256(), PairwiseSum(), [np.empty(0, np.uint64)]
    # The blocks of data/FORMAT.md, section 3, if they are summed up; a piece is a whole number of
    # them, so that the sums of all pieces are those of all blocks.
    for block in iter_blocks(images, None if per else HASH_BYTES):
        check_wanted()
        if block.dtype.kind == "f":
            _check_finite(block, where, first)
        pixels = pixel_bytes(block)
        digest.update(pixels)
        if numbered:
            numbers.append(leaks.numbers_of(pixels, len(block)))
        if per:
            sums.add(moments_of(block, per))
        first += len(block)
    return _Piece(digest.digest(), sums.total() if per else None, np.concatenate(numbers))


def _check_finite(block: AnyArray, where: str, first: int) -> None:
    finite = np.isfinite(block).all(axis=(1, 2, 3))
    if not finite.all():
        row = int(np.argmin(finite))
        value = block[row][~np.isfinite(block[row])][0]
        image = f"{where}: image {first + row} (counted from 0)"
        wrong = f"{image} holds {value}: expected finite numbers"
        raise SourceError(wrong, "correct or leave out the image")
