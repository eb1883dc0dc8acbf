"""The datasets known by name. A new one of the same kind is one entry in `KNOWN`."""

import hashlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep import download, files, unpack
from pixelprep.errors import SourceError
from pixelprep.sources import idx
from pixelprep.sources.base import Provenance, Raw, read_pairs

IMAGE_HEADER, LABEL_HEADER = 16, 8
PIXELS = 28 * 28


@dataclass(frozen=True, slots=True)
class Options:
    """Where raw files may come from."""

    source: Path | None = None
    mirror: str | None = None
    offline: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files of one split, each with its pinned digests."""

    rows: int
    images: download.Pinned
    labels: download.Pinned


@dataclass(frozen=True, slots=True)
class Known:
    """A dataset of four IDX files whose digests are pinned."""

    name: str
    provenance: Provenance
    class_names: tuple[str, ...]
    splits: Mapping[str, Pair]
    mirrors: tuple[str, ...]  # plain HTTP will do where there is no other: digests are pinned
    embedded: bool = False  # shipped with the package

    @property
    def pins(self) -> list[download.Pinned]:
        """All its files."""
        return [pin for pair in self.splits.values() for pin in (pair.images, pair.labels)]

    def summary(self) -> dict[str, Any]:
        """What there is to know before it is prepared."""
        return {
            "name": self.name,
            **{split: pair.rows for split, pair in self.splits.items()},
            "shape": [28, 28, 1],
            "classes": len(self.class_names),
            "download_bytes": 0 if self.embedded else sum(pin.size for pin in self.pins),
            **self.provenance.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A known dataset, with where its raw files may come from."""

    known: Known
    options: Options

    @property
    def name(self) -> str:
        """The dataset's folder in the cache."""
        return self.known.name

    @property
    def provenance(self) -> Provenance:
        """Where the data is from."""
        return self.known.provenance

    def identities(self) -> list[dict[str, Any]]:
        """With ``--source`` the state of the files there; always the pinned digests."""
        pinned = {"name": self.name, "pinned": [pin.sha256 for pin in self.known.pins]}
        if self.options.source is None:
            return [pinned]
        folder = self.options.source
        state = [files.identity(idx_file(folder, pin.name)) for pin in self.known.pins]
        return [
            {"name": self.name, "folder": ascii(os.fspath(folder.resolve())), "files": state},
            pinned,
        ]

    def load(self, cache: Path) -> Raw:
        """Read the four files, downloading those that are not at hand."""
        folder = self._folder(cache)
        pairs = {name: (pair.images, pair.labels) for name, pair in self.known.splits.items()}
        splits = read_pairs(pairs, lambda pin, dims: _pinned(folder, pin, dims, cache))
        return Raw(splits, self.known.class_names).checked(self.name)

    def _folder(self, cache: Path) -> Path:
        if self.options.source is not None:
            return self.options.source
        if self.known.embedded:
            return embedded(self.name)
        folder = cache / files.RAW / self.name
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


def _pinned(folder: Path, pin: download.Pinned, dimensions: int, cache: Path) -> NDArray[np.uint8]:
    """Read one file and refuse it unless its archive or its content is the pinned one."""
    path = idx_file(folder, pin.name)
    found = unpack.unpacked(path, pin.content_size, cache)
    if not _is_official(found, pin):
        if len(found.content) <= pin.content_size:
            idx.parse(found.content, path, dimensions)  # what is broken says so better
        compared = "archive and content" if pin.content_sha256 else "only the archive's is known"
        raise SourceError(
            f"{path}: not the official {pin.name}: its SHA-256 differs ({compared})",
            f"to prepare images of your own, give their folder: pixelprep prepare {_typed(folder)}",
        )
    return idx.parse(found.content, path, dimensions)


def _is_official(found: unpack.Unpacked, pin: download.Pinned) -> bool:
    if found.sha256 == pin.sha256:
        return True
    return hashlib.sha256(found.content.data).hexdigest() == pin.content_sha256


def _typed(folder: Path) -> str:
    """A folder as it is typed as a dataset: with a slash in it."""
    text = os.fspath(folder)
    return shlex.quote(text if "/" in text else f"./{text}")


def idx_file(folder: Path, name: str) -> Path:
    """The file of this official name in a folder, gzipped or plain, with either spelling.

    Raises
    ------
    SourceError
        When there is none.
    """
    plain = name.removesuffix(".gz")
    spellings = [name, plain, plain.replace("-idx", ".idx") + ".gz", plain.replace("-idx", ".idx")]
    for spelling in spellings:
        if (folder / spelling).is_file():
            return folder / spelling
    raise SourceError(f"{folder}: expected {name} (or {plain}), found neither")


def embedded(name: str) -> Path:
    """The folder of a dataset that is shipped with the package."""
    installed = Path(str(package_files("pixelprep"))) / "data" / name
    checkout = Path(__file__).parents[2] / "data" / name
    return installed if installed.is_dir() else checkout


def _pair(rows: int, stem: str, *digests: str, sizes: tuple[int, int]) -> Pair:
    images, labels, *contents = digests
    inside_images, inside_labels = contents if contents else (None, None)
    return Pair(
        rows,
        download.Pinned(
            f"{stem}-images-idx3-ubyte.gz",
            sizes[0],
            images,
            IMAGE_HEADER + rows * PIXELS,
            inside_images,
        ),
        download.Pinned(
            f"{stem}-labels-idx1-ubyte.gz",
            sizes[1],
            labels,
            LABEL_HEADER + rows,
            inside_labels,
        ),
    )


DIGITS = tuple("0123456789")

_ALL = (
    Known(
        "mnist",
        Provenance(
            "MNIST handwritten digits",
            "CC BY-SA 3.0",
            "http://yann.lecun.com/exdb/mnist/",
            "Yann LeCun, Corinna Cortes, Christopher J. C. Burges",
        ),
        DIGITS,
        {
            "train": _pair(
                60_000,
                "train",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                sizes=(9_912_422, 28_881),
            ),
            "test": _pair(
                10_000,
                "t10k",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                sizes=(1_648_877, 4_542),
            ),
        },
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    Known(
        "fashion-mnist",
        Provenance(
            "Fashion-MNIST, Zalando's article images",
            "MIT",
            "https://github.com/zalandoresearch/fashion-mnist",
            "Han Xiao, Kashif Rasul, Roland Vollgraf (arXiv:1708.07747)",
        ),
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        {
            "train": _pair(
                60_000,
                "train",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                sizes=(26_421_880, 29_515),
            ),
            "test": _pair(
                10_000,
                "t10k",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                sizes=(4_422_102, 5_148),
            ),
        },
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
    Known(
        "kmnist",
        Provenance(
            "Kuzushiji-MNIST, cursive Japanese characters",
            "CC BY-SA 4.0",
            "http://codh.rois.ac.jp/kmnist/",
            "Tarin Clanuwat et al. (arXiv:1812.01718)",
        ),
        ("お", "き", "す", "つ", "な", "は", "ま", "や", "れ", "を"),
        {
            "train": _pair(
                60_000,
                "train",
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                sizes=(18_165_135, 29_497),
            ),
            "test": _pair(
                10_000,
                "t10k",
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
                sizes=(3_041_136, 5_120),
            ),
        },
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    ),
    Known(
        "sample",
        Provenance(
            "Digits drawn by pixelprep's scripts/make_sample.py",
            "CC0 1.0",
        ),
        DIGITS,
        {
            "train": _pair(
                6_000,
                "train",
                "20034498f119aea6ead52cbd2d156a679b67df5766d3994ee4b6916fe0516294",
                "f793de2ec33ff84f23332233f397d3de7aa75e68feebafbcdc0f223215a429df",
                "7a7a7cfe5d8077bbbbe639c9146270135382483ae73c06766dca815a01fec441",
                "a93d990c5e312d7a18111b488d0469ef64203b5a1a1b695851811ee40f1bdfe6",
                sizes=(670_617, 3_072),
            ),
            "test": _pair(
                1_000,
                "t10k",
                "13f76480e5616929187096e42d5023ebf2d39afa1e813a7fb9cffac383d2443f",
                "ea7aa493081aa67ec5918a1a9692ab2ad40d42bea454ca042465df6a80009ac3",
                "50c9b0b7faaebd48a0e28c8a1139b8e27eb589d90d9c16ea074ee1c5eada1ff9",
                "2d51de1b3ca810706031ece05f042799b7616c4b5cc1b2f6d7db2f00fcdfaa02",
                sizes=(112_572, 524),
            ),
        },
        (),
        embedded=True,
    ),
)

KNOWN: Mapping[str, Known] = MappingProxyType({known.name: known for known in _ALL})
