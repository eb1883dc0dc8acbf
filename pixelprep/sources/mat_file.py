"""Read a user's MATLAB file of whichever version."""

import os
from dataclasses import replace

from pixelprep.errors import UsageError
from pixelprep.format.options import MATLAB
from pixelprep.sources import mat
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Raw, SourceContext
from pixelprep.sources.hdf5 import Hdf5File
from pixelprep.sources.local import LocalSource

HDF5 = b"\x89HDF\r\n\x1a\n"  # behind the 512 bytes with which a file of version 7.3 begins
HEADER = 512


class MatFile(LocalSource):
    """One ``.mat`` file: HDF5 since version 7.3, before that a format of MATLAB's own."""

    supported_options = Hdf5File.supported_options

    def load(self, context: SourceContext) -> Raw:
        """Read images and labels, all of them as train where version 7.3 names no split."""
        options = replace(self.options, layout=self.options.layout or MATLAB)
        with self.path.open("rb") as file:
            start = file.read(HEADER + len(HDF5))
        if HDF5 in (start[: len(HDF5)], start[HEADER:]):
            return Hdf5File(self.path, options).load(context)
        images, labels = options.images_key, options.labels_key
        if bool(images) != bool(labels):
            raise UsageError("`images_key` and `labels_key`: expected both or none")
        keys = ((images, labels),) if images and labels else mat.USUAL_KEYS
        pairs = mat.read_arrays({"train": self.path}, keys, context)
        return assemble(os.fspath(self.path), pairs, options)
