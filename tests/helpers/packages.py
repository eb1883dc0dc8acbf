"""Packages built and installed as pip does it, with nothing but what is on this machine."""

import os
import sys
import sysconfig
import venv
from collections.abc import Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers.process import execute

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
OFFLINE = ["--no-deps", "--no-index"]


def done(command: Sequence[str | Path], **options: Any) -> str:
    """Return what a command printed, once it is sure to have worked."""
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 600} | options
    ran = execute(command, **settings)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return str(ran.stdout)


def wheel_of(project: Path, out: Path) -> Path:
    """Return the wheel of a project's folder or sdist, built with the hatchling that is here."""
    done([*PIP, "wheel", "--no-build-isolation", *OFFLINE, "--wheel-dir", out, project])
    [wheel] = out.glob("*.whl")
    return wheel


def needed_by(requirements: list[str]) -> dict[str, Distribution]:
    """Return what is installed here of these requirements and all that they require, by name."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            found[name] = distribution(name)
            waiting += [Requirement(text) for text in found[name].requires or ()]
    return found


def environment_with(wheel: Path, folder: Path) -> Path:
    """Return the Python of a new environment with this wheel and what it declares, and nothing
    else.

    What it declares is taken from here by links: no network, and no copy.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    done([*PIP, "--python", python, "install", *OFFLINE, wheel])
    [installed] = Distribution.discover(name="pixelprep", path=[str(site)])
    bare = [text for text in installed.requires or () if "extra ==" not in text]
    for package in needed_by(bare).values():
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(str(package.locate_file(top)))
    return python


def bare_home(home: Path) -> dict[str, str]:
    """Return the settings of a user who has none: an empty home, and no word of this checkout."""
    home.mkdir(exist_ok=True)
    ours = ("PYTHON", "PIXELPREP_", "XDG_", "VIRTUAL_ENV", "PIP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"HOME": str(home)}
