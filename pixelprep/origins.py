"""What each entry of the cache was asked for as, so that it can be made again when it is damaged.

That is not in the entry: where the user's own data lies says nothing about the bytes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from pixelprep import files

PATHS = ("dataset", "source")  # kept as URLs: a path may hold bytes that are no text
FILE = "file://"
NUMBER, TEXT = (int, float), str
KINDS: dict[str, Any] = {
    **dict.fromkeys(("dataset", "source", "mode", "per", "dtype", "compression"), TEXT),
    **dict.fromkeys(("color", "on_error", "images_key", "labels_key"), TEXT),
    **dict.fromkeys(("val_fraction", "test_fraction", "rescale"), NUMBER),
    **dict.fromkeys(("split_seed", "shard_rows"), int),
    "size": (str, list),
}


def remember(path: Path, cache: Path, asked: Mapping[str, Any]) -> None:
    """Keep the arguments of ``prepare`` that the entry in this folder of the cache came from."""
    record = dict(asked)
    for name in PATHS:
        value = record.get(name)
        if value is not None and (name == "source" or os.sep in os.fspath(value)):
            record[name] = files.expanded(value).absolute().as_uri()
    files.remember(_note(path, cache), record)


def recall(path: Path, cache: Path) -> dict[str, Any] | None:
    """These arguments; None where they are not known."""
    record = files.recall(_note(path, cache))
    if record is None or not _is_sound(record):
        return None
    for name in PATHS:
        value = record.get(name)
        if isinstance(value, str) and value.startswith(FILE):
            record[name] = os.fsdecode(unquote_to_bytes(value.removeprefix(FILE)))
    return record


def _is_sound(record: Mapping[str, Any]) -> bool:
    """Whether these can be arguments of ``prepare``; if they are good ones, that says."""
    if not isinstance(record.get("dataset"), str):
        return False
    return all(name in KINDS and isinstance(record[name], KINDS[name]) for name in record)


def is_known(path: Path, cache: Path) -> bool:
    """Whether something is kept, which is not read."""
    try:
        return _note(path, cache).stat().st_size > 0
    except OSError:
        return False


def forget(path: Path, cache: Path) -> None:
    """No longer keep them."""
    files.forget(_note(path, cache))


def _note(path: Path, cache: Path) -> Path:
    return cache / files.ORIGINS / path.parent.name / f"{path.name}.json"
