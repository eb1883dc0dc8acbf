"""Choose what reads a user's file or folder; a new kind of file is one entry in `FILE_TYPES`."""

from pathlib import Path

from pixelprep.errors import SourceError
from pixelprep.sources.base import scaled_already
from pixelprep.sources.hdf5 import Hdf5File
from pixelprep.sources.idx import NAMES
from pixelprep.sources.image_folder import ImageFolder
from pixelprep.sources.local import IdxFolder, LocalSource
from pixelprep.sources.npz import NpzFile
from pixelprep.sources.parquet import ParquetFiles, parquet_files
from pixelprep.sources.registered import name_variants

FILE_TYPES: dict[str, type[LocalSource]] = {
    ".npz": NpzFile,
    ".h5": Hdf5File,
    ".hdf5": Hdf5File,
    ".parquet": ParquetFiles,
}


def local_source_type(path: Path) -> type[LocalSource]:
    """Return the class that reads the file or folder at this path."""
    if path.is_dir():
        if (path / "manifest.json").is_file() and (path / "manifest.sha256").is_file():
            raise scaled_already(path)
        if parquet_files(path):
            return ParquetFiles
        variants = [v for pair in NAMES.values() for name in pair for v in name_variants(name)]
        return IdxFolder if any((path / name).exists() for name in variants) else ImageFolder
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix not in FILE_TYPES or not path.is_file():
        endings = ", ".join(FILE_TYPES)
        expected = f"a folder of images or of IDX files, or a file that ends in {endings}"
        raise SourceError(f"{path}: expected {expected}")
    return FILE_TYPES[suffix]
