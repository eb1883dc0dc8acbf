"""HDF5's Fletcher-32, so that a chunk can be finished in any thread, outside libhdf5's lock."""

import numpy as np
from numpy.typing import NDArray

WIDTH = 2048  # words a row of the table that is summed up


def fletcher32(data: NDArray[np.uint8]) -> int:
    """The checksum that HDF5 stores after a chunk (data/FORMAT.md, section 2).

    The sums of section 2 are Σ wᵢ and Σ (n − i)·wᵢ modulo 65535 over the words w₀ … wₙ₋₁. In a
    table of the words, `WIDTH` a row, the second is Σⱼ (n − j·WIDTH)·rⱼ − Σₖ k·cₖ with the sums r
    of the rows and c of the columns: two additions a word and no product.

    Parameters
    ----------
    data : ndarray of uint8, shape (bytes,)
        The chunk as it lies in the file.
    """
    even = data if len(data) % 2 == 0 else np.append(data, np.uint8(0))
    words = even.view("<u2")
    full = len(words) // WIDTH * WIDTH
    table = words[:full].reshape(-1, WIDTH)
    # 32 bits are faster to add up, and enough below 2**16 rows: a chunk of 268 MB.
    wide = np.uint32 if len(table) < 1 << 16 else np.uint64
    rows = np.append(table.sum(axis=1, dtype=wide), words[full:].sum(dtype=wide))
    columns = table.sum(axis=0, dtype=wide)
    columns[: len(words) - full] += words[full:]
    weights = (len(words) - WIDTH * np.arange(len(rows))) % 65535
    first = int(rows.sum())
    second = int(weights @ (rows % 65535).astype(np.int64))
    second -= int(np.arange(WIDTH) @ (columns % 65535).astype(np.int64))
    return _folded(second, first > 0) << 16 | _folded(first, first > 0)


def _folded(total: int, any_set: bool) -> int:
    # HDF5 takes words as big-endian; modulo 65535 swapping the bytes is multiplying by 256. Its
    # way of taking the remainder never ends at 0 unless every word is 0.
    return total * 256 % 65535 or (65535 if any_set else 0)
