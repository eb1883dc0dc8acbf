"""Read NumPy archives with the keys that Keras uses: x_train, y_train, and x_val or x_test."""

import os
import zipfile
import zlib

from pixelprep.errors import SourceError
from pixelprep.format.layout import EXPORTED
from pixelprep.format.recipe import SPLITS
from pixelprep.sources import gzip_file, npy
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Raw, SourceContext, scaled_already
from pixelprep.sources.lazy_arrays import FileArray
from pixelprep.sources.local import LocalSource
from pixelprep.system import formatting, fs, notices


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
                for split in SPLITS:
                    keys = f"x_{split}", f"y_{split}"
                    if split == "train" or not members.isdisjoint(keys):
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
            return npy.copy_array(where, member, info.file_size, context.file(key))
