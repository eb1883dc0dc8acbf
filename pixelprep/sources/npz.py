"""Read NumPy's files: .npz archives, and .npy files of an array each."""

import io
import math
import zipfile
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any  # Any: JSON values

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.format.layout import EXPORTED
from pixelprep.sources import gzip_file
from pixelprep.sources.array_files import ArrayFiles, Container, Stored, copied
from pixelprep.sources.array_names import Header
from pixelprep.sources.base import scaled_already
from pixelprep.sources.lazy_arrays import AnyDType
from pixelprep.system import fs

PIECE = 1 << 20  # bytes copied at once
MAX_HEADER = 10_000  # bytes of a .npy header: NumPy's own limit
MAX_TEXT = 1 << 20  # bytes of an array of class names
HEADERS = {  # by version: bytes of the header's length, and what reads the header
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}
ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


class NumpyFiles(ArrayFiles):
    """NumPy's files; their arrays are copied piece by piece, and nothing is unpickled."""

    endings = (".npz", ".npy")

    def _copied(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return dict(deque(copied(_open, **arguments), maxlen=1)[0])


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        damaged = f"{path}: not a readable {path.suffix} file: {error}"
        raise SourceError(damaged, "get a new copy of it") from error


def _open(path: Path, stack: ExitStack, layout: str | None) -> Container:
    if path.suffix.lower() == ".npy":
        return Npy(path)
    with _reading(path):
        archive = stack.enter_context(zipfile.ZipFile(path))
    if archive.comment == EXPORTED:
        raise scaled_already(path)
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    return Npz(path, archive, members)


@dataclass(frozen=True, slots=True)
class Npy:
    """One ``.npy`` file, whose array has no key."""

    path: Path

    def headers(self, wanted: Iterable[str] = ()) -> dict[str, Header]:
        found = {}
        for key in self._keys():
            found[key] = Header((), "unreadable")  # where it is used, copying says what is wrong
            with suppress(SourceError, OSError), self._member(key) as (member, _):
                shape, _, dtype = _header(self._where(key), member)
                found[key] = Header(shape, dtype.str if dtype.kind in "SU" else dtype.name)
        return found

    def copy(self, key: str, role: str, target: Path) -> Generator[None, None, Stored]:
        with self._member(key) as (member, size):
            fs.require_free_space(target.parent, size)
            stored = _copy(self._where(key), member, size, target)
        yield None
        return stored

    def texts(self, key: str) -> list[str]:
        with self._member(key) as (member, size):
            where = self._where(key)
            shape, _, dtype = _header(where, member)
            if len(shape) != 1 or size > MAX_TEXT or dtype.kind not in "SU":
                raise SourceError(f"{where}: expected names (N,), got {dtype} {shape}")
            names = np.frombuffer(member.read(), dtype, count=shape[0])
        return list(map(str, names.astype(np.str_).tolist()))

    def _keys(self) -> Iterable[str]:
        return [""]

    def _where(self, key: str) -> str:
        return f"{self.path}: {key}" if key else str(self.path)

    @contextmanager
    def _member(self, key: str) -> Iterator[tuple[IO[bytes], int]]:
        """Open what is a ``.npy`` file of so many bytes."""
        with _reading(self.path), self.path.open("rb") as file:
            yield file, self.path.stat().st_size


@dataclass(frozen=True, slots=True)
class Npz(Npy):
    """One ``.npz`` archive."""

    archive: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]  # by key

    def _keys(self) -> Iterable[str]:
        return self.members

    @contextmanager
    def _member(self, key: str) -> Iterator[tuple[IO[bytes], int]]:
        where, info = self._where(key), self.members[key]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SourceError(f"{where}: compressed in a way that NumPy does not use")
        if info.file_size > info.compress_size * gzip_file.MAX_RATIO:
            raise SourceError(f"{where}: promises {info.file_size:,} bytes, more than it can hold")
        with _reading(self.path):
            try:
                opened = self.archive.open(info)
            except OSError as error:  # the archive gives an impossible offset
                cannot = f"{where}: cannot read: {error}"
                raise SourceError(cannot, "get a new copy of it") from error
            with opened as member:
                yield member, info.file_size


def _copy(where: str, member: IO[bytes], size: int, path: Path) -> Stored:
    """Copy the array of a ``.npy`` file of `size` bytes to a file."""
    shape, fortran, dtype = _header(where, member)
    promised, held = math.prod(shape) * dtype.itemsize, size - member.tell()
    if held != promised:
        raise SourceError(f"{where}: the header promises {promised:,} bytes, it holds {held:,}")
    if fortran:  # the first index runs fastest: only the whole array can be transposed
        array = np.frombuffer(member.read(), dtype).reshape(shape[::-1]).T
        path.write_bytes(np.ascontiguousarray(array).data)
        return shape, dtype.str
    copied = 0
    with path.open("xb") as file:
        while piece := member.read(PIECE):
            copied += file.write(piece)
    if copied != promised:
        raise SourceError(f"{where}: promises {promised:,} bytes, it holds {copied:,}")
    return shape, dtype.str


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
