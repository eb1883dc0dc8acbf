"""Read STL-10's binary archive: images column by column, and labels that count from 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelprep.errors import SourceError
from pixelprep.numerics.lazy import np
from pixelprep.sources import axes
from pixelprep.sources.base import Raw, RawSplit, SourceContext
from pixelprep.sources.known import download
from pixelprep.sources.known.registered import RegisteredDataset, find_pinned
from pixelprep.sources.known.tar_members import read_members
from pixelprep.sources.lazy_arrays import single_file_array

FOLDER = "stl10_binary"
NAMES = f"{FOLDER}/class_names.txt"
ORDER = "ncwh"  # each channel is stored column by column
UNLABELED = 100_000  # images, which are not read
PIECE = 1 << 20  # bytes copied at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Stl10(RegisteredDataset):
    """One archive: a file of images and one of labels for each split."""

    archive: download.RegistryFile
    shape: tuple[int, int, int] = (96, 96, 3)

    @property
    def files(self) -> list[download.RegistryFile]:
        return [self.archive]

    @property
    def classes(self) -> int:
        return 10

    def read(self, folder: Path, context: SourceContext) -> Raw:
        """Stream the archive as far as the last file that is used; unlabeled images are not."""
        path, byte = find_pinned(folder, self.archive), np.dtype(np.uint8)
        height, width, channels = self.shape
        shapes: dict[str, tuple[int, ...]] = {NAMES: (1 << 16,)}
        for name, rows in self.rows.items():
            shapes |= {f"{FOLDER}/{name}_X.bin": (rows, channels, width, height)}
            shapes |= {f"{FOLDER}/{name}_y.bin": (rows,)}
        arrays, limit, names = (
            {},
            max(UNLABELED, *self.rows.values()) * channels * width * height,
            "",
        )
        for member, file in read_members(path, shapes, limit):
            if member == NAMES:
                names = file.read(1 << 16).decode()
                continue
            shape, private = shapes[member], context.file(Path(member).stem)
            with private.open("xb") as out:
                while piece := file.read(PIECE):
                    out.write(piece)
                if out.tell() != np.prod(shape):
                    held = f"expected {np.prod(shape):,} bytes, got {out.tell():,}"
                    raise SourceError(f"{path}: {member}: {held}")
            arrays[member] = single_file_array(private, shape, byte)
        splits = {}
        for name in self.rows:
            images = axes.turned(self.name, arrays[f"{FOLDER}/{name}_X.bin"], ORDER)
            labels = arrays[f"{FOLDER}/{name}_y.bin"][:]
            splits[name] = RawSplit(images, labels.astype(np.int64) - 1)
        return self.raw(splits, {**axes.record(ORDER), "labels": "from 1"}, names.splitlines())
