"""What a file looks like: the numbers and names of the format (data/FORMAT.md, section 2)."""

import importlib.util
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from pixelprep.errors import missing_extra, unknown

FORMAT, FORMAT_VERSION = "pixelprep", 1
CHUNK_BYTES = 1 << 20  # the largest chunk that HDF5's default chunk cache (1 MiB) still holds
SHARD_BYTES = 256 << 20  # stored images of one file, before compression
COMPRESSIONS = ("none", "gzip", "lzf", "lz4", "zstd")
DTYPES = ("float32", "float16")


def chunk_rows(image_shape: Sequence[int], dtype: DTypeLike) -> int:
    """Rows a chunk: the largest power of two whose images fit into 1 MiB, at least 1."""
    return 1 << max(0, (CHUNK_BYTES // _row_bytes(image_shape, dtype)).bit_length() - 1)


def shard_rows(image_shape: Sequence[int], dtype: DTypeLike) -> int:
    """Rows a file: as many whole chunks as fit into 256 MiB, at least one."""
    rows = chunk_rows(image_shape, dtype)
    return rows * max(1, SHARD_BYTES // (rows * _row_bytes(image_shape, dtype)))


def run_rows(chunk: int, compression: str) -> int:
    """Neighbouring rows that a shuffled epoch reads at once: a quarter of a chunk, at least 1.

    A compressed chunk comes whole or not at all.
    """
    return max(1, chunk // 4) if compression == "none" else chunk


def _row_bytes(image_shape: Sequence[int], dtype: DTypeLike) -> int:
    return math.prod(image_shape) * np.dtype(dtype).itemsize


def check_compression(name: str) -> None:
    """Refuse a compression that does not exist, or whose package is not installed."""
    if name not in COMPRESSIONS:
        raise unknown("--compression", name, COMPRESSIONS)
    if name in ("lz4", "zstd") and importlib.util.find_spec("hdf5plugin") is None:
        raise missing_extra("hdf5plugin", "compression", f"--compression {name}")
