"""Describe registered datasets, whose files are pinned by their digests, and read them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pixelprep.errors import SourceError
from pixelprep.format.source_record import Provenance
from pixelprep.sources.base import Options, Raw, RawSplit, SourceContext, read_pairs
from pixelprep.sources.known import download
from pixelprep.system import fs

if TYPE_CHECKING:
    from pixelprep.sources.known.summary import DatasetSummary
    from pixelprep.sources.lazy_arrays import FileArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredDataset:
    """A dataset whose files are pinned; subclasses read them."""

    name: str  # that of its folder in the cache, too
    provenance: Provenance
    class_names: tuple[str, ...] = ()  # none: the files have them
    mirrors: tuple[str, ...] = ()  # URLs of folders; plain HTTP will do, as digests are pinned
    embedded: bool = False  # whether the package contains the files
    group: str = ""  # the first part of its name where that is one of several: emnist/letters
    counts: Mapping[str, int] = field(default_factory=dict)  # the images of each split
    shape: tuple[int, ...] = (28, 28, 1)  # (H, W, C); none where sizes vary
    task: str = "classification"
    tried: bool = False  # whether the published files were read when pixelprep was made

    @property
    def own_options(self) -> str:
        """The options by which files of this form are read as images of one's own."""
        return ""

    @property
    def spelled(self) -> str:
        """The name as it is shown: ``emnist/letters``, whose folder is ``emnist-letters``."""
        return (
            f"{self.group}/{self.name.removeprefix(f'{self.group}-')}" if self.group else self.name
        )

    @property
    def files(self) -> list[download.RegistryFile]:
        """All files of the dataset."""
        raise NotImplementedError

    @property
    def rows(self) -> Mapping[str, int]:
        """The number of images in each split."""
        return self.counts

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def read(self, folder: Path, context: SourceContext) -> Raw:
        """Read the files in a folder, refusing any that is not the pinned one."""
        raise NotImplementedError

    def summary(self) -> DatasetSummary:
        """Describe the dataset before it is prepared."""
        from pixelprep.sources.known.summary import DatasetSummary  # a hit needs none

        sizes = [file.size for file in self.files if file.size is not None]
        known = None if len(sizes) < len(self.files) else sum(sizes)
        return DatasetSummary(
            self.spelled,
            self.shape,
            train=self.rows.get("train", 0),
            test=self.rows.get("test", 0),
            val=self.rows.get("val", 0),
            classes=self.classes,
            download_bytes=0 if self.embedded else known,
            task=self.task,
            tried=self.tried,
            **self.provenance.to_dict(),
        )

    def raw(
        self,
        splits: Mapping[str, RawSplit],
        decode: Mapping[str, object],
        names: Sequence[str] = (),
    ) -> Raw:
        """Return the whole dataset, once it is what its description says."""
        for name, split in splits.items():
            expected, got = (self.rows[name], *self.shape), split.images.shape
            if got != expected:
                raise SourceError(f"{self.spelled}: {name}: expected images {expected}, got {got}")
        found = self.class_names or tuple(filter(None, map(str.strip, names)))
        if len(found) != self.classes:
            wrong = f"expected {self.classes} names of classes, got {len(found)}"
            raise SourceError(f"{self.spelled}: {wrong}")
        return Raw(splits, found, decode, self.task).checked(self.spelled)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two IDX files of one split."""

    rows: int
    images: download.RegistryFile
    labels: download.RegistryFile


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxPairs(RegisteredDataset):
    """MNIST and its relatives: four IDX files of 28×28 grey images."""

    splits: Mapping[str, Pair] = field(default_factory=dict)

    @property
    def files(self) -> list[download.RegistryFile]:
        return [file for pair in self.splits.values() for file in (pair.images, pair.labels)]

    @property
    def rows(self) -> dict[str, int]:
        return {name: pair.rows for name, pair in self.splits.items()}

    def read(self, folder: Path, context: SourceContext) -> Raw:
        pairs = {name: (pair.images, pair.labels) for name, pair in self.splits.items()}
        splits = read_pairs(pairs, lambda file, dims: read_pinned(folder, file, dims, context))
        return Raw(splits, self.class_names).checked(self.name)


@dataclass(frozen=True, slots=True)
class RegisteredSource:
    """A registered dataset, with the options that say where its files are."""

    supported_options: ClassVar[frozenset[str]] = frozenset()  # besides those of any dataset

    dataset: RegisteredDataset
    options: Options

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def provenance(self) -> Provenance:
        return self.dataset.provenance

    def fingerprints(self) -> list[dict[str, object]]:
        """Return the pinned digests; first, with `source`, the stamps of the files there.

        Nothing while one of those might still be changed without a change of its stamp.
        """
        folder, files = self.options.source, self.dataset.files
        about: dict[str, object] = {"name": self.name}
        about |= {name: getattr(self.options, name) for name in sorted(self.supported_options)}
        pinned = {**about, "pinned": [file.pin for file in files]}
        if folder is None:
            return [pinned]
        own = self.dataset.own_options
        stamps = [fs.file_stamp(find_file(folder, file.name, own)) for file in files]
        if not all(map(fs.settle, stamps)):
            return []
        where = ascii(os.fspath(folder.resolve()))
        return [{**about, "folder": where, "files": stamps}, pinned]

    def load(self, context: SourceContext) -> Raw:
        """Read the files, downloading those that are missing."""
        options, folder = self.options, self.options.source
        if folder is None and self.dataset.embedded:
            folder = embedded(self.name)
        elif folder is None:
            folder = context.cache / fs.RAW / self.name
            mirrors = [*filter(None, [options.mirror]), *self.dataset.mirrors]
            download.link_from_siblings(self.dataset.files, folder)
            download.fetch(self.dataset.files, folder, mirrors, self.name, options)
        return self._read(folder, context)

    def _read(self, folder: Path, context: SourceContext) -> Raw:
        return self.dataset.read(folder, context)


def read_pinned(
    folder: Path, file: download.RegistryFile, dimensions: int, context: SourceContext
) -> FileArray:
    """Read an IDX file, refusing it unless its archive or its content is the pinned one."""
    from pixelprep.sources import gzip_file  # a hit reads no file
    from pixelprep.sources.containers import idx

    path = find_file(folder, file.name)
    private = context.file(file.name)
    content = gzip_file.unpack(path, file.content_size, private, file.algorithm)
    is_pinned = content.digest == (file.sha256 or file.md5)
    if not is_pinned and file.content_sha256 != fs.sha256(content.path):
        if content.size <= file.content_size:
            idx.parse(content, path, dimensions)  # describes damage more precisely
        raise not_official(path, file)
    return idx.parse(content, path, dimensions)


def find_pinned(folder: Path, file: download.RegistryFile) -> Path:
    """Return the path of an official file in a folder, refusing it unless it is the pinned one."""
    path = find_file(folder, file.name)
    if not download.hash_matches(path, file):
        raise not_official(path, file)
    return path


def not_official(path: Path, file: download.RegistryFile) -> SourceError:
    """Make the error for a file that is not the pinned one."""
    compared = " (archive and content)" if file.content_sha256 else ""
    kind = "SHA-256" if file.sha256 else "MD5"
    differs = f"{path}: not the official {file.name}: its {kind} differs{compared}"
    return SourceError(differs, _own_hint(path.parent))


def _own_hint(path: Path, options: str = "") -> str:
    """Return the way to files that are one's own, not the official ones."""
    own = os.fspath(path)
    own = own if "/" in own else f"./{own}"  # a dataset's path has a slash
    hint = f"to prepare images of your own, give their folder as the dataset: {own}"
    return f"{hint}, with {options}" if options else hint


def find_file(folder: Path, name: str, own_options: str = "") -> Path:
    """Find the file with this official name in a folder, gzipped or plain, in either spelling."""
    for variant in name_variants(name):
        if (folder / variant).is_file():
            return folder / variant
    hint = _own_hint(folder, own_options) if own_options else None
    if (plain := name.removesuffix(".gz")) == name:
        raise SourceError(f"{folder}: expected {name}, found no such file", hint)
    raise SourceError(f"{folder}: expected {name} (or {plain}), found neither", hint)


def name_variants(name: str) -> list[str]:
    """List the spellings of an official file's name."""
    plain = name.removesuffix(".gz")
    return [name, plain, plain.replace("-idx", ".idx") + ".gz", plain.replace("-idx", ".idx")]


def embedded(name: str) -> Path:
    """Return the folder of a dataset that the package contains."""
    from importlib.resources import files as package_files  # slow to import

    installed = Path(str(package_files("pixelprep"))) / "data" / name
    checkout = Path(__file__).parents[3] / "data" / name
    return installed if installed.is_dir() else checkout
