"""The user's own data: what it is called, how its state is known, how a test split is taken."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pixelprep import files, order
from pixelprep.errors import UsageError
from pixelprep.sources import idx
from pixelprep.sources.base import (
    DECODING,
    Options,
    Provenance,
    Raw,
    RawSplit,
    numbered,
    read_pairs,
)
from pixelprep.sources.known import KNOWN
from pixelprep.sources.pinned import raw_file
from pixelprep.sources.stored import Place

LONGEST = 60  # letters of a name that are kept
IDX_NAMES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


@dataclass(frozen=True, slots=True)
class Own:
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
    takes: ClassVar[frozenset[str]] = frozenset()  # the options that mean something to it

    @property
    def name(self) -> str:
        """The path's own name, in letters that every file system takes, never a known one's."""
        path = self.path.resolve()
        name = path.name if path.is_dir() else path.stem
        letters = re.sub(r"[^\w.-]+", "-", name).strip(".-")
        name = letters[:LONGEST].rstrip(".-") or "images"
        return f"{name}-own" if name in KNOWN else name

    @property
    def provenance(self) -> Provenance:
        """The user's own data; its terms are not known here."""
        return Provenance(f"the user's own images ({self.name})", "not stated")

    def identities(self) -> list[dict[str, Any]]:
        """The state of all files, and the options by which they are read."""
        # One digest, not a list: a folder may hold millions of files.
        digest = hashlib.sha256()
        for name, state in self._states():
            digest.update(ascii((name, *state)).encode())
        options = {name: asdict(self.options)[name] for name in (*DECODING, "split_seed")}
        where = ascii(os.fspath(self.path.resolve()))
        return [{"path": where, "files": digest.hexdigest(), "options": options}]

    def _states(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Every file that is read and its `files.state`, in a fixed order."""
        return [(self.path.name, files.state(self.path))]

    def load(self, place: Place) -> Raw:
        """Read it."""
        raise NotImplementedError


class IdxFolder(Own):
    """Four IDX files with MNIST's names in one folder."""

    def _states(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        paths = [raw_file(self.path, name) for pair in IDX_NAMES.values() for name in pair]
        return [(path.name, files.state(path)) for path in paths]

    def load(self, place: Place) -> Raw:
        """Read the four files."""
        splits = read_pairs(
            IDX_NAMES, lambda name, dims: idx.read(raw_file(self.path, name), dims, place)
        )
        return Raw(splits, numbered(os.fspath(self.path), splits)).checked(os.fspath(self.path))


def taken_apart(where: str, split: RawSplit, options: Options) -> dict[str, RawSplit]:
    """Train and test, the same share of every class going to test (data/FORMAT.md, section 5)."""
    test = taken_for_test(where, np.asarray(split.labels[:], np.int64), options)
    return {
        "train": split.picked(np.flatnonzero(~test)),
        "test": split.picked(np.flatnonzero(test)),
    }


def taken_for_test(where: str, labels: Any, options: Options) -> Any:
    """Which rows go to the test split, bool (N,).

    Raises
    ------
    UsageError
        When no fraction was given, or it leaves a split empty.
    """
    if options.test_fraction is None:
        raise UsageError(
            f"{where}: has no test split of its own", "take one from it: --test-fraction 0.2"
        )
    rows = order.whole_share(len(labels), options.test_fraction)
    if not 0 < rows < len(labels):
        raise UsageError(
            f"--test-fraction {options.test_fraction}: takes {rows} of {len(labels)} images,"
            " expected at least 1 to be taken and 1 to stay"
        )
    purpose = order.Purpose.TEST
    return order.stratified(labels, options.test_fraction, options.split_seed, purpose)
