"""What each entry of the cache was asked for as, so that it can be made again when it is damaged.

That is not in the entry: where the user's own data lies says nothing about the bytes.
"""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from pixelprep import files
from pixelprep.recipe import Choices
from pixelprep.store import layout

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


def of_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """As far as a manifest tells them: all of them where the dataset is known by name."""
    recipe = manifest["recipe"]
    names = [one.name for one in fields(Choices) if recipe.get(one.name) is not None]
    return {"dataset": manifest["dataset"], **{name: recipe[name] for name in names}}


def options(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The options that make such an entry: mode, per, and what is not as it is by default."""
    usual = {one.name: one.default for one in fields(Choices)}
    decode = manifest["source"]["decode"]
    known = {"split_seed": decode.get("split_seed", 0), **of_manifest(manifest)}
    known["shard_rows"] = _shard_rows(manifest)
    if manifest["mode"] == "normalize":  # which divides anyway
        known["rescale"] = False
    told = ("mode", "per")
    asked = {name: known[name] for name in usual if name in told or known[name] != usual[name]}
    if "size" in decode:
        asked["size"] = "x".join(map(str, decode["size"]))
    asked |= {name: decode[name] for name in ("color", "test_fraction") if name in decode}
    return asked | ({"on_error": "skip"} if "skipped" in decode else {})


def _shard_rows(manifest: Mapping[str, Any]) -> int | None:
    """Rows a file, where they are not the usual ones."""
    splits, recipe = manifest["splits"], manifest["recipe"]
    most = max(split["rows"] for split in splits.values())
    usual = layout.shard_rows(splits["train"]["shape"][1:], recipe["dtype"])
    asked = recipe["shard_rows"] or most
    return None if min(asked, most) == min(usual, most) else int(asked)


def _note(path: Path, cache: Path) -> Path:
    return cache / files.ORIGINS / path.parent.name / f"{path.name}.json"
