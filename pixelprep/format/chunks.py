"""What a stored chunk unpacks to, found out before libhdf5 unpacks it.

libhdf5 believes that a chunk's filters give back what the dataset says. Of a chunk that unpacks to
less it reads what lies behind in memory; of one that unpacks to more it first makes room for all.
"""

import ctypes
import math
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pixelprep.format.checksum import fletcher32
from pixelprep.format.layout import FLETCHER32, SHUFFLE

PIECE = 1 << 20  # bytes that are unpacked at once
DEFLATE, LZF, LZ4, ZSTD = 1, 32000, 32004, 32015  # HDF5's numbers of filters


def check(dataset: Any) -> Iterator[None]:
    """Refuse a chunked dataset unless each of its chunks unpacks to what it should.

    It yields from time to time, as a sign of life.

    Parameters
    ----------
    dataset : h5py.Dataset
        Whose type and shape are known to be sound.

    Raises
    ------
    ValueError
        When a filter is not known here, or a chunk is of another size.
    """
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    filters = _filters(dataset, size)
    if any(side % chunk for side, chunk in zip(dataset.shape, dataset.chunks, strict=True)):
        _check_edges(dataset)
    for place in _places(dataset):
        yield
        mask, stored = dataset.id.read_direct_chunk(place)
        used = [number for i, number in enumerate(filters) if not mask >> i & 1]
        if FLETCHER32 in filters and FLETCHER32 not in used:
            raise ValueError(f"the chunk at {place} has no checksum")
        _check_chunk(stored, used, size)


def _places(dataset: Any) -> Iterator[tuple[int, ...]]:
    """Where each chunk begins, once it is sure that all are there, and none twice."""
    chunks = dataset.chunks
    counts = [-(-side // chunk) for side, chunk in zip(dataset.shape, chunks, strict=True)]
    listed = array("q")  # numbers of the chunks: there may be millions

    def note(chunk: Any) -> None:
        number = 0
        for offset, side, count in zip(chunk.chunk_offset, chunks, counts, strict=True):
            number = number * count + offset // side
        listed.append(number)

    dataset.id.chunk_iter(note)
    numbers = np.sort(np.frombuffer(listed, np.int64)) if listed else np.empty(0, np.int64)
    if not np.array_equal(numbers, np.arange(math.prod(counts))):
        raise ValueError("chunks are missing, or there twice")
    for number in range(len(numbers)):
        at = np.unravel_index(number, counts)
        yield tuple(int(n) * side for n, side in zip(at, chunks, strict=True))


def _check_edges(dataset: Any) -> None:
    """Refuse chunks that libhdf5 takes as they are stored, unpacked, as they are not full."""
    import h5py

    library = ctypes.CDLL(h5py.h5p.__file__)  # of HDF5, a function that h5py does not pass on
    ask, options = library.H5Pget_chunk_opts, ctypes.c_uint()
    ask.argtypes = [ctypes.c_int64, ctypes.POINTER(ctypes.c_uint)]
    properties = dataset.id.get_create_plist()
    if ask(properties.id, ctypes.byref(options)) < 0 or options.value:
        raise ValueError("chunks that are not full are not packed")


def _filters(dataset: Any, size: int) -> list[int]:
    """The numbers of a dataset's filters, whose own settings do no harm either."""
    properties, numbers = dataset.id.get_create_plist(), []
    for i in range(properties.get_nfilters()):
        number, _, settings, _ = properties.get_filter(i)
        if number not in (SHUFFLE, FLETCHER32, *UNPACKED):
            raise ValueError(f"the filter {number} is not known here")
        if number == LZF and len(settings) > 2 and settings[2] > size:
            raise ValueError("the filter LZF is set to another size")
        numbers.append(number)
    return numbers


def _check_chunk(stored: bytes, filters: Sequence[int], size: int) -> None:
    """Undo the filters from the last to the first, as far as sizes can be told."""
    packing = [i for i, number in enumerate(filters) if number in UNPACKED]
    if len(packing) > 1 or (packing and SHUFFLE in filters[packing[0] :]):
        raise ValueError("filters in an order that is not known here")
    sums_before = filters[: packing[0]].count(FLETCHER32) if packing else 0
    for _ in range(list(filters).count(FLETCHER32) - sums_before):
        stored = _without_checksum(stored)
    wanted = size + 4 * sums_before
    found = len(stored)
    if packing:
        found = _length(UNPACKED[filters[packing[0]]](stored, wanted), wanted)
    if found != wanted:
        raise ValueError(f"a chunk of {wanted:,} bytes unpacks to another size")


def _without_checksum(stored: bytes) -> bytes:
    if len(stored) <= 4:
        raise ValueError("a chunk is shorter than its checksum")
    if fletcher32(np.frombuffer(stored[:-4], np.uint8)) != int.from_bytes(stored[-4:], "little"):
        raise ValueError("a chunk differs from its checksum")
    return stored[:-4]


def _length(parts: Iterator[int], most: int) -> int:
    """The sum of the lengths of parts, as far as just beyond `most`."""
    total = 0
    for part in parts:
        total += part
        if total > most:
            break
    return total


def _deflated(packed: bytes, most: int) -> Iterator[int]:
    unpacker = zlib.decompressobj()
    try:
        while packed and not unpacker.eof:
            yield len(unpacker.decompress(packed, PIECE))
            packed = unpacker.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"a chunk is not deflated: {error}") from error
    if not unpacker.eof:
        raise ValueError("a deflated chunk ends too early")


def _lzf(packed: bytes, most: int) -> Iterator[int]:
    """The lengths of literals and repetitions (LibLZF's format)."""
    place, end, total = 0, len(packed), 0
    while place < end:
        control = packed[place]
        if control < 32:
            length = control + 1
            place += 1 + length
        else:
            length = (control >> 5) + 2
            place += 1
            if length == 9:
                length += packed[place] if place < end else 0
                place += 1
            back = ((control & 31) << 8) + (packed[place] if place < end else 0) + 1
            place += 1
            if back > total:
                raise ValueError("a repetition from before the chunk")
        if place > end:
            raise ValueError("a packed chunk ends too early")
        total += length
        yield length


def _lz4(packed: bytes, most: int) -> Iterator[int]:
    """HDF5's frame of LZ4 blocks: big-endian, the size of all, of a block, and each one's own."""
    total, block = int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:12], "big")
    if total > most or not 0 < block <= 1 << 30:
        raise ValueError("a packed chunk says that it is larger than it can be")
    place, left = 12, total
    while left:
        length = int.from_bytes(packed[place : place + 4], "big")
        part = packed[place + 4 : place + 4 + length]
        wanted = min(block, left)
        found = len(part) if length == wanted else _length(_lz4_block(part), wanted)
        if len(part) != length or found != wanted:
            raise ValueError("a block of a packed chunk is of another size")
        yield wanted
        place, left = place + 4 + length, left - wanted
    if place != len(packed):
        raise ValueError("something follows a packed chunk")


def _lz4_block(packed: bytes) -> Iterator[int]:
    """The lengths of literals and repetitions (LZ4's block format)."""
    place, end, total = 0, len(packed), 0
    while place < end:
        token = packed[place]
        literals, place = _lz4_length(packed, token >> 4, place + 1)
        place += literals
        total += literals
        yield literals
        if place == end:
            return
        back = int.from_bytes(packed[place : place + 2], "little")
        repeated, place = _lz4_length(packed, token & 15, place + 2)
        if place > end or not 0 < back <= total:
            raise ValueError("a repetition from before the chunk")
        total += repeated + 4
        yield repeated + 4
    if place != end:
        raise ValueError("a packed chunk ends too early")


def _lz4_length(packed: bytes, length: int, place: int) -> tuple[int, int]:
    """A length, which goes on in more bytes where it is 15, and the place behind it."""
    more = 255 if length == 15 else 0
    while more == 255:
        if place >= len(packed):
            raise ValueError("a packed chunk ends too early")
        more = packed[place]
        length, place = length + more, place + 1
    return length, place


def _zstd(packed: bytes, most: int) -> Iterator[int]:
    """What the header of a Zstandard frame says (RFC 8878); the unpacker holds the frame to it."""
    if packed[:4] != b"\x28\xb5\x2f\xfd" or len(packed) < 5:
        raise ValueError("a chunk is not a Zstandard frame")
    flags = packed[4]
    single = flags >> 5 & 1
    place = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    width = (single, 2, 4, 8)[flags >> 6]
    if not width or len(packed) < place + width:
        raise ValueError("a Zstandard frame that does not say its size")
    size = int.from_bytes(packed[place : place + width], "little")
    yield size + (256 if width == 2 else 0)


UNPACKED: dict[int, Callable[[bytes, int], Iterator[int]]] = {
    DEFLATE: _deflated,
    LZF: _lzf,
    LZ4: _lz4,
    ZSTD: _zstd,
}
