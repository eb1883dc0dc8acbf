"""Read a user's MATLAB file of a version before 7.3; later ones are HDF5."""

import os
from dataclasses import replace

from pixelprep.errors import UsageError
from pixelprep.format.options import MATLAB
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Raw, SourceContext
from pixelprep.sources.containers import mat
from pixelprep.sources.local import LocalSource


class MatFile(LocalSource):
    """One ``.mat`` file, all of whose images are train."""

    supported_options = frozenset(
        {"images_key", "labels_key", "layout", "labels_from", "renumber", "on_leak"}
    )

    def load(self, context: SourceContext) -> Raw:
        """Read images and labels, which a process of its own copies."""
        images, labels = self.options.images_key, self.options.labels_key
        if bool(images) != bool(labels):
            raise UsageError("`images_key` and `labels_key`: expected both or none")
        keys = ((images, labels),) if images and labels else mat.USUAL_KEYS
        pairs = mat.read_arrays({"train": self.path}, keys, context)
        options = replace(self.options, layout=self.options.layout or MATLAB)
        return assemble(os.fspath(self.path), pairs, options)
