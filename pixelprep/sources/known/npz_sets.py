"""Read datasets that are published as NumPy archives: MedMNIST, Kuzushiji-49."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pixelprep.errors import SourceError
from pixelprep.sources import lazy_arrays
from pixelprep.sources.base import Raw, RawSplit, SourceContext
from pixelprep.sources.containers import npy
from pixelprep.sources.known import download
from pixelprep.sources.known.registered import RegisteredDataset, find_pinned
from pixelprep.sources.lazy_arrays import LazyArray


@dataclass(frozen=True, slots=True)
class ArchiveKey:
    """Where an array is: an archive, and the array's key in it."""

    file: download.RegistryFile
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NpzSet(RegisteredDataset):
    """Arrays of images (N, H, W) or (N, H, W, C), and of labels (N,), (N, 1) or (N, K)."""

    # By split: of images and of labels.
    places: Mapping[str, tuple[ArchiveKey, ArchiveKey]] = field(default_factory=dict)

    @property
    def files(self) -> list[download.RegistryFile]:
        return list(dict.fromkeys(place.file for pair in self.places.values() for place in pair))

    def read(self, folder: Path, context: SourceContext) -> Raw:
        paths = {file.name: find_pinned(folder, file) for file in self.files}
        splits = {}
        for name, pair in self.places.items():
            images, labels = (_array(paths[one.file.name], one.key, context) for one in pair)
            if len(images.shape) == 3:
                images = lazy_arrays.reshape_rows(images, (*images.shape[1:], 1))
            if labels.shape[1:] == (1,):
                labels = lazy_arrays.reshape_rows(labels, ())
            splits[name] = RawSplit(images, labels)
        return self.raw(splits, {})


def _array(path: Path, key: str, context: SourceContext) -> LazyArray:
    import zipfile  # most datasets need none of these
    import zlib

    where = f"{path}: {key}"
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{key}.npy")
            private = context.file(f"{path.stem}-{key}")
            with archive.open(info) as member:
                return npy.copy_array(where, member, info.file_size, private)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise SourceError(f"{where}: cannot read: {error}", "get a new copy of it") from error
