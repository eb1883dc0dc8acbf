"""Choose what reads a user's file or folder; a new kind of file is one entry in `FILE_TYPES`."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pixelprep.errors import SourceError
from pixelprep.sources import gzip_file
from pixelprep.sources.base import scaled_already
from pixelprep.sources.containers import idx, pixel_table
from pixelprep.sources.containers.array_files import (
    expand,
    family_of,
    folder_of,
    is_family,
    split_folders,
)
from pixelprep.sources.containers.hdf5 import Hdf5Files
from pixelprep.sources.containers.mat_file import MatFiles
from pixelprep.sources.containers.npz import NumpyFiles
from pixelprep.sources.containers.pixel_table import PixelTable, tables_at
from pixelprep.sources.libraries.parquet import ParquetFiles, parquet_files
from pixelprep.sources.libraries.webdataset import (
    NUMBERS,
    WebDataset,
    is_webdataset,
    tars_at,
)
from pixelprep.sources.libraries.webdataset import is_family as is_family_of_tars
from pixelprep.sources.local import IdxFolder, LocalSource
from pixelprep.sources.pictures import image_file, tables
from pixelprep.sources.pictures.image_folder import (
    ARCHIVES,
    ImageArchive,
    ImageArchives,
    ImageFolder,
    archives_at,
    has_suffix,
)
from pixelprep.sources.pictures.members import TAR, is_hidden
from pixelprep.system import formatting

ARRAY_FILES: dict[str, type[LocalSource]] = {  # which a folder may have several of
    **dict.fromkeys(NumpyFiles.endings, NumpyFiles),
    **dict.fromkeys(Hdf5Files.endings, Hdf5Files),
}
FILE_TYPES: dict[str, type[LocalSource]] = {
    **ARRAY_FILES,
    ".parquet": ParquetFiles,
    **dict.fromkeys(pixel_table.ENDINGS, PixelTable),
    **dict.fromkeys(ARCHIVES, ImageArchive),  # of images
}

HDF5, MATLAB_BYTES = b"\x89HDF\r\n\x1a\n", 512  # how HDF5 begins; what MATLAB has before it
PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))  # how pickles begin


def local_source_type(path: Path) -> type[LocalSource]:
    """Return the class that reads the file or folder at this path."""
    if path.is_dir():
        return _type_of_folder(path)
    if NUMBERS.search(path.name) and not path.exists():
        return _type_of_numbered(path)
    if is_family_of_tars(path) and is_webdataset(tars_at(path)[0]):
        return WebDataset
    if archives := archives_at(path):
        if path.name.lower().endswith(TAR) and is_webdataset(next(iter(archives.values()))):
            raise SourceError(f"{path}: a WebDataset", f"give its folder: {folder_of(path)}")
        return ImageArchives
    several = is_family(path)
    if not (path.exists() or several):
        raise SourceError(f"{path}: no such file or folder")
    if path.is_file():
        _refuse_pickle(path)
        if path.name.lower().endswith(TAR) and is_webdataset(path):
            return WebDataset
    name = path.name.lower()
    found = next((kind for ending, kind in FILE_TYPES.items() if name.endswith(ending)), None)
    found = _type_of_file(next(iter(expand(path).values())) if several else path) or found
    if found is None or not (path.is_file() or several):
        endings = ", ".join(FILE_TYPES)
        expected = f"a folder of images or of IDX files, or a file that ends in {endings}"
        raise SourceError(f"{path}: expected {expected}")
    return found


def _type_of_folder(path: Path) -> type[LocalSource]:
    if (path / "manifest.json").is_file() and (path / "manifest.sha256").is_file():
        raise scaled_already(path)
    if parquet_files(path):
        return ParquetFiles
    if (tars := tars_at(path)) and is_webdataset(tars[0]):
        return WebDataset
    if archives_at(path):
        return ImageArchives
    found = _type_of_arrays(path) or _type_of_split_folders(path)
    if found is None and tables_at(path):
        return PixelTable
    if found is None:
        _refuse_containers(path)
    return found or ImageFolder


def _refuse_containers(folder: Path) -> None:
    """Refuse a folder without any picture but with files that hold data; name the way on."""
    found = list[Path]()
    with suppress(OSError):  # which is told where the folder is read
        for name in _names_below(folder):
            if name.lower().endswith(image_file.SUFFIXES) or not has_suffix(name):
                return  # a picture, or perhaps one: it is known after a few names
            if name.lower().endswith(tuple(FILE_TYPES)):
                found.append(Path(name))
    if not found:
        return
    found.sort()
    named = formatting.shorten(path.relative_to(folder) for path in found)
    tops, first = {path.parent for path in found}, found[0]
    together = len(found) > 1 and len(tops) == 1 and folder not in tops
    if pictures := tables.folder_of_pictures(first):
        way = f"give the folder of its pictures, {pictures}, and `labels={first}`"
    elif together and (_type_of_arrays(first.parent) or archives_at(first.parent)):
        way = f"give the folder that they are in: {first.parent}"
    elif (family := family_of(first)) and found == sorted(expand(Path(family)).values()):
        way = f"give them all: {family}"
    else:
        way = f"give {'it' if len(found) == 1 else 'one of them'}: {first}"
    raise SourceError(f"{folder}: no image in it; it holds {named}", way)


def _names_below(folder: Path) -> Iterator[str]:
    """Yield the files at any depth below a folder, one by one."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _names_below(Path(entry.path))
            else:
                yield entry.path


def _type_of_numbered(path: Path) -> type[LocalSource]:
    """Return what reads files of one name with numbers, all of which there must be."""
    paths = tars_at(path)
    if missing := next((one for one in paths if not one.is_file()), None):
        raise SourceError(f"{missing}: no such file", f"{path} means {len(paths):,} files")
    if not (paths and path.name.lower().endswith(TAR) and is_webdataset(paths[0])):
        expected = "expected tars of pictures, KEY.jpg, and their classes, KEY.cls or KEY.json"
        raise SourceError(f"{path}: {expected}")
    return WebDataset


def _type_of_arrays(folder: Path) -> type[LocalSource] | None:
    """Return what reads a folder of files that hold arrays; None if it holds other things, too."""
    found, others = set(), False
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.lower()
            if "idx" in name and idx.parse_name(name):
                return IdxFolder
            if name == "data_batch_1" and entry.is_file():
                _refuse_pickle(folder / entry.name)
            if not name.startswith("."):
                others = others or name.endswith(image_file.SUFFIXES) or entry.is_dir()
                found.add(_type_of_file(folder / entry.name))
    found.discard(None)  # notes, licences, lists
    if others or not found:
        return None
    if len(found) > 1:
        kinds = ", ".join(sorted(one.__name__ for one in found if one))
        raise SourceError(f"{folder}: holds arrays in files of several kinds: {kinds}", "give one")
    return found.pop()


def _type_of_split_folders(folder: Path) -> type[LocalSource] | None:
    """Return what reads a folder of folders that each hold the arrays of a split; else None."""
    with suppress(OSError):  # which is told where the folder is read
        kinds = {_type_of_arrays(one) for one in split_folders(folder)} - {IdxFolder}
        return kinds.pop() if len(kinds) == 1 else None
    return None


def _type_of_file(path: Path) -> type[LocalSource] | None:
    """Return what reads a file of arrays, which a folder may have several of."""
    if path.suffix.lower() == ".mat" and path.is_file() and not _is_hdf5(path):
        return MatFiles
    return ARRAY_FILES.get(path.suffix.lower())


def _is_hdf5(path: Path) -> bool:
    """Tell HDF5, which MATLAB has 512 bytes of its own before, from MATLAB's older files."""
    with path.open("rb") as file:
        start = file.read(MATLAB_BYTES + len(HDF5))
    return start.startswith(HDF5, MATLAB_BYTES) or start.startswith(HDF5)


def _refuse_pickle(path: Path) -> None:
    """Refuse a file of pickled Python objects, by its ending or its first bytes."""
    with path.open("rb") as file:
        start = file.read(2)
    if start == gzip_file.GZIP:
        with suppress(SourceError):  # which is told where the file is read
            start = next(iter(gzip_file.read_pieces(path)), b"")[:2]
    torch_zip = path.suffix.lower() in (".pt", ".pth")
    if not torch_zip and path.suffix.lower() not in (".pkl", ".pickle") and start not in PICKLES:
        return
    if path.name.startswith(("data_batch", "test_batch")):
        way = "get CIFAR's binary version: its name does: cifar10"
    else:
        arrays = "pixelprep.Arrays('NAME', (images, labels))"
        way = f"where you trust it, load it in Python, and prepare {arrays}, or numpy.savez it"
    raise SourceError(f"{path}: a pickle, which could run anything: never loaded", way)
