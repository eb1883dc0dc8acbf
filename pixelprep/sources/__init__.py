"""What a dataset is: names, files, digests, decoders.

A new one known by name is one entry in `known`. Another package brings its own by an entry point
of the group ``pixelprep.sources``: a callable that is given `Options` and returns a `Source`.
"""

from pixelprep.sources.base import (
    DECODING,
    Arrays,
    Options,
    Provenance,
    Raw,
    RawSplit,
    Source,
    about,
    images_digest,
    labels_digest,
)
from pixelprep.sources.find import as_typed, find, plugins
from pixelprep.sources.known import KNOWN
from pixelprep.sources.pinned import KnownSource
from pixelprep.sources.stored import Array, Place, blocks, cut, pieces

__all__ = [
    "DECODING",
    "KNOWN",
    "Array",
    "Arrays",
    "KnownSource",
    "Options",
    "Place",
    "Provenance",
    "Raw",
    "RawSplit",
    "Source",
    "about",
    "as_typed",
    "blocks",
    "cut",
    "find",
    "images_digest",
    "labels_digest",
    "pieces",
    "plugins",
]
