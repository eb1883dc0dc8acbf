"""Use arrays in memory as a source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any  # Any: pixels and labels of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError, UsageError, unknown_choice
from pixelprep.format.options import ON_ERROR, ON_LEAK, check_layout
from pixelprep.format.source_record import TASKS
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Provenance, Raw, SourceContext

IN_MEMORY = Provenance("arrays in memory", "not stated")
# What arguments have to be, and how that is said.
KINDS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("name", (str,), "text"),
    ("class_names", (tuple, list), "a tuple of text"),
    ("provenance", (Provenance,), "a pixelprep.sources.Provenance"),
    ("names", (Mapping, type(None)), "the names of each split's rows, by split"),
    ("labels_from", (int, type(None)), "a whole number"),
    ("renumber", (bool,), "True or False"),
)


@dataclass(frozen=True, slots=True)
class Arrays:
    """A source whose images are in memory.

    Parameters
    ----------
    name : str
        The name of the dataset's folder in the cache.
    train : tuple of ndarray
        Images, integers of 8 or 16 bits or floats, (N, H, W) or (N, H, W, C), and labels, integers
        or text (N,), or one-hot (N, K); of several classes a row: 0 and 1, (N, K).
    test : tuple of ndarray, optional
        Likewise, of a test split.
    class_names : tuple of str, optional
        Default: the labels themselves, as text.
    provenance : Provenance, optional
        The origin of the images, and the terms of their use.
    val : tuple of ndarray, optional
        Likewise, of a validation split.
    task : {"classification", "multilabel"}
        Whether a row has one class, or has each class or has it not.
    names : mapping, optional
        By split the name of each row, such as its file's path.
    layout : str, optional
        The order of the images' axes, where it is another: ``"nchw"``.
    labels_from : int, optional
        The number of the first class. Default: 0.
    renumber : bool
        Number only the classes that occur, in order.
    on_leak : {"warn", "fail", "drop"}, optional
        When an image of train is in another split, too: say so, stop, or leave it out there.
    on_error : {"fail", "skip"}, optional
        When a label is -1 beside `class_names`, which means none: stop, or leave the image out.

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
    test: tuple[NDArray[Any], NDArray[Any]] | None = None
    class_names: tuple[str, ...] = ()
    provenance: Provenance = IN_MEMORY
    val: tuple[NDArray[Any], NDArray[Any]] | None = None
    task: str = "classification"
    names: Mapping[str, Sequence[str]] | None = None
    layout: str | None = None
    labels_from: int | None = None
    renumber: bool = False
    on_leak: str | None = None
    on_error: str | None = None

    def __post_init__(self) -> None:
        """Refuse arguments of other types, before anything acts on them."""
        pair: object
        for name, pair in {"train": self.train, "test": self.test, "val": self.val}.items():
            if pair is None and name != "train":
                continue
            parts = len(pair) if isinstance(pair, tuple | list) else 0
            if parts != 2:
                got = type(pair).__name__ + (f" of {parts}" if parts else "")
                wrong = f"`{name}`: expected two arrays, images and labels, got {got}"
                raise UsageError(wrong, f"{name}=(images, labels)")
        for name, kind, expected in KINDS:
            if not isinstance(value := getattr(self, name), kind):
                raise UsageError(f"`{name}={value!r:.80}`: expected {expected}")
        for rows in (self.names or {}).values():
            if isinstance(rows, str | bytes) or not hasattr(rows, "__len__"):
                wrong = f"`names={self.names!r:.80}`: expected a list of each split's names"
                raise UsageError(wrong, 'names={"train": ["a.png", "b.png"]}')
        if not all(isinstance(one, str) for one in self.class_names):
            wrong = f"`class_names={self.class_names!r:.80}`: expected the text of each"
            raise UsageError(wrong, 'class_names=("cat", "dog")')

    @property
    def splits(self) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """Images and labels of the splits that there are, by name."""
        every = {"train": self.train, "val": self.val, "test": self.test}
        return {name: pair for name, pair in every.items() if pair is not None}

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
        if self.task not in TASKS:
            raise unknown_choice("task", self.task, TASKS)
        for option, choices in {"on_leak": ON_LEAK, "on_error": ON_ERROR}.items():
            if (given := getattr(self, option)) not in (None, *choices):
                raise unknown_choice(option, str(given), choices)
        if self.layout is not None:
            check_layout("layout", self.layout)
        try:
            pairs = {n: (np.asarray(x), np.asarray(y)) for n, (x, y) in self.splits.items()}
        except ValueError as error:  # of lists: "setting an array element with a sequence. …"
            uneven = f"{self.name}: images or labels are no array: {str(error).partition('.')[0]}"
            raise SourceError(uneven, "give each row the same shape") from None
        return assemble(self.name, pairs, self, self.task, self.class_names, self.names)
