"""Read NumPy archives with the keys that Keras uses: x_train, y_train, x_test, y_test."""

import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources import gzip_file
from pixelprep.sources.base import Raw, as_split, numbered_classes
from pixelprep.sources.context import SourceContext
from pixelprep.sources.lazy_arrays import AnyDType, FileArray, single_file_array, write_array
from pixelprep.sources.local import LocalSource
from pixelprep.system import fs

KEYS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
PIECE = 1 << 20  # bytes copied at once
MAX_HEADER = 10_000  # bytes of a .npy header: NumPy's own limit
LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # by version: bytes of the header's length
HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that NumPy writes


class NpzFile(LocalSource):
    """One ``.npz`` file; its arrays are copied piece by piece, and nothing is unpickled."""

    def load(self, context: SourceContext) -> Raw:
        """Read the four arrays."""
        with _readable(self.path), zipfile.ZipFile(self.path) as archive:
            splits = {}
            for split, keys in KEYS.items():
                images, labels = (self._array(archive, key, context) for key in keys)
                splits[split] = as_split(f"{self.path}: {split}", images, labels)
        return Raw(splits, numbered_classes(os.fspath(self.path), splits)).checked(
            os.fspath(self.path)
        )

    def _array(self, archive: zipfile.ZipFile, key: str, context: SourceContext) -> FileArray:
        where = f"{self.path}: {key}"
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if key not in members:
            found = ", ".join(sorted(members)) or "nothing"
            raise SourceError(
                f"{self.path}: expected x_train, y_train, x_test, y_test; got {found}"
            )
        info = members[key]
        if info.compress_type not in COMPRESSIONS:
            raise SourceError(f"{where}: compressed in a way that NumPy does not use")
        if info.file_size > info.compress_size * gzip_file.MAX_RATIO:
            raise SourceError(f"{where}: promises {info.file_size:,} bytes, more than it can hold")
        fs.require_free_space(context.folder(), info.file_size)
        try:
            opened = archive.open(info)
        except OSError as error:  # the archive gives an impossible offset
            raise SourceError(f"{where}: cannot read: {error}", "get a new copy of it") from error
        with opened as member:
            return _copy(where, member, info.file_size, context.file(key))


def _copy(where: str, member: IO[bytes], size: int, path: Path) -> FileArray:
    """Copy the array of a ``.npy`` file of `size` bytes to a file."""
    shape, fortran, dtype = _header(where, member)
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


def _header(where: str, member: IO[bytes]) -> tuple[tuple[int, ...], bool, AnyDType]:
    """Read a header: shape, whether the order is Fortran's, and dtype."""
    version = np.lib.format.read_magic(member)
    if version not in LENGTH_BYTES:
        raise SourceError(f"{where}: expected a .npy header of version 1 or 2, got {version}")
    # NumPy gives a header to a parser of Python, so its length is limited first.
    length = member.read(LENGTH_BYTES[version])
    if int.from_bytes(length, "little") > MAX_HEADER:
        raise SourceError(f"{where}: its header is longer than {MAX_HEADER} bytes")
    header = io.BytesIO(length + member.read(int.from_bytes(length, "little")))
    try:
        shape, fortran, dtype = HEADER_READERS[version](header)
    except Exception as error:  # NumPy's, the parser's, and whatever odd values raise
        raise SourceError(f"{where}: not a readable .npz file: {error}") from error
    if any(side < 0 for side in shape):
        raise SourceError(f"{where}: the header's shape is {shape}")
    if dtype.hasobject:
        raise SourceError(
            f"{where}: holds pickled Python objects, which are never loaded",
            "save it as an array of numbers",
        )
    return shape, fortran, dtype


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged archive into a `SourceError`."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"{path}: not a readable .npz file: {error}", "get a new copy of it"
        ) from error
