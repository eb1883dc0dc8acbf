"""What a dataset is: names, files, digests, decoders.

A new one known by name is one entry in `registry`. Another package brings its own by an entry point
of the group ``pixelprep.sources``: a callable that is given `Options` and returns a `Source`.
"""

from pixelprep.sources.arrays import Arrays
from pixelprep.sources.base import DECODE_OPTIONS, Options, Provenance, Raw, RawSplit, Source
from pixelprep.sources.context import SourceContext
from pixelprep.sources.digest import describe, images_digest, labels_digest, survey
from pixelprep.sources.lazy_arrays import LazyArray, block_ranges, iter_blocks, slice_rows
from pixelprep.sources.registered import RegisteredSource
from pixelprep.sources.registry import REGISTRY
from pixelprep.sources.resolve import find_source, normalize_dataset, plugins

__all__ = [
    "DECODE_OPTIONS",
    "REGISTRY",
    "Arrays",
    "LazyArray",
    "Options",
    "Provenance",
    "Raw",
    "RawSplit",
    "RegisteredSource",
    "Source",
    "SourceContext",
    "block_ranges",
    "describe",
    "find_source",
    "images_digest",
    "iter_blocks",
    "labels_digest",
    "normalize_dataset",
    "plugins",
    "slice_rows",
    "survey",
]
