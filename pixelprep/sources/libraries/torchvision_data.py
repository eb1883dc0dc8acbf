"""Read a dataset that torchvision knows by name."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any  # Any: torchvision's classes, and their datasets

from pixelprep.errors import DownloadError, SourceError, missing_extra, unknown_choice
from pixelprep.sources.base import Options, Provenance, SourceContext
from pixelprep.sources.libraries.adapters import classes_of, items_by_split
from pixelprep.sources.libraries.spool import ROW_OPTIONS, RowsSource, RowStreams
from pixelprep.system import fs

SUPPORTED = ROW_OPTIONS
SPLITS = {"train": ("train", "trainval"), "val": ("val", "valid"), "test": ("test",)}
IN_PYTHON = "make it in Python: pixelprep.from_dataset(…)"
LISTED = ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "Flowers102", "Food101")


def find(name: str, options: Options) -> RowsSource:
    """Return the source of the class of torchvision's with this name, in any case."""
    try:
        import torchvision
        from torchvision import datasets
    except ImportError as error:
        raise missing_extra("torchvision", "torchvision", f"torchvision:{name}") from error
    known = {one.lower(): one for one in datasets.__all__}
    if name.lower() not in known:
        listed = [f"torchvision:{one}" for one in LISTED]
        raise unknown_choice("dataset", f"torchvision:{name}", listed, "others: its documentation")
    name = known[name.lower()]
    about = Provenance(f"{name} of torchvision", "as its documentation states")
    identity = {"torchvision": name, "version": torchvision.__version__}
    cls = getattr(datasets, name)
    has_files = "root" in inspect.signature(cls.__init__).parameters
    folder = fs.cache_dir(options.cache_dir) / fs.RAW / f"torchvision-{name}" if has_files else None
    start = partial(_open, cls, options)
    return RowsSource(f"torchvision-{name}", start, about, options, identity, folder)


def _open(cls: Any, options: Options, context: SourceContext) -> RowStreams:
    """Make the datasets of all splits, downloaded into the cache where the class can do so."""
    where, parameters = f"torchvision:{cls.__name__}", inspect.signature(cls.__init__).parameters
    given: dict[str, Any] = {}
    if "root" in parameters:
        given["root"] = str(fs.ensure_dir(context.cache / fs.RAW / f"torchvision-{cls.__name__}"))
    if "download" in parameters:
        given["download"] = not options.offline
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [one.name for one in list(parameters.values())[1:] if one.default is one.empty]
    needed = [n for n in needed if n not in (*given, "split") and parameters[n].kind in plain]
    if needed:
        missing = f"{where}: needs {', '.join(needed)}, which a name cannot tell"
        raise SourceError(missing, IN_PYTHON)
    try:
        found = _splits(partial(cls, **given), parameters)
    except (OSError, RuntimeError, ValueError) as error:
        said = f"{where}: {' '.join(str(error).split())[:300]}"
        raise DownloadError(said, _hint(given.get("root"))) from error
    if "train" not in found:
        raise SourceError(f"{where}: has no split train", IN_PYTHON)
    return RowStreams(items_by_split(found), classes_of(found["train"]))


def _splits(make: Callable[..., Any], parameters: Iterable[str]) -> dict[str, Any]:
    """Make the datasets of the splits that there are, by what the class calls them."""
    if "split" not in parameters:
        if "train" not in parameters:
            return {"train": make()}
        return {"train": make(train=True), "test": make(train=False)}
    found = {}
    for split, words in SPLITS.items():
        for word in words:
            try:
                found[split] = make(split=word)
                break
            except ValueError as error:  # it has no such split
                if "for argument split" not in str(error):
                    raise
    return found


def _hint(root: str | None) -> str | None:
    return None if root is None else f"files that are on the disk already belong into {Path(root)}"
