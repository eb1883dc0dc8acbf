"""What a file looks like: the numbers and names of the format (data/FORMAT.md, section 2)."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pixelprep.errors import missing_extra, unknown_choice

FORMAT, FORMAT_VERSION = "pixelprep", 1
CHUNK_BYTES = 1 << 20  # the largest chunk that HDF5's default chunk cache (1 MiB) still holds
FILE_BYTES = 256 << 20  # stored images of one file, before compression
SHUFFLE, FLETCHER32 = 2, 3  # HDF5's numbers of its filters
COMPRESSIONS: Mapping[str, tuple[int, ...]] = {  # and of those that compress
    "none": (),
    "gzip": (SHUFFLE, 1),
    "lzf": (SHUFFLE, 32000),
    "lz4": (SHUFFLE, 32004),
    "zstd": (SHUFFLE, 32015),
}
DTYPES: Mapping[str, int] = {"float32": 4, "float16": 2}  # of stored images, and their bytes
MAX_ATTRIBUTE_VALUES = 4096  # statistics of more values than this are kept in the manifest alone


@dataclass(frozen=True, slots=True)
class DatasetLayout:
    """What one dataset of a file looks like.

    Parameters
    ----------
    shape : tuple of int
        (N, …).
    dtype : str
        As NumPy spells it, little-endian: ``"<f4"``.
    chunks : tuple of int
        Rows of a chunk, never more than there are, and the whole of the rest.
    filters : tuple of int
        HDF5's numbers of them, in order.
    """

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    filters: tuple[int, ...]

    @property
    def chunk_count(self) -> int:
        """How many chunks there are."""
        return -(-self.shape[0] // self.chunks[0])

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk and its checksum, where it is not compressed."""
        return math.prod(self.chunks) * int(self.dtype[2:]) + 4


@dataclass(frozen=True, slots=True)
class FileLayout:
    """What a file looks like before there is data in it.

    Parameters
    ----------
    shape : tuple of int
        (N, H, W, C) of the whole file.
    dtype : str
        Of the images: float32 or float16.
    rows : int
        Rows a chunk.
    compression : str
        One of `COMPRESSIONS`.
    attributes : mapping
        Root attributes: str, int, list of str, or array of float64 (left out where not small).
    per_image : bool
        Whether each image's own mean and std are stored too.
    """

    shape: tuple[int, ...]
    dtype: str
    rows: int
    compression: str = "none"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    per_image: bool = False

    @property
    def columns(self) -> dict[str, DatasetLayout]:
        """The datasets by name, in the order in which they are made."""
        images = f"<f{DTYPES[self.dtype]}"
        packed = COMPRESSIONS[self.compression]
        own = ("mean", "std") if self.per_image else ()
        return {
            "images": self._column(self.shape, images, packed),
            "labels": self._column(self.shape[:1], "<i8"),
            **{name: self._column(self.shape[:1], "<f8") for name in own},
        }

    def _column(
        self, shape: tuple[int, ...], dtype: str, packed: tuple[int, ...] = ()
    ) -> DatasetLayout:
        chunks = (min(self.rows, shape[0]), *shape[1:])
        return DatasetLayout(shape, dtype, chunks, (*packed, FLETCHER32))


def chunk_rows(image_shape: Sequence[int], dtype: str) -> int:
    """Rows a chunk: the largest power of two whose images fit into 1 MiB, at least 1."""
    return 1 << max(0, (CHUNK_BYTES // _row_bytes(image_shape, dtype)).bit_length() - 1)


def file_rows(image_shape: Sequence[int], dtype: str) -> int:
    """Rows a file: as many whole chunks as fit into 256 MiB, at least one."""
    rows = chunk_rows(image_shape, dtype)
    return rows * max(1, FILE_BYTES // (rows * _row_bytes(image_shape, dtype)))


def run_rows(chunk: int, compression: str) -> int:
    """Neighbouring rows that a shuffled epoch reads at once: a quarter of a chunk, at least 1.

    A compressed chunk comes whole or not at all.
    """
    return max(1, chunk // 4) if compression == "none" else chunk


def _row_bytes(image_shape: Sequence[int], dtype: str) -> int:
    return math.prod(image_shape) * DTYPES[dtype]


def check_compression(name: str) -> None:
    """Refuse a compression that does not exist, or whose package is not installed."""
    if name not in COMPRESSIONS:
        raise unknown_choice("compression", name, COMPRESSIONS)
    if name in ("lz4", "zstd") and importlib.util.find_spec("hdf5plugin") is None:
        raise missing_extra("hdf5plugin", "compression", f"`compression={name}`")
