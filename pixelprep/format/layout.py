"""Define the layout of an entry's files: datasets, chunks, filters (data/FORMAT.md, section 2)."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any  # Any: attributes of several types

from pixelprep.errors import missing_extra, unknown_choice

FORMAT, FORMAT_VERSION = "pixelprep", 1
CHUNK_BYTES = 1 << 20  # the largest chunk that fits into HDF5's default chunk cache (1 MiB)
FILE_BYTES = 256 << 20  # images per file, before compression
SHUFFLE, FLETCHER32 = 2, 3  # HDF5's filter numbers
COMPRESSIONS: Mapping[str, tuple[int, ...]] = {  # the filters of each, by number
    "none": (),
    "gzip": (SHUFFLE, 1),
    "lzf": (SHUFFLE, 32000),
    "lz4": (SHUFFLE, 32004),
    "zstd": (SHUFFLE, 32015),
}
DTYPES: Mapping[str, int] = {"float32": 4, "float16": 2}  # of stored images, and their bytes
MAX_ATTRIBUTE_VALUES = 4096  # statistics with more values are only in the manifest


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
    dtype: str  # of its images: float32 or float16
    rows: int  # per chunk
    compression: str = "none"  # one of `COMPRESSIONS`
    # Of the root: str, int, list of str, or array of float64 (left out if large).
    attributes: Mapping[str, Any] = field(default_factory=dict)
    per_image: bool = False  # whether each image's own mean and std are stored too

    @property
    def columns(self) -> dict[str, DatasetLayout]:
        """The datasets by name, in the order of their creation."""
        images = f"<f{DTYPES[self.dtype]}"
        compressed = COMPRESSIONS[self.compression]
        statistics = ("mean", "std") if self.per_image else ()
        return {
            "images": self._dataset(self.shape, images, compressed),
            "labels": self._dataset(self.shape[:1], "<i8"),
            **{name: self._dataset(self.shape[:1], "<f8") for name in statistics},
        }

    def _dataset(
        self, shape: tuple[int, ...], dtype: str, compressed: tuple[int, ...] = ()
    ) -> DatasetLayout:
        chunks = (min(self.rows, shape[0]), *shape[1:])
        return DatasetLayout(shape, dtype, chunks, (*compressed, FLETCHER32))


def chunk_rows(image_shape: Sequence[int], dtype: str) -> int:
    """Return the rows per chunk: the largest power of two that fits into 1 MiB, at least 1."""
    return 1 << max(0, (CHUNK_BYTES // _row_bytes(image_shape, dtype)).bit_length() - 1)


def file_rows(image_shape: Sequence[int], dtype: str) -> int:
    """Return the rows per file: as many whole chunks as fit into 256 MiB, at least one."""
    rows = chunk_rows(image_shape, dtype)
    return rows * max(1, FILE_BYTES // (rows * _row_bytes(image_shape, dtype)))


def run_rows(chunk: int, compression: str) -> int:
    """Return the rows per run: a quarter of a chunk, or all where it is compressed."""
    return max(1, chunk // 4) if compression == "none" else chunk


def _row_bytes(image_shape: Sequence[int], dtype: str) -> int:
    return math.prod(image_shape) * DTYPES[dtype]


def check_compression(name: str) -> None:
    """Refuse a compression that does not exist, or whose package is not installed."""
    if name not in COMPRESSIONS:
        raise unknown_choice("compression", name, COMPRESSIONS)
    if name in ("lz4", "zstd") and importlib.util.find_spec("hdf5plugin") is None:
        raise missing_extra("hdf5plugin", "compression", f"`compression={name}`")
