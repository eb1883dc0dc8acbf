"""Read CIFAR-10's binary archive: records of a label byte and three planes of 32×32 pixels.

Described at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.sources import download
from pixelprep.sources.base import Raw, RawSplit
from pixelprep.sources.context import SourceContext
from pixelprep.sources.lazy_arrays import FileArray
from pixelprep.sources.registered import RegisteredDataset, find_file, not_official
from pixelprep.system import fs

ROWS = 10_000  # records in each file of the archive
SHAPE = (32, 32, 3)
RECORD = 1 + 32 * 32 * 3  # bytes
BLOCK_RECORDS = 1000  # records read at once
MEMBER = re.compile(r"cifar-10-batches-bin/(?:data_batch_([1-5])|test_batch)\.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar10(RegisteredDataset):
    """One archive with five files of training images and one of test images."""

    archive: download.RegistryFile
    batch_rows: int = ROWS

    @property
    def files(self) -> list[download.RegistryFile]:
        """The one archive."""
        return [self.archive]

    @property
    def rows(self) -> dict[str, int]:
        """The number of images in each split."""
        return {"train": 5 * self.batch_rows, "test": self.batch_rows}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return SHAPE

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
            raise SourceError(
                f"{path}: contains a file of images twice", "get a new copy of it"
            ) from error
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise SourceError(f"{path}: cannot read: {error}", "get a new copy of it") from error
        expected = {*(("train", i) for i in range(5)), ("test", 0)}
        if found != expected:
            raise SourceError(f"{path}: expected six files of images, found {len(found)}")
        splits = {name: self._arrays(name, context) for name in ("train", "test")}
        return Raw(splits, self.class_names).checked(self.name)

    def _arrays(self, name: str, context: SourceContext) -> RawSplit:
        rows, byte = self.rows[name], np.dtype(np.uint8)
        images = FileArray(_stem(context, name, "images"), self.batch_rows, (rows, *SHAPE), byte)
        labels = FileArray(_stem(context, name, "labels"), self.batch_rows, (rows,), byte)
        return RawSplit(images, labels)

    def _copy(self, member: str, file: IO[bytes], context: SourceContext) -> tuple[str, int]:
        """Copy a member's records to rows of images and labels; return its split and number."""
        number = MEMBER.fullmatch(member)
        assert number is not None
        name, part = ("train", int(number[1]) - 1) if number[1] else ("test", 0)
        with (
            Path(f"{_stem(context, name, 'images')}{part}").open("xb") as images,
            Path(f"{_stem(context, name, 'labels')}{part}").open("xb") as labels,
        ):
            for records in self._records(member, file):
                labels.write(records[:, 0].tobytes())
                planes = records[:, 1:].reshape(-1, 3, 32, 32)
                images.write(planes.transpose(0, 2, 3, 1).tobytes())
        return name, part

    def _records(self, member: str, file: IO[bytes]) -> Iterator[NDArray[np.uint8]]:
        """Yield a member's records, no more than it should have."""
        left = self.batch_rows
        while left:
            size = min(left, BLOCK_RECORDS) * RECORD
            block = file.read(size)
            if len(block) < size:
                raise SourceError(f"{member}: expected {self.batch_rows:,} records, it ends early")
            yield np.frombuffer(block, np.uint8).reshape(-1, RECORD)
            left -= len(block) // RECORD


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
