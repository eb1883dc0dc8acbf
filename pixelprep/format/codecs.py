"""Undo the filters of a stored chunk, without libhdf5, by libraries that are told its size.

libhdf5 trusts a chunk to unpack to the size that its dataset declares: of a chunk that unpacks to
less it hands out memory beyond it.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import missing_extra
from pixelprep.format.checksum import fletcher32
from pixelprep.format.layout import FLETCHER32, SHUFFLE

Bytes = NDArray[np.uint8]

DEFLATE, LZF, LZ4, ZSTD = 1, 32000, 32004, 32015  # HDF5's filter numbers
SUM_BYTES = 4  # of a checksum


def unpack(stored: bytes | Bytes, filters: Sequence[int], item_bytes: int, size: int) -> Bytes:
    """Return the bytes of a stored chunk, from which its filters are undone from last to first.

    `filters` are HDF5's numbers, `item_bytes` those of a value, and `size` the bytes that must come
    out. A ValueError says that the chunk is damaged, or of another size.
    """
    data = np.frombuffer(stored, np.uint8)
    for place in reversed(range(len(filters))):
        expected = size + SUM_BYTES * filters[:place].count(FLETCHER32)
        if filters[place] == FLETCHER32:
            data = _without_checksum(data)
        elif filters[place] == SHUFFLE:
            data = _unshuffle(data, item_bytes)
        else:
            data = CODECS[filters[place]](data, expected)
    if len(data) != size:
        raise ValueError(f"a chunk of {size:,} bytes unpacks to another size")
    return data


def _without_checksum(data: Bytes) -> Bytes:
    content, checksum = data[:-SUM_BYTES], data[-SUM_BYTES:].tobytes()
    if fletcher32(content) != int.from_bytes(checksum, "little"):
        raise ValueError("a chunk differs from its checksum")
    return content


def _unshuffle(data: Bytes, item_bytes: int) -> Bytes:
    """Bring the bytes of each value together again; those beyond whole values stay in place."""
    count = len(data) // item_bytes
    out = np.empty_like(data)
    out[count * item_bytes :] = data[count * item_bytes :]
    for place in range(item_bytes):  # several times as fast as a transposition
        out[place : count * item_bytes : item_bytes] = data[place * count : (place + 1) * count]
    return out


def _inflate(data: Bytes, size: int) -> Bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data.data, size + 1)
    except zlib.error as error:
        raise ValueError(f"a chunk is not valid deflate data: {error}") from error
    if not inflater.eof:
        raise ValueError(f"a chunk of {size:,} bytes unpacks to another size, or is cut off")
    return np.frombuffer(content, np.uint8)


def _decoder(name: str) -> Callable[[Bytes, int], Bytes]:
    def decode(data: Bytes, size: int) -> Bytes:
        try:
            import imagecodecs
        except ImportError as error:
            raise missing_extra("imagecodecs", "compression", f"unpacking {name}") from error
        try:
            content = getattr(imagecodecs, f"{name}_decode")(data, out=np.empty(size, np.uint8))
        except Exception as error:  # each codec has its own
            raise ValueError(f"a chunk is not valid {name} data: {error}") from error
        return np.frombuffer(content, np.uint8)

    return decode


# By filter number: returns what a chunk unpacks to, given its expected size.
CODECS = {DEFLATE: _inflate, LZF: _decoder("lzf"), LZ4: _decoder("lz4h5"), ZSTD: _decoder("zstd")}
