"""Choose what reads a user's file or folder; a new kind of file is one entry in `FILE_TYPES`."""

from pathlib import Path

from pixelprep.errors import SourceError
from pixelprep.sources.hdf5 import Hdf5File
from pixelprep.sources.image_folder import ImageFolder
from pixelprep.sources.local import IDX_NAMES, IdxFolder, LocalSource
from pixelprep.sources.npz import NpzFile
from pixelprep.sources.registered import name_variants

FILE_TYPES: dict[str, type[LocalSource]] = {
    ".npz": NpzFile,
    ".h5": Hdf5File,
    ".hdf5": Hdf5File,
}


def local_source_type(path: Path) -> type[LocalSource]:
    """Return the class that reads the file or folder at this path.

    Raises
    ------
    SourceError
        When there is nothing, or nothing that can be read.
    """
    if path.is_dir():
        return IdxFolder if _has_idx_files(path) else ImageFolder
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix not in FILE_TYPES or not path.is_file():
        raise SourceError(
            f"{path}: expected a folder of images or of IDX files, or a file that ends in"
            f" {', '.join(FILE_TYPES)}"
        )
    return FILE_TYPES[suffix]


def _has_idx_files(folder: Path) -> bool:
    names = [name for pair in IDX_NAMES.values() for name in pair]
    return any((folder / variant).exists() for name in names for variant in name_variants(name))
