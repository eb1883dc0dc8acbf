"""List the files of a folder or an archive by their names below it, and read those of an archive.

An archive is not unpacked: of a zip each file is read where it lies. A tar, which has no index, is
copied once, in order, into a private zip without compression.
"""

import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Self

from pixelprep.errors import SourceError
from pixelprep.sources.split_names import split_of
from pixelprep.system import fs

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
MAX_FILE = 1 << 30  # bytes of a file in an archive; no picture that is read has so many pixels
PIECE = 1 << 20  # bytes copied at once
NEW_COPY = "get a new copy of it"

Kind = Literal["file", "folder", "hidden", "other"]


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder or an archive: names below it, with slashes."""

    names: list[str] = field(default_factory=list)  # of files; of folders, with a slash behind them
    hidden: list[str] = field(default_factory=list)  # folders, which are not looked into
    other: list[str] = field(default_factory=list)  # pipes, devices and the like

    def add(self, kind: Kind, name: str) -> None:
        """Note what was met."""
        {"hidden": self.hidden, "other": self.other}.get(kind, self.names).append(name)


def printable(path: str) -> str:
    """Spell a path, whatever bytes it has, as text that JSON can hold."""
    return path if path.isascii() else os.fsencode(path).decode(errors="backslashreplace")


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is none of the data."""
    return name[0] == "." or name == "__MACOSX"  # which macOS puts into archives


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder; links are followed within it, and out of it where that is wanted."""

    path: Path
    follow_links: bool = False

    def listing(self) -> Listing:
        """Return what is in it, at any depth."""
        listing = Listing()
        for kind, name, _ in self.walk():
            listing.add(kind, name)
        return listing

    def walk(
        self, below: str = "", above: tuple[tuple[int, int], ...] = ()
    ) -> Iterator[tuple[Kind, str, os.DirEntry[str]]]:
        """Yield what is in it in a fixed order, as `Listing` has it; hidden files are left out."""
        folder = self.path / below
        here, entries = _scan(folder)
        if here in above:
            raise SourceError(f"{folder}: a link that leads back to a folder above it", "remove it")
        for entry in entries:
            name, is_folder = below + entry.name, self._is_folder(entry)
            if is_hidden(entry.name):
                if is_folder:
                    yield "hidden", name, entry
                continue
            self._check_link(entry)
            if is_folder:
                yield "folder", f"{name}/", entry
                yield from self.walk(f"{name}/", (*above, here))
            else:
                yield "file" if entry.is_file() else "other", name, entry

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir()
        except OSError:  # a link to itself
            return False

    def _check_link(self, entry: os.DirEntry[str]) -> None:
        """Refuse a link that leads nowhere, or out of the folder."""
        if not entry.is_symlink():
            return
        if not os.path.exists(entry.path):  # noqa: PTH110 - pathlib fails on a link to itself
            raise SourceError(f"{entry.path}: a link that leads nowhere")
        inside = Path(entry.path).resolve().is_relative_to(self.path.resolve())
        if not (inside or self.follow_links):
            leaves = f"{entry.path}: a link that leaves {self.path}"
            raise SourceError(leaves, "use what such links lead to: `follow_links`")


def _scan(folder: Path) -> tuple[tuple[int, int], list[os.DirEntry[str]]]:
    """Return a folder's identity and content by name; one that is not shown is not an empty one."""
    try:
        with os.scandir(folder) as entries:
            status, listed = folder.stat(), sorted(entries, key=lambda entry: entry.name)
            return (status.st_dev, status.st_ino), listed
    except OSError as error:
        raise SourceError(f"{folder}: cannot read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive of files; whatever is no file or folder, or not in it by its name, is refused."""

    path: str  # of the user's file, which the paths of its files begin with
    file: str  # the zip that is read, absolute

    @classmethod
    def open(cls, path: Path, private: Path) -> "Archive":
        """Return the archive at a path; a tar's content goes to a private file."""
        if path.name.lower().endswith(ZIP):
            return cls(os.fspath(path), os.fspath(path.absolute()))
        with _reading_tar(path):
            _copy_tar(path, private)
        return cls(os.fspath(path), os.fspath(private))

    def listing(self) -> Listing:
        """Return what is in it, at any depth."""
        listing, known = Listing(), set[str]()
        for info in self._zip().infolist():
            name = info.filename
            if "/" not in name:
                name = name.replace("\\", "/")  # as some programs of Windows write it
            _check(self.path, name, info.file_size, not _is_special(info))
            if name in known:
                raise SourceError(f"{self.path}: contains {name} twice", NEW_COPY)
            known.add(name)
        folders = {f"{name[:at]}/" for name in known for at in _slashes(name)}
        for name in sorted(known | folders):
            parts = name.removesuffix("/").split("/")
            if not any(map(is_hidden, parts)):
                listing.add("folder" if name.endswith("/") else "file", name)
            elif name.endswith("/") and not any(map(is_hidden, parts[:-1])):
                listing.add("hidden", name[:-1])
        return listing

    def read(self, path: str) -> bytes:
        """Return the content of the file at this path, the archive's own with a name behind it."""
        name = path[len(self.path) + 1 :]
        try:
            file = self._zip()
            if name not in file.NameToInfo:
                name = name.replace("/", "\\")
            return file.read(name)
        except (RuntimeError, NotImplementedError) as error:  # a password; a rare compression
            raise SourceError(f"{path}: cannot read: {error}", "unpack the archive") from error
        except (_bad_zip(), EOFError, OSError, zlib.error) as error:
            raise _unreadable(path, error) from error

    def _zip(self) -> "ZipFile":
        try:
            return _opened(self.file, fs.file_stamp(Path(self.file)))
        except (_bad_zip(), OSError) as error:
            raise _unreadable(self.path, error) from error


@dataclass(frozen=True, slots=True)
class Archives(Archive):
    """Archives of a split each, as one whose folders have the splits' names."""

    parts: Mapping[str, tuple[Archive, str]] = field(default_factory=dict)  # with a folder inside

    @classmethod
    def of(cls, path: Path, files: Mapping[str, Path], private: Mapping[str, Path]) -> "Archives":
        """Return the archives of these splits; the content of tars goes to private files."""
        opened = {split: Archive.open(file, private[split]) for split, file in files.items()}
        parts = {split: (one, _around_all(one.listing().names)) for split, one in opened.items()}
        return cls(os.fspath(path), "", parts)

    def listing(self) -> Listing:
        """Return what is in all of them."""
        listing = Listing()
        for split, (archive, inside) in self.parts.items():
            found = archive.listing()
            listing.names.append(f"{split}/")
            names = (name[len(inside) :] for name in found.names if name != inside)
            listing.names.extend(f"{split}/{name}" for name in names)
            listing.hidden.extend(f"{split}/{name}" for name in found.hidden)
        return listing

    def read(self, path: str) -> bytes:
        """Return the content of a file of one of them."""
        split, _, name = path[len(self.path) + 1 :].partition("/")
        archive, inside = self.parts[split]
        return archive.read(f"{archive.path}/{inside}{name}")


def _around_all(names: Sequence[str]) -> str:
    """Return the folder, with a slash, that all is in, if it is no class; else nothing."""
    tops = {name.partition("/")[0] for name in names}
    top = min(tops, default="")
    below = {name.split("/")[1] for name in names if name.count("/") > 1}
    if len(tops) == 1 and f"{top}/" in names and (split_of(top) or len(below) > 1):
        return f"{top}/"
    return ""


@lru_cache(maxsize=3)  # of an archive for each split
def _opened(file: str, stamp: Sequence[int]) -> "ZipFile":
    """Open a zip once a process; the stamp tells another file at the same path."""
    import zipfile

    return zipfile.ZipFile(file)


def _bad_zip() -> type[Exception]:
    from zipfile import BadZipFile  # folders do not need it

    return BadZipFile


def _unreadable(path: str | Path, error: Exception) -> SourceError:
    of_system = isinstance(error, OSError) and error.errno is not None
    reason = str(error)
    if Path(path).is_file() and not Path(path).stat().st_size:
        reason = "an empty file"
    elif "- method tar: " in reason:  # the list of what tarfile tried
        reason = "no tar, plain or compressed by gzip, bzip2 or xz"
    return SourceError(f"{path}: cannot read: {reason}", None if of_system else NEW_COPY)


def _is_special(info: "ZipInfo") -> bool:
    mode = stat.S_IFMT(info.external_attr >> 16)  # 0 of archives that have no modes
    return mode not in (0, stat.S_IFREG, stat.S_IFDIR)


def _slashes(name: str) -> Iterator[int]:
    return (at for at, letter in enumerate(name) if letter == "/")


def _check(archive: str, name: str, size: int, is_plain: bool) -> None:
    """Refuse what no archive of pictures needs, and what may mean harm."""
    if not is_plain:
        reason = "neither a file nor a folder"
    elif not name or not {"", ".", ".."}.isdisjoint(name.removesuffix("/").split("/")):
        reason = "not a plain name"
    elif size > MAX_FILE:
        reason = f"{size:,} bytes, more than the {MAX_FILE:,} of a picture"
    else:
        return
    raise SourceError(f"{archive}: {printable(name)}: {reason}", "unpack what you trust of it")


def read_tar(
    path: Path, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted files of a tar in its order, name and content, one at a time in memory."""
    with _reading_tar(path):
        for name, _, file in _tar_members(path):
            if file is not None and wanted(name):
                yield name, file.read()


def tar_names(path: Path) -> Iterator[str]:
    """Yield the names of the files of a tar in its order."""
    with _reading_tar(path):
        yield from (name for name, _, file in _tar_members(path) if file is not None)


@contextmanager
def _reading_tar(path: Path) -> Iterator[None]:
    import tarfile  # folders do not need it
    from lzma import LZMAError

    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the system, perhaps of the disk that is written to
        raise _unreadable(path, error) from error


def _tar_members(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Yield the files and folders of a tar in its order: name, size, content; folders have none."""
    import tarfile

    class StrictHeader(tarfile.TarInfo):
        """One that is damaged or cut off is an error; tarfile takes it for the end."""

        @classmethod
        def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
            try:
                return super().fromtarfile(tar)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # the mark of the end
                raise
            except tarfile.HeaderError as error:
                raise tarfile.ReadError(f"no header at byte {tar.offset:,}: {error}") from None

    with tarfile.open(path, tarinfo=StrictHeader) as tar:
        for member in tar:
            tar.members.clear()  # type: ignore[attr-defined] # or it would remember all
            name = printable(member.name).removeprefix("./")
            if name == ".":
                continue
            _check(os.fspath(path), name, member.size, member.isfile() or member.isdir())
            yield name + "/" * member.isdir(), member.size, tar.extractfile(member)
        while tar.fileobj.read(PIECE):  # to the end, where the checksum of a compressed one is
            pass


def _copy_tar(path: Path, private: Path) -> None:
    """Copy the files of a tar into a new zip, one after the other."""
    import shutil
    import zipfile

    with zipfile.ZipFile(private, "x") as copy:
        for name, size, file in _tar_members(path):
            info = zipfile.ZipInfo(name)
            info.file_size = size
            fs.require_free_space(private.parent, size)
            with copy.open(info, "w") as to:
                if file is not None:
                    shutil.copyfileobj(file, to, PIECE)
