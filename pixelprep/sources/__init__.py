"""What a dataset is: names, files, digests, decoders.

A new one known by name is one entry in `registry`. Another package brings its own by an entry point
of the group ``pixelprep.sources``: a callable that is given `Options` and returns a `Source`.
"""

from pixelprep.sources.arrays import Arrays
from pixelprep.sources.base import Options, Provenance, Raw, RawSplit, Source, SourceContext
from pixelprep.sources.digest import images_digest, labels_digest, names_digest, survey
from pixelprep.sources.lazy_arrays import LazyArray, block_ranges, iter_blocks, slice_rows
from pixelprep.sources.registered import RegisteredSource
from pixelprep.sources.registry import REGISTRY
from pixelprep.sources.resolve import find_source, normalize_dataset, plugins

__all__ = ["REGISTRY", "Arrays", "LazyArray", "Options", "Provenance", "Raw", "RawSplit"]
__all__ += ["RegisteredSource", "Source", "SourceContext", "block_ranges", "find_source"]
__all__ += ["images_digest", "iter_blocks", "labels_digest", "names_digest", "normalize_dataset"]
__all__ += ["plugins", "slice_rows", "survey"]
