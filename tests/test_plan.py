"""The floor plan: imports go down only, and importing costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pixelprep

PACKAGE = Path(pixelprep.__file__).parent

# The lowest floor first; a module imports from its own floor or from those before it.
FLOORS = [
    {"errors", "order", "progress", "words", "backend"},
    {
        "files",
        "locks",
        "workspace",
        "moments",
        "scaling",
        "store",
        "cluster",
        "parallel",
        "unpack",
        "download",
    },
    {"sources", "recipe", "batches", "page", "looks"},
    {"feeds", "manifest", "entry", "opening", "build", "origins", "preparation"},
    {"promises", "facts", "verification", "cache", "formats", "exporting"},
    {"serving", "events", "judging", "runpage", "run", "models", "train", "inference", "report"},
    {"paired", "comparison", "compare"},
    {"show", "options", "cli"},
]


def imported(module: Path) -> set[str]:
    """Names of pixelprep's modules that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pixelprep"):
            parts = (node.module or "").split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return names


def rooms() -> dict[str, set[str]]:
    """Each module or folder of the package, and what it imports from the others."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if not name.startswith("__"):
            found.setdefault(name, set()).update(imported(path) - {name})
    return found


def test_imports_go_down_only() -> None:
    """Every module stands on one floor and imports nothing from a higher one."""
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    found = rooms()
    assert found.keys() == floor.keys()
    for name, others in found.items():
        for other in others & floor.keys():
            assert floor[other] <= floor[name], f"{name} imports {other}"


def test_there_is_no_circle() -> None:
    """No module reaches itself by imports."""
    found = rooms()

    def reached(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        below = found.get(name, set()) - seen
        return below.union(*(reached(other, seen | below) for other in below))

    for name in found:
        assert name not in reached(name), f"{name} imports itself in a circle"


def loaded(code: str, modules: set[str]) -> str:
    """Which of these modules a fresh process has loaded once it ran this code."""
    code += f"; import sys; print(sorted({modules} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_command_line_is_cheap() -> None:
    """`import pixelprep.cli` loads no TensorFlow, NumPy, h5py or download library."""
    heavy = {"tensorflow", "keras", "numpy", "h5py", "pooch", "requests", "matplotlib"}
    assert loaded("import pixelprep.cli", heavy) == "[]"


def test_preparing_never_loads_tensorflow() -> None:
    """A whole `prepare` runs without TensorFlow."""
    code = "import pixelprep; pixelprep.prepare('sample', quiet=True)"
    assert loaded(code, {"tensorflow", "keras"}) == "[]"


def test_a_hit_loads_no_hdf5() -> None:
    """What is there already is found without h5py."""
    pixelprep.prepare("sample", quiet=True)
    code = "import pixelprep; assert pixelprep.prepare('sample', quiet=True).hit"
    assert loaded(code, {"h5py", "pooch", "tqdm"}) == "[]"


def test_help_makes_no_folder(cache: Path) -> None:
    """`--help` leaves no trace in the cache."""
    subprocess.run([sys.executable, "-m", "pixelprep", "--help"], capture_output=True, check=True)
    assert not cache.exists()
