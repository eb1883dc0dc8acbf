"""Read NumPy's files: .npz archives, and .npy files of an array each."""

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
from pixelprep.format.layout import EXPORTED, EXPORTED_NAMES
from pixelprep.sources import gzip_file
from pixelprep.sources.containers import npy
from pixelprep.sources.containers.array_files import ArrayFiles, Container, Stored, copied
from pixelprep.sources.containers.array_names import UNREADABLE, Header
from pixelprep.system import fs

MAX_TEXT = 1 << 20  # bytes of an array of class names
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
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    return Npz(path, archive, members)


@dataclass(frozen=True, slots=True)
class Npy:
    """One ``.npy`` file, whose array has no key."""

    path: Path

    def headers(self, wanted: Iterable[str] = ()) -> dict[str, Header]:
        found = {}
        for key in self._keys():
            found[key] = Header((), UNREADABLE)  # where it is used, copying says what is wrong
            with suppress(SourceError, OSError), self._member(key) as (member, _):
                shape, _, dtype = npy.read_header(self._where(key), member)
                found[key] = Header(shape, dtype.str if dtype.kind in "SU" else dtype.name)
        return found

    def copy(self, key: str, role: str, target: Path) -> Generator[None, None, Stored]:
        with self._member(key) as (member, size):
            fs.require_free_space(target.parent, size)
            array = npy.copy_array(self._where(key), member, size, target)
        yield None
        return array.shape, array.stored.str

    def texts(self, key: str) -> list[str]:
        with self._member(key) as (member, size):
            where = self._where(key)
            shape, _, dtype = npy.read_header(where, member)
            if len(shape) != 1 or size > MAX_TEXT or dtype.kind not in "SU":
                raise SourceError(f"{where}: expected names (N,), got {dtype} {shape}")
            names = np.frombuffer(member.read(), dtype, count=shape[0])
        return list(map(str, names.astype(np.str_).tolist()))

    def exported_key(self, split: str, column: str) -> str | None:
        return None

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

    def exported_key(self, split: str, column: str) -> str | None:
        ours = self.archive.comment == EXPORTED
        return f"{EXPORTED_NAMES[column]}_{split}" if ours else None

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
