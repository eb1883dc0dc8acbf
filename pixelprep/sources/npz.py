"""Read NumPy archives with the keys that Keras uses: x_train, y_train, and x_val or x_test."""

import io
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.format.layout import EXPORTED
from pixelprep.format.recipe import SPLITS
from pixelprep.sources import gzip_file
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Raw, SourceContext, scaled_already
from pixelprep.sources.lazy_arrays import AnyDType, FileArray, single_file_array, write_array
from pixelprep.sources.local import LocalSource
from pixelprep.system import formatting, fs, notices

PIECE = 1 << 20  # bytes copied at once
MAX_HEADER = 10_000  # bytes of a .npy header: NumPy's own limit
HEADERS = {  # by version: bytes of the header's length, and what reads the header
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


class NpzFile(LocalSource):
    """One ``.npz`` file; its arrays are copied piece by piece, and nothing is unpickled."""

    supported_options = frozenset({"layout", "labels_from", "renumber", "on_leak"})

    def load(self, context: SourceContext) -> Raw:
        pairs, where = {}, os.fspath(self.path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                if archive.comment == EXPORTED:
                    raise scaled_already(where)
                members = {info.filename.removesuffix(".npy") for info in archive.infolist()}
                keys_of = {split: (f"x_{split}", f"y_{split}") for split in SPLITS}
                present = [n for n, keys in keys_of.items() if not members.isdisjoint(keys)]
                for split, keys in keys_of.items():
                    if split in (present or ["train"]):
                        images, labels = (self._array(archive, key, context) for key in keys)
                        pairs[split] = images, labels
                used = {f"{column}_{split}" for split in pairs for column in "xy"}
                if unused := sorted(members - used):
                    notices.tell(f"{self.name}: arrays not used: {formatting.shorten(unused)}")
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
            damaged = f"{where}: not a readable .npz file: {error}"
            raise SourceError(damaged, "get a new copy of it") from error
        return assemble(where, pairs, self.options)

    def _array(self, archive: zipfile.ZipFile, key: str, context: SourceContext) -> FileArray:
        where = f"{self.path}: {key}"
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if key not in members:
            found = formatting.shorten(sorted(members)) or "nothing"
            expected = f"expected x_train and y_train, likewise x_test or x_val; {key} is missing"
            raise SourceError(f"{self.path}: {expected}; it holds {found}")
        info = members[key]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
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
