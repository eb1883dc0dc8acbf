"""What a manifest must hold, whoever wrote it (data/FORMAT.md, section 4).

Everything is checked here, on the JSON as it was read, before it becomes a `Manifest`. Fields that
are not known are ignored.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn  # Any: JSON values of a file that anybody may have written

import numpy as np

from pixelprep.format import layout
from pixelprep.format.recipe import recipe_key, split_files, split_rows
from pixelprep.numerics import permutation
from pixelprep.numerics.scaling import MODES, PER, normalize_options, rescale_unit
from pixelprep.numerics.statistics import statistics_shape
from pixelprep.system import canonical

SPLITS = ("train", "val", "test")
RAW_DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")
STATISTICS = ("mean", "std", "minimum", "maximum")
MAX_NAME_BYTES = 180  # of a dataset's name; with mode and key it must still be a file's name
ROW_BYTES = 64  # of a row that are no pixels: label, statistics, its part of an index
MAX_BYTES = 64 << 20  # of a manifest

# What a value that is of another type than expected can lead to.
BAD_JSON = (
    *(ValueError, KeyError, TypeError, AttributeError, OverflowError),
    *(RecursionError, MemoryError),
)

Check = Callable[[Any], bool]


def is_folder_name(name: str) -> bool:
    """Return whether a dataset's name can be its folder's in a cache."""
    return bool(re.fullmatch(r"\w[\w.-]*", name)) and len(name.encode()) <= MAX_NAME_BYTES


class SchemaError(ValueError):
    """A part of a manifest is not what it must be."""


def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, no name of which is there twice: readers would differ."""
    record = dict(pairs)
    _need(len(record) == len(pairs), "a name is there twice")
    return record


def reject_constants(constant: str) -> NoReturn:
    raise SchemaError(f"{constant} is not JSON")


def _whole(low: int, high: int = 2**63 - 1) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _text(pattern: str) -> Check:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _one_of(*known: Any) -> Check:
    return lambda value: any(type(value) is type(one) and value == one for one in known)


def _list_of(check: Check, least: int = 1) -> Check:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(check, value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.encode() is not None  # which refuses half characters


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


_SHA256 = _text("[0-9a-f]{64}")
_SHAPE: Check = lambda value: _list_of(_whole(1), 4)(value) and len(value) == 4  # noqa: E731

# What each part must hold, at least; fields that are not known are ignored.
_PARTS: dict[str, dict[str, Check]] = {
    "": {
        "dataset": lambda value: isinstance(value, str) and is_folder_name(value),
        **dict.fromkeys(("recipe", "provenance", "source", "scaling"), _is_dict),
        **dict.fromkeys(("statistics", "splits"), _is_dict),
        "key": _text("[0-9a-f]{12}"),
    },
    "recipe": {
        "source": _SHA256,
        "mode": _one_of(*MODES),
        "per": _one_of(*PER),
        "rescale": _one_of(False, True),
        "val_fraction": lambda value: _is_number(value) and 0 <= value < 1,
        "split_seed": lambda value: value is None or _whole(0, permutation.MAX_SEED)(value),
        "dtype": _one_of(*layout.DTYPES),
        "compression": _one_of(*layout.COMPRESSIONS),
        "chunk_rows": _whole(1),
        "shard_rows": lambda value: value is None or _whole(1)(value),
        "format_version": _one_of(layout.FORMAT_VERSION),
        "numerics_version": _whole(1),
    },
    "provenance": dict.fromkeys(("title", "licence", "homepage", "citation"), _is_text),
    "source": {
        "digest": _SHA256,
        "class_names": _list_of(_is_text),
        "splits": _is_dict,
        "decode": _is_dict,
    },
    "scaling": {
        "unit": _whole(1),
        "raw_dtype": _one_of(*RAW_DTYPES),
        **dict.fromkeys((*STATISTICS, "scale", "offset"), lambda value: isinstance(value, list)),
    },
    "statistics": {
        "count": _whole(1),
        **dict.fromkeys(("sum", "sum_of_squares"), _is_number),
    },
}
_SOURCE_SPLIT: dict[str, Check] = {
    "dtype": _one_of(*RAW_DTYPES),
    "shape": _SHAPE,
    "images": _SHA256,
    "labels": _SHA256,
}
_SPLIT: dict[str, Check] = {
    "rows": _whole(1),
    "shape": _SHAPE,
    "dtype": _one_of(*layout.DTYPES),
    "bytes": _whole(1),
    "raw": _is_dict,
    "first_batch": _is_dict,
    "files": _list_of(_is_dict),
}
_FILE: dict[str, Check] = {
    "name": _is_text,
    "rows": _whole(1),
    "bytes": _whole(1),
    "sha256": _SHA256,
}
_FIRST_BATCH: dict[str, Check] = {
    "shape": _SHAPE,
    **dict.fromkeys(("min", "max", "mean", "std"), _is_number),
}


def is_source(about: Any) -> bool:
    """Whether this is what a source digest is taken over."""
    try:
        for name in ("train", "test"):
            _check_fields(name, about["splits"][name], _SOURCE_SPLIT)
        _check_fields("", {"digest": "0" * 64, **about}, _PARTS["source"])
    except BAD_JSON:
        return False
    return True


def check(manifest: dict[str, Any]) -> None:
    for part, fields in _PARTS.items():
        _check_fields(part, manifest[part] if part else manifest, fields)
    _check_recipe(manifest)
    _check_splits(manifest)
    _check_scaling(manifest)


def _check_fields(part: str, record: Mapping[str, Any], fields: Mapping[str, Check]) -> None:
    for name, check in fields.items():
        where = f"{part}.{name}" if part else name
        _need(name in record, f"lacks {where}")
        _need(check(record[name]), f"{where} is {_shown(record[name])}")


def _need(right: bool, what: str) -> None:
    if not right:
        raise SchemaError(what)


def _shown(value: Any) -> str:
    return ascii(value)[:60]


def _check_recipe(manifest: Mapping[str, Any]) -> None:
    recipe, source = manifest["recipe"], manifest["source"]
    _need(manifest["key"] == recipe_key(recipe), f"the key {manifest['key']} is not its recipe's")
    for name in ("mode", "per"):
        _need(manifest.get(name) == recipe[name], f"the {name} is not its recipe's")
    about = {name: source[name] for name in ("splits", "class_names", "decode")}
    digest = canonical.digest(about)
    same = digest == source["digest"] == recipe["source"]
    _need(same, "the source's digest is not that of its splits, class names and decoding")


def _check_splits(manifest: Mapping[str, Any]) -> None:
    recipe, splits = manifest["recipe"], manifest["splits"]
    raw = manifest["source"]["splits"]
    _need({"train", "test"} <= set(splits) <= set(SPLITS), f"the splits are {sorted(splits)}")
    _need(set(raw) == {"train", "test"}, f"the source's splits are {sorted(raw)}")
    for name in raw:
        _check_fields(f"source.splits.{name}", raw[name], _SOURCE_SPLIT)
    for name, split in splits.items():
        _check_fields(f"splits.{name}", split, _SPLIT)
        _check_fields(f"splits.{name}.first_batch", split["first_batch"], _FIRST_BATCH)
        limits = dict.fromkeys(("minimum", "maximum"), _is_number)
        _check_fields(f"splits.{name}.raw", split["raw"], limits)
        _need(split["dtype"] == recipe["dtype"], f"splits.{name}.dtype is not its recipe's")
        _check_files(name, split, recipe["shard_rows"])
    kinds = {(*raw[name]["shape"][1:], raw[name]["dtype"]) for name in raw}
    kinds |= {(*split["shape"][1:], raw["train"]["dtype"]) for split in splits.values()}
    _need(len(kinds) == 1, "images differ in shape or type from split to split")
    image = splits["train"]["shape"][1:]
    chunk_rows = layout.chunk_rows(image, recipe["dtype"])
    _need(recipe["chunk_rows"] == chunk_rows, f"chunk_rows is not {chunk_rows}")
    known = {name: raw[name]["shape"][0] for name in raw}
    expected = split_rows(known, recipe["val_fraction"])
    rows = {name: split["rows"] for name, split in splits.items()}
    _need(rows == expected, f"{rows} rows: its recipe takes {expected} from the source's {known}")
    _need((recipe["split_seed"] is None) == ("val" not in splits), "split_seed has no meaning")
    shard_rows = recipe["shard_rows"]
    _need(shard_rows is None or shard_rows < max(rows.values()), "shard_rows divides no split")


def _check_files(name: str, split: Mapping[str, Any], shard_rows: int | None) -> None:
    where, rows, listed = f"splits.{name}", split["rows"], split["files"]
    for file in listed:
        _check_fields(f"{where}.files", file, _FILE)
    _need(split["shape"][0] == rows, f"{where}: rows and shape differ")
    # Counted first: so many names are made only where so many files are listed.
    _need(len(listed) == -(-rows // (shard_rows or rows)), f"{where}: {len(listed)} files")
    for file, (expected, part) in zip(
        listed, split_files(name, rows, shard_rows).items(), strict=True
    ):
        found = file["name"]
        _need(found == expected, f"{where}: {_shown(found)} is not a file's name: {expected}")
        _need(file["rows"] == len(part), f"{where}: the files' rows do not add up")
        _need(file["bytes"] <= _most_stored(split, len(part)), f"{where}: {found} is too large")
    _need(sum(file["bytes"] for file in listed) == split["bytes"], f"{where}: bytes")


def _most_stored(split: Mapping[str, Any], rows: int) -> int:
    """More bytes than a file of so many rows has, whatever its compression makes of them."""
    row = math.prod(split["shape"][1:]) * np.dtype(split["dtype"]).itemsize
    chunk = layout.chunk_rows(split["shape"][1:], split["dtype"])
    return int((rows + chunk) * (row + ROW_BYTES) * 1.1) + MAX_BYTES


def _check_scaling(manifest: Mapping[str, Any]) -> None:
    record, per = manifest["scaling"], manifest["per"]
    image: Sequence[int] = manifest["splits"]["train"]["shape"][1:]
    raw_dtype = manifest["source"]["splits"]["train"]["dtype"]
    _need(record["raw_dtype"] == raw_dtype, "scaling.raw_dtype is not the source's")
    recipe = manifest["recipe"]
    meant = normalize_options(recipe["mode"], per, recipe["rescale"], raw_dtype)
    _need((per, recipe["rescale"]) == meant, "per or rescale has no meaning for such data")
    unit = rescale_unit(raw_dtype, recipe["rescale"])
    _need(record["unit"] == unit, f"scaling.unit is not {unit}")
    shape = (0,) if per == "image" else statistics_shape((image[0], image[1], image[2]), per)
    for name in (*STATISTICS, "scale", "offset"):
        values = np.array(record[name], object)
        numbers = {int, float} >= set(map(type, values.reshape(-1)))
        right = numbers and values.shape == shape and np.isfinite(values.astype(float)).all()
        _need(bool(right), f"scaling.{name} is not {shape} finite numbers")
