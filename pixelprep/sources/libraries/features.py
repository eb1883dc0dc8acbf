"""Find the columns of images and of labels in a table of Hugging Face's form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any  # Any: JSON of another library, and values of its rows

import numpy as np

from pixelprep.errors import SourceError
from pixelprep.sources.libraries.spool import Row
from pixelprep.system import formatting

LABELS = ("label", "labels", "class", "target", "category")  # what a column may be called
ARRAYS = ("Array2D", "Array3D")


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read of each row."""

    image: str
    label: str
    class_names: tuple[str, ...] = ()
    dtype: str | None = None  # of arrays; pictures have none

    def row(self, image: Any, label: Any) -> Row:
        """Return a row for the spool: an array, or a picture's bytes, its label, and its path."""
        if self.dtype is not None:
            return np.asarray(image, self.dtype), label
        if not isinstance(image, Mapping):
            return image, label
        content, path = image["bytes"], image.get("path")
        return (content, label, path) if path else (content, label)


def find_columns(
    where: str, features: Mapping[str, Any], image: str | None = None, label: str | None = None
) -> Columns:
    """Choose columns by their features, as `datasets` writes them; refuse a choice that is open."""
    kinds = {name: str(one.get("_type")) for name, one in features.items() if "_type" in one}
    images = [name for name, kind in kinds.items() if kind in ("Image", *ARRAYS)]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    plain = [name for name in features if name.lower() in LABELS and name not in images]
    found_image = _one(where, "image", image, images, features)
    found_label = _one(where, "label", label, labels or plain, features)
    kind = kinds.get(found_image)
    dtype = str(features[found_image]["dtype"]) if kind in ARRAYS else None
    return Columns(found_image, found_label, names_of(features, found_label), dtype)


def names_of(features: Mapping[str, Any], label: str) -> tuple[str, ...]:
    """Return the class names that a column's labels count; none where it has no such."""
    return tuple(map(str, features.get(label, {}).get("names") or ()))


def _one(
    where: str, what: str, given: str | None, found: list[str], every: Mapping[str, Any]
) -> str:
    if given is not None and given not in every:
        has = formatting.shorten(list(every))
        raise SourceError(f"{where}: `{what}s_key={given}`: no such column; it has {has}")
    if given is None and len(found) != 1:
        listed = formatting.shorten(found or list(every))
        which = f"{len(found)} columns may be the {what}" if found else f"no column is the {what}"
        hint = f"name it: `{what}s_key={(found or list(every) or ['NAME'])[0]}`"
        raise SourceError(f"{where}: {which}: {listed}", hint)
    return given or found[0]
