"""Export an entry to other formats: a short module each."""

from collections.abc import Mapping
from types import MappingProxyType

from pixelprep.exporters.base import Exporter
from pixelprep.exporters.hdf5 import Hdf5Exporter
from pixelprep.exporters.npz import NpzExporter
from pixelprep.exporters.png import PngExporter
from pixelprep.exporters.tfrecord import TfRecordExporter

__all__ = ["EXPORTERS", "Exporter"]

EXPORTERS: Mapping[str, Exporter] = MappingProxyType(
    {
        "npz": NpzExporter(),
        "tfrecord": TfRecordExporter(),
        "png": PngExporter(),
        "hdf5-single": Hdf5Exporter(),
    }
)
