"""Define what all sources in a user's own files share: their name and their fingerprint."""

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from pixelprep.sources import base, lazy_arrays
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Options, Provenance, Raw, SourceContext
from pixelprep.sources.containers import idx
from pixelprep.sources.containers.array_names import SPLIT
from pixelprep.sources.known.lookup import REGISTRY
from pixelprep.system import fs, notices


def dataset_name(name: str) -> str:
    """Return a file's or folder's name as that of a dataset: never a registered one."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-")
    name = safe[:60].rstrip(".-") or "images"
    return f"{name}-own" if name in REGISTRY else name


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file or folder of the user's; ``supported_options`` names the options that apply to it."""

    path: Path
    options: Options
    supported_options: ClassVar[frozenset[str]] = frozenset()

    @property
    def name(self) -> str:
        """The path's own name, in characters safe for any file system; never a registered one."""
        path = self.path.resolve()
        name = path.name if path.is_dir() else path.stem
        if SPLIT in name:
            name = name.replace(SPLIT, "").strip("_-.") or path.parent.name
        return dataset_name(name)

    @property
    def on_leak(self) -> str | None:
        """What is done where an image of train is in another split, too."""
        return self.options.on_leak

    @property
    def provenance(self) -> Provenance:
        return Provenance(f"the user's own images ({self.name})", "not stated")

    def fingerprints(self) -> list[dict[str, object]]:
        """Return the path, the stamps of all files, and the options by which they are read.

        Nothing while a file might still be changed without a change of its stamp.
        """
        if (digest := base.stamps_digest(self._stamps())) is None:
            return []
        options = {name: asdict(self.options)[name] for name in base.DECODE_OPTIONS}
        where = ascii(os.fspath(self.path.resolve()))
        return [{"path": where, "files": digest, "options": options}]

    def _stamps(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        """Return every file that is read with its `fs.file_stamp`, in a fixed order."""
        return [(self.path.name, fs.file_stamp(self.path))]

    def load(self, context: SourceContext) -> Raw:
        raise NotImplementedError


class IdxFolder(LocalSource):
    """A folder of IDX files, their names as MNIST's and its relatives'."""

    supported_options = frozenset({"layout", "labels_from", "renumber", "on_leak"})

    def _stamps(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        paths = [path for pair in self._pairs().values() for path in pair]
        return [(path.name, fs.file_stamp(path)) for path in paths]

    def load(self, context: SourceContext) -> Raw:
        where = os.fspath(self.path)
        files = self._pairs()
        splits = base.read_pairs(files, lambda path, dims: idx.read(path, dims, context))
        pairs = {
            name: (
                lazy_arrays.reshape_rows(split.images, split.images.shape[1:3]),
                idx.class_column(files[name][1], split.labels),
            )
            for name, split in splits.items()
        }
        if "emnist" in files["train"][0].name.lower() and self.options.layout is None:
            notices.tell("%s: EMNIST's images are on their side: `layout=nwh` turns them", where)
        return assemble(where, pairs, self.options)

    def _pairs(self) -> dict[str, tuple[Path, Path]]:
        known = [path for path in fs.sorted_dir(self.path) if idx.parse_name(path.name)]
        return idx.find_pairs(self.path, [path.name for path in known if path.is_file()])
