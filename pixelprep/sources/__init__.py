"""What a dataset is: names, files, digests, decoders.

A new one known by name is one entry in `registry`. Another package brings its own by an entry point
of the group ``pixelprep.sources``: a callable that is given `Options` and returns a `Source`.
"""

from pixelprep.sources.arrays import Arrays
from pixelprep.sources.base import Options, Provenance, Raw, RawSplit, Source, SourceContext
from pixelprep.sources.digest import Survey, images_digest, labels_digest, names_digest, survey
from pixelprep.sources.lazy_arrays import LazyArray, block_ranges, iter_blocks, slice_rows
from pixelprep.sources.leaks import handle_leaks
from pixelprep.sources.registered import DatasetSummary, RegisteredSource
from pixelprep.sources.registry import REGISTRY
from pixelprep.sources.resolve import (
    KnownDatasets,
    datasets,
    find_source,
    is_library_name,
    is_path,
    known_name,
    meant,
    normalize_dataset,
    refuse_unsupported,
)

__all__ = ["REGISTRY", "Arrays", "DatasetSummary", "KnownDatasets", "LazyArray", "Options"]
__all__ += ["Provenance", "Raw", "RawSplit", "RegisteredSource", "Source", "SourceContext"]
__all__ += ["block_ranges", "datasets", "find_source", "images_digest", "iter_blocks"]
__all__ += ["Survey", "labels_digest", "names_digest", "normalize_dataset", "refuse_unsupported"]
__all__ += [
    "handle_leaks",
    "is_library_name",
    "is_path",
    "known_name",
    "meant",
    "slice_rows",
    "survey",
]
