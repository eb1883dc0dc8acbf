"""Compute HDF5's Fletcher-32 in any thread, outside libhdf5's lock."""

import numpy as np
from numpy.typing import NDArray

WIDTH = 2048  # words per row of the table that is summed


def fletcher32(data: NDArray[np.uint8]) -> int:
    """Return the checksum that HDF5 stores after a chunk of bytes (data/FORMAT.md, section 2).

    The sums of section 2 are Σ wᵢ and Σ (n − i)·wᵢ modulo 65535 over the words w₀ … wₙ₋₁. In a
    table of the words, `WIDTH` per row, the second is Σⱼ (n − j·WIDTH)·rⱼ − Σₖ k·cₖ with the sums
    r of the rows and c of the columns: two additions per word and no product.
    """
    even = data if len(data) % 2 == 0 else np.append(data, np.uint8(0))
    words = even.view("<u2")
    full = len(words) // WIDTH * WIDTH
    table = words[:full].reshape(-1, WIDTH)
    # Sums of 32 bits are faster, and suffice below 2**16 rows, which is a chunk of 268 MB.
    wide = np.uint32 if len(table) < 1 << 16 else np.uint64
    rows = np.append(table.sum(axis=1, dtype=wide), words[full:].sum(dtype=wide))
    columns = table.sum(axis=0, dtype=wide)
    columns[: len(words) - full] += words[full:]
    weights = (len(words) - WIDTH * np.arange(len(rows))) % 65535
    first = int(rows.sum())
    second = int(weights @ (rows % 65535).astype(np.int64))
    second -= int(np.arange(WIDTH) @ (columns % 65535).astype(np.int64))
    return _fold(second, first > 0) << 16 | _fold(first, first > 0)


def _fold(total: int, any_set: bool) -> int:
    # HDF5 reads words as big-endian; modulo 65535, swapping the bytes is multiplying by 256. Its
    # remainder is never 0 unless every word is 0.
    return total * 256 % 65535 or (65535 if any_set else 0)
