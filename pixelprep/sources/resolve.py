"""Find the source that a dataset's name or path stands for."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pixelprep.errors import PixelprepError, SourceError, UsageError, unknown_choice
from pixelprep.format.options import DecodeOptions
from pixelprep.sources.base import Options, Source
from pixelprep.sources.known.lookup import REGISTRY, known_name
from pixelprep.sources.known.registered import (
    IdxPairs,
    RegisteredDataset,
    RegisteredSource,
)
from pixelprep.sources.requested import BY_ALL, refuse_unsupported
from pixelprep.system import fs, notices, remote

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

LOG = logging.getLogger("pixelprep")

# Of names LIBRARY:NAME, the module with its `find`: from a name and options to a source.
LIBRARIES = {
    "hf": "hub",
    "sklearn": "sklearn_data",
    "tfds": "tfds_data",
    "torchvision": "torchvision_data",
}
# As fsspec has it: a slash in a revision is %2F but for those of the hub's own.
HUB_URL = re.compile(
    r"hf://datasets/([\w.-]+/[\w.-]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/([\w.-]+))?/?"
)


def find_source(dataset: str, options: Options) -> Source:
    """Return the source with this name, or that of the file or folder at this path."""
    if options.source is not None and not options.source.is_dir():
        raise SourceError(f"`source={options.source}`: no such folder")
    if dataset in REGISTRY:
        if Path(dataset).is_dir():
            LOG.info("%s is the known dataset; for the folder here, write ./%s", dataset, dataset)
        source_of = _registered_type(REGISTRY[dataset])
        refuse_unsupported(dataset, options, source_of.supported_options | BY_ALL)
        return source_of(REGISTRY[dataset], options)
    if is_library_name(dataset):
        return _library_source(dataset, options)
    if "/" not in dataset and os.sep not in dataset:
        return _plugin_source(dataset, options)
    _refuse_unknown_part(dataset)
    if options.source is not None:
        own = f"{dataset}: a path to your own images takes no `source`"
        raise UsageError(own, "give one of the two")
    from pixelprep.sources.file_types import local_source_type  # a name does not need these

    path = fs.expand_user(dataset)
    try:
        source_type = local_source_type(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot read: {error.strerror}") from error
    refuse_unsupported(dataset, options, source_type.supported_options | BY_ALL)
    return source_type(path, options)


def _registered_type(dataset: RegisteredDataset) -> type[RegisteredSource]:
    """Return what reads a registered dataset."""
    if isinstance(dataset, IdxPairs):
        return RegisteredSource
    from pixelprep.sources.known.picture_sets import PictureArchive  # MNIST needs it not

    if not isinstance(dataset, PictureArchive):
        return RegisteredSource
    from pixelprep.sources.known.picture_source import PictureSource  # others do not need these

    return PictureSource


def normalize_dataset(dataset: str | os.PathLike[str] | Source) -> str | Source:
    """Spell a path with a slash, which tells it from a name; and a known name without one."""
    if isinstance(dataset, os.PathLike):
        return os.path.join(os.curdir, dataset)  # noqa: PTH118 - Path drops the dot and slash
    if not (isinstance(dataset, str) or hasattr(dataset, "load")):
        wrong = f"`dataset`: expected a name, a path or a source, got {type(dataset).__name__}"
        raise UsageError(wrong, _maker(dataset))
    return dataset


def is_library_name(dataset: str) -> bool:
    """Tell whether a dataset is one that another library knows, LIBRARY:NAME, or at a URL."""
    library, _, name = dataset.partition(":")
    return (library in LIBRARIES and name != "") or remote.is_url(dataset)


def is_path(dataset: str) -> bool:
    """Tell whether a dataset is a path, not a name."""
    is_name = dataset in REGISTRY or is_library_name(dataset)
    return not is_name and ("/" in dataset or os.sep in dataset)


def _maker(data: object) -> str | None:
    """Tell what makes a source of an object."""
    arrays = 'arrays: pixelprep.Arrays("a-name", (images, labels))'
    if hasattr(data, "dtype") or isinstance(data, tuple):
        return arrays
    if isinstance(data, list | dict):
        return f"{arrays}; pairs of these: pixelprep.from_dataset(…)"
    if hasattr(data, "__getitem__"):
        return "of a dataset of another library: pixelprep.from_dataset(…)"
    if callable(data) or hasattr(data, "__iter__"):
        return "of a generator: pixelprep.from_generator(name, {'train': function})"
    return None


def meant(dataset: str) -> str:
    """Return the known name that this is another spelling of; else a path of what is here."""
    if remote.is_url(dataset):
        return _plain_spelling(dataset)
    if dataset in REGISTRY or is_library_name(dataset):
        return dataset
    exists = os.path.exists(fs.expand_user(dataset))  # noqa: PTH110 - pathlib fails on long names
    known = known_name(dataset)
    if known is not None and is_path(dataset) and exists:
        notices.tell("%s: taken as the path here, not as the known dataset", dataset)
        return dataset
    if known is not None and REGISTRY[known].spelled == dataset:
        return known
    if known is not None and dataset not in plugins():
        here = f"; for what is here, write ./{dataset}" if exists else ""
        LOG.info("%s is taken as the known dataset %s%s", dataset, known, here)
        return known
    if exists and not is_path(dataset) and dataset not in plugins():
        own = os.path.join(os.curdir, dataset)  # noqa: PTH118 - as above
        LOG.info("no known dataset is called %s: taken as the path %s", dataset, own)
        return own
    return dataset


def _plain_spelling(url: str) -> str:
    """Return the path that ``file://…`` means, ``hf:…`` for ``hf://datasets/…``; else the URL."""
    from urllib.parse import unquote
    from urllib.request import url2pathname

    if url.startswith("file://"):
        return os.path.join(os.curdir, url2pathname(url.removeprefix("file://")))  # noqa: PTH118
    if not url.startswith("hf://"):
        return url
    match = HUB_URL.fullmatch(url)
    if match is None:
        raise UsageError(f"{remote.scrub(url)}: expected hf://datasets/OWNER/NAME@REVISION/CONFIG")
    repository, revision, config = match.groups()
    name = f"hf:{repository}" + (f"/{config}" if config else "")
    return name + (f"@{unquote(revision)}" if revision else "")


def plugins() -> "dict[str, EntryPoint]":
    """List the datasets of other installed packages by name."""
    from importlib.metadata import entry_points  # a registered name does not need it

    # Each is a callable that takes Options, and returns a Source.
    found = {point.name: point for point in entry_points(group="pixelprep.sources")}
    return {name: found[name] for name in sorted(found) if name not in REGISTRY}


def _refuse_unknown_part(dataset: str) -> None:
    """Refuse what looks like one of several datasets, such as ``emnist/leters``, and is none."""
    group, _, part = dataset.lower().partition("/")
    names = [known.spelled for known in REGISTRY.values() if group and known.group == group]
    if names and not os.path.exists(dataset):  # noqa: PTH110 - as in `_plugin_source`
        raise unknown_choice("dataset", dataset, names, f"choose one: {names[0]}", not part)


def _plugin_source(dataset: str, options: Options) -> Source:
    found = plugins()
    if dataset not in found:
        _refuse_unknown_part(dataset)
        own = f"a path to images of your own is written with a slash: ./{dataset}"
        names = [known.spelled for known in REGISTRY.values()]
        here = known_name(dataset.partition(":")[2])  # as of another library: keras:mnist
        hint = f"did you mean '{REGISTRY[here].spelled}'?" if here else own
        raise unknown_choice("dataset", dataset, [*names, *found], hint, here is not None)
    where = f"{dataset}: its package's {found[dataset].value}"
    try:
        make: Callable[[Options], Source] = found[dataset].load()
        source = make(options)
    except PixelprepError:
        raise
    except Exception as error:  # whatever goes wrong in another package
        raise SourceError(f"{where} does not work: {type(error).__name__}: {error}") from error
    required = ("name", "provenance", "fingerprints", "load")
    if options.test_from and not hasattr(source, "options"):
        refuse_unsupported(dataset, DecodeOptions(test_from=options.test_from))
    if missing := [name for name in required if not hasattr(source, name)]:
        raise SourceError(f"{where} gives a {type(source).__name__}: lacks {', '.join(missing)}")
    return source


def _library_source(dataset: str, options: Options) -> Source:
    """Return the source of a dataset that another library knows by name, or at a URL."""
    from importlib import import_module

    library, _, name = dataset.partition(":")
    if options.source is not None:
        shown = remote.scrub(dataset)
        raise UsageError(f"`source`: does not apply to {shown}", "leave the option out")
    if remote.is_url(dataset):
        from pixelprep.sources import url_source

        return url_source.find(dataset, options)
    module = import_module(f"pixelprep.sources.libraries.{LIBRARIES[library]}")
    refuse_unsupported(dataset, options, module.SUPPORTED | BY_ALL)
    source: Source = module.find(name, options)
    return source
