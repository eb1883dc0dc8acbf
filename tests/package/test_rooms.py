"""The floor plan: imports go down only, and importing costs nothing."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

import pixelprep
from tests.helpers.packages import ROOT
from tests.helpers.process import execute

PACKAGE = Path(pixelprep.__file__).parent
SCRIPTS = ("benchmarks", "fuzzing")

# The rooms, the highest floor first. A room imports from the floors below it; rooms that
# share a floor do not know each other.
FLOORS = [
    {"cli"},
    {"training"},
    {"reports"},
    {"pipeline", "exporters"},
    {"cache"},
    {"sources", "dataset"},
    {"format"},
    {"numerics", "system"},
    {"errors", "views"},
    {"installation"},
]


@cache
def graph(folder: Path) -> dict[str, set[str]]:
    """Map each module of a package to those of its own that it imports, inside functions too."""
    paths = {path.relative_to(folder.parent).with_suffix(""): path for path in folder.rglob("*.py")}
    names = {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}
    found: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                found[name] |= {one if one in names else node.module for one in inside}
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
        found[name] &= names.keys() - {name}
    return found


def room(module: str) -> str:
    """Name the room of a module: the folder below the package, or a module there."""
    return module.partition(".")[2].split(".")[0]


def test_imports_go_down_only() -> None:
    """Every room stands on one floor, and imports nothing from its own floor or a higher one."""
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    found = {name: others for name, others in graph(PACKAGE).items() if room(name) in floor}
    assert set(map(room, found)) == floor.keys()
    for name, others in found.items():
        for other in others:
            same = room(other) in (room(name), "_version")
            same |= (room(name), other) == ("cli", "pixelprep")  # the front door
            assert same or floor[room(other)] > floor[room(name)], f"{name} imports {other}"


def test_only_the_front_door_stands_outside_the_rooms() -> None:
    """Beside the rooms there are the package itself, its version and `python -m`."""
    rooms = set().union(*FLOORS)
    assert set(map(room, graph(PACKAGE))) - rooms == {"", "_version", "__main__"}


@pytest.mark.parametrize("folder", [PACKAGE, *(ROOT / "scripts" / n for n in SCRIPTS)], ids=str)
def test_there_is_no_circle(folder: Path) -> None:
    """No module of the package or of scripts reaches itself by imports, in a room or across."""
    left = {name: others for name, others in graph(folder).items() if name != "pixelprep"}
    assert len(left) > 5
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    assert left == {}, "import each other in a circle"


def loaded(code: str, modules: set[str]) -> str:
    """Return which of these modules a fresh process has loaded once it ran this code."""
    code += f"; import sys; print(sorted({modules} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    return execute(command, check=True).stdout.strip()


def test_a_hit_loads_no_hdf5() -> None:
    """Images are prepared without TensorFlow, and what is there is found without h5py too."""
    code = "import pixelprep; assert pixelprep.prepare('sample', quiet=True).cached == {}"
    assert loaded(code.format(False), {"tensorflow", "keras"}) == "[]"
    assert loaded(code.format(True), {"tensorflow", "h5py", "pooch", "tqdm"}) == "[]"
