"""What each entry of the cache was asked for as, so that it can be made again when it is damaged.

That is not in the entry: where the user's own data lies says nothing about the bytes.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from pixelprep.format import layout
from pixelprep.format.manifest import Manifest
from pixelprep.format.options import (
    REPAIR_OPTIONS,
    DecodeOptions,
    RecipeOptions,
    declared_options,
    json_types,
)
from pixelprep.numerics.scaling import normalize_options
from pixelprep.system import fs, records

PATHS = ("dataset", "source")  # kept as URLs: a path may hold bytes that are no text
FILE = "file://"
KINDS: dict[str, tuple[type, ...]] = {
    "dataset": (str,),
    **{name: json_types(name) for name in REPAIR_OPTIONS},
}


def save_request(path: Path, cache: Path, asked: Mapping[str, Any]) -> None:
    """Keep the arguments of ``prepare`` that the entry in this folder of the cache came from."""
    record = dict(asked)
    for name in PATHS:
        value = record.get(name)
        if value is not None and (name == "source" or os.sep in os.fspath(value)):
            record[name] = fs.expand_user(value).absolute().as_uri()
    records.write(_record_path(path, cache), record)


def load_request(path: Path, cache: Path) -> dict[str, Any] | None:
    """These arguments; None where they are not known."""
    record = records.read(_record_path(path, cache))
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


def has_request(path: Path, cache: Path) -> bool:
    """Whether something is kept, which is not read."""
    try:
        return _record_path(path, cache).stat().st_size > 0
    except OSError:
        return False


def delete_request(path: Path, cache: Path) -> None:
    """No longer keep them."""
    records.delete(_record_path(path, cache))


def _record_path(path: Path, cache: Path) -> Path:
    return cache / fs.ORIGINS / path.parent.name / f"{path.name}.json"


def request_of(manifest: Manifest) -> dict[str, Any]:
    """What an entry was asked for as, as far as its manifest tells.

    That is all where the dataset is known by name.
    """
    recipe = manifest["recipe"]
    names = [name for name in declared_options(RecipeOptions) if recipe.get(name) is not None]
    return {"dataset": manifest["dataset"], **{name: recipe[name] for name in names}}


def options_of(manifest: Manifest) -> dict[str, Any]:
    """The options that make such an entry: the mode, and what is not as it is by default."""
    usual, decode = asdict(RecipeOptions()), manifest["source"]["decode"]
    known = {"split_seed": decode.get("split_seed", 0), **request_of(manifest)}
    known["shard_rows"] = _shard_rows(manifest)
    plain = {"per": usual["per"], "rescale": usual["rescale"]}
    raw_dtype = manifest["scaling"]["raw_dtype"]
    if normalize_options(known["mode"], **plain, dtype=raw_dtype) == (
        known["per"],
        known["rescale"],
    ):
        known |= plain  # which come to the same
    told = {name: known[name] for name in usual if name == "mode" or known[name] != usual[name]}
    told |= {name: decode[name] for name in declared_options(DecodeOptions) if name in decode}
    return told | ({"on_error": "skip"} if "skipped" in decode else {})


def _shard_rows(manifest: Manifest) -> int | None:
    """Rows a file, where they are not the usual ones."""
    splits, recipe = manifest["splits"], manifest["recipe"]
    most = max(split["rows"] for split in splits.values())
    usual = layout.file_rows(splits["train"]["shape"][1:], recipe["dtype"])
    given = recipe["shard_rows"] or most
    return None if min(given, most) == min(usual, most) else int(given)
