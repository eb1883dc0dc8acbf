"""Read the IDX format of MNIST and its relatives, plain or gzipped.

A header of big-endian numbers (two zero bytes, a type, the number of dimensions, each dimension
in 4 bytes), then the values. Described at http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pixelprep.errors import SourceError
from pixelprep.numerics.lazy import np
from pixelprep.sources import gzip_file
from pixelprep.sources.base import SourceContext
from pixelprep.sources.lazy_arrays import (
    AnyDType,
    FileArray,
    LazyArray,
    iter_blocks,
    single_file_array,
)
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting, fs, notices

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
NAME = re.compile(r"(.*?)[-_.]?(images|labels)[-.]idx(\d)(?:-\w+)?(\.gz)?", re.IGNORECASE)


class Name(NamedTuple):
    """What a file's name says; families are told apart by the rest of it."""

    family: str
    split: str
    role: str
    dimensions: int


def parse_name(name: str) -> Name | None:
    """Return what a file's name says; None unless it is one of the usual for an IDX file."""
    found = NAME.fullmatch(name)
    if not found:
        return None
    words = re.split("[-_.]", found[1])
    splits = {word: "test" if word.lower() == "t10k" else split_of(word) for word in words}
    rest = "-".join(word for word in words if not splits[word])
    named = {split for split in splits.values() if split} or {"train"}
    if len(named) > 1:
        return None
    return Name(rest, named.pop(), found[2].lower(), int(found[3]))


def find_pairs(folder: Path, files: Iterable[str]) -> dict[str, tuple[Path, Path]]:
    """Return a folder's images and labels by split; refuse several families, and half a pair.

    Of a file that is there twice, the gzipped is taken; of labels those with fewer dimensions.
    """
    families: dict[str, dict[tuple[str, str], Path]] = defaultdict(dict)
    # The preferred come first.
    known = [(found, name) for name in files if (found := parse_name(name))]
    known.sort(key=lambda one: (one[0].dimensions, ".idx" in one[1], not one[1].endswith(".gz")))
    for found, name in known:
        families[found.family].setdefault((found.split, found.role), folder / name)
    if len(families) > 1:
        listed = formatting.shorten(sorted(name or "without a name" for name in families))
        several = f"{folder}: IDX files of several datasets: {listed}"
        raise SourceError(several, "give each a folder of its own")
    [(family, held)] = families.items() or [("", {})]
    splits = ["train", *(split for split in ("val", "test") if {split} & {s for s, _ in held})]
    pairs = {}
    for split in splits:
        for role, kind in (("images", "idx3"), ("labels", "idx1")):
            if (split, role) not in held:
                word = "t10k" if split == "test" and not family else split
                name = "-".join(filter(None, (family, word, role, kind, "ubyte")))
                expected = f"expected {name}.gz (or {name}), found neither"
                raise SourceError(f"{folder}: {expected}")
        pairs[split] = held[split, "images"], held[split, "labels"]
    return pairs


def class_column(path: Path, labels: LazyArray) -> LazyArray:
    """Return labels (N,): of several a row, as QMNIST has them, the first is the class."""
    if len(labels.shape) == 1:
        return labels
    told = (path, formatting.format_shape(labels.shape))
    notices.tell("%s: labels %s: the first of each row is taken as the class", *told)
    return np.concatenate([block[:, 0] for block in iter_blocks(labels)])


def read(path: Path, dimensions: int, context: SourceContext) -> FileArray:
    """Read one IDX file, no further than its header promises.

    It has 3 dimensions, which become (N, H, W, 1), or 1, (N,), or (N, K) of labels.
    """
    start = b""
    for piece in gzip_file.read_pieces(path):
        start += piece
        if len(start) >= _header_bytes(max(dimensions, 2)):
            break
    shape, dtype = _header(start, path, dimensions)
    promised = math.prod(shape) * dtype.itemsize
    if promised > gzip_file.max_content(path):
        more = f"{promised:,} bytes, more than the file can hold"
        raise SourceError(f"{path}: the header promises {more}")
    fs.require_free_space(context.folder(), promised)
    limit = _header_bytes(len(shape)) + promised
    return parse(gzip_file.unpack(path, limit, context.file(path.name)), path, dimensions)


def parse(content: gzip_file.Unpacked, path: Path, dimensions: int) -> FileArray:
    """Return the array in the unpacked content of the IDX file at `path`, checked as by `read`."""
    with content.path.open("rb") as file:
        shape, dtype = _header(file.read(_header_bytes(3)), path, dimensions)
    header = _header_bytes(len(shape))
    held, size = content.size - header, math.prod(shape) * dtype.itemsize
    if held != size:
        holds = "more" if held > size else f"{held:,}"
        raise SourceError(f"{path}: the header promises {size:,} bytes, the file holds {holds}")
    full = shape if dimensions == 1 else (*shape, 1)
    return single_file_array(content.path, full, dtype, header)


def _header_bytes(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _header(start: bytes, path: Path, dimensions: int) -> tuple[tuple[int, ...], AnyDType]:
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        begins = start[:4].hex(" ") or "nothing"
        raise SourceError(f"{path}: not an IDX file: it begins with {begins}")
    accepted = (1, 2) if dimensions == 1 else (dimensions,)  # QMNIST has several labels a row
    if start[3] not in accepted:
        expected = f"expected {formatting.pluralize(dimensions, 'dimension')}"
        hint = "of colours: prepare pixelprep.Arrays('NAME', (images, labels)) of it in Python"
        wrong = f"{path}: {expected}, the header says {start[3]}"
        raise SourceError(wrong, hint if start[3] == 4 else None)
    if len(start) < _header_bytes(start[3]):
        raise SourceError(f"{path}: the file ends in its header")
    return struct.unpack_from(f">{start[3]}I", start, 4), np.dtype(TYPES[start[2]])
