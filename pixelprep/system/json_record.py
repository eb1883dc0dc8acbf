"""Convert frozen dataclasses to JSON objects and back."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints  # Any: JSON values


class Record:
    """The base of frozen dataclasses that a file stores, or ``--json`` prints.

    Fields are of type str, bool, int, float, `Path`, `object` (any JSON value), `Record`, a tuple,
    dict or `Mapping` of these, or None.
    """

    __slots__ = ()
    ignores_unknown: ClassVar[bool] = False  # whether unknown fields are ignored, or refused
    json_names: ClassVar[Mapping[str, str]] = {}  # the JSON names of fields that have another

    @classmethod
    def field_names(cls) -> set[str]:
        """Return the JSON names of all fields."""
        return {cls.json_names.get(f.name, f.name) for f in fields(cls)}  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, by name."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type] # a subclass is one
        return {self.json_names.get(n, n): _to_json(getattr(self, n)) for n in names}

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Make a record from what `to_dict` returned; a ValueError says what does not fit."""
        types = _field_types(cls)  # type: ignore[arg-type] # a class is hashable
        names = {name: cls.json_names.get(name, name) for name in types}
        given = values if isinstance(values, Mapping) else {}
        if missing := [name for name in names.values() if name not in given]:
            raise ValueError(f"lacks {', '.join(missing)}")
        unknown = sorted(given.keys() - set(names.values()))
        if unknown and not cls.ignores_unknown:
            raise ValueError(f"unknown fields: {', '.join(unknown)}")
        return cls(**{n: _from_json(types[n], given[names[n]], n) for n in types})


class LenientRecord(Record):
    """A record that ignores unknown fields, which a later version of its file may have."""

    __slots__ = ()
    ignores_unknown: ClassVar[bool] = True


@cache
def _field_types(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _to_json(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _to_json(item) for name, item in value.items()}
    return value


def _from_json(kind: Any, value: Any, name: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:  # with None
        return None if value is None else _from_json(inner[0], value, name)
    if origin is tuple and isinstance(value, list):
        return tuple(_from_json(inner[0], item, name) for item in value)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _from_json(inner[1], item, name) for key, item in value.items()}
    if origin is None and issubclass(kind, Record):
        return kind.from_dict(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is object or type(value) is kind or (kind is float and type(value) is int):
        return value
    raise ValueError(f"{name}: expected {getattr(kind, '__name__', kind)}, got {value!r:.80}")
