"""List the pictures that are to be predicted: files, and those in folders and archives."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pixelprep.errors import SourceError, UsageError
from pixelprep.sources.pictures import image_file
from pixelprep.sources.pictures.members import TAR, ZIP, Archive

START = 16  # bytes that tell a picture


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, perhaps in an archive, whose path its own begins with."""

    path: str
    archive: Archive | None = None


def list_pictures(images: Iterable[str | os.PathLike[str]], work: ExitStack) -> Iterator[Picture]:
    """List the files that are meant, those of folders and archives by name.

    What of an archive is copied lasts as long as `work`.
    """
    found = False
    for path in map(Path, images):
        if not path.exists():
            raise SourceError(f"{path}: no such file")
        is_archive = path.is_file() and path.name.lower().endswith((*ZIP, *TAR))
        for picture in _in_archive(path, work) if is_archive else _in_folder(path):
            found = True
            yield picture
    if not found:
        raise UsageError("no image was given: expected image files, or folders with some in them")


def _in_folder(path: Path) -> Iterator[Picture]:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        # What is hidden, as ._x.png of macOS, is no picture of the data, as in `prepare`.
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if not hidden and (file == path or (file.is_file() and _is_picture(file))):
            yield Picture(os.fspath(file))


def _is_picture(file: Path) -> bool:
    """Tell a picture by the ending of its name or, where that has none, by its first bytes."""
    if file.suffix:
        return file.suffix.lower() in image_file.SUFFIXES
    try:
        with file.open("rb") as start:
            return image_file.is_picture(start.read(START))
    except OSError as error:
        raise SourceError(f"{file}: cannot read: {error.strerror}") from error


def _in_archive(path: Path, work: ExitStack) -> Iterator[Picture]:
    private = Path(work.enter_context(TemporaryDirectory(prefix="pixelprep-")), "members")
    archive = Archive.open(path, private)
    for name in archive.listing().names:
        file, bare = f"{path}/{name}", not (name.endswith("/") or Path(name).suffix)
        is_named = name.lower().endswith(image_file.SUFFIXES)
        if is_named or (bare and image_file.is_picture(archive.read(file))):
            yield Picture(file, archive)
