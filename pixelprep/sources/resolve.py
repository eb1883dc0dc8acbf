"""From what the user wrote to the source that is meant."""

import logging
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from pixelprep.errors import PixelprepError, SourceError, UsageError, unknown_choice
from pixelprep.sources.base import DECODE_OPTIONS, Options, Source
from pixelprep.sources.registered import name_variants
from pixelprep.sources.registry import REGISTRY
from pixelprep.system import fs

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pixelprep.sources.local import LocalSource

LOG = logging.getLogger("pixelprep")

# Entry points of other packages: a name, and a callable that makes a Source of Options.
ENTRY_POINT_GROUP = "pixelprep.sources"


def find_source(dataset: str, options: Options) -> Source:
    """The source of this name, or of the file or folder at this path.

    Raises
    ------
    UsageError
        For a name that is not known, or an option that means nothing to the source.
    SourceError
        For a path where nothing usable is.
    """
    if options.source is not None and not options.source.is_dir():
        raise SourceError(f"`source={options.source}`: no such folder")
    if dataset in REGISTRY:
        if Path(dataset).is_dir():
            LOG.info("%s is the known dataset; for the folder here, say ./%s", dataset, dataset)
        _refuse_unsupported(dataset, options, frozenset())
        return REGISTRY[dataset].source(options)
    if "/" not in dataset and os.sep not in dataset:
        return _plugin_source(dataset, options)
    if options.source is not None:
        raise UsageError(
            f"{dataset}: a path to your own images takes no `source`", "give one of the two"
        )
    path = fs.expand_user(dataset)
    try:
        kind = local_source_type(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot read: {error.strerror}") from error
    _refuse_unsupported(dataset, options, kind.supported_options)
    return kind(path, options)


def normalize_dataset(dataset: str | os.PathLike[str] | Source) -> str | Source:
    """A dataset as it is typed: a path has a slash in it. A source stays one."""
    if isinstance(dataset, os.PathLike):
        return os.path.join(os.curdir, dataset)  # noqa: PTH118 - Path drops the dot and slash
    return dataset


def plugins() -> "dict[str, EntryPoint]":
    """The datasets that other installed packages bring, by name."""
    from importlib.metadata import entry_points  # a known name does without

    found = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {name: found[name] for name in sorted(found) if name not in REGISTRY}


def _plugin_source(dataset: str, options: Options) -> Source:
    """A dataset that another installed package brings."""
    brought = plugins()
    if dataset not in brought:
        own = f"a path to images of your own is written with a slash: ./{dataset}"
        known = [*REGISTRY, *brought]
        there = os.path.exists(dataset)  # noqa: PTH110 - pathlib fails on a name that is too long
        raise unknown_choice("dataset", dataset, known, own, certain=there)
    where = f"{dataset}: its package's {brought[dataset].value}"
    try:
        make: Callable[[Options], Source] = brought[dataset].load()
        source = make(options)
    except PixelprepError:
        raise
    except Exception as error:  # whatever goes wrong in a package of somebody else's
        raise SourceError(f"{where} does not work: {type(error).__name__}: {error}") from error
    wanted = ("name", "provenance", "fingerprints", "load")
    if missing := [name for name in wanted if not hasattr(source, name)]:
        raise SourceError(f"{where} gives a {type(source).__name__}: lacks {', '.join(missing)}")
    return source


def _refuse_unsupported(dataset: str, options: Options, takes: frozenset[str]) -> None:
    """Refuse options that mean nothing to this source, rather than ignoring them."""
    for option in fields(options):
        name = option.name
        if name in DECODE_OPTIONS and name not in takes and getattr(options, name) is not None:
            raise UsageError(f"`{name}`: means nothing to {dataset}", "leave the option out")


def local_source_type(path: Path) -> "type[LocalSource]":
    """Choose the class that reads the file or folder at this path.

    Raises
    ------
    SourceError
        When there is nothing, or nothing that can be read.
    """
    # Imported here: a registered name does without them.
    from pixelprep.sources.hdf5 import Hdf5File
    from pixelprep.sources.image_folder import ImageFolder
    from pixelprep.sources.local import IDX_NAMES, IdxFolder
    from pixelprep.sources.npz import NpzFile

    by_suffix: dict[str, type[LocalSource]]
    by_suffix = {".npz": NpzFile, ".h5": Hdf5File, ".hdf5": Hdf5File}
    if path.is_dir():
        names = [name for pair in IDX_NAMES.values() for name in pair]
        has_idx = any(
            (path / spelling).exists() for name in names for spelling in name_variants(name)
        )
        return IdxFolder if has_idx else ImageFolder
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.suffix.lower() not in by_suffix or not path.is_file():
        raise SourceError(
            f"{path}: expected a folder of images or of IDX files, or a file that ends in"
            f" {', '.join(by_suffix)}"
        )
    return by_suffix[path.suffix.lower()]
