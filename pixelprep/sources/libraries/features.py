"""Find the columns of images and of labels in a table of Hugging Face's form."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any  # Any: JSON of another library, and values of its rows

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources.libraries.spool import Row
from pixelprep.sources.pictures import tables
from pixelprep.system import formatting, notices

LOG = logging.getLogger("pixelprep")

LABELS = ("label", "labels", "class", "target", "category")  # what a column may be called
ARRAYS = ("Array2D", "Array3D")
LISTS = ("List", "LargeList", "Sequence")
WIDE = ("int32", "int64", "uint32", "uint64")  # of lists of numbers, which have no type of pixels


@dataclass(frozen=True, slots=True)
class RowColumns:
    """What is read of each row."""

    image: str
    label: str
    class_names: tuple[str, ...] = ()
    dtype: str | None = None  # of arrays and lists; pictures have none
    group: str | None = None
    split: str | None = None  # the rows' splits, where files do not tell them
    several: bool = False  # whether labels are lists of the numbers of classes

    def row(self, image: Any, label: Any, *group: Any) -> Row:
        """Return a row for the spool: an array, or a picture's bytes, its label, and its path."""
        if group:
            plain = self.row(image, label)
            return (*plain, None, *group) if len(plain) == 2 else (*plain, *group)
        if self.dtype in WIDE:
            return image, label
        if self.dtype is not None:
            return np.asarray(image, self.dtype), label
        if not isinstance(image, Mapping):
            return image, label
        content, path = image["bytes"], image.get("path")
        return (content, label, path) if path else (content, label)


def find_columns(
    where: str, features: Mapping[str, Any], image: str | None = None, label: str | None = None
) -> RowColumns:
    """Choose columns by their features, as `datasets` writes them; refuse a choice that is open."""
    kinds = {name: str(one.get("_type")) for name, one in features.items() if "_type" in one}
    lists = {name: dtype for name, one in features.items() if (dtype := _dtype_of_list(one))}
    images = [name for name, kind in kinds.items() if kind in ("Image", *ARRAYS)]
    images = images or [name for name in lists if name.lower() not in LABELS]
    labels = [name for name, one in features.items() if _is_classes(one)]
    plain = [name for name in features if name.lower() in LABELS and name not in images]
    likely = [name for name, one in features.items() if name not in images and _is_plain(one)]
    likely.sort(key=lambda name: not any(word in name.lower() for word in LABELS))
    found_image = _one(where, "image", image, images, images, features)
    found_label = _one(where, "label", label, labels or plain, likely, features)
    dtype = lists.get(found_image)
    if kinds.get(found_image) in ARRAYS:
        dtype = str(features[found_image]["dtype"])
    several = _is_classes(features[found_label]) and kinds[found_label] != "ClassLabel"
    names = names_of(features, found_label)
    return RowColumns(found_image, found_label, names, dtype, several=several)


def tell_columns(where: str, columns: RowColumns, names: Iterable[str]) -> None:
    """Say what was taken for what, and what is not used."""
    roles = tables.Roles(columns.image, (columns.label,), columns.split, columns.group)
    told = roles.told(list(names))
    is_plain = columns.split is None and "not used" not in told
    (LOG.info if is_plain else notices.tell)("%s: %s", where, told)


def names_of(features: Mapping[str, Any], label: str) -> tuple[str, ...]:
    """Return the class names that a column's labels count; none where it has no such."""
    found = features.get(label, {})
    found = found["feature"] if found.get("_type") in LISTS else found
    return tuple(map(str, found.get("names") or ()))


def _is_classes(feature: Mapping[str, Any]) -> bool:
    """Return whether a column has the number of a class, or lists of such numbers."""
    if feature.get("_type") in LISTS:
        feature = feature["feature"]
    return feature.get("_type") == "ClassLabel"


def _dtype_of_list(feature: Mapping[str, Any]) -> str | None:
    """Return the type of the numbers in lists, perhaps nested ones; None of anything else."""
    if feature.get("_type") not in LISTS:
        return None
    while feature.get("_type") in LISTS:
        feature = feature["feature"]
    dtype = str(feature.get("dtype"))
    return dtype if dtype.startswith(("int", "uint", "float")) else None


def _is_plain(feature: Mapping[str, Any]) -> bool:
    """Return whether a column may hold labels: numbers or text, or what is not known."""
    return feature.get("_type", "Value") in ("Value", "ClassLabel")


EXPECTED = {
    "image": "expected a column of the bytes of pictures, or of lists of numbers",
    "label": "expected a column of numbers, or of text",
}


def _one(
    where: str,
    what: str,
    given: str | None,
    found: list[str],
    likely: list[str],
    every: Mapping[str, Any],
) -> str:
    """Return the column that is given, or the only one that is found; else say what may be it."""
    if given is not None and given not in every:
        has = formatting.shorten(list(every))
        raise SourceError(f"{where}: `{what}s_key={given}`: no such column; it has {has}")
    if given is None and len(found) != 1:
        listed = formatting.shorten(found or list(every))
        which = f"{len(found)} columns may be the {what}" if found else f"no column is the {what}"
        named = found or likely
        hint = f"name it: `{what}s_key={named[0]}`" if named else EXPECTED[what]
        raise SourceError(f"{where}: {which}: {listed}", hint)
    return given or found[0]
