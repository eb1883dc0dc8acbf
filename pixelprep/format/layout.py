"""Define the layout of an entry's files: datasets, chunks, filters (data/FORMAT.md, section 2)."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any  # Any: attributes of several types

from pixelprep.errors import missing_extra, unknown_choice

FORMAT, FORMAT_VERSION = "pixelprep", 1
EXPORTED = b"pixelprep: scaled images"  # the comment of an npz file that holds an export
EXPORTED_NAMES: Mapping[str, str] = {  # of columns there: with _SPLIT behind them, the arrays' keys
    **{"images": "x", "labels": "y", "mean": "mean", "std": "std", "names": "names"},
}
CHUNK_BYTES = 1 << 20  # the largest chunk that fits into HDF5's default chunk cache (1 MiB)
COLUMN_CHUNK_BYTES = 512 << 10  # of what is not images: few requests where a file is far away
FILE_BYTES = 256 << 20  # images per file, before compression
SHUFFLE, FLETCHER32 = 2, 3  # HDF5's filter numbers
COMPRESSIONS: Mapping[str, tuple[int, ...]] = {  # the filters of each, by number
    "none": (),
    "gzip": (SHUFFLE, 1),
    "lzf": (SHUFFLE, 32000),
    "lz4": (SHUFFLE, 32004),
    "zstd": (SHUFFLE, 32015),
}
PACKAGES: Mapping[str, tuple[str, ...]] = {  # what reads and writes them
    "lzf": ("imagecodecs",),
    "lz4": ("imagecodecs", "hdf5plugin"),
    "zstd": ("imagecodecs", "hdf5plugin"),
}
DTYPES = ("float32", "float16")  # of scaled images
STORED: Mapping[str, str] = {  # the types that images may be stored in
    "float32": "<f4",
    "float16": "<f2",
    "uint8": "|u1",
    "int8": "|i1",
    "uint16": "<u2",
    "int16": "<i2",
}
STORAGES = ("scaled", "raw")
MAX_ATTRIBUTE_BYTES = 32 << 10  # what is longer is only in the manifest


UNSAFE = re.compile(r"^\.|[%/\\\x00-\x1f\x7f]")  # in a class name that becomes a folder's


def class_folder(name: str) -> str:
    """Return a class name as a folder of an export: what a path cannot hold is spelled as in URLs.

    An empty name becomes a lone %, which none of the others can be.
    """
    return UNSAFE.sub(lambda c: f"%{ord(c[0]):02X}", name) or "%"


def is_stored(attribute: Any) -> bool:
    """Return whether an attribute is small enough for a file: str, int, or array of float64."""
    size = (
        len(attribute.encode()) if isinstance(attribute, str) else getattr(attribute, "nbytes", 8)
    )
    return bool(size <= MAX_ATTRIBUTE_BYTES)


@dataclass(frozen=True, slots=True)
class DatasetLayout:
    """The layout of one dataset."""

    shape: tuple[int, ...]  # (N, …)
    dtype: str  # NumPy's name of the little-endian type: ``"<f4"``
    chunks: tuple[int, ...]  # of a chunk: at most N rows, the other sides whole
    filters: tuple[int, ...]  # HDF5's numbers, in order

    @property
    def chunk_count(self) -> int:
        return -(-self.shape[0] // self.chunks[0])

    @property
    def chunk_bytes(self) -> int:
        """The bytes of an uncompressed chunk and its checksum."""
        return math.prod(self.chunks) * int(self.dtype[2:]) + 4


@dataclass(frozen=True, slots=True)
class FileLayout:
    """The layout of a file of one split."""

    shape: tuple[int, ...]  # (N, H, W, C), of its images
    dtype: str  # of its images: one of `STORED`
    rows: int  # per chunk
    compression: str = "none"  # one of `COMPRESSIONS`
    # Of the root: str, int, or array of float64; left out if large.
    attributes: Mapping[str, Any] = field(default_factory=dict)
    per_image: bool = False  # whether each image's own mean and std are stored too
    labels: int = 0  # classes that a row has or has not; 0: a row has one, stored by its number
    name_bytes: int = 0  # of the longest name of a row; 0: rows have no names

    @property
    def columns(self) -> dict[str, DatasetLayout]:
        """The datasets by name, in the order of their creation."""
        chunks = (min(self.rows, self.shape[0]), *self.shape[1:])
        filters = (*COMPRESSIONS[self.compression], FLETCHER32)
        columns = {"images": DatasetLayout(self.shape, STORED[self.dtype], chunks, filters)}
        columns["labels"] = self._column("|u1", self.labels) if self.labels else self._column("<i8")
        if self.per_image:
            columns |= {name: self._column("<f8") for name in ("mean", "std")}
        if self.name_bytes:
            columns["names"] = self._column(f"|S{self.name_bytes}")
        return columns

    def _column(self, dtype: str, *row_shape: int) -> DatasetLayout:
        most = COLUMN_CHUNK_BYTES // (math.prod(row_shape) * int(dtype[2:]))
        rows = max(1, min(self.shape[0], most))
        shape, chunks = (self.shape[0], *row_shape), (rows, *row_shape)
        return DatasetLayout(shape, dtype, chunks, (FLETCHER32,))


def stored_dtype(storage: str, dtype: str, raw_dtype: str) -> str:
    """Return the type that images are stored in."""
    return raw_dtype if storage == "raw" else dtype


def chunk_rows(image_shape: Sequence[int], dtype: str) -> int:
    """Return the rows per chunk: the largest power of two that fits into 1 MiB, at least 1.

    It goes by the type of scaled images, so that raw ones are read in the same order.
    """
    return 1 << max(0, (CHUNK_BYTES // _row_bytes(image_shape, dtype)).bit_length() - 1)


def file_rows(image_shape: Sequence[int], dtype: str) -> int:
    """Return the rows per file: as many whole chunks as fit into 256 MiB, at least one."""
    rows = chunk_rows(image_shape, dtype)
    return rows * max(1, FILE_BYTES // (rows * _row_bytes(image_shape, dtype)))


def run_rows(chunk: int, compression: str) -> int:
    """Return the rows per run: a quarter of a chunk, or all where it is compressed."""
    return max(1, chunk // 4) if compression == "none" else chunk


def _row_bytes(image_shape: Sequence[int], dtype: str) -> int:
    return math.prod(image_shape) * int(STORED[dtype][2:])


def check_compression(name: str) -> None:
    """Refuse a compression that does not exist, or whose package is not installed."""
    if name not in COMPRESSIONS:
        raise unknown_choice("compression", name, COMPRESSIONS)
    for package in PACKAGES.get(name, ()):
        from importlib.util import find_spec  # most entries have no compression

        if find_spec(package) is None:
            raise missing_extra(package, "compression", f"`compression={name}`")
