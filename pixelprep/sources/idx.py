"""The IDX format of MNIST and its relatives, plain or gzipped.

A header of big-endian numbers (two zero bytes, a type, the number of dimensions, each dimension
in 4 bytes), then the values. Described at http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

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
PIECE = 1 << 20
DEFLATE_LIMIT = 1032  # deflate cannot shrink more than this, so no gzip holds more than this times


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, no further than its header promises.

    Parameters
    ----------
    path : Path
        Gzipped (known by its first bytes) or plain.
    dimensions : int
        3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8
        (N, H, W) or (N,).

    Raises
    ------
    SourceError
        When the header is another one, or the file holds less or more than it promises.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            limit = path.stat().st_size * (DEFLATE_LIMIT if zipped else 1)
            return _read(gzip.GzipFile(fileobj=raw) if zipped else raw, path, dimensions, limit)
    except EOFError:
        raise SourceError(f"{path}: the gzip file ends too early", "get it again") from None
    except (OSError, zlib.error) as error:
        raise SourceError(f"{path}: cannot read: {error}", "get it again") from error


def _read(file: Any, path: Path, dimensions: int, limit: int) -> NDArray[np.uint8]:
    shape = _header(file, path, dimensions)
    size = math.prod(shape)
    if size > limit:
        raise SourceError(
            f"{path}: the header promises {size:,} bytes, more than the file can hold"
        )
    data = bytearray()  # grows with what is there, not with what is promised
    while len(data) < size and (piece := file.read(min(size - len(data), PIECE))):
        data += piece
    if len(data) < size:
        raise SourceError(
            f"{path}: the header promises {size:,} bytes, the file holds {len(data):,}"
        )
    if file.read(1):
        raise SourceError(f"{path}: the file goes on after the {size:,} bytes its header promises")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _header(file: BinaryIO, path: Path, dimensions: int) -> tuple[int, ...]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        raise SourceError(f"{path}: not an IDX file: it begins with {start.hex(' ') or 'nothing'}")
    if start[2] != UBYTE or start[3] != dimensions:
        got = f"{TYPES[start[2]]} in {start[3]} dimensions"
        raise SourceError(
            f"{path}: expected uint8 in {dimensions} dimensions, the header says {got}"
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise SourceError(f"{path}: the file ends in its header")
    return struct.unpack(f">{dimensions}I", sizes)
