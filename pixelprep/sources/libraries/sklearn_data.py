"""Read a dataset of images that scikit-learn knows by name."""

from collections.abc import Mapping
from functools import partial
from typing import Any  # Any: scikit-learn's objects

from pixelprep.errors import DownloadError, SourceError, missing_extra, unknown_choice
from pixelprep.sources.base import Options, Provenance, SourceContext
from pixelprep.sources.libraries.spool import ROW_OPTIONS, RowsSource, RowStreams
from pixelprep.system import fs

SUPPORTED = ROW_OPTIONS


def find(name: str, options: Options) -> RowsSource:
    """Return the source of what ``load_NAME`` or ``fetch_NAME`` of scikit-learn gives."""
    try:
        import sklearn
        from sklearn import datasets
    except ImportError as error:
        raise missing_extra("scikit-learn", "sklearn", f"sklearn:{name}") from error
    known = {n.partition("_")[2]: n for n in datasets.__all__ if n.startswith(("load_", "fetch_"))}
    if name not in known:
        raise unknown_choice("dataset", f"sklearn:{name}", [f"sklearn:{one}" for one in known])
    about = Provenance(f"{name} of scikit-learn", "as its documentation states")
    identity = {"sklearn": name, "version": sklearn.__version__}
    call, folder = getattr(datasets, known[name]), None
    if known[name].startswith("fetch_"):
        folder = fs.cache_dir(options.cache_dir) / fs.RAW / f"sklearn-{name}"
    start = partial(_open, name, call, options)
    return RowsSource(f"sklearn-{name}", start, about, options, identity, folder)


def _open(name: str, call: Any, options: Options, context: SourceContext) -> RowStreams:
    where = f"sklearn:{name}"
    given: Mapping[str, Any] = {}
    if call.__name__.startswith("fetch_"):
        folder = fs.ensure_dir(context.cache / fs.RAW / f"sklearn-{name}")
        given = {"data_home": str(folder), "download_if_missing": not options.offline}
    try:
        found = call(**given)
    except TypeError as error:  # one that needs to be told more
        raise SourceError(f"{where}: {error}", "pixelprep.Arrays takes what it gives") from error
    except OSError as error:
        raise DownloadError(f"{where}: {' '.join(str(error).split())[:300]}") from error
    images = getattr(found, "images", None)
    if images is None or getattr(images, "ndim", 0) not in (3, 4) or not hasattr(found, "target"):
        raise SourceError(f"{where}: has no images: expected (N, H, W), or (N, H, W, C)")
    names = tuple(map(str, getattr(found, "target_names", ())))
    pairs = list(zip(images, found.target, strict=True))
    return RowStreams({"train": lambda: pairs}, names)
