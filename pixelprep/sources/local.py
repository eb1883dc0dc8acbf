"""The user's own data: what it is called, how its state is known, how a test split is taken."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

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
from pixelprep.sources.registered import raw_file
from pixelprep.sources.registry import REGISTRY
from pixelprep.system import fs

MAX_NAME_LETTERS = 60  # letters of a name that are kept
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
        Where it is.
    options : Options
        How it is read.
    """

    path: Path
    options: Options
    supported_options: ClassVar[frozenset[str]] = (
        frozenset()
    )  # the options that mean something to it

    @property
    def name(self) -> str:
        """The path's own name, in letters that every file system takes, never a known one's."""
        path = self.path.resolve()
        name = path.name if path.is_dir() else path.stem
        letters = re.sub(r"[^\w.-]+", "-", name).strip(".-")
        name = letters[:MAX_NAME_LETTERS].rstrip(".-") or "images"
        return f"{name}-own" if name in REGISTRY else name

    @property
    def provenance(self) -> Provenance:
        """The user's own data; its terms are not known here."""
        return Provenance(f"the user's own images ({self.name})", "not stated")

    def fingerprints(self) -> list[dict[str, Any]]:
        """The state of all files, and the options by which they are read."""
        # One digest, not a list: a folder may hold millions of files.
        digest = hashlib.sha256()
        for name, state in self._states():
            digest.update(ascii((name, *state)).encode())
        options = {name: asdict(self.options)[name] for name in (*DECODE_OPTIONS, "split_seed")}
        where = ascii(os.fspath(self.path.resolve()))
        return [{"path": where, "files": digest.hexdigest(), "options": options}]

    def _states(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Every file that is read and its `fs.file_stamp`, in a fixed order."""
        return [(self.path.name, fs.file_stamp(self.path))]

    def load(self, context: SourceContext) -> Raw:
        """Read it."""
        raise NotImplementedError


class IdxFolder(LocalSource):
    """Four IDX files with MNIST's names in one folder."""

    def _states(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        paths = [raw_file(self.path, name) for pair in IDX_NAMES.values() for name in pair]
        return [(path.name, fs.file_stamp(path)) for path in paths]

    def load(self, context: SourceContext) -> Raw:
        """Read the four files."""
        splits = read_pairs(
            IDX_NAMES, lambda name, dims: idx.read(raw_file(self.path, name), dims, context)
        )
        return Raw(splits, numbered_classes(os.fspath(self.path), splits)).checked(
            os.fspath(self.path)
        )
