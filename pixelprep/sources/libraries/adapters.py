"""Use datasets of other libraries as a source: Hugging Face's, and torch's."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any  # Any: objects of other libraries

from pixelprep.errors import SourceError, UsageError
from pixelprep.sources.base import Provenance, Source
from pixelprep.sources.libraries.features import (
    LABELS,
    RowColumns,
    find_columns,
    names_of,
    tell_columns,
)
from pixelprep.sources.libraries.generator import pinned, row_options
from pixelprep.sources.libraries.spool import Row, RowsSource, RowStreams, class_matcher
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting

IMAGES = ("image", "images", "img", "pixels", "pixel_values", "data")  # as items may have them
GIVEN = "give `test` and `val` as datasets of their own"


def from_dataset(
    train: Any,
    *,
    test: Any = None,
    val: Any = None,
    name: str | None = None,
    class_names: Sequence[str] = (),
    images_key: str | None = None,
    labels_key: str | None = None,
    version: str | None = None,
    **decode: object,
) -> Source:
    """Make a source of a dataset of Hugging Face's `datasets`, or of torch's with a length.

    It is read row by row, every time that it is prepared; with a `version`, once. The bytes of
    Hugging Face's pictures are decoded as files are; other formats and transforms that are set
    there do not count. Of torch's the items are taken, (image, label) or a dict of these, with
    their transforms: an image is one of Pillow's, an array (H, W, C) or a tensor (C, H, W). Random
    transforms are better left to training.

    Parameters
    ----------
    train : Dataset or DatasetDict
        The training data, or all splits.
    test, val : Dataset, optional
        The other splits.
    name : str, optional
        The name of the dataset's folder in the cache. Default: the library's, or ``dataset``.
    class_names : sequence of str, optional
        Default: those of its ``ClassLabel``, or its ``classes``; else the labels, as text.
    images_key, labels_key : str, optional
        The columns, where Hugging Face's features leave a choice; the keys of items that are dicts.
    version : str, optional
        Your word for the data as it is now, such as ``"2026-11"``: the same name, version, number
        of rows and options are the same data, and no row is read again. Whoever changes the data or
        its transforms, and not this word, gets the entry of the old data.
    **decode : object
        As for `from_generator`.

    Returns
    -------
    Source
        What `prepare` takes.

    Raises
    ------
    UsageError, SourceError
        When it is no such dataset, or its columns leave a choice.

    Examples
    --------
    >>> import numpy as np
    >>> import pixelprep
    >>> items = [(np.full((8, 8), 9 * i, np.uint8), i % 2) for i in range(20)]
    >>> source = pixelprep.from_dataset(items, name="shades")
    >>> pixelprep.prepare(source, mode="normalize", quiet=True).train.shape
    (20, 8, 8, 1)
    """
    given = {"train": train, "val": val, "test": test}
    found = {split: one for split, one in given.items() if one is not None}
    if isinstance(train, Mapping):
        if len(found) > 1:
            raise UsageError("`train` holds all splits: expected no `test` and no `val`")
        found = _by_split(train)
    for split, one in found.items():
        if not (hasattr(one, "__getitem__") and hasattr(one, "__len__")):
            got = f"`{split}`: expected a dataset with a length, got a {type(one).__name__}"
            raise UsageError(got, "for what only iterates: pixelprep.from_generator")
    first = found.get("train", next(iter(found.values())))
    kind = type(first).__name__
    names: Sequence[str] = tuple(class_names)
    rows: Mapping[str, Callable[[], Iterable[Row]]]
    if hasattr(first, "features"):
        columns = find_columns(kind, first.features.to_dict(), images_key, labels_key)
        tell_columns(kind, columns, first.features)
        rows = {
            split: partial(_hugging_face_rows, split, one, columns) for split, one in found.items()
        }
        own, names = first.info.dataset_name, names or columns.class_names
    else:
        rows = items_by_split(found, images_key, labels_key)
        own, names = None, names or classes_of(first)
    about = Provenance(f"a dataset in memory ({kind})", "not stated")
    every, options = RowStreams(rows, tuple(names)), row_options(decode)
    called = name or own or "dataset"
    # The `_fingerprint` of Hugging Face's datasets (5.2.0) is none of the rows: it stays as it is
    # when a picture's file changes, and is the same after `map` with a function that draws lots.
    identity = pinned(version, called, every, options, images_key, labels_key)
    if identity is not None:
        identity["lengths"] = [len(one) for one in found.values()]
    return RowsSource(called, lambda _: every, about, options, identity)


def _by_split(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Take the splits of a `DatasetDict` by the words that people have for them."""
    found: dict[str, Any] = {}
    for word, one in splits.items():
        split = split_of(str(word))
        if split is None or split in found:
            listed = formatting.shorten(list(map(str, splits)))
            raise SourceError(f"splits {listed}: expected train, and perhaps val and test", GIVEN)
        found[split] = one
    return found


def _hugging_face_rows(split: str, dataset: Any, columns: RowColumns) -> "Items":
    """Read a dataset of `datasets`, pictures as the bytes of their files."""
    from datasets import Image

    plain = dataset.with_format(None).select_columns([columns.image, columns.label])
    if columns.dtype is None:
        plain = plain.cast_column(columns.image, Image(decode=False))
    own = names_of(dataset.features.to_dict(), columns.label)
    match = class_matcher(split, own, columns.class_names)

    def convert(row: Mapping[str, Any]) -> Row:
        image = row[columns.image]
        if columns.dtype is None and image["bytes"] is None:  # as of `imagefolder`
            image = {**image, "bytes": Path(image["path"]).read_bytes()}
        return columns.row(image, match(row[columns.label]))

    return Items(plain, convert)


def items_by_split(
    datasets: Mapping[str, Any], *keys: str | None
) -> dict[str, Callable[[], Iterable[Row]]]:
    """Read datasets of torch's, labels as those of train count the classes.

    Of items that are dicts the images and labels are under these keys, or else the usual ones.
    """
    train = classes_of(datasets.get("train"))
    return {split: partial(_items, split, one, train, *keys) for split, one in datasets.items()}


def _items(
    split: str,
    dataset: Any,
    train: Sequence[str],
    image: str | None = None,
    label: str | None = None,
) -> "Items":
    match = class_matcher(split, classes_of(dataset), train)

    def convert(item: Any) -> Row:  # whatever it is, it is checked later
        if isinstance(item, Mapping):
            item = _value_in(item, "image", image, IMAGES), _value_in(item, "label", label, LABELS)
        is_row = isinstance(item, tuple | list) and len(item) > 1
        return (item[0], match(item[1]), *item[2:]) if is_row else item

    return Items(dataset, convert)


class Items:
    """The items of a dataset, by their index."""

    def __init__(self, dataset: Any, convert: Callable[[Any], Row]) -> None:
        self._dataset, self._convert = dataset, convert

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Row]:
        return (self._convert(self._dataset[row]) for row in range(len(self)))


def _value_in(item: Mapping[Any, Any], what: str, given: str | None, usual: Sequence[str]) -> Any:
    """Return the value under the `given` key, or the one usual key that there is."""
    found = [key for key in ([given] if given is not None else usual) if key in item]
    if len(found) != 1:
        has = f"an item has {formatting.shorten(item)}: expected one of {formatting.shorten(usual)}"
        asked = f"`{what}s_key={given}`: " if given is not None else ""
        raise SourceError(f"{asked}{has}", f"name it: `{what}s_key=KEY`")
    return item[found[0]]


def classes_of(dataset: Any) -> tuple[str, ...]:
    """Return the class names of a dataset of torchvision's, or of a `Subset` of it."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    classes: Iterable[Any] = getattr(dataset, "classes", None) or ()
    return tuple(one[0] if isinstance(one, tuple) else str(one) for one in classes)
