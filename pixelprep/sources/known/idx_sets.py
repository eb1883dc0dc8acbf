"""Read relatives of MNIST whose IDX files lie in a zip archive, or say more than the class."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pixelprep.errors import SourceError
from pixelprep.numerics.lazy import np
from pixelprep.sources import axes, gzip_file
from pixelprep.sources.base import Raw, RawSplit, SourceContext
from pixelprep.sources.containers import idx
from pixelprep.sources.known import download
from pixelprep.sources.known.registered import (
    IdxPairs,
    Pair,
    RegisteredDataset,
    find_pinned,
    read_pinned,
)
from pixelprep.sources.lazy_arrays import FileArray

if TYPE_CHECKING:
    from zipfile import ZipFile

    from numpy.typing import NDArray

TURNED = "nwhc"  # EMNIST's images lie on their side, mirrored: rows are stored as columns
PIECE = 1 << 20  # bytes copied at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Emnist(RegisteredDataset):
    """Four of the gzipped IDX files in EMNIST's zip archive, the others of which are not read."""

    archive: download.RegistryFile
    first: int = 0  # the number of the first class in the files

    @property
    def files(self) -> list[download.RegistryFile]:
        return [self.archive]

    @property
    def own_options(self) -> str:
        return "`layout=nwh`" + (f" `labels_from={self.first}`" if self.first else "")

    def read(self, folder: Path, context: SourceContext) -> Raw:
        import zipfile  # most datasets need neither
        import zlib

        path, splits = find_pinned(folder, self.archive), {}
        try:
            with zipfile.ZipFile(path) as archive:
                for name, rows in self.rows.items():
                    stem = f"gzip/{self.name}-{name}"
                    pixels = rows * self.shape[0] * self.shape[1]
                    sizes = {"images-idx3": 16 + pixels, "labels-idx1": 8 + rows}
                    images, labels = (
                        _member(archive, f"{stem}-{kind}-ubyte.gz", size, context)
                        for kind, size in sizes.items()
                    )
                    upright = axes.turned(f"{self.spelled}: {name}", images, TURNED)
                    splits[name] = RawSplit(upright, labels[:].astype(np.int64) - self.first)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            raise SourceError(f"{path}: cannot read: {error}", "get a new copy of it") from error
        counted = {"labels": f"from {self.first}"} if self.first else {}
        return self.raw(splits, {**axes.record(TURNED), **counted})


def _member(archive: ZipFile, name: str, content_size: int, context: SourceContext) -> FileArray:
    """Read one gzipped IDX file of an archive, which holds so many bytes once unpacked."""
    packed = context.file(f"{Path(name).name}-packed")
    left = 2 * content_size + PIECE  # more than gzip makes of them
    with archive.open(name) as member, packed.open("xb") as out:
        while left > 0 and (piece := member.read(min(PIECE, left))):
            left -= out.write(piece)
    content = gzip_file.unpack(packed, content_size, context.file(Path(name).name))
    packed.unlink()
    return idx.parse(content, Path(name), 3 if "-images-" in name else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qmnist(IdxPairs):
    """IDX files of images, and of labels (N, 8): class, writer and other facts of each digit."""

    def read(self, folder: Path, context: SourceContext) -> Raw:
        splits = {}
        for name, pair in self.splits.items():
            images = read_pinned(folder, pair.images, 3, context)
            splits[name] = RawSplit(images, _classes(folder, pair, context))
        return self.raw(splits, {"labels": "column 0"})


def _classes(folder: Path, pair: Pair, context: SourceContext) -> NDArray[np.int64]:
    """Return the first of the 8 columns: big-endian int32, in the order of C."""
    path = find_pinned(folder, pair.labels)
    content = gzip_file.unpack(path, pair.labels.content_size, context.file(pair.labels.name))
    expected, held = struct.pack(">4B2I", 0, 0, 12, 2, pair.rows, 8), content.path.read_bytes()
    if held[:12] != expected or len(held) != 12 + pair.rows * 8 * 4:
        shape = f"int32 ({pair.rows}, 8)"
        raise SourceError(f"{path}: expected {shape}, the header is {held[:12].hex(' ')}")
    return np.frombuffer(held, ">i4", offset=12).reshape(-1, 8)[:, 0].astype(np.int64)
