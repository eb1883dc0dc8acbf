"""The scripts beside the package: how they hang together."""

import ast
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def imports(folder: Path) -> dict[str, set[str]]:
    """Modules of a folder of scripts, and those of them that each imports, inside functions too."""
    paths = {
        ".".join(p.relative_to(SCRIPTS).with_suffix("").parts): p for p in folder.rglob("*.py")
    }
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        named: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[name] = named & paths.keys() - {name}  # a package may name its modules
    return found


@pytest.mark.parametrize("folder", ["benchmarks", "fuzzing"])
def test_scripts_import_in_no_circle(folder: str) -> None:
    """No module of the scripts reaches itself by imports."""
    left = imports(SCRIPTS / folder)
    assert len(left) > 5
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    assert left == {}, "import each other in a circle"
