"""From what the user wrote to the source that is meant."""

import os
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from pixelprep import files
from pixelprep.errors import SourceError, UsageError, unknown
from pixelprep.sources.base import Options, Source
from pixelprep.sources.hdf5 import Hdf5
from pixelprep.sources.images import ImageFolder
from pixelprep.sources.known import KNOWN
from pixelprep.sources.npz import Npz
from pixelprep.sources.own import DECODING, IDX_NAMES, IdxFolder, Own
from pixelprep.sources.pinned import spellings

GROUP = "pixelprep.sources"  # of entry points: a name, and what makes a Source of Options
FILES: dict[str, type[Own]] = {".npz": Npz, ".h5": Hdf5, ".hdf5": Hdf5}


def find(dataset: str, options: Options) -> Source:
    """The source of this name, or of the file or folder at this path.

    Raises
    ------
    UsageError
        For a name that is not known, or an option that means nothing to the source.
    SourceError
        For a path where nothing usable is.
    """
    if options.source is not None and not options.source.is_dir():
        raise SourceError(f"--source {options.source}: no such folder")
    if dataset in KNOWN:
        _refuse_others(dataset, options, frozenset())
        return KNOWN[dataset].source(options)
    if "/" not in dataset and os.sep not in dataset:
        return _elsewhere(dataset, options)
    if options.source is not None:
        raise UsageError(
            f"{dataset}: a path to your own images takes no --source", "give one of the two"
        )
    path = files.expanded(dataset)
    kind = _kind(path)
    _refuse_others(dataset, options, kind.takes)
    return kind(path, options)


def plugins() -> dict[str, EntryPoint]:
    """The datasets that other installed packages bring, by name."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return {name: found[name] for name in sorted(found) if name not in KNOWN}


def _elsewhere(dataset: str, options: Options) -> Source:
    """A dataset that another installed package brings."""
    brought = plugins()
    if dataset not in brought:
        own = f"a path to images of your own is written with a slash: ./{dataset}"
        known = [*KNOWN, *brought]
        raise unknown("dataset", dataset, known, own, certain=Path(dataset).exists())
    try:
        make: Callable[[Options], Source] = brought[dataset].load()
        return make(options)
    except (ImportError, AttributeError, TypeError) as error:
        where = brought[dataset].value
        raise SourceError(f"{dataset}: its package's {where} does not work: {error}") from error


def _kind(path: Path) -> type[Own]:
    """What reads this path."""
    if path.is_dir():
        names = [name for pair in IDX_NAMES.values() for name in pair]
        has_idx = any((path / spelling).exists() for name in names for spelling in spellings(name))
        return IdxFolder if has_idx or not _has_folders(path) else ImageFolder
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.suffix.lower() not in FILES:
        raise SourceError(
            f"{path}: expected a folder of images or of IDX files, or a file that ends in"
            f" {', '.join(FILES)}"
        )
    return FILES[path.suffix.lower()]


def _has_folders(path: Path) -> bool:
    return any(entry.is_dir() for entry in path.iterdir() if not entry.name.startswith("."))


def _refuse_others(dataset: str, options: Options, takes: frozenset[str]) -> None:
    """Refuse options that mean nothing to this source, rather than ignoring them."""
    for option in fields(options):
        name = option.name
        if name in DECODING and name not in takes and getattr(options, name) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')}: means nothing to {dataset}", "leave the option out"
            )
