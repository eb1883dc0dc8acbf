"""Undo the filters of a stored chunk, without libhdf5, by libraries that are told its size.

libhdf5 trusts a chunk to unpack to the size that its dataset declares: of a chunk that unpacks to
less it hands out memory beyond it.
"""

import threading
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import missing_extra
from pixelprep.format.checksum import fletcher32
from pixelprep.format.layout import FLETCHER32, SHUFFLE

try:  # where there is a wheel of it: unpacks in half of zlib's time
    from isal import isal_zlib
except ImportError:
    isal_zlib = None

Bytes = NDArray[np.uint8]

DEFLATE, LZF, LZ4, ZSTD = 1, 32000, 32004, 32015  # HDF5's filter numbers
SUM_BYTES = 4  # of a checksum
MOST_KEPT = 4 << 20  # bytes of a buffer that a thread keeps

_kept = threading.local()


def unpack(
    stored: bytes | Bytes,
    filters: Sequence[int],
    item_bytes: int,
    size: int,
    *,
    out: Bytes | None = None,
    checked: bool = False,
) -> Bytes:
    """Return the bytes of a stored chunk, from which its filters are undone from last to first.

    `filters` are HDF5's numbers, `item_bytes` those of a value, and `size` the bytes that must come
    out, into `out` if it is given. A chunk that is `checked` is not compared with its checksum. A
    ValueError says that it is damaged, or of another size.
    """
    data = np.frombuffer(stored, np.uint8)
    out = np.empty(size, np.uint8) if out is None else out
    steps = [number for number in filters if number != SHUFFLE or item_bytes > 1]
    for place in reversed(range(len(steps))):
        expected = size + SUM_BYTES * steps[:place].count(FLETCHER32)
        target = buffer_of_thread(f"step {place}", expected) if place else out
        if steps[place] == FLETCHER32:
            data = data[:-SUM_BYTES] if checked else _without_checksum(data)
        elif steps[place] == SHUFFLE:
            data = _unshuffle(data, item_bytes, target)
        else:
            data = CODECS[steps[place]](data, target)
    _check_size(data, size)
    if data is not out:
        out[:] = data
    return out


def _check_size(data: Bytes, size: int) -> None:
    if len(data) != size:
        raise ValueError(f"a chunk of {size:,} bytes unpacks to another size")


def buffer_of_thread(use: str, size: int) -> Bytes:
    """Return a buffer that this thread fills again each time: memory is not asked for anew."""
    if size > MOST_KEPT:
        return np.empty(size, np.uint8)
    buffers = _kept.__dict__
    if use not in buffers or len(buffers[use]) < size:
        buffers[use] = np.empty(size, np.uint8)
    kept: Bytes = buffers[use]
    return kept[:size]


def _without_checksum(data: Bytes) -> Bytes:
    content, checksum = data[:-SUM_BYTES], data[-SUM_BYTES:].tobytes()
    if fletcher32(content) != int.from_bytes(checksum, "little"):
        raise ValueError("a chunk differs from its checksum")
    return content


def _unshuffle(data: Bytes, item_bytes: int, out: Bytes) -> Bytes:
    """Bring the bytes of each value together again; those beyond whole values stay in place."""
    _check_size(data, len(out))
    count = len(data) // item_bytes
    out[count * item_bytes :] = data[count * item_bytes :]
    for place in range(item_bytes):  # several times as fast as a transposition
        out[place : count * item_bytes : item_bytes] = data[place * count : (place + 1) * count]
    return out


def _inflate(data: Bytes, out: Bytes) -> Bytes:
    size, content = len(out), _inflate_fast(data, len(out))
    if content is None:
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(data.data, size + 1)
        except zlib.error as error:
            raise ValueError(f"a chunk is not valid deflate data: {error}") from error
        if not inflater.eof:
            raise ValueError(f"a chunk of {size:,} bytes unpacks to another size, or is cut off")
    return np.frombuffer(content, np.uint8)


def _inflate_fast(data: Bytes, size: int) -> bytes | None:
    """Return what isal unpacks; None where zlib is to say what is wrong, or there is no isal."""
    if isal_zlib is None:
        return None
    inflater = isal_zlib.decompressobj()
    try:
        content: bytes = inflater.decompress(data.data, size + 1)
    except isal_zlib.error:
        return None
    return content if inflater.eof and len(content) == size else None


def _decoder(name: str) -> Callable[[Bytes, Bytes], Bytes]:
    def decode(data: Bytes, out: Bytes) -> Bytes:
        try:
            import imagecodecs
        except ImportError as error:
            raise missing_extra("imagecodecs", "compression", f"unpacking {name}") from error
        try:
            content = getattr(imagecodecs, f"{name}_decode")(data, out=out)
        except Exception as error:  # each codec has its own
            raise ValueError(f"a chunk is not valid {name} data: {error}") from error
        return np.asarray(content)

    return decode


# By filter number: returns what a chunk unpacks to, in a buffer of the expected size or not.
CODECS = {DEFLATE: _inflate, LZF: _decoder("lzf"), LZ4: _decoder("lz4h5"), ZSTD: _decoder("zstd")}
