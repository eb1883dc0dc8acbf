"""NumPy archives with the names that Keras gives: x_train, y_train, x_test, y_test."""

import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from pixelprep import unpack
from pixelprep.errors import SourceError
from pixelprep.sources.base import Raw, numbered, split_of
from pixelprep.sources.own import Own
from pixelprep.sources.stored import Place, Stored, in_one_file, store

NAMES = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
PIECE = 1 << 20  # bytes that are copied at once
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes


class Npz(Own):
    """One ``.npz`` file, whose arrays are copied out piece by piece; nothing is unpickled."""

    def load(self, place: Place) -> Raw:
        """Read the four arrays."""
        with _readable(self.path), zipfile.ZipFile(self.path) as archive:
            splits = {}
            for split, names in NAMES.items():
                images, labels = (self._array(archive, name, place) for name in names)
                splits[split] = split_of(f"{self.path}: {split}", images, labels)
        return Raw(splits, numbered(os.fspath(self.path), splits)).checked(os.fspath(self.path))

    def _array(self, archive: zipfile.ZipFile, name: str, place: Place) -> Stored:
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
        if info.file_size > info.compress_size * unpack.MOST_SHRINKING:
            raise SourceError(f"{where}: promises {info.file_size:,} bytes, more than it can hold")
        with archive.open(info) as member:
            return _stored(where, member, info.file_size, place.file(name))


def _stored(where: str, member: IO[bytes], size: int, path: Any) -> Stored:
    """One ``.npy`` file of `size` bytes as an array in a file."""
    shape, fortran, dtype = _header(where, member)
    promised = math.prod(shape) * dtype.itemsize
    if size - member.tell() != promised:
        held = size - member.tell()
        raise SourceError(f"{where}: the header promises {promised:,} bytes, it holds {held:,}")
    if fortran:  # the first index runs fastest: only the whole can be turned around
        array = np.frombuffer(member.read(), dtype).reshape(shape[::-1]).T
        return store(path, shape, [array])
    copied = 0
    with path.open("xb") as file:
        while piece := member.read(PIECE):
            copied += file.write(piece)
    if copied != promised:
        raise SourceError(f"{where}: promises {promised:,} bytes, it holds {copied:,}")
    return in_one_file(path, shape, dtype)


def _header(where: str, member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first index runs fastest, and type."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(member)
    if version not in readers:
        raise SourceError(f"{where}: expected a .npy header of version 1 or 2, got {version}")
    shape, fortran, dtype = readers[version](member)
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
