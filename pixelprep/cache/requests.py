"""Record the arguments of `prepare` behind each entry, so that a damaged one can be made again.

The record lies outside the entry: the path of the user's data says nothing about the bytes.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any  # Any: arguments of `prepare`, of several types
from urllib.parse import unquote_to_bytes

from pixelprep.cache.trust import in_cache
from pixelprep.format import layout
from pixelprep.format.manifest import Manifest
from pixelprep.format.options import (
    REPAIR_OPTIONS,
    DecodeOptions,
    RecipeOptions,
    ScalingOptions,
    declared_options,
    decode_options,
    json_types,
)
from pixelprep.numerics.modes import DEFAULT_QUANTILES
from pixelprep.numerics.scaling import normalize_options
from pixelprep.sources import is_path
from pixelprep.sources.known.lookup import REGISTRY
from pixelprep.system import fs, notices, records

# Recorded as URLs: the bytes of a path need not be text.
PATHS = ("dataset", "source", "scaling_of")
FILE = "file://"
KINDS: dict[str, tuple[type, ...]] = {"dataset": (str,)}
KINDS |= {name: json_types(name) for name in REPAIR_OPTIONS}
NO_EFFECT = (None, "warn", "fail")  # values of options that change no entry
# Beside the arguments: what was said of the data, and found in it.
TOLD, DUPLICATES, FILES = "told", "duplicates", "files"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of an entry: how it was made, and what was told of its data then."""

    request: dict[str, Any] | None = None  # the arguments of `prepare`
    told: tuple[str, ...] = ()
    duplicates: tuple[notices.Duplicates, ...] = ()
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # what they are

    @property
    def origin(self) -> str | None:
        """What it was made from: a known name, or the path of a user's; None if unknown."""
        return None if self.request is None else str(self.request["dataset"])


def save_request(
    path: Path, cache: Path, request: Mapping[str, Any], told: notices.Told | None = None
) -> None:
    """Record the arguments of `prepare` that made the entry in this folder of the cache.

    Also record what was told of the data meanwhile.
    """
    record = dict(request)
    if told:
        duplicates = [one.to_dict() for one in told.duplicates]
        record |= {TOLD: told.lines, DUPLICATES: duplicates, FILES: told.files}
    for name in PATHS:
        value = record.get(name)
        if value is not None and (name != "dataset" or is_path(value)):
            record[name] = fs.expand_user(value).absolute().as_uri()
    records.write(_record_path(path, cache), record)


def load(path: Path, cache: Path) -> Recorded:
    """Return what is recorded of the entry in this folder; of one that is elsewhere, nothing."""
    record = records.read(_record_path(path, cache)) if in_cache(path, cache) else None
    if record is None:
        return Recorded()
    told, duplicates = record.pop(TOLD, []), record.pop(DUPLICATES, [])
    files = record.pop(FILES, {})
    try:
        found = tuple(map(notices.Duplicates.from_dict, duplicates))
    except (ValueError, TypeError):  # somebody changed it
        found = ()
    lines = tuple(map(str, told)) if isinstance(told, list) else ()
    counted = files if _are_counts(files) else {}
    return Recorded(_checked(record), lines, found, counted)


def _are_counts(files: object) -> bool:
    """Tell counts by kind, as they are recorded, from what somebody made of them."""
    inner = files.values() if isinstance(files, dict) else [None]
    return all(
        isinstance(counts, dict) and all(type(count) is int for count in counts.values())
        for counts in inner
    )


def _checked(request: dict[str, Any]) -> dict[str, Any] | None:
    """Return arguments of `prepare` as they were given; None if there are none, or odd ones."""
    if not isinstance(request.get("dataset"), str):
        return None
    if not all(name in KINDS and isinstance(request[name], KINDS[name]) for name in request):
        return None  # `prepare` checks the values
    for name in PATHS:
        value = request.get(name)
        if isinstance(value, str) and value.startswith(FILE):
            request[name] = os.fsdecode(unquote_to_bytes(value.removeprefix(FILE)))
    return request


def delete_request(path: Path, cache: Path) -> None:
    records.delete(_record_path(path, cache))


def _record_path(path: Path, cache: Path) -> Path:
    return cache / fs.ORIGINS / path.parent.name / f"{path.name}.json"


def request_of(manifest: Manifest) -> dict[str, Any]:
    """Return the arguments of `prepare` that a manifest holds: all, for a registered dataset."""
    recipe = manifest.recipe.to_dict()
    options = {name: recipe[name] for name in declared_options(RecipeOptions)}
    options |= {name: recipe[name] for name in ("channel_order", "limits", "quantiles", "clip")}
    if recipe["quantiles"] == list(DEFAULT_QUANTILES):
        del options["quantiles"]
    options["range"] = recipe["target_range"]
    if manifest.recipe.constants and not manifest.recipe.is_taken_over:
        given = manifest.recipe.constants
        options |= {"mean": list(given.shift), "std": list(given.divisor)}
        options["units"] = None if options.pop("rescale") else "pixel"
        del options["per"]  # which they tell
    return {"dataset": manifest.dataset, **{n: v for n, v in options.items() if v is not None}}


def _dropped(decode: Mapping[str, object]) -> set[str]:
    found = decode.get("dropped")
    return set(found) if isinstance(found, dict) else set()


def options_of(manifest: Manifest, request: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options that make such an entry: the mode, and all that are not the default.

    Of how its data was read, some are in no manifest, but in the `request` that made it.
    """
    defaults = asdict(RecipeOptions()) | asdict(ScalingOptions())
    decode = manifest.source.decode
    options = defaults | {"split_seed": decode.get("split_seed", 0), **request_of(manifest)}
    most = max(split.rows for split in manifest.splits.values())
    shape = manifest.splits[manifest.first_split].shape[1:]
    given = manifest.recipe.shard_rows or most
    is_default = min(given, most) == min(layout.file_rows(shape, manifest.recipe.dtype), most)
    options["shard_rows"] = None if is_default else given
    usual = {"per": defaults["per"], "rescale": defaults["rescale"]}
    dtype, limits = manifest.scaling.raw_dtype, manifest.recipe.limits
    normalized = normalize_options(manifest.mode, **usual, dtype=dtype, limits=limits)
    if normalized == (manifest.per, manifest.recipe.rescale):
        options |= usual  # they have the same effect
    names = [name for name in defaults if name == "mode" or options[name] != defaults[name]]
    if manifest.recipe.is_taken_over:
        taken = ("mode", *usual, *declared_options(ScalingOptions))
        names = [name for name in names if name not in taken]
    changed = {name: options[name] for name in names}
    if manifest.dataset in REGISTRY:  # how its files are read is no choice
        return changed
    asked = {name: (request or {}).get(name) for name in declared_options(DecodeOptions)}
    read = {n: v for n, v in asked.items() if v not in (*NO_EFFECT, getattr(DecodeOptions, n))}
    if request is None:  # which knows better: an export's data was decoded by another
        read |= decode_options(decode) | ({"on_error": "skip"} if "skipped" in decode else {})
        read |= {"on_leak": "drop"} if _dropped(decode) - {"other classes", "no label"} else {}
    return changed | read
