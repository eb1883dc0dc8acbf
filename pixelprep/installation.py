"""Say how to install what is missing, from where the running pixelprep came.

It is needed for errors alone, and so is what it imports.
"""

import json
import shutil
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def install_command(extra: str) -> str:
    """Return the command that installs an extra, from where the running pixelprep came.

    That is what PEP 610 has recorded of it. Where there is nothing that could be installed again
    (a folder on PYTHONPATH, a wheel that was deleted) the command names the extra's packages.
    """
    home = Path(__file__).resolve().parents[1]
    try:
        found = distribution("pixelprep")
    except PackageNotFoundError:
        return _install_packages(extra, _declared(home / "pyproject.toml", extra))
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    url = origin.get("url", "")
    place = Path(url2pathname(urlsplit(url).path)) if url.startswith("file:") else None
    editable = origin.get("dir_info", {}).get("editable", False)
    site = place if place and editable else Path(str(found.locate_file("")))
    if site.resolve() != home:
        return _install_packages(extra, _declared(home / "pyproject.toml", extra))
    if place is not None:
        if not place.exists():
            optional = [text for text in found.requires or [] if "extra ==" in text]
            return _install_packages(extra, optional)
        target = f"{place}[{extra}]"
    elif url:
        version = origin.get("vcs_info", {})
        url = f"{version['vcs']}+{url}@{version['commit_id']}" if version else url
        target = f"pixelprep[{extra}] @ {url}"
    else:
        target = f"pixelprep[{extra}]"
    return f'{_installer()} {"-e " if editable else ""}"{target}"'


def pip_command() -> str:
    """Return the start of a command that installs packages into the running environment."""
    pip, here = shutil.which("pip"), Path(sys.executable)
    if pip and Path(pip).parent == here.parent:
        return "pip install"
    python = f'"{here}"' if " " in str(here) else str(here)
    if find_spec("pip"):
        return f"{python} -m pip install"
    if pip and not shutil.which("uv"):
        return f"pip --python {python} install"
    return f"uv pip install --python {python}"  # whose environments have no pip


def _installer() -> str:
    """Return the start of a command that installs pixelprep again, with more than before."""
    tools = {"pipx_metadata.json": "pipx install", "uv-receipt.toml": "uv tool install"}
    for mark, command in tools.items():
        if Path(sys.prefix, mark).exists():
            return f"{command} --force"
    return pip_command()


def _declared(project: Path, extra: str) -> list[str]:
    """Return the requirements of an extra in a pyproject.toml, if that is pixelprep's."""
    try:
        about = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return []
    wanted: dict[str, list[str]] = about.get("optional-dependencies", {})
    return wanted.get(extra, []) if about.get("name") == "pixelprep" else []


def _install_packages(extra: str, requirements: Iterable[str]) -> str:
    """Return the command that installs those of these requirements that the extra brings here."""
    from packaging.requirements import Requirement

    wanted = []
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": extra}):
            wanted.append(f'"{requirement.name}{requirement.specifier}"')
    if not wanted:
        return f"install what the extra `{extra}` of pixelprep's pyproject.toml lists"
    return " ".join([pip_command(), *wanted])
