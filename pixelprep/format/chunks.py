"""Measure what a stored chunk unpacks to, before libhdf5 unpacks it.

libhdf5 trusts a chunk's filters to give the size that the dataset declares. If a chunk unpacks to
less, it reads memory beyond it; if to more, it first allocates room for everything.
"""

import ctypes
import math
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any  # Any: h5py has no types

import numpy as np

from pixelprep.format.checksum import fletcher32
from pixelprep.format.layout import FLETCHER32, SHUFFLE

DEFLATE, LZF, LZ4, ZSTD = 1, 32000, 32004, 32015  # HDF5's filter numbers


def check(dataset: Any) -> Iterator[None]:
    """Refuse a dataset unless each chunk is there and unpacks to its size; yield before each."""
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    filters = _filters(dataset, size)
    if any(side % chunk for side, chunk in zip(dataset.shape, dataset.chunks, strict=True)):
        import h5py

        library = ctypes.CDLL(h5py.h5p.__file__)  # HDF5 has a function that h5py lacks
        get_options, options = library.H5Pget_chunk_opts, ctypes.c_uint()
        get_options.argtypes = [ctypes.c_int64, ctypes.POINTER(ctypes.c_uint)]
        properties = dataset.id.get_create_plist()
        if get_options(properties.id, ctypes.byref(options)) < 0 or options.value:
            raise ValueError("partial chunks at the edges are stored without filters")
    for offset in _chunk_offsets(dataset):
        yield
        mask, stored = dataset.id.read_direct_chunk(offset)
        applied = [number for i, number in enumerate(filters) if not mask >> i & 1]
        if FLETCHER32 in filters and FLETCHER32 not in applied:
            raise ValueError(f"the chunk at {offset} has no checksum")
        _check_chunk(stored, applied, size)


def _chunk_offsets(dataset: Any) -> Iterator[tuple[int, ...]]:
    """Yield the first element of each chunk; refuse missing chunks and those stored twice."""
    chunks = dataset.chunks
    counts = [-(-side // chunk) for side, chunk in zip(dataset.shape, chunks, strict=True)]
    stored = array("q")  # chunk numbers, of which there may be millions

    def add(chunk: Any) -> None:
        number = 0
        for offset, side, count in zip(chunk.chunk_offset, chunks, counts, strict=True):
            number = number * count + offset // side
        stored.append(number)

    dataset.id.chunk_iter(add)
    numbers = np.sort(np.frombuffer(stored, np.int64)) if stored else np.empty(0, np.int64)
    if not np.array_equal(numbers, np.arange(math.prod(counts))):
        raise ValueError("chunks are missing or stored twice")
    for number in range(len(numbers)):
        position = np.unravel_index(number, counts)
        yield tuple(int(n) * side for n, side in zip(position, chunks, strict=True))


def _filters(dataset: Any, size: int) -> list[int]:
    """Return a dataset's filter numbers; refuse other filters and harmful settings."""
    properties, numbers = dataset.id.get_create_plist(), []
    for i in range(properties.get_nfilters()):
        number, _, settings, _ = properties.get_filter(i)
        if number not in (SHUFFLE, FLETCHER32, *CODECS):
            raise ValueError(f"the filter {number} is not supported")
        if number == LZF and len(settings) > 2 and settings[2] > size:
            raise ValueError("the filter LZF is set to another size")
        numbers.append(number)
    return numbers


def _check_chunk(stored: bytes, filters: Sequence[int], size: int) -> None:
    """Undo the filters from the last to the first, as far as the size needs it."""
    codecs = [i for i, number in enumerate(filters) if number in CODECS]
    if len(codecs) > 1 or (codecs and SHUFFLE in filters[codecs[0] :]):
        raise ValueError("the order of its filters is not supported")
    inner_checksums = filters[: codecs[0]].count(FLETCHER32) if codecs else 0
    for _ in range(list(filters).count(FLETCHER32) - inner_checksums):
        if len(stored) <= 4:
            raise ValueError("a chunk is shorter than its checksum")
        stored, checksum = stored[:-4], stored[-4:]
        if fletcher32(np.frombuffer(stored, np.uint8)) != int.from_bytes(checksum, "little"):
            raise ValueError("a chunk differs from its checksum")
    expected = size + 4 * inner_checksums
    unpacked = len(stored)
    if codecs:
        unpacked = _total(CODECS[filters[codecs[0]]](stored, expected), expected)
    if unpacked != expected:
        raise ValueError(f"a chunk of {expected:,} bytes unpacks to another size")


def _total(lengths: Iterator[int], limit: int) -> int:
    """Return the sum of the lengths, stopping once it exceeds the limit."""
    total = 0
    for length in lengths:
        total += length
        if total > limit:
            break
    return total


def _deflate_lengths(packed: bytes, limit: int) -> Iterator[int]:
    inflater = zlib.decompressobj()
    try:
        while packed and not inflater.eof:
            yield len(inflater.decompress(packed, 1 << 20))
            packed = inflater.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"a chunk is not valid deflate data: {error}") from error
    if not inflater.eof:
        raise ValueError("a deflated chunk is truncated")


def _lzf_lengths(packed: bytes, limit: int) -> Iterator[int]:
    """Yield the lengths of literals and matches (LibLZF's format)."""
    position, end, total = 0, len(packed), 0
    while position < end:
        control = packed[position]
        if control < 32:
            length = control + 1
            position += 1 + length
        else:
            length = (control >> 5) + 2
            position += 1
            if length == 9:
                length += packed[position] if position < end else 0
                position += 1
            distance = ((control & 31) << 8) + (packed[position] if position < end else 0) + 1
            position += 1
            if distance > total:
                raise ValueError("a match begins before its chunk")
        if position > end:
            raise ValueError("a compressed chunk is truncated")
        total += length
        yield length


def _lz4_lengths(packed: bytes, limit: int) -> Iterator[int]:
    """Yield the lengths of the blocks in HDF5's LZ4 frame.

    It is big-endian: the size of all, the size of a block, then each block after its stored size.
    """
    total, block = int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:12], "big")
    if total > limit or not 0 < block <= 1 << 30:
        raise ValueError("a compressed chunk declares a larger size than it can have")
    position, left = 12, total
    while left:
        stored_length = int.from_bytes(packed[position : position + 4], "big")
        stored = packed[position + 4 : position + 4 + stored_length]
        length = min(block, left)
        raw = stored_length == length  # the block is stored uncompressed
        unpacked = len(stored) if raw else _total(_lz4_block_lengths(stored), length)
        if len(stored) != stored_length or unpacked != length:
            raise ValueError("a block of a compressed chunk has another size")
        yield length
        position, left = position + 4 + stored_length, left - length
    if position != len(packed):
        raise ValueError("a compressed chunk has trailing bytes")


def _lz4_block_lengths(packed: bytes) -> Iterator[int]:
    """Yield the lengths of literals and matches (LZ4's block format)."""
    position, end, total = 0, len(packed), 0
    while position < end:
        token = packed[position]
        literals, position = _lz4_length(packed, token >> 4, position + 1)
        position += literals
        total += literals
        yield literals
        if position == end:
            return
        distance = int.from_bytes(packed[position : position + 2], "little")
        match, position = _lz4_length(packed, token & 15, position + 2)
        if position > end or not 0 < distance <= total:
            raise ValueError("a match begins before its chunk")
        total += match + 4
        yield match + 4
    if position != end:
        raise ValueError("a compressed chunk is truncated")


def _lz4_length(packed: bytes, length: int, position: int) -> tuple[int, int]:
    """Return a length, which continues in further bytes if it is 15, and the position after it."""
    byte = 255 if length == 15 else 0
    while byte == 255:
        if position >= len(packed):
            raise ValueError("a compressed chunk is truncated")
        byte = packed[position]
        length, position = length + byte, position + 1
    return length, position


def _zstd_lengths(packed: bytes, limit: int) -> Iterator[int]:
    """Yield the size in a Zstandard frame's header (RFC 8878), to which the decoder holds it."""
    if packed[:4] != b"\x28\xb5\x2f\xfd" or len(packed) < 5:
        raise ValueError("a chunk is not a Zstandard frame")
    flags = packed[4]
    single_segment = flags >> 5 & 1
    position = 5 + (1 - single_segment) + (0, 1, 2, 4)[flags & 3]
    width = (single_segment, 2, 4, 8)[flags >> 6]
    if not width or len(packed) < position + width:
        raise ValueError("a Zstandard frame does not declare its size")
    size = int.from_bytes(packed[position : position + width], "little")
    yield size + (256 if width == 2 else 0)


# By filter number: yields the lengths of what a chunk unpacks to, given its expected size.
CODECS = {DEFLATE: _deflate_lengths, LZF: _lzf_lengths, LZ4: _lz4_lengths, ZSTD: _zstd_lengths}
