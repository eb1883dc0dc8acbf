"""Run a program as on another operating system: without the names that this one has beyond it.

What other packages need is imported before. Started as ``python -m tests.helpers.elsewhere
PLATFORM PROGRAM``; what is absent is what mypy's typeshed says.
"""

import ast
import importlib
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import filelock

MODULES = ("os", "signal", "resource", "fcntl", "time", "socket")
OTHERS = (
    "concurrent.futures",
    "ctypes",
    "email.message",
    "filelock",
    "h5py",
    "h5py._hl.filters",
    "hdf5plugin",
    "http.client",
    "imagecodecs",
    "importlib.metadata",
    "isal.isal_zlib",
    "isal.igzip",
    "json",
    "loky",
    "multiprocessing",
    "multiprocessing.resource_tracker",
    "numpy",
    "numpy.random",
    "packaging.requirements",
    "platformdirs",
    "pooch",
    "requests",
    "rich.cells",
    "shutil",
    "subprocess",
    "tempfile",
    "tqdm",
    "typer",
    "typer.main",
    "uuid",
)


class FreeLock:
    """A lock that nobody else holds, in place of one that calls Windows."""

    def __init__(self, path: Path, **options: object) -> None:
        self.path = path

    def acquire(self, timeout: float = -1) -> None:
        """Do nothing."""

    release = acquire


def names(body: list[ast.stmt], platform: str) -> set[str]:
    """Return what the statements of a stub define on a platform."""
    found: set[str] = set()
    for one in body:
        if isinstance(one, ast.If):
            system = type("sys", (), {"platform": platform, "version_info": sys.version_info})
            taken = eval(compile(ast.Expression(one.test), "stub", "eval"), {"sys": system})
            found |= names(one.body if taken else one.orelse, platform)
        elif isinstance(one, ast.AnnAssign | ast.Assign):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(one, ast.FunctionDef | ast.ClassDef):
            found.add(one.name)
        elif isinstance(one, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in one.names}
    return found


def absent(module: str, platform: str) -> set[str]:
    """Return the names of a module that are there on Linux, and not on a platform."""
    import mypy

    stubs = Path(mypy.__file__).parent / "typeshed" / "stdlib"
    path = next(p for p in (stubs / f"{module}.pyi", stubs / module / "__init__.pyi") if p.exists())
    body = ast.parse(path.read_text()).body
    return names(body, "linux") - names(body, platform)


def take_away(platform: str) -> None:
    """Make this process one of that platform, as far as its own code can see."""
    lost = {name: absent(name, platform) for name in MODULES}
    for name in OTHERS:
        importlib.import_module(name)
    sysconfig.get_config_vars()  # of a file whose name has the platform's
    for name, gone in lost.items():
        module = sys.modules.get(name)
        if gone and platform == "win32" and name in ("fcntl", "resource"):
            sys.modules[name] = None  # type: ignore[assignment] # cannot be imported any more
            continue
        for attribute in gone:
            if hasattr(module, attribute) and not attribute.startswith("_"):
                delattr(module, attribute)
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined] # found out when imported
    if platform == "win32":  # what these are there, or stands for it
        tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # type: ignore[assignment]
        filelock.FileLock = FreeLock  # type: ignore[assignment]
    sys.platform = platform


def main(platform: str, program: str) -> None:
    take_away(platform)
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(program, "program", "exec"), scope)


if __name__ == "__main__":
    main(*sys.argv[1:3])
