"""Read CIFAR-10's binary archive: records of a label byte and three planes of 32×32 pixels.

Described at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources import download
from pixelprep.sources.base import Raw, RawSplit, SourceContext
from pixelprep.sources.lazy_arrays import FileArray
from pixelprep.sources.registered import RegisteredDataset, find_file, not_official
from pixelprep.system import fs

RECORD = 1 + 32 * 32 * 3  # bytes
MEMBER = re.compile(r"cifar-10-batches-bin/(?:data_batch_([1-5])|test_batch)\.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar10(RegisteredDataset):
    """One archive with five files of training images and one of test images."""

    archive: download.RegistryFile
    batch_rows: int = 10_000  # records in each file of the archive
    shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    @property
    def files(self) -> list[download.RegistryFile]:
        return [self.archive]

    @property
    def rows(self) -> dict[str, int]:
        return {"train": 5 * self.batch_rows, "test": self.batch_rows}

    def read(self, folder: Path, context: SourceContext) -> Raw:
        """Stream the archive's six files; no name in the archive is used as a path."""
        path = find_file(folder, self.archive.name)
        if fs.sha256(path) != self.archive.sha256:
            raise not_official(path, self.archive)
        import tarfile  # other datasets do not need it
        import zlib

        try:
            limit = self.batch_rows * RECORD
            found = {self._copy(name, file, context) for name, file in _members(path, limit)}
        except FileExistsError as error:
            twice = f"{path}: contains a file of images twice"
            raise SourceError(twice, "get a new copy of it") from error
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise SourceError(f"{path}: cannot read: {error}", "get a new copy of it") from error
        if found != {*(("train", i) for i in range(5)), ("test", 0)}:
            raise SourceError(f"{path}: expected six files of images, found {len(found)}")
        splits, most, byte = {}, self.batch_rows, np.dtype(np.uint8)
        for name, rows in self.rows.items():
            images = FileArray(_stem(context, name, "images"), most, (rows, *self.shape), byte)
            labels = FileArray(_stem(context, name, "labels"), most, (rows,), byte)
            splits[name] = RawSplit(images, labels)
        return Raw(splits, self.class_names).checked(self.name)

    def _copy(self, member: str, file: IO[bytes], context: SourceContext) -> tuple[str, int]:
        """Copy a member's records to rows of images and labels; return its split and number."""
        number = MEMBER.fullmatch(member)
        assert number is not None
        name, part = ("train", int(number[1]) - 1) if number[1] else ("test", 0)
        paths = [Path(f"{_stem(context, name, kind)}{part}") for kind in ("images", "labels")]
        with paths[0].open("xb") as images, paths[1].open("xb") as labels:
            left = self.batch_rows  # no more is read than there should be
            while left:
                size = min(left, 1000) * RECORD
                block = file.read(size)
                if len(block) < size:
                    expected = f"expected {self.batch_rows:,} records"
                    raise SourceError(f"{member}: {expected}, it ends early")
                records = np.frombuffer(block, np.uint8).reshape(-1, RECORD)
                labels.write(records[:, 0].tobytes())
                planes = records[:, 1:].reshape(-1, 3, 32, 32)
                images.write(planes.transpose(0, 2, 3, 1).tobytes())
                left -= len(records)
        return name, part


def _stem(context: SourceContext, split: str, column: str) -> str:
    return f"{context.folder() / split}-{column}."


def _members(path: Path, limit: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the regular files of the archive that hold records, in the archive's order."""
    import tarfile

    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.size > limit:  # the stream would have to be read past it
                raise SourceError(f"{path}: {member.name} is larger than it can be")
            if member.isfile() and MEMBER.fullmatch(member.name):
                file = archive.extractfile(member)
                assert file is not None  # a regular file has content
                yield member.name, file
