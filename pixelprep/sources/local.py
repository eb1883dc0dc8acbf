"""Define what all sources in a user's own files share: their name and their fingerprint."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from pixelprep.sources import idx
from pixelprep.sources.base import (
    DECODE_OPTIONS,
    Options,
    Provenance,
    Raw,
    numbered_classes,
    read_pairs,
)
from pixelprep.sources.context import SourceContext
from pixelprep.sources.registered import find_file
from pixelprep.sources.registry import REGISTRY
from pixelprep.system import fs

MAX_NAME_LENGTH = 60  # characters
IDX_NAMES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file or folder of the user's.

    Parameters
    ----------
    path : Path
        The file or folder.
    options : Options
        How it is read. ``supported_options`` names those that apply to it.
    """

    path: Path
    options: Options
    supported_options: ClassVar[frozenset[str]] = frozenset()

    @property
    def name(self) -> str:
        """The path's own name, in characters safe for any file system; never a registered one."""
        path = self.path.resolve()
        name = path.name if path.is_dir() else path.stem
        safe = re.sub(r"[^\w.-]+", "-", name).strip(".-")
        name = safe[:MAX_NAME_LENGTH].rstrip(".-") or "images"
        return f"{name}-own" if name in REGISTRY else name

    @property
    def provenance(self) -> Provenance:
        """The user's own data, on unknown terms."""
        return Provenance(f"the user's own images ({self.name})", "not stated")

    def fingerprints(self) -> list[dict[str, object]]:
        """Return the path, the stamps of all files, and the options by which they are read."""
        # One digest, not a list: a folder may hold millions of files.
        digest = hashlib.sha256()
        for name, stamp in self._stamps():
            digest.update(ascii((name, *stamp)).encode())
        options = {name: asdict(self.options)[name] for name in (*DECODE_OPTIONS, "split_seed")}
        where = ascii(os.fspath(self.path.resolve()))
        return [{"path": where, "files": digest.hexdigest(), "options": options}]

    def _stamps(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Return every file that is read with its `fs.file_stamp`, in a fixed order."""
        return [(self.path.name, fs.file_stamp(self.path))]

    def load(self, context: SourceContext) -> Raw:
        """Read the raw data."""
        raise NotImplementedError


class IdxFolder(LocalSource):
    """A folder of four IDX files with MNIST's names."""

    def _stamps(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        paths = [find_file(self.path, name) for pair in IDX_NAMES.values() for name in pair]
        return [(path.name, fs.file_stamp(path)) for path in paths]

    def load(self, context: SourceContext) -> Raw:
        """Read the four files."""
        where = os.fspath(self.path)
        splits = read_pairs(
            IDX_NAMES, lambda name, dims: idx.read(find_file(self.path, name), dims, context)
        )
        return Raw(splits, numbered_classes(where, splits)).checked(where)
