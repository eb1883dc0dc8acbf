"""Check the JSON of a manifest, whoever wrote it, before it becomes a `Manifest`.

data/FORMAT.md, section 4, has the rules. Unknown fields are ignored.
"""

import math
import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, NoReturn  # Any: JSON values of a file that anybody may have written

from pixelprep.format import layout
from pixelprep.format.recipe import SPLITS, TAKEN, recipe_key, split_files, split_rows
from pixelprep.format.source_record import TASKS
from pixelprep.numerics import permutation
from pixelprep.numerics.checks import MOST
from pixelprep.numerics.fitted import statistics_shape
from pixelprep.numerics.scaling import MODES, PER, kind_and_bytes, normalize_options, rescale_unit
from pixelprep.system import canonical

RAW_DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")
STATISTICS = ("mean", "std", "minimum", "maximum")
QUANTILES = ("low", "median", "high")
MAX_NAME_BYTES = 180  # of a dataset's name; with mode and key it must still be a file's name
ROW_BYTES = 64  # of a row beside its pixels: label, statistics, its share of an index
MAX_NAME = 4096  # bytes of a row's name
SOURCE_FIELDS = ("splits", "task", "class_names", "decode")  # under the source digest
MAX_BYTES = 64 << 20  # of a manifest

# What values of unexpected types can raise.
TYPE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
BAD_JSON = (*TYPE_ERRORS, RecursionError, MemoryError)

Check = Callable[[Any], bool]


def is_folder_name(name: str) -> bool:
    """Return whether a dataset's name can be the name of its folder in a cache."""
    return bool(re.fullmatch(r"\w[\w.-]*", name)) and len(name.encode()) <= MAX_NAME_BYTES


class SchemaError(ValueError):
    """A part of a manifest violates the schema."""


def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object, refusing duplicate names, which readers treat differently."""
    record = dict(pairs)
    _require(len(record) == len(pairs), "a name occurs twice")
    return record


def reject_constants(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads and JSON lacks."""
    raise SchemaError(f"{constant} is not JSON")


def _int(low: int, high: int = 2**63 - 1) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _matches(pattern: str) -> Check:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _one_of(*choices: Any) -> Check:
    return lambda value: any(type(value) is type(one) and value == one for one in choices)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(check, value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.encode() is not None  # which refuses lone surrogates


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_constants(value: Any) -> bool:
    if value is None:
        return True
    numbers = _list_of(lambda one: type(one) is float and math.isfinite(one))
    names: tuple[set[str], ...] = ({"shift", "divisor"}, {"shift", "divisor", "low", "high"})
    named = _is_dict(value) and value.keys() in names
    return named and all(map(numbers, value.values())) and 0.0 not in value["divisor"]


def _is_pair(low: float, high: float) -> Check:
    """Check two floats, the smaller one first, or null."""

    def check(value: Any) -> bool:
        numbers = isinstance(value, list) and [type(one) for one in value] == [float, float]
        return value is None or (numbers and low <= value[0] < value[1] <= high)

    return check


def _is_quantiles(value: Any) -> bool:
    named = _is_dict(value) and value.keys() >= set(QUANTILES)
    return value is None or (named and all(isinstance(value[name], list) for name in QUANTILES))


_SHA256 = _matches("[0-9a-f]{64}")

# Fields of a recipe that some modes have; another value is a later version's.
FORM: dict[str, Check] = {
    "channel_order": _one_of(None, "bgr"),
    "limits": _one_of(None, "data"),
    "target_range": _is_pair(-MOST, MOST),
    "quantiles": _is_pair(0, 1),
    "clip": _one_of(None, True),
}


def _is_shape(value: Any) -> bool:
    return _list_of(_int(1))(value) and len(value) == 4


# The fields that each part must have.
_PARTS: dict[str, dict[str, Check]] = {
    "": {
        "dataset": lambda value: isinstance(value, str) and is_folder_name(value),
        **dict.fromkeys(("recipe", "provenance", "source", "scaling"), _is_dict),
        **dict.fromkeys(("statistics", "splits"), _is_dict),
        "key": _matches("[0-9a-f]{12}"),
    },
    "recipe": {
        "source": _SHA256,
        "mode": _one_of(*MODES),
        "per": _one_of(*PER),
        "rescale": _one_of(False, True),
        "splits": _is_dict,
        **dict.fromkeys(
            ("val_fraction", "test_fraction"), lambda value: _is_number(value) and 0 <= value < 1
        ),
        "split_seed": lambda value: value is None or _int(0, permutation.MAX_SEED)(value),
        "dtype": _one_of(*layout.DTYPES),
        "storage": _one_of(*layout.STORAGES),
        "compression": _one_of(*layout.COMPRESSIONS),
        "chunk_rows": _int(1),
        "shard_rows": lambda value: value is None or _int(1)(value),
        "constants": _is_constants,
        **FORM,
        "format_version": _one_of(layout.FORMAT_VERSION),
        "numerics_version": _int(1),
    },
    "provenance": dict.fromkeys(("title", "licence", "homepage", "citation"), _is_text),
    "source": {
        "digest": _SHA256,
        "class_names": _list_of(_is_text),
        "task": _one_of(*TASKS),
        "splits": _is_dict,
        "decode": _is_dict,
    },
    "scaling": {
        "unit": _int(1),
        "raw_dtype": _one_of(*RAW_DTYPES),
        "quantiles": _is_quantiles,
        **dict.fromkeys((*STATISTICS, "scale", "offset"), lambda value: isinstance(value, list)),
    },
    "statistics": {"count": _int(1), **dict.fromkeys(("sum", "sum_of_squares"), _is_number)},
}
_SOURCE_SPLIT: dict[str, Check] = {
    "dtype": _one_of(*RAW_DTYPES),
    "shape": _is_shape,
    "images": _SHA256,
    "labels": _SHA256,
    "names": lambda value: value is None or _SHA256(value),
    "name_bytes": lambda value: value is None or _int(1, MAX_NAME)(value),
}
_SPLIT: dict[str, Check] = {
    "rows": _int(1),
    "shape": _is_shape,
    "dtype": _one_of(*layout.DTYPES),
    "bytes": _int(1),
    "class_counts": _list_of(_int(0)),
    "raw": _is_dict,
    "first_batch": _is_dict,
    "files": _list_of(_is_dict),
}
_FILE: dict[str, Check] = {"name": _is_text, "rows": _int(1), "bytes": _int(1), "sha256": _SHA256}
_FIRST_BATCH = {"shape": _is_shape, **dict.fromkeys(("min", "max", "mean", "std"), _is_number)}


def is_source(about: Any) -> bool:
    """Return whether these are the values of a `SourceRecord`."""
    try:
        _require(set() < set(about["splits"]) <= set(SPLITS), "no splits, or others")
        for name, split in about["splits"].items():
            _check_fields(name, split, _SOURCE_SPLIT)
        _check_fields("", {"digest": "0" * 64, **about}, _PARTS["source"])
    except BAD_JSON:
        return False
    return True


def check(manifest: dict[str, Any]) -> None:
    """Refuse a manifest that violates the schema, by one of `BAD_JSON`: `SchemaError` says how."""
    for part, fields in _PARTS.items():
        _check_fields(part, manifest[part] if part else manifest, fields)
    recipe, source, key = manifest["recipe"], manifest["source"], manifest["key"]
    _require(key == recipe_key(recipe), f"the key {key} is not its recipe's")
    for name in ("mode", "per"):
        _require(manifest.get(name) == recipe[name], f"the {name} is not its recipe's")
    digest = canonical.digest({name: source[name] for name in SOURCE_FIELDS})
    equal = digest == source["digest"] == recipe["source"]
    _require(equal, "the source's digest is not that of its splits, class names and decoding")
    _check_splits(manifest)
    _check_scaling(manifest)


def _check_fields(part: str, record: Mapping[str, Any], fields: Mapping[str, Check]) -> None:
    for name, check in fields.items():
        where = f"{part}.{name}" if part else name
        _require(name in record, f"lacks {where}")
        _require(check(record[name]), f"{where} is {ascii(record[name])[:60]}")


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise SchemaError(problem)


def _check_splits(manifest: Mapping[str, Any]) -> None:
    recipe, splits = manifest["recipe"], manifest["splits"]
    raw = manifest["source"]["splits"]
    is_fitted = recipe["constants"] is None and recipe["per"] != "image"
    fitted = {"train"} if is_fitted else set()
    _require(fitted <= set(splits) <= set(SPLITS), f"the splits are {sorted(splits)}")
    known = bool(raw) and fitted <= set(raw) <= set(splits)
    _require(known, f"the source's splits are {sorted(raw)}")
    origins = {name: "source" if name in raw else "train" for name in splits}
    _require(recipe["splits"] == origins, f"the recipe's splits are not {origins}")
    for name, split in raw.items():
        _check_fields(f"source.splits.{name}", split, _SOURCE_SPLIT)
        named = (split["names"] is None) == (split["name_bytes"] is None)
        _require(named, f"source.splits.{name}: names and name_bytes do not fit each other")
    raw_dtype = next(iter(raw.values()))["dtype"]
    can_be_raw = recipe["storage"] != "raw" or kind_and_bytes(raw_dtype)[0] in "ui"
    _require(can_be_raw, f"images of {raw_dtype} are not stored raw")
    stored = layout.stored_dtype(recipe["storage"], recipe["dtype"], raw_dtype)
    for name, split in splits.items():
        _check_fields(f"splits.{name}", split, _SPLIT)
        _check_fields(f"splits.{name}.first_batch", split["first_batch"], _FIRST_BATCH)
        limits = dict.fromkeys(("minimum", "maximum"), _is_number)
        _check_fields(f"splits.{name}.raw", split["raw"], limits)
        _require(split["dtype"] == recipe["dtype"], f"splits.{name}.dtype is not its recipe's")
        is_counted = len(split["class_counts"]) == len(manifest["source"]["class_names"])
        _require(is_counted, f"splits.{name}.class_counts does not count each class")
        origin = raw[name if name in raw else "train"]
        other = origin["name_bytes"] or 0, len(split["class_counts"])
        row_bytes = math.prod(split["shape"][1:]) * kind_and_bytes(stored)[1] + sum(other)
        _check_files(name, split, recipe, row_bytes)
    kinds = {(*raw[name]["shape"][1:], raw[name]["dtype"]) for name in raw}
    kinds |= {(*split["shape"][1:], raw_dtype) for split in splits.values()}
    _require(len(kinds) == 1, "images differ in shape or type from split to split")
    _check_rows(recipe, raw, splits)


def _check_rows(
    recipe: Mapping[str, Any], raw: Mapping[str, Any], splits: Mapping[str, Any]
) -> None:
    """Refuse numbers of rows that are not those that the recipe takes."""
    image = next(iter(splits.values()))["shape"][1:]
    chunk_rows = layout.chunk_rows(image, recipe["dtype"])
    _require(recipe["chunk_rows"] == chunk_rows, f"chunk_rows is not {chunk_rows}")
    raw_rows = {name: split["shape"][0] for name, split in raw.items()}
    fractions = {name: recipe[f"{name}_fraction"] for name in TAKEN}
    _require(
        not any(fractions[name] for name in raw_rows if name in TAKEN), "a split is taken twice"
    )
    expected = split_rows(raw_rows, fractions)
    rows = {name: split["rows"] for name, split in splits.items()}
    wrong_rows = f"{rows} rows: its recipe takes {expected} from the source's {raw_rows}"
    _require(rows == expected, wrong_rows)
    _require((recipe["split_seed"] is None) == (rows == raw_rows), "split_seed has no meaning")
    shard_rows = recipe["shard_rows"]
    _require(shard_rows is None or shard_rows < max(rows.values()), "shard_rows divides no split")


def _check_files(
    split_name: str, split: Mapping[str, Any], recipe: Mapping[str, Any], row_bytes: int
) -> None:
    shard_rows, chunk = recipe["shard_rows"], recipe["chunk_rows"]
    where, rows, files = f"splits.{split_name}", split["rows"], split["files"]
    for file in files:
        _check_fields(f"{where}.files", file, _FILE)
    _require(split["shape"][0] == rows, f"{where}: rows and shape differ")
    # Before their names are made, of which a forged manifest may need too many.
    _require(len(files) == -(-rows // (shard_rows or rows)), f"{where}: {len(files)} files")
    expected = split_files(split_name, rows, shard_rows)
    for file, (name, file_rows) in zip(files, expected.items(), strict=True):
        wrong_name = f"{where}: {ascii(file['name'])[:60]} is not a file's name: {name}"
        _require(file["name"] == name, wrong_name)
        _require(file["rows"] == len(file_rows), f"{where}: the files' rows do not add up")
        # No file can have more, however badly its rows compress.
        max_bytes = int((len(file_rows) + chunk) * (row_bytes + ROW_BYTES) * 1.1) + MAX_BYTES
        _require(file["bytes"] <= max_bytes, f"{where}: {name} is too large")
    _require(sum(file["bytes"] for file in files) == split["bytes"], f"{where}: bytes")


def _check_scaling(manifest: Mapping[str, Any]) -> None:
    recipe, record, per = manifest["recipe"], manifest["scaling"], manifest["per"]
    height, width, channels = next(iter(manifest["splits"].values()))["shape"][1:]
    raw_dtype = next(iter(manifest["source"]["splits"].values()))["dtype"]
    constants = recipe["constants"]
    _require(record["raw_dtype"] == raw_dtype, "scaling.raw_dtype is not the source's")
    _check_form(recipe, record, kind_and_bytes(raw_dtype)[0] == "f")
    effective = normalize_options(
        recipe["mode"], per, recipe["rescale"], raw_dtype, recipe["limits"]
    )
    _require((per, recipe["rescale"]) == effective, "per or rescale has no meaning for such data")
    unit = rescale_unit(raw_dtype, recipe["rescale"])
    _require(record["unit"] == unit, f"scaling.unit is not {unit}")
    shape = (0,) if per == "image" else statistics_shape((height, width, channels), per)
    shapes = dict.fromkeys((*STATISTICS, "scale", "offset"), shape)
    if constants is not None:
        _require(per in ("dataset", "channel"), f"constants per {per}")
        given = record["mean"] == constants["shift"] and record["std"] == constants["divisor"]
        _require(given, "scaling.mean and scaling.std are not the constants")
        shapes |= {"minimum": (0,), "maximum": (0,)}
        _require(all(len(one) == shape[0] for one in constants.values()), "constants")
    every = {**record, **(record["quantiles"] or {})}
    shapes |= dict.fromkeys(QUANTILES, shape) if record["quantiles"] else {}
    for name, shape in shapes.items():
        valid = _are_numbers(every[name], shape)
        _require(valid, f"scaling.{name} is not {shape} finite numbers")


def _are_numbers(values: Any, shape: tuple[int, ...]) -> bool:
    """Return whether nested lists have this shape, and finite numbers in them."""
    flat = [values]
    for length in shape:
        if not all(type(one) is list and len(one) == length for one in flat):
            return False
        flat = list(chain.from_iterable(flat))
    return {int, float} >= set(map(type, flat)) and all(map(math.isfinite, flat))


def _check_form(recipe: Mapping[str, Any], record: Mapping[str, Any], floats: bool) -> None:
    """Refuse what a mode does not have, or lacks."""
    mode, constants = MODES[recipe["mode"]], recipe["constants"]
    has = {name: recipe[name] is not None for name in (*FORM, "constants")}
    _require(has["constants"] or not mode.is_given, "the mode has no constants")
    _require(mode.is_given or not has["channel_order"], "channel_order is of no meaning")
    ranged = has["limits"] or has["target_range"]
    _require(mode.uses_range or not ranged, "limits or target_range is of no meaning")
    _require(not (has["limits"] and floats), "limits of floats are the data's")
    fitted = mode.uses_quantiles and not has["constants"]
    _require(has["quantiles"] == fitted == (record["quantiles"] is not None), "quantiles")
    _require(mode.uses_quantiles or not has["clip"], "clip is of no meaning")
    bounds = constants is not None and "low" in constants
    _require(bounds == (has["clip"] and has["constants"]), "the constants of a clip")
