"""Use generators as a source: what they yield is spooled to files."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from pixelprep.errors import UsageError, unknown_choice
from pixelprep.format.options import DecodeOptions, PrepareOptions
from pixelprep.format.recipe import SPLITS
from pixelprep.format.source_record import TASKS
from pixelprep.sources.base import Provenance, Source
from pixelprep.sources.libraries.spool import ROW_OPTIONS, Row, RowsSource, RowStreams

OPTIONS = ROW_OPTIONS | {"layout"}
GENERATED = Provenance("rows of a generator", "not stated")


def from_generator(
    name: str,
    splits: Mapping[str, Callable[[], Iterable[Row]]],
    class_names: Sequence[str] = (),
    *,
    task: str = "classification",
    provenance: Provenance = GENERATED,
    version: str | None = None,
    **decode: object,
) -> Source:
    """Make a source of functions that yield images and labels, for data larger than memory.

    Rows are written to files of the cache one by one, every time that the source is prepared;
    with a `version`, once.

    Parameters
    ----------
    name : str
        The name of the dataset's folder in the cache.
    splits : mapping
        By split, ``train`` and perhaps ``val`` and ``test``, a function without arguments. It
        returns an iterator of (image, label) or (image, label, name): images are arrays (H, W) or
        (H, W, C) of one shape and type, images of Pillow's, the bytes of image files, or tensors
        (C, H, W) of torch's. Labels are as `Arrays` has them. Rows that come sorted by class are
        mixed.
    class_names : sequence of str, optional
        Default: the labels themselves, as text.
    task : {"classification", "multilabel"}
        Whether a row has one class, or has each class or has it not.
    provenance : Provenance, optional
        The origin of the images, and the terms of their use.
    version : str, optional
        Your word for the data as it is now, such as ``"2026-11"``: the same name, version and
        options are the same data, and no function is called again. Whoever changes the data, or
        how the functions read it, and not this word, gets the entry of the old data.
    **decode : object
        How pictures are decoded, as `prepare` has these options: ``size``, ``color``, ``alpha``,
        ``orientation``, ``page``, ``on_error``; of arrays ``layout``, of flat rows ``shape``; and
        ``labels_from``, ``renumber``, ``on_leak``.

    Returns
    -------
    Source
        What `prepare` takes.

    Raises
    ------
    UsageError
        When a split or an option has another name, or the version is no text.

    Examples
    --------
    >>> import numpy as np
    >>> import pixelprep
    >>> def rows():
    ...     yield from ((np.full((8, 8), 9 * i, np.uint8), i % 2) for i in range(20))
    >>> source = pixelprep.from_generator("shades", {"train": rows}, ["even", "odd"])
    >>> pixelprep.prepare(source, mode="normalize", quiet=True).train.shape
    (20, 8, 8, 1)
    """
    for split, start in splits.items():
        if split not in SPLITS:
            raise unknown_choice("splits", split, SPLITS)
        if not callable(start):
            got = f"`splits`: {split} is a {type(start).__name__}"
            raise UsageError(f"{got}: expected a function that returns an iterator")
    if task not in TASKS:
        raise unknown_choice("task", task, TASKS)
    rows, options = RowStreams(splits, tuple(class_names), task), row_options(decode)
    return RowsSource(
        name, lambda _: rows, provenance, options, pinned(version, name, rows, options)
    )


def pinned(
    version: str | None, name: str, rows: RowStreams, options: DecodeOptions, *keys: str | None
) -> dict[str, object] | None:
    """Return the identity of rows that a version stands for; None without one."""
    if version is None:
        return None
    if not isinstance(version, str) or not version.strip():
        expected = f"`version={version!r:.80}`: expected a word for the data as it is now"
        raise UsageError(expected, 'such as version="2026-11"')
    about = {"rows": name, "version": version, "splits": list(rows.splits), "task": rows.task}
    return {**about, "classes": list(rows.class_names), "keys": keys, "layout": options.layout}


def row_options(given: Mapping[str, object]) -> DecodeOptions:
    """Check options of decoding that are given by name."""
    for name in given:
        if name not in OPTIONS:
            raise unknown_choice("decode", name, sorted(OPTIONS))
    checked: DecodeOptions = PrepareOptions(**given)  # type: ignore[arg-type] # it checks them
    return checked
