"""What a dataset is: names, files, digests, decoders.

A new one known by name is one entry in `registry`. Another package brings its own by an entry point
of the group ``pixelprep.sources``: a callable that is given `Options` and returns a `Source`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixelprep.sources.arrays import Arrays
    from pixelprep.sources.base import (
        Options,
        Provenance,
        Raw,
        RawSplit,
        Source,
        SourceContext,
        on_leak_of,
        tell_of_lacking,
    )
    from pixelprep.sources.digest import Survey, images_digest, labels_digest, names_digest, survey
    from pixelprep.sources.known.lookup import REGISTRY
    from pixelprep.sources.known.registered import RegisteredSource
    from pixelprep.sources.known.summary import DatasetSummary
    from pixelprep.sources.lazy_arrays import LazyArray, block_ranges, iter_blocks, slice_rows
    from pixelprep.sources.leaks import EqualImages, handle_leaks, within
    from pixelprep.sources.listing import KnownDatasets, datasets
    from pixelprep.sources.requested import as_requested, asked_of, refuse_unsupported
    from pixelprep.sources.resolve import (
        find_source,
        is_library_name,
        is_path,
        meant,
        normalize_dataset,
    )

__all__ = ["REGISTRY", "Arrays", "DatasetSummary", "EqualImages", "KnownDatasets", "LazyArray"]
__all__ += ["Options", "Provenance", "Raw", "RawSplit", "RegisteredSource", "Source"]
__all__ += ["SourceContext", "Survey", "block_ranges", "datasets", "find_source", "handle_leaks"]
__all__ += ["as_requested", "asked_of"]
__all__ += ["images_digest", "iter_blocks", "labels_digest", "names_digest", "normalize_dataset"]
__all__ += ["is_library_name", "is_path", "meant"]
__all__ += ["on_leak_of", "refuse_unsupported", "slice_rows", "survey"]
__all__ += ["tell_of_lacking", "within"]

_HOMES = {
    "arrays": "Arrays",
    "base": "Options Provenance Raw RawSplit Source SourceContext on_leak_of tell_of_lacking",
    "digest": "Survey images_digest labels_digest names_digest survey",
    "known.summary": "DatasetSummary",
    "known.registered": "RegisteredSource",
    "known.lookup": "REGISTRY",
    "lazy_arrays": "LazyArray block_ranges iter_blocks slice_rows",
    "listing": "KnownDatasets datasets",
    "leaks": "EqualImages handle_leaks within",
    "requested": "as_requested asked_of refuse_unsupported",
    "resolve": "find_source is_library_name is_path meant normalize_dataset",
}


def __getattr__(name: str) -> object:
    """Load a name when it is first used: data that is prepared already needs few of them."""
    home = next((home for home, names in _HOMES.items() if name in names.split()), None)
    if home is None:
        raise AttributeError(f"module 'pixelprep.sources' has no attribute '{name}'")
    value = getattr(import_module(f"pixelprep.sources.{home}"), name)
    globals()[name] = value
    return value
