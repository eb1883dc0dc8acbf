"""Image datasets scaled once, exactly, and reused anywhere."""

import os
import sys
from typing import TYPE_CHECKING, Any  # Any: each public name is of its own type

from pixelprep import views
from pixelprep._version import __version__ as __version__

if TYPE_CHECKING:
    from pixelprep import cache
    from pixelprep.cache.remotes import PushResult, pull
    from pixelprep.dataset.entry import Entry, Split
    from pixelprep.errors import (
        CacheError,
        DownloadError,
        EntryError,
        MissingExtraError,
        NewerFormatError,
        PixelprepError,
        PixelprepWarning,
        RemoteError,
        SourceError,
        TrainError,
        UsageError,
        WorkerError,
    )
    from pixelprep.exporters._hub import push
    from pixelprep.exporters.export import Export, export
    from pixelprep.numerics.scaling import Scaling
    from pixelprep.pipeline.prepare import find_entry, prepare
    from pixelprep.pipeline.verify import VerifyResult, verify
    from pixelprep.reports.dataset_stats import DatasetStats, stats
    from pixelprep.reports.doctor import Diagnosis, Problem, doctor
    from pixelprep.reports.entry_report import Report, report
    from pixelprep.reports.results import CompareResult, TrainResult
    from pixelprep.sources import Arrays, DatasetSummary, KnownDatasets, datasets
    from pixelprep.sources.libraries.adapters import from_dataset
    from pixelprep.sources.libraries.generator import from_generator
    from pixelprep.training.compare import compare
    from pixelprep.training.portable import ExportedModel, export_model
    from pixelprep.training.predict import EvaluationResult, PredictResult, evaluate, predict
    from pixelprep.training.train import resume, train

__all__ = ["Arrays", "CacheError", "CompareResult", "DatasetStats", "DatasetSummary"]
__all__ += ["Diagnosis", "DownloadError", "Entry", "Problem", "doctor"]
__all__ += ["EntryError", "EvaluationResult", "Export", "ExportedModel", "KnownDatasets"]
__all__ += ["MissingExtraError"]
__all__ += ["NewerFormatError", "PixelprepError", "PixelprepWarning", "PredictResult"]
__all__ += ["PushResult", "RemoteError", "Report"]
__all__ += ["Scaling", "SourceError", "Split", "TrainError", "TrainResult", "UsageError"]
__all__ += ["VerifyResult", "WorkerError", "cache", "compare", "datasets", "evaluate", "export"]
__all__ += ["export_model", "find_entry", "from_dataset", "from_generator"]
__all__ += ["open", "predict", "prepare", "pull", "push", "report", "resume", "stats", "train"]
__all__ += ["verify"]

_HOMES = {
    "sources": "Arrays DatasetSummary KnownDatasets datasets",
    "sources.libraries.adapters": "from_dataset",
    "sources.libraries.generator": "from_generator",
    "reports.results": "CompareResult TrainResult",
    "dataset.entry": "Entry Split",
    "training.portable": "ExportedModel export_model",
    "training.predict": "EvaluationResult PredictResult evaluate predict",
    "exporters.export": "Export export",
    "exporters._hub": "push",
    "reports.dataset_stats": "DatasetStats stats",
    "reports.doctor": "Diagnosis Problem doctor",
    "reports.entry_report": "Report report",
    "numerics.scaling": "Scaling",
    "pipeline.verify": "VerifyResult verify",
    "cache": "cache",
    "cache.remotes": "PushResult pull",
    "training.compare": "compare",
    "pipeline.prepare": "find_entry prepare",
    "training.train": "resume train",
}  # of all names but the errors


def _draw(value: object) -> str:
    from pixelprep.reports import cards

    return cards.draw(value)


def _make_page(value: Any) -> views.Page:
    from pixelprep.reports import entry_report

    return entry_report.page(value)


views.draw_by(_draw, _make_page)  # what lower rooms hold, and a higher one shows

if "IPython" in sys.modules:
    from pixelprep.system import notebook

    if notebook.is_running():
        notebook.show_messages()


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that importing the package costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'pixelprep' has no attribute '{name}'")
    from importlib import import_module

    homes = (home for home, names in _HOMES.items() if name in names.split())
    home = import_module(f"pixelprep.{next(homes, 'errors')}")
    value = home if name == "cache" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def open(
    entry: str | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> "Entry":
    """Open a prepared entry, wherever its folder is, once its files are known to be right.

    Parameters
    ----------
    entry : str or path
        The entry's folder; in the cache, its key or the key's beginning, ``DATASET/MODE-KEY``, or
        a dataset that has one entry, or the path or URL of the data it was made from. Or the URL of
        one that was pushed (``s3://…``), which is then read where it lies (docs/sharing.md).
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches. Files below it are
        hashed only once; files elsewhere at every opening. What is read of a URL is kept there.
    quiet : bool
        Draw no progress bar (one is drawn on a terminal only, while files are hashed).

    Returns
    -------
    Entry
        Its files are those that its maker wrote, by their digests; at a URL each chunk is, by its
        checksum, and a file by its digest once all of it was read.

    Raises
    ------
    EntryError, CacheError
        When there is no such entry, or anything in it is missing, damaged or of a newer format;
        when the machine does not let the files be read.
    RemoteError, MissingExtraError
        When a URL cannot be read, or not by ranges; when what reads such URLs is not installed.

    Examples
    --------
    >>> import pixelprep
    >>> path = pixelprep.prepare("sample", mode="center", quiet=True).path
    >>> pixelprep.open(path).mode
    'center'
    """
    from pixelprep.cache.entries import made_from, open_named
    from pixelprep.system import fs

    cache = fs.cache_dir(cache_dir)
    if isinstance(entry, str) and "://" in entry and not made_from(entry, cache):
        from pixelprep.cache.in_place import open_in_place

        return open_in_place(entry, cache)
    return open_named(entry, cache, quiet)
