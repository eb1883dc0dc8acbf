"""Read CIFAR's binary archives: records of label bytes and three planes of 32×32 pixels.

Described at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pixelprep.errors import SourceError
from pixelprep.numerics.lazy import np
from pixelprep.sources.base import Raw, RawSplit, SourceContext
from pixelprep.sources.known import download
from pixelprep.sources.known.registered import RegisteredDataset, find_pinned
from pixelprep.sources.known.tar_members import read_members
from pixelprep.sources.lazy_arrays import FileArray

PIXELS = 32 * 32 * 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Which of the label bytes of a record is used, and where the names of its classes are."""

    column: int = 0
    columns: int = 1
    kind: str = ""  # recorded where there are several
    names_file: str = ""
    classes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar(RegisteredDataset):
    """One archive with files of records."""

    archive: download.RegistryFile
    folder: str  # in the archive
    parts: Mapping[str, tuple[str, ...]]  # the files of each split, in order
    part_rows: int = 10_000  # records in each file of train
    test_rows: int = 10_000
    labels: Labels = field(default_factory=Labels)
    shape: tuple[int, int, int] = (32, 32, 3)

    @property
    def files(self) -> list[download.RegistryFile]:
        return [self.archive]

    @property
    def rows(self) -> dict[str, int]:
        return {n: len(parts) * self._rows_in(n) for n, parts in self.parts.items()}

    @property
    def classes(self) -> int:
        return len(self.class_names) or self.labels.classes

    def _rows_in(self, split: str) -> int:
        return self.part_rows if split == "train" else self.test_rows

    def read(self, folder: Path, context: SourceContext) -> Raw:
        """Split the records into labels and images; the other label bytes are left out."""
        path = find_pinned(folder, self.archive)
        places = {
            f"{self.folder}/{file}": (name, number)
            for name, parts in self.parts.items()
            for number, file in enumerate(parts)
        }
        names_file, names = f"{self.folder}/{self.labels.names_file}", ""
        wanted = {*places, *([names_file] if self.labels.names_file else [])}
        limit = max(self.part_rows, self.test_rows) * self._record
        for member, file in read_members(path, wanted, limit):
            if member == names_file:
                names = file.read(1 << 16).decode()
            else:
                self._copy(member, *places[member], file, context)
        splits, byte = {}, np.dtype(np.uint8)
        for name, rows in self.rows.items():
            most = self._rows_in(name)
            images = FileArray(_stem(context, name, "images"), most, (rows, *self.shape), byte)
            labels = FileArray(_stem(context, name, "labels"), most, (rows,), byte)
            splits[name] = RawSplit(images, labels)
        return self.raw(
            splits, {"labels": kind} if (kind := self.labels.kind) else {}, names.splitlines()
        )

    @property
    def _record(self) -> int:
        return self.labels.columns + PIXELS  # bytes

    def _copy(
        self, member: str, split: str, part: int, file: IO[bytes], context: SourceContext
    ) -> None:
        """Copy a member's records to rows of images and labels."""
        paths = [Path(f"{_stem(context, split, kind)}{part}") for kind in ("images", "labels")]
        columns, rows = self.labels.columns, self._rows_in(split)
        with paths[0].open("xb") as images, paths[1].open("xb") as labels:
            left = rows  # no more is read than there should be
            while left:
                size = min(left, 1000) * self._record
                block = file.read(size)
                if len(block) < size:
                    raise SourceError(f"{member}: expected {rows:,} records, it ends early")
                records = np.frombuffer(block, np.uint8).reshape(-1, self._record)
                labels.write(records[:, self.labels.column].tobytes())
                planes = records[:, columns:].reshape(-1, 3, 32, 32)
                images.write(planes.transpose(0, 2, 3, 1).tobytes())
                left -= len(records)


def _stem(context: SourceContext, split: str, column: str) -> str:
    return f"{context.folder() / split}-{column}."
