"""Use arrays in memory as a source."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.sources.base import Provenance, Raw, SourceContext, as_split, numbered_classes

IN_MEMORY = Provenance("arrays in memory", "not stated")


@dataclass(frozen=True, slots=True)
class Arrays:
    """A source whose images are in memory.

    Parameters
    ----------
    name : str
        The name of the dataset's folder in the cache.
    train, test : tuple of ndarray
        Images, integers of 8 or 16 bits or floats, (N, H, W) or (N, H, W, C), and labels, integers
        (N,).
    class_names : tuple of str, optional
        Default: the labels themselves, as text.
    provenance : Provenance, optional
        The origin of the images, and the terms of their use.

    Examples
    --------
    >>> import numpy as np
    >>> import pixelprep
    >>> images, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
    >>> arrays = pixelprep.Arrays("blank", (images, labels), (images, labels))
    >>> pixelprep.prepare(arrays, mode="normalize", quiet=True).test.shape
    (2, 8, 8, 1)
    """

    name: str
    # Several dtypes are accepted.
    train: tuple[NDArray[Any], NDArray[Any]]
    test: tuple[NDArray[Any], NDArray[Any]]
    class_names: tuple[str, ...] = ()
    provenance: Provenance = IN_MEMORY

    def fingerprints(self) -> list[dict[str, object]]:
        """Return none, since arrays can change without a trace.

        Returns
        -------
        list
            Always empty.
        """
        return []

    def load(self, context: SourceContext) -> Raw:
        """Return the arrays, once they are checked.

        Parameters
        ----------
        context : SourceContext
            Not used.

        Returns
        -------
        Raw
            The splits, each with images (N, H, W, C) and labels (N,).

        Raises
        ------
        SourceError
            When images and labels do not fit each other, the splits differ, or a dtype is not
            supported.
        """
        splits = {
            name: as_split(f"{self.name}: {name}", np.asarray(images), np.asarray(labels))
            for name, (images, labels) in (("train", self.train), ("test", self.test))
        }
        class_names = self.class_names or numbered_classes(self.name, splits)
        return Raw(splits, class_names).checked(self.name)
