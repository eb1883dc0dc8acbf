"""Datasets known to the byte: the digests of their files are pinned."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelprep.errors import SourceError
from pixelprep.sources import download, gzip_file, idx
from pixelprep.sources.base import Options, Provenance, Raw, read_pairs
from pixelprep.sources.context import SourceContext
from pixelprep.sources.lazy_arrays import FileArray
from pixelprep.system import fs


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredDataset:
    """A dataset whose files are pinned; how they are read is its subclass's to say.

    Parameters
    ----------
    name : str
        Its own, and its folder's in the cache.
    provenance : Provenance
        Where it is from and on what terms.
    class_names : tuple of str
        What its labels stand for.
    mirrors : tuple of str
        Where its files are. Plain HTTP will do where there is no other: digests are pinned.
    embedded : bool
        Whether it is shipped with the package.
    """

    name: str
    provenance: Provenance
    class_names: tuple[str, ...]
    mirrors: tuple[str, ...] = ()
    embedded: bool = False

    @property
    def pins(self) -> list[download.RegistryFile]:
        """All its files."""
        raise NotImplementedError

    @property
    def rows(self) -> dict[str, int]:
        """Images of each split."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        raise NotImplementedError

    def read(self, folder: Path, context: SourceContext) -> Raw:
        """Read the files in this folder, once each is known to be the pinned one."""
        raise NotImplementedError

    def source(self, options: Options) -> "RegisteredSource":
        """What `prepare` asks for raw data."""
        return RegisteredSource(self, options)

    def summary(self) -> dict[str, Any]:
        """What there is to know before it is prepared."""
        return {
            "name": self.name,
            **self.rows,
            "shape": list(self.shape),
            "classes": len(self.class_names),
            "download_bytes": 0 if self.embedded else sum(pin.size for pin in self.pins),
            **self.provenance.as_dict(),
        }


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
    def pins(self) -> list[download.RegistryFile]:
        """All its files."""
        return [pin for pair in self.splits.values() for pin in (pair.images, pair.labels)]

    @property
    def rows(self) -> dict[str, int]:
        """Images of each split."""
        return {name: pair.rows for name, pair in self.splits.items()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (28, 28, 1)

    def read(self, folder: Path, context: SourceContext) -> Raw:
        """Read the four files."""
        pairs = {name: (pair.images, pair.labels) for name, pair in self.splits.items()}
        splits = read_pairs(pairs, lambda pin, dims: _pinned(folder, pin, dims, context))
        return Raw(splits, self.class_names).checked(self.name)


@dataclass(frozen=True, slots=True)
class RegisteredSource:
    """A known dataset, with where its raw files may come from."""

    known: RegisteredDataset
    options: Options

    @property
    def name(self) -> str:
        """The dataset's folder in the cache."""
        return self.known.name

    @property
    def provenance(self) -> Provenance:
        """Where the data is from."""
        return self.known.provenance

    def fingerprints(self) -> list[dict[str, Any]]:
        """With ``--source`` the state of the files there; always the pinned digests."""
        pinned = {"name": self.name, "pinned": [pin.sha256 for pin in self.known.pins]}
        if self.options.source is None:
            return [pinned]
        folder = self.options.source
        state = [fs.file_stamp(raw_file(folder, pin.name)) for pin in self.known.pins]
        return [
            {"name": self.name, "folder": ascii(os.fspath(folder.resolve())), "files": state},
            pinned,
        ]

    def load(self, context: SourceContext) -> Raw:
        """Read the files, downloading those that are not at hand."""
        return self.known.read(self._folder(context.cache), context)

    def _folder(self, cache: Path) -> Path:
        if self.options.source is not None:
            return self.options.source
        if self.known.embedded:
            return embedded(self.name)
        folder = cache / fs.RAW / self.name
        mirrors = [self.options.mirror] if self.options.mirror else []
        download.fetch(
            self.known.pins,
            folder,
            [*mirrors, *self.known.mirrors],
            dataset=self.name,
            offline=self.options.offline,
            quiet=self.options.quiet,
        )
        return folder


def _pinned(
    folder: Path, pin: download.RegistryFile, dimensions: int, context: SourceContext
) -> FileArray:
    """Read one IDX file and refuse it unless its archive or its content is the pinned one."""
    path = raw_file(folder, pin.name)
    found = gzip_file.unpack(path, pin.content_size, context.file(pin.name))
    if pin.sha256 != found.sha256 and pin.content_sha256 != fs.sha256(found.path):
        if found.size <= pin.content_size:
            idx.parse(found, path, dimensions)  # what is broken says so better
        raise not_official(path, pin)
    return idx.parse(found, path, dimensions)


def not_official(path: Path, pin: download.RegistryFile) -> SourceError:
    """The error for a file that is another one than the pinned."""
    compared = "archive and content" if pin.content_sha256 else "only the archive's is known"
    own = _typed(path.parent)
    return SourceError(
        f"{path}: not the official {pin.name}: its SHA-256 differs ({compared})",
        f"to prepare images of your own, give their folder: pixelprep prepare {own}",
    )


def _typed(folder: Path) -> str:
    """A folder as it is typed as a dataset: with a slash in it."""
    import shlex

    text = os.fspath(folder)
    return shlex.quote(text if "/" in text else f"./{text}")


def raw_file(folder: Path, name: str) -> Path:
    """The file of this official name in a folder, gzipped or plain, with either spelling.

    Raises
    ------
    SourceError
        When there is none.
    """
    plain = name.removesuffix(".gz")
    for spelling in name_variants(name):
        if (folder / spelling).is_file():
            return folder / spelling
    raise SourceError(f"{folder}: expected {name} (or {plain}), found neither")


def name_variants(name: str) -> list[str]:
    """The names that an official file may have."""
    plain = name.removesuffix(".gz")
    return [name, plain, plain.replace("-idx", ".idx") + ".gz", plain.replace("-idx", ".idx")]


def embedded(name: str) -> Path:
    """The folder of a dataset that is shipped with the package."""
    from importlib.resources import files as package_files  # others need not wait for it

    installed = Path(str(package_files("pixelprep"))) / "data" / name
    checkout = Path(__file__).parents[2] / "data" / name
    return installed if installed.is_dir() else checkout
