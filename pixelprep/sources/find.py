"""From what the user wrote to the source that is meant."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelprep import files
from pixelprep.errors import SourceError, UsageError, unknown
from pixelprep.sources import idx
from pixelprep.sources.base import Provenance, Raw, Source, numbered, read_pairs
from pixelprep.sources.known import KNOWN, KnownSource, Options, idx_file

LONGEST = 60  # letters of a folder's name that are kept
IDX_NAMES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def find(dataset: str, options: Options) -> Source:
    """The source of this name, or of the folder at this path.

    Raises
    ------
    UsageError
        For a name that is not known.
    SourceError
        For a path where nothing usable is.
    """
    if options.source is not None and not options.source.is_dir():
        raise SourceError(f"--source {options.source}: no such folder")
    if dataset in KNOWN:
        return KnownSource(KNOWN[dataset], options)
    if "/" not in dataset and os.sep not in dataset:
        own = f"a folder of your own is written with a slash: ./{dataset}"
        raise unknown("dataset", dataset, KNOWN, own, certain=Path(dataset).is_dir())
    if options.source is not None:
        raise UsageError(
            f"{dataset}: a path to your own images takes no --source", "give one of the two"
        )
    return IdxFolder(files.expanded(dataset))


@dataclass(frozen=True, slots=True)
class IdxFolder:
    """The user's own images: four IDX files with MNIST's names in one folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, in letters that every file system takes, never a known one's."""
        letters = re.sub(r"[^\w.-]+", "-", self.folder.resolve().name).strip(".-")
        name = letters[:LONGEST].rstrip(".-") or "images"
        return f"{name}-own" if name in KNOWN else name

    @property
    def provenance(self) -> Provenance:
        """The user's own data; its terms are not known here."""
        return Provenance(f"the user's own images ({self.name})", "not stated")

    def identities(self) -> list[dict[str, Any]]:
        """The state of the four files."""
        state = {
            name: files.identity(idx_file(self._checked(), name))
            for pair in IDX_NAMES.values()
            for name in pair
        }
        return [{"folder": ascii(os.fspath(self.folder.resolve())), "files": state}]

    def load(self, cache: Path) -> Raw:
        """Read the four files."""
        folder = self._checked()
        splits = read_pairs(
            IDX_NAMES, lambda name, dims: idx.read(idx_file(folder, name), dims, cache)
        )
        return Raw(splits, numbered(splits)).checked(os.fspath(folder))

    def _checked(self) -> Path:
        if not self.folder.is_dir():
            raise SourceError(f"{self.folder}: no such folder")
        return self.folder
