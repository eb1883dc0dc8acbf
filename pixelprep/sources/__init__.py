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
    extremes,
    images_digest,
    labels_digest,
)
from pixelprep.sources.find import find, plugins
from pixelprep.sources.known import KNOWN
from pixelprep.sources.pinned import Known, KnownSource
from pixelprep.sources.stored import Array, Picked, Place, Stored, blocks, cut, pieces, store

__all__ = [
    "DECODING",
    "KNOWN",
    "Array",
    "Arrays",
    "Known",
    "KnownSource",
    "Options",
    "Picked",
    "Place",
    "Provenance",
    "Raw",
    "RawSplit",
    "Source",
    "Stored",
    "about",
    "blocks",
    "cut",
    "extremes",
    "find",
    "images_digest",
    "labels_digest",
    "pieces",
    "plugins",
    "store",
]
