"""The JSON Schema of manifests says what pixelprep reads and writes."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pixelprep
from pixelprep.format import manifest
from pixelprep.format.recipe import recipe_key
from pixelprep.numerics.modes import plain_modes
from pixelprep.numerics.scaling import PER
from tests.helpers.data import arrays
from tests.helpers.malicious import sign
from tests.helpers.sampling import some

DATA = Path(__file__).parents[2] / "data"
SCHEMA = json.loads((DATA / "manifest.schema.json").read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
COMMITTED = sorted((DATA / "format-1").glob("*/manifest.json"))
# Where readers other than ours may find names of their own choice.
FREE = {"decode"}

Place = tuple[str | int, ...]  # of a value: keys and indices from the top


def manifest_of(**options: Any) -> dict[str, Any]:
    """Read the manifest of a fresh entry from its file."""
    path = pixelprep.prepare(arrays(), quiet=True, **options).path
    return dict(json.loads((path / "manifest.json").read_bytes()))


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """List where the fields of all objects are, but for those of `FREE`; of lists, the first's."""
    if isinstance(value, dict) and not (place and place[-1] in FREE):
        for name, inner in value.items():
            yield (*place, name)
            yield from places(inner, (*place, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from places(value[0], (*place, 0))


def parent(values: Any, place: Place) -> Any:
    """Return the object that holds a field."""
    for step in place[:-1]:
        values = values[step]
    return values


def is_refused(folder: Path, values: dict[str, Any]) -> bool:
    """Return whether pixelprep refuses to read a manifest with these values."""
    sign(folder, values)
    try:
        manifest.read(folder)
    except pixelprep.EntryError:
        return True
    return False


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_manifests_fit_the_schema(path: Path) -> None:
    """The examples of the format are what the schema says, which is valid JSON Schema."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(json.loads(path.read_bytes()))


@pytest.mark.parametrize(("mode", "per"), some(plain_modes(), PER, every=5))
def test_fresh_manifests_fit_the_schema(mode: str, per: str) -> None:
    """Whatever the mode, the statistics, the splits and the files, the manifest fits."""
    VALIDATOR.validate(manifest_of(mode=mode, per=per))
    VALIDATOR.validate(manifest_of(mode=mode, per=per, val_fraction=0.2, shard_rows=16))


def test_what_lacks_a_field_is_refused_by_both(tmp_path: Path) -> None:
    """Each field that a fresh manifest has is required, by the schema and by pixelprep."""
    values = manifest_of(val_fraction=0.2)
    optional = ("val", "test")  # splits
    found = [at for at in places(values) if "splits" not in at[-2:-1] or at[-1] not in optional]
    assert len(found) > 60
    for place in found:
        without = copy.deepcopy(values)
        del parent(without, place)[place[-1]]
        assert is_refused(tmp_path, without), place
        assert not VALIDATOR.is_valid(without), place


@pytest.mark.parametrize("wrong", [None, -1, "x", [], {}, True], ids=repr)
def test_what_the_schema_refuses_pixelprep_refuses(tmp_path: Path, wrong: Any) -> None:
    """A value of another kind in any field passes neither check, or was right there."""
    values = manifest_of()
    for place in places(values):
        changed = copy.deepcopy(values)
        parent(changed, place)[place[-1]] = wrong
        if not VALIDATOR.is_valid(changed):
            assert is_refused(tmp_path, changed), place


TO_COME = [("mode", "whiten"), ("numerics_version", 2), ("flavor", "sweet")]
ODD = [("channel_order", "yuv"), ("limits", "own"), ("quantiles", [0.9, 0.1]), ("storage", "odd")]


@pytest.mark.parametrize(("name", "value"), [*TO_COME, *ODD])
def test_a_recipe_of_a_later_version_is_not_called_damage(
    tmp_path: Path, name: str, value: Any
) -> None:
    """What the format has room for fits the schema; who lacks it asks for a newer pixelprep."""
    values = manifest_of()
    values["recipe"][name] = value
    if name == "mode":
        values["mode"] = value
    values["key"] = recipe_key(values["recipe"])
    assert VALIDATOR.is_valid(values) == ((name, value) in TO_COME or name == "quantiles")
    sign(tmp_path, values)
    with pytest.raises(pixelprep.NewerFormatError, match=f"its recipe has {name}") as caught:
        manifest.read(tmp_path)
    assert caught.value.hint == "install a newer pixelprep"
