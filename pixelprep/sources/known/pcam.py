"""Read PatchCamelyon: gzipped HDF5 files, images and labels of each split in files of their own."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # Any: what the sandbox passes on

from pixelprep.errors import SourceError
from pixelprep.numerics.lazy import np
from pixelprep.sources import gzip_file
from pixelprep.sources.base import Raw, RawSplit, SourceContext
from pixelprep.sources.known import download
from pixelprep.sources.known.registered import RegisteredDataset, find_pinned
from pixelprep.sources.lazy_arrays import BLOCK_BYTES, FileArray, block_rows, single_file_array
from pixelprep.system import fs

ROW_BYTES = 96 * 96 * 3
ROLES = {"images": "x", "labels": "y"}  # each the key in its file


@dataclass(frozen=True, slots=True, kw_only=True)
class Pcam(RegisteredDataset):
    """By split and role a file: x of (N, H, W, C), y of (N, 1, 1, 1)."""

    parts: Mapping[str, Mapping[str, download.RegistryFile]] = field(default_factory=dict)
    shape: tuple[int, int, int] = (96, 96, 3)

    @property
    def files(self) -> list[download.RegistryFile]:
        return [file for part in self.parts.values() for file in part.values()]

    def read(self, folder: Path, context: SourceContext) -> Raw:
        splits = {}
        for name, part in self.parts.items():
            found = _arrays(folder, part, context)
            labels = found["labels"][:].reshape(-1).astype(np.int64)
            splits[name] = RawSplit(found["images"], labels)
        return self.raw(splits, {})


def _arrays(
    folder: Path, part: Mapping[str, download.RegistryFile], context: SourceContext
) -> dict[str, FileArray]:
    """Unpack the files of a split, and copy their arrays in the sandbox."""
    from pixelprep.format import sandbox  # a cache hit does without

    names = [file.name for file in part.values()]
    unpacked, targets = dict[str, Path](), dict[str, Path]()
    for role, file in part.items():
        path = find_pinned(folder, file)
        fs.require_free_space(context.folder(), file.content_size)
        unpacked[role] = context.file(f"{file.name}-unpacked")
        targets[role] = context.file(file.name)
        if gzip_file.unpack(path, file.content_size, unpacked[role]).size > file.content_size:
            raise SourceError(f"{path}: unpacks to more than {file.content_size:,} bytes")
    paths = {role: [os.fspath(unpacked[role]), os.fspath(targets[role])] for role in part}
    try:
        copied = deque(sandbox.run_in_sandbox(f"{__name__}:copy_arrays", paths=paths), maxlen=1)[0]
    except sandbox.SandboxError as error:
        raise SourceError(f"{folder}: cannot read {', '.join(names)}: {error}") from error
    for path in unpacked.values():
        path.unlink()
    return {
        role: single_file_array(targets[role], tuple(shape), np.dtype(dtype))
        for role, (shape, dtype) in copied.items()
    }


def copy_arrays(paths: Mapping[str, tuple[str, str]]) -> Iterator[Any]:
    """Copy arrays to new files; yield None at each step, in the end their shapes and dtypes."""
    from pixelprep.format import untrusted  # loads h5py

    copied = {}
    for role, (path, target) in paths.items():
        with untrusted.open_untrusted(Path(path)) as file, Path(target).open("xb") as out:
            array = untrusted.find_dataset(file, ROLES[role], untrusted.NUMBERS)
            if array is None:
                raise SourceError(f"{path}: no array under the key {ROLES[role]}")
            yield from untrusted.check_chunks(array)
            for block in untrusted.iter_rows(array, block_rows(array, BLOCK_BYTES)):
                out.write(np.ascontiguousarray(block).data)
                yield None
            copied[role] = array.shape, array.dtype.str
    yield copied
