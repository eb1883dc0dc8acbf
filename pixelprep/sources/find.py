"""From what the user wrote to the source that is meant."""

import logging
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from pixelprep import files, words
from pixelprep.errors import PixelprepError, SourceError, UsageError, unknown
from pixelprep.sources.base import DECODING, Options, Source
from pixelprep.sources.known import KNOWN

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

LOG = logging.getLogger("pixelprep")

GROUP = "pixelprep.sources"  # of entry points: a name, and what makes a Source of Options


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
        if Path(dataset).is_dir():
            LOG.info("%s is the known dataset; for the folder here, say ./%s", dataset, dataset)
        _refuse_others(dataset, options, frozenset())
        return KNOWN[dataset].source(options)
    if "/" not in dataset and os.sep not in dataset:
        return _elsewhere(dataset, options)
    if options.source is not None:
        raise UsageError(
            f"{dataset}: a path to your own images takes no --source", "give one of the two"
        )
    from pixelprep.sources.paths import kind_of  # a known name does without

    path = files.expanded(dataset)
    try:
        kind = kind_of(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot read: {error.strerror}") from error
    _refuse_others(dataset, options, kind.takes)
    return kind(path, options)


def as_typed(dataset: str | os.PathLike[str] | Source) -> str | Source:
    """A dataset as it is typed: a path has a slash in it. A source stays one."""
    if isinstance(dataset, os.PathLike):
        return os.path.join(os.curdir, dataset)  # noqa: PTH118 - Path drops the dot and slash
    return dataset


def plugins() -> "dict[str, EntryPoint]":
    """The datasets that other installed packages bring, by name."""
    from importlib.metadata import entry_points  # a known name does without

    found = {point.name: point for point in entry_points(group=GROUP)}
    return {name: found[name] for name in sorted(found) if name not in KNOWN}


def _elsewhere(dataset: str, options: Options) -> Source:
    """A dataset that another installed package brings."""
    brought = plugins()
    if dataset not in brought:
        own = f"a path to images of your own is written with a slash: ./{dataset}"
        known = [*KNOWN, *brought]
        there = os.path.exists(dataset)  # noqa: PTH110 - pathlib fails on a name that is too long
        raise unknown("dataset", dataset, known, own, certain=there)
    where = f"{dataset}: its package's {brought[dataset].value}"
    try:
        make: Callable[[Options], Source] = brought[dataset].load()
        source = make(options)
    except PixelprepError:
        raise
    except Exception as error:  # whatever goes wrong in a package of somebody else's
        raise SourceError(f"{where} does not work: {type(error).__name__}: {error}") from error
    wanted = ("name", "provenance", "identities", "load")
    if missing := [name for name in wanted if not hasattr(source, name)]:
        raise SourceError(f"{where} gives a {type(source).__name__}: lacks {', '.join(missing)}")
    return source


def _refuse_others(dataset: str, options: Options, takes: frozenset[str]) -> None:
    """Refuse options that mean nothing to this source, rather than ignoring them."""
    for option in fields(options):
        name = option.name
        if name in DECODING and name not in takes and getattr(options, name) is not None:
            raise UsageError(
                f"{words.option(name)}: means nothing to {dataset}", "leave the option out"
            )
