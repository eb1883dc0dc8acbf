"""What kind of data of the user's lies at a path."""

from pathlib import Path

from pixelprep.errors import SourceError
from pixelprep.sources.hdf5 import Hdf5
from pixelprep.sources.images import ImageFolder
from pixelprep.sources.npz import Npz
from pixelprep.sources.own import IDX_NAMES, IdxFolder, Own
from pixelprep.sources.pinned import spellings

FILES: dict[str, type[Own]] = {".npz": Npz, ".h5": Hdf5, ".hdf5": Hdf5}


def kind_of(path: Path) -> type[Own]:
    """What reads the file or folder at this path.

    Raises
    ------
    SourceError
        When there is nothing, or nothing that can be read.
    """
    if path.is_dir():
        names = [name for pair in IDX_NAMES.values() for name in pair]
        has_idx = any((path / spelling).exists() for name in names for spelling in spellings(name))
        return IdxFolder if has_idx else ImageFolder
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.suffix.lower() not in FILES or not path.is_file():
        raise SourceError(
            f"{path}: expected a folder of images or of IDX files, or a file that ends in"
            f" {', '.join(FILES)}"
        )
    return FILES[path.suffix.lower()]
