"""What the card of a dataset on the Hugging Face hub, its README.md, tells of its files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any  # Any: YAML

from pixelprep.errors import SourceError
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting, notices

# What a pattern of files may hold, as the library `datasets` has it; all else is as it is.
WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def files(
    where: str, card: Mapping[str, Any], config: str | None, names: Sequence[str]
) -> dict[str, list[Path]]:
    """Choose the files of each split by the patterns of a configuration; none where it has none."""
    configs = [one for one in card.get("configs") or () if one.get("data_files")]
    if config is None and len(configs) > 1:
        chosen = [one for one in configs if one.get("default") or one["config_name"] == "default"]
        if len(chosen) != 1:
            known = [str(one["config_name"]) for one in configs]
            has = f"expected one of its configurations, {formatting.shorten(known)}"
            raise SourceError(f"{where}: {has}", f"choose one: {where}/{known[0]}")
        configs = chosen
    fitting = [one for one in configs if config in (None, one.get("config_name"))]
    if not fitting:
        return {}
    found, others = dict[str, list[Path]](), list[str]()
    for word, patterns in _patterns(fitting[0]["data_files"]):
        split, matching = split_of(word), _matching(names, fitting[0].get("data_dir"), patterns)
        if split is None or split in found:
            others.append(word)
        elif matching:
            found[split] = matching
    if found and others:
        notices.tell("%s: splits that are not used: %s", where, formatting.shorten(others))
    return found


def _patterns(given: Any) -> list[tuple[str, list[str]]]:
    """Return the patterns of each split: those of no split are of train."""
    every = given if isinstance(given, list) else [given]
    plain = [one for one in every if isinstance(one, str)]
    named = [
        (str(one["split"]), [one["path"]] if isinstance(one["path"], str) else one["path"])
        for one in every
        if isinstance(one, dict)
    ]
    return [*named, *([("train", plain)] if plain else [])]


def _matching(names: Sequence[str], folder: str | None, patterns: Sequence[str]) -> list[Path]:
    prefix = f"{folder.strip('/')}/" if folder else ""
    every = [re.compile(_regular(prefix + pattern.removeprefix("./"))) for pattern in patterns]
    return [Path(name) for name in names if any(one.fullmatch(name) for one in every)]


def _regular(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(WILD.get(part, re.escape(part)) for part in parts)


def features(card: Mapping[str, Any], config: str | None) -> Mapping[str, Any] | None:
    """Return the features that a card describes, as its Parquet files would have them."""
    about = card.get("dataset_info") or {}
    several = about if isinstance(about, list) else [about]
    fitting = [one for one in several if config in (None, one.get("config_name"))] or several
    found: dict[str, Any] = {}
    for feature in fitting[0].get("features") or ():
        kind = feature.get("dtype")
        names = kind.get("class_label", {}).get("names") if isinstance(kind, dict) else None
        if names is not None:  # by number, as text
            ordered = [names[key] for key in sorted(names, key=int)]
            found[feature["name"]] = {"_type": "ClassLabel", "names": ordered}
        else:
            found[feature["name"]] = {"_type": "Image"} if kind == "image" else {}
    return found or None
