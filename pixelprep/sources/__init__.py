"""What a dataset is: names, files, digests, decoders. A new dataset is one entry in `known`."""

from pixelprep.sources.base import Arrays, Provenance, Raw, RawSplit, Source, about
from pixelprep.sources.find import find
from pixelprep.sources.known import KNOWN, Known, KnownSource, Options

__all__ = [
    "KNOWN",
    "Arrays",
    "Known",
    "KnownSource",
    "Options",
    "Provenance",
    "Raw",
    "RawSplit",
    "Source",
    "about",
    "find",
]
