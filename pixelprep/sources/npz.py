"""NumPy archives with the names that Keras gives: x_train, y_train, x_test, y_test."""

import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources import gzip_file
from pixelprep.sources.base import Raw, as_split, numbered_classes
from pixelprep.sources.context import SourceContext
from pixelprep.sources.lazy_arrays import FileArray, single_file_array, write_array
from pixelprep.sources.local import LocalSource
from pixelprep.system import fs

NAMES = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
PIECE = 1 << 20  # bytes that are copied at once
MOST_HEADER = 10_000  # bytes of a .npy header, as NumPy has it too
LENGTHS = {(1, 0): 2, (2, 0): 4}  # by version, bytes of the header's length
READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes


class NpzFile(LocalSource):
    """One ``.npz`` file, whose arrays are copied out piece by piece; nothing is unpickled."""

    def load(self, context: SourceContext) -> Raw:
        """Read the four arrays."""
        with _readable(self.path), zipfile.ZipFile(self.path) as archive:
            splits = {}
            for split, names in NAMES.items():
                images, labels = (self._array(archive, name, context) for name in names)
                splits[split] = as_split(f"{self.path}: {split}", images, labels)
        return Raw(splits, numbered_classes(os.fspath(self.path), splits)).checked(
            os.fspath(self.path)
        )

    def _array(self, archive: zipfile.ZipFile, name: str, context: SourceContext) -> FileArray:
        where = f"{self.path}: {name}"
        held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if name not in held:
            found = ", ".join(sorted(held)) or "nothing"
            raise SourceError(
                f"{self.path}: expected x_train, y_train, x_test, y_test; got {found}"
            )
        info = held[name]
        if info.compress_type not in KINDS:
            raise SourceError(f"{where}: compressed in a way that NumPy does not")
        if info.file_size > info.compress_size * gzip_file.MOST_SHRINKING:
            raise SourceError(f"{where}: promises {info.file_size:,} bytes, more than it can hold")
        fs.require_free_space(context.folder(), info.file_size)
        try:
            opened = archive.open(info)
        except OSError as error:  # where it begins is no place in the file
            raise SourceError(f"{where}: cannot read: {error}", "get it again") from error
        with opened as member:
            return _stored(where, member, info.file_size, context.file(name))


def _stored(where: str, member: IO[bytes], size: int, path: Any) -> FileArray:
    """One ``.npy`` file of `size` bytes as an array in a file."""
    shape, fortran, dtype = _header(where, member)
    promised = math.prod(shape) * dtype.itemsize
    if size - member.tell() != promised:
        held = size - member.tell()
        raise SourceError(f"{where}: the header promises {promised:,} bytes, it holds {held:,}")
    if fortran:  # the first index runs fastest: only the whole can be turned around
        array = np.frombuffer(member.read(), dtype).reshape(shape[::-1]).T
        return write_array(path, shape, [array])
    copied = 0
    with path.open("xb") as file:
        while piece := member.read(PIECE):
            copied += file.write(piece)
    if copied != promised:
        raise SourceError(f"{where}: promises {promised:,} bytes, it holds {copied:,}")
    return single_file_array(path, shape, dtype)


def _header(where: str, member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first index runs fastest, and type."""
    version = np.lib.format.read_magic(member)
    if version not in LENGTHS:
        raise SourceError(f"{where}: expected a .npy header of version 1 or 2, got {version}")
    # Looked at before it is read, and read by itself: a parser of Python is asked about it.
    length = member.read(LENGTHS[version])
    if int.from_bytes(length, "little") > MOST_HEADER:
        raise SourceError(f"{where}: its header is longer than {MOST_HEADER} bytes")
    header = io.BytesIO(length + member.read(int.from_bytes(length, "little")))
    try:
        shape, fortran, dtype = READERS[version](header)
    except Exception as error:  # NumPy's, the parser's, and what odd values lead to
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
def _readable(path: Any) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: not a readable .npz file: {error}", "get it again") from error
