"""The IDX format of MNIST and its relatives, plain or gzipped.

A header of big-endian numbers (two zero bytes, a type, the number of dimensions, each dimension
in 4 bytes), then the values. Described at http://yann.lecun.com/exdb/mnist/.
"""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelprep import unpack
from pixelprep.errors import SourceError

UBYTE = 0x08
TYPES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}


def read(path: Path, dimensions: int, cache: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, no further than its header promises.

    Parameters
    ----------
    path : Path
        Gzipped (known by its first bytes) or plain.
    dimensions : int
        3 for images, 1 for labels.
    cache : Path
        Where a private copy of the content may lie, as long as the result is used.

    Returns
    -------
    ndarray of uint8, read-only
        (N, H, W) or (N,).

    Raises
    ------
    SourceError
        When the header is another one, or the file holds less or more than it promises.
    """
    start = b""
    for piece in unpack.pieces(path):
        start += piece
        if len(start) >= _header_bytes(dimensions):
            break
    promised = math.prod(_header(start, path, dimensions))
    if promised > unpack.most_held(path):
        raise SourceError(
            f"{path}: the header promises {promised:,} bytes, more than the file can hold"
        )
    most = _header_bytes(dimensions) + promised
    return parse(unpack.unpacked(path, most, cache).content, path, dimensions)


def parse(content: NDArray[np.uint8], path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in the content of an IDX file; otherwise as `read`."""
    shape = _header(content[: _header_bytes(dimensions)].tobytes(), path, dimensions)
    data, size = content[_header_bytes(dimensions) :], math.prod(shape)
    if len(data) < size:
        raise SourceError(
            f"{path}: the header promises {size:,} bytes, the file holds {len(data):,}"
        )
    if len(data) > size:
        raise SourceError(f"{path}: the file goes on after the {size:,} bytes its header promises")
    return data.reshape(shape)


def _header_bytes(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _header(start: bytes, path: Path, dimensions: int) -> tuple[int, ...]:
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        begins = start[:4].hex(" ") or "nothing"
        raise SourceError(f"{path}: not an IDX file: it begins with {begins}")
    if start[2] != UBYTE or start[3] != dimensions:
        got = f"{TYPES[start[2]]} in {start[3]} dimensions"
        raise SourceError(
            f"{path}: expected uint8 in {dimensions} dimensions, the header says {got}"
        )
    if len(start) < _header_bytes(dimensions):
        raise SourceError(f"{path}: the file ends in its header")
    return struct.unpack_from(f">{dimensions}I", start, 4)
