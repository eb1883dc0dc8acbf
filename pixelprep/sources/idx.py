"""Read the IDX format of MNIST and its relatives, plain or gzipped.

A header of big-endian numbers (two zero bytes, a type, the number of dimensions, each dimension
in 4 bytes), then the values. Described at http://yann.lecun.com/exdb/mnist/.
"""

import math
import struct
from pathlib import Path

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources import gzip_file
from pixelprep.sources.base import SourceContext
from pixelprep.sources.lazy_arrays import FileArray, single_file_array
from pixelprep.system import fs

TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
NAMES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def read(path: Path, dimensions: int, context: SourceContext) -> FileArray:
    """Read one IDX file of unsigned bytes, no further than its header promises.

    It has 3 dimensions, which become (N, H, W, 1), or 1, (N,).
    """
    start = b""
    for piece in gzip_file.read_pieces(path):
        start += piece
        if len(start) >= _header_bytes(dimensions):
            break
    promised = math.prod(_header(start, path, dimensions))
    if promised > gzip_file.max_content(path):
        more = f"{promised:,} bytes, more than the file can hold"
        raise SourceError(f"{path}: the header promises {more}")
    fs.require_free_space(context.folder(), promised)
    limit = _header_bytes(dimensions) + promised
    return parse(gzip_file.unpack(path, limit, context.file(path.name)), path, dimensions)


def parse(content: gzip_file.Unpacked, path: Path, dimensions: int) -> FileArray:
    """Return the array in the unpacked content of the IDX file at `path`, checked as by `read`."""
    with content.path.open("rb") as file:
        shape = _header(file.read(_header_bytes(dimensions)), path, dimensions)
    held, size = content.size - _header_bytes(dimensions), math.prod(shape)
    if held != size:
        holds = "more" if held > size else f"{held:,}"
        raise SourceError(f"{path}: the header promises {size:,} bytes, the file holds {holds}")
    full = shape if dimensions == 1 else (*shape, 1)
    return single_file_array(content.path, full, np.dtype(np.uint8), _header_bytes(dimensions))


def _header_bytes(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _header(start: bytes, path: Path, dimensions: int) -> tuple[int, ...]:
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        begins = start[:4].hex(" ") or "nothing"
        raise SourceError(f"{path}: not an IDX file: it begins with {begins}")
    if start[2] != 8 or start[3] != dimensions:
        got = f"{TYPES[start[2]]} in {start[3]} dimensions"
        expected = f"uint8 in {dimensions} dimensions"
        raise SourceError(f"{path}: expected {expected}, the header says {got}")
    if len(start) < _header_bytes(dimensions):
        raise SourceError(f"{path}: the file ends in its header")
    return struct.unpack_from(f">{dimensions}I", start, 4)
