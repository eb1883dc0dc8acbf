"""Check that every chunk of a dataset is there, once, and unpacks to its size."""

import ctypes
import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any  # Any: h5py has no types

import numpy as np

from pixelprep.format.codecs import CODECS, unpack
from pixelprep.format.layout import FLETCHER32, SHUFFLE

NAMES = {4: "szip", 5: "nbit", 6: "scaleoffset"}  # HDF5's own that are not undone here
TEXT_REFERENCE = 16  # bytes in a chunk for a text of any length, which is elsewhere in the file


def check(dataset: Any) -> Iterator[None]:
    """Refuse a dataset unless each chunk is there and unpacks to its size; yield before each."""
    dtype = dataset.dtype
    item_bytes = TEXT_REFERENCE if dtype.hasobject else dtype.itemsize
    size = math.prod(dataset.chunks) * item_bytes
    filters = filters_of(dataset)
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
        unpack(stored, applied_filters(filters, mask), item_bytes, size)


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


def applied_filters(filters: Sequence[int], mask: int) -> tuple[int, ...]:
    """Return the filters of a chunk, given its mask: a codec is left out where it gains nothing."""
    applied = tuple(number for i, number in enumerate(filters) if not mask >> i & 1)
    if FLETCHER32 in filters and FLETCHER32 not in applied:
        raise ValueError("a chunk has no checksum")
    return applied


def filters_of(dataset: Any) -> list[int]:
    """Return a dataset's filter numbers in order; refuse other filters than can be undone."""
    properties = dataset.id.get_create_plist()
    numbers = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    for number in numbers:
        if number not in (SHUFFLE, FLETCHER32, *CODECS):
            named = f"{number} ({NAMES[number]})" if number in NAMES else number
            raise ValueError(f"the filter {named} is not supported: `h5repack -f GZIP=4` undoes it")
    if sum(number in CODECS for number in numbers) > 1:
        raise ValueError("it is compressed more than once, which is not supported")
    return numbers
