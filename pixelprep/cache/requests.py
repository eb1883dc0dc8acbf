"""Record the arguments of `prepare` behind each entry, so that a damaged one can be made again.

The record lies outside the entry: the path of the user's data says nothing about the bytes.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any  # Any: arguments of `prepare`, of several types
from urllib.parse import unquote_to_bytes

from pixelprep.format import layout
from pixelprep.format.manifest import Manifest
from pixelprep.format.options import (
    REPAIR_OPTIONS,
    RecipeOptions,
    declared_options,
    decode_options,
    json_types,
)
from pixelprep.numerics.scaling import normalize_options
from pixelprep.sources import is_path
from pixelprep.system import fs, records

PATHS = ("dataset", "source")  # recorded as URLs: the bytes of a path need not be text
FILE = "file://"
KINDS: dict[str, tuple[type, ...]] = {"dataset": (str,)}
KINDS |= {name: json_types(name) for name in REPAIR_OPTIONS}
TOLD = "told"  # beside the arguments: what was said of the data when it was read


def save_request(
    path: Path, cache: Path, request: Mapping[str, Any], told: Sequence[str] = ()
) -> None:
    """Record the arguments of `prepare` that made the entry in this folder of the cache.

    Also record what was told of the data meanwhile (`system.notices`).
    """
    record = dict(request) | ({TOLD: [*told]} if told else {})
    for name in PATHS:
        value = record.get(name)
        if value is not None and (name == "source" or is_path(value)):
            record[name] = fs.expand_user(value).absolute().as_uri()
    records.write(_record_path(path, cache), record)


def load_request(path: Path, cache: Path) -> dict[str, Any] | None:
    """Return the recorded arguments of `prepare`; None if there are none, or odd ones."""
    record = records.read(_record_path(path, cache))
    if record is not None:
        record = {name: value for name, value in record.items() if name != TOLD}
    if record is None or not isinstance(record.get("dataset"), str):
        return None
    if not all(name in KINDS and isinstance(record[name], KINDS[name]) for name in record):
        return None  # `prepare` checks the values
    for name in PATHS:
        value = record.get(name)
        if isinstance(value, str) and value.startswith(FILE):
            record[name] = os.fsdecode(unquote_to_bytes(value.removeprefix(FILE)))
    return record


def origin(path: Path, cache: Path) -> str | None:
    """Return what the entry in this folder was made from: a known name, or the path of a user's.

    None where that is not recorded, as of arrays in memory.
    """
    request = load_request(path, cache)
    return None if request is None else str(request["dataset"])


def load_told(path: Path, cache: Path) -> list[str]:
    """Return what was told of the data when the entry in this folder was made."""
    told = (records.read(_record_path(path, cache)) or {}).get(TOLD, [])
    return [str(line) for line in told] if isinstance(told, list) else []


def has_request(path: Path, cache: Path) -> bool:
    """Tell whether there is a record, without reading it."""
    try:
        return _record_path(path, cache).stat().st_size > 0
    except OSError:
        return False


def delete_request(path: Path, cache: Path) -> None:
    records.delete(_record_path(path, cache))


def _record_path(path: Path, cache: Path) -> Path:
    return cache / fs.ORIGINS / path.parent.name / f"{path.name}.json"


def request_of(manifest: Manifest) -> dict[str, Any]:
    """Return the arguments of `prepare` that a manifest holds: all, for a registered dataset."""
    recipe = manifest.recipe.to_dict()
    names = [name for name in declared_options(RecipeOptions) if recipe[name] is not None]
    return {"dataset": manifest.dataset, **{name: recipe[name] for name in names}}


def options_of(manifest: Manifest) -> dict[str, Any]:
    """Return the options that make such an entry: the mode, and all that are not the default."""
    defaults, decode = asdict(RecipeOptions()), manifest.source.decode
    options = {"split_seed": decode.get("split_seed", 0), **request_of(manifest)}
    most = max(split.rows for split in manifest.splits.values())
    shape, given = manifest.splits["train"].shape[1:], manifest.recipe.shard_rows or most
    is_default = min(given, most) == min(layout.file_rows(shape, manifest.recipe.dtype), most)
    options["shard_rows"] = None if is_default else given
    usual = {"per": defaults["per"], "rescale": defaults["rescale"]}
    normalized = normalize_options(manifest.mode, **usual, dtype=manifest.scaling.raw_dtype)
    if normalized == (manifest.per, manifest.recipe.rescale):
        options |= usual  # they have the same effect
    names = [name for name in defaults if name == "mode" or options[name] != defaults[name]]
    changed = {name: options[name] for name in names}
    return changed | decode_options(decode) | ({"on_error": "skip"} if "skipped" in decode else {})
