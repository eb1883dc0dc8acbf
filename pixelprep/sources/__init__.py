"""What a dataset is: names, files, digests, decoders.

A new one known by name is one entry in `registry`. Another package brings its own by an entry point
of the group ``pixelprep.sources``: a callable that is given `Options` and returns a `Source`.
"""

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
from pixelprep.sources.known.registered import DatasetSummary, RegisteredSource
from pixelprep.sources.known.registry import REGISTRY
from pixelprep.sources.lazy_arrays import LazyArray, block_ranges, iter_blocks, slice_rows
from pixelprep.sources.leaks import EqualImages, handle_leaks, within
from pixelprep.sources.requested import as_requested, refuse_unsupported, requested
from pixelprep.sources.resolve import (
    KnownDatasets,
    datasets,
    find_source,
    is_library_name,
    is_path,
    meant,
    normalize_dataset,
)

__all__ = ["REGISTRY", "Arrays", "DatasetSummary", "EqualImages", "KnownDatasets", "LazyArray"]
__all__ += ["Options", "Provenance", "Raw", "RawSplit", "RegisteredSource", "Source"]
__all__ += ["SourceContext", "Survey", "block_ranges", "datasets", "find_source", "handle_leaks"]
__all__ += ["as_requested"]
__all__ += ["images_digest", "iter_blocks", "labels_digest", "names_digest", "normalize_dataset"]
__all__ += ["is_library_name", "is_path", "meant"]
__all__ += ["on_leak_of", "refuse_unsupported", "requested", "slice_rows", "survey"]
__all__ += ["tell_of_lacking", "within"]
