"""The floor plan: imports go down only, and importing costs nothing."""

import ast
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pixelprep
from tests.helpers.process import execute

PACKAGE = Path(pixelprep.__file__).parent

# The eleven rooms, the highest floor first. A room imports from the floors below it; rooms that
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
    {"errors"},
]


def dotted(path: Path, root: Path = PACKAGE) -> str:
    """Name the module in a file below `root`: ``format.recipe``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, modules: Collection[str]) -> set[str]:
    """List the package's own modules that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pixelprep":
            base = (node.module or "").removeprefix("pixelprep").removeprefix(".")
            inside = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
            found |= {name if name in modules else base for name in inside}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("pixelprep.") for a in node.names} & set(modules)
    return found & set(modules)


@cache
def graph() -> dict[str, set[str]]:
    """Map each module of the package to those that it imports."""
    paths = {dotted(path): path for path in PACKAGE.rglob("*.py")}
    return {name: imported(path, paths) - {name} for name, path in paths.items()}


def room(module: str) -> str:
    """Name the room of a module: the folder below the package, or `errors`."""
    return module.split(".")[0]


def test_imports_go_down_only() -> None:
    """Every room stands on one floor, and imports nothing from its own floor or a higher one."""
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    found = {name: others for name, others in graph().items() if room(name) in floor}
    assert set(map(room, found)) == floor.keys()
    for name, others in found.items():
        for other in others:
            same = room(other) == room(name) or other == "_version"
            assert same or floor[room(other)] > floor[room(name)], f"{name} imports {other}"


def test_only_the_front_door_stands_outside_the_rooms() -> None:
    """Beside the rooms there are the package itself, its version and `python -m`."""
    rooms = set().union(*FLOORS)
    assert set(map(room, graph())) - rooms == {"", "_version", "__main__"}


def test_there_is_no_circle() -> None:
    """No module reaches itself by imports, inside a room or across rooms."""
    found = graph()

    def reached(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        below = found[name] - seen
        return below.union(*(reached(other, seen | below) for other in below))

    for name in found.keys() - {""}:
        assert name not in reached(name), f"{name} imports itself in a circle"


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
