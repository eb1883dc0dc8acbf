"""The shapes that an entry can be exported to: a short module each, loaded when it is used."""

from collections.abc import Mapping
from types import MappingProxyType

from pixelprep.formats.base import Format
from pixelprep.formats.hdf5 import Hdf5
from pixelprep.formats.npz import Npz
from pixelprep.formats.png import Png
from pixelprep.formats.tfrecord import TfRecord

__all__ = ["FORMATS", "Format"]

FORMATS: Mapping[str, Format] = MappingProxyType(
    {"npz": Npz(), "tfrecord": TfRecord(), "png": Png(), "hdf5-single": Hdf5()}
)
