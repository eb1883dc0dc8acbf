"""Copy arrays of NumPy's own format, ``.npy``, piece by piece; nothing is unpickled."""

import io
import math
from pathlib import Path
from typing import IO

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources.lazy_arrays import AnyDType, FileArray, single_file_array, write_array

PIECE = 1 << 20  # bytes copied at once
MAX_HEADER = 10_000  # bytes of a .npy header: NumPy's own limit
HEADERS = {  # by version: bytes of the header's length, and what reads the header
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


def copy_array(where: str, member: IO[bytes], size: int, path: Path) -> FileArray:
    """Copy the array of a ``.npy`` file of `size` bytes to a file."""
    shape, fortran, dtype = read_header(where, member)
    promised, held = math.prod(shape) * dtype.itemsize, size - member.tell()
    if held != promised:
        raise SourceError(f"{where}: the header promises {promised:,} bytes, it holds {held:,}")
    if fortran:  # the first index runs fastest: only the whole array can be transposed
        array = np.frombuffer(member.read(), dtype).reshape(shape[::-1]).T
        return write_array(path, shape, [array])
    copied = 0
    with path.open("xb") as file:
        while piece := member.read(PIECE):
            copied += file.write(piece)
    if copied != promised:
        raise SourceError(f"{where}: promises {promised:,} bytes, it holds {copied:,}")
    return single_file_array(path, shape, dtype)


def read_header(where: str, member: IO[bytes]) -> tuple[tuple[int, ...], bool, AnyDType]:
    """Read a header: shape, whether the order is Fortran's, and dtype."""
    version = np.lib.format.read_magic(member)
    if version not in HEADERS:
        raise SourceError(f"{where}: expected a .npy header of version 1 or 2, got {version}")
    # NumPy gives a header to a parser of Python, so its length is limited first.
    length_bytes, read_header = HEADERS[version]
    length = member.read(length_bytes)
    if int.from_bytes(length, "little") > MAX_HEADER:
        raise SourceError(f"{where}: its header is longer than {MAX_HEADER} bytes")
    header = io.BytesIO(length + member.read(int.from_bytes(length, "little")))
    try:
        shape, fortran, dtype = read_header(header)
    except Exception as error:  # NumPy's, the parser's, and whatever odd values raise
        raise SourceError(f"{where}: not a readable .npz file: {error}") from error
    if any(side < 0 for side in shape):
        raise SourceError(f"{where}: the header's shape is {shape}")
    if dtype.hasobject:
        pickled = f"{where}: holds pickled Python objects, which are never loaded"
        raise SourceError(pickled, "save it as an array of numbers, or of text: array.astype(str)")
    return shape, fortran, dtype
