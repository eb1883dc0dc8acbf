"""What is built, and what becomes of it on a machine that has nothing else."""

import json
import os
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import pixelprep
from pixelprep import installation
from pixelprep.cli.app import app
from pixelprep.format.layout import COMPRESSIONS, DTYPES
from pixelprep.numerics.scaling import MODES, PER
from tests.helpers.cli import Done, failure, run
from tests.helpers.packages import OFFLINE, PIP, ROOT, bare_home, done, wheel_of
from tests.helpers.process import execute

# Wheel and sdist


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source distribution of this checkout."""
    out = tmp_path_factory.mktemp("sdist")
    done([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out], cwd=ROOT)
    [built] = out.iterdir()
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    """Return every file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    """The package's modules and pages, `py.typed`, the embedded dataset and the licence alone."""
    found = contents(wheel)
    package = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "pixelprep").rglob("*.*")
        if p.suffix in (".py", ".html")
    }
    sample = {f"pixelprep/data/sample/{p.name}" for p in (ROOT / "data" / "sample").iterdir()}
    told = {name for name in found if name.startswith(f"pixelprep-{pixelprep.__version__}.")}
    assert found.keys() - told == package | sample | {"pixelprep/py.typed"}
    names = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    assert {name.split("/", 1)[1] for name in told} == set(names)
    for name in sample:
        assert found[name] == (ROOT / name.removeprefix("pixelprep/")).read_bytes()
    [licence] = [found[name] for name in told if name.endswith("LICENSE")]
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_is_the_checkout_and_nothing_else(sdist: Path) -> None:
    """Sources, tests, scripts, data and texts; nothing that running them has left."""
    with tarfile.open(sdist) as archive:
        files = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    texts = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert texts | {"data/FORMAT.md", "tests/conftest.py", "scripts/test"} <= files
    folders = {name.split("/")[0] for name in files - texts}
    assert folders == {"pixelprep", "data", "docs", "findings", "tests", "scripts"}
    assert not [name for name in files if "__pycache__" in name or "_cache/" in name]


def test_the_sdist_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """The wheel built from the sdist is that of the checkout, byte for byte, whatever the umask."""
    before = os.umask(0o077)
    try:
        assert wheel_of(sdist, tmp_path).read_bytes() == wheel.read_bytes()
    finally:
        os.umask(before)


def test_an_index_shows_no_dead_link(wheel: Path) -> None:
    """The README that is in the wheel leads to no file beside it."""
    [told] = [text for name, text in contents(wheel).items() if name.endswith("/METADATA")]
    assert "\n# pixelprep\n" in told.decode()
    assert re.findall(r"\]\((?!https?:|#)[^)\s]*\)", told.decode()) == []


# Installed alone


def alone_with(python: Path, home: Path) -> None:
    """With the wheel and what it declares, in an empty home, everything works but training."""
    settings: dict[str, Any] = {"cwd": home.parent, "env": bare_home(home)}
    script = python.with_name("pixelprep")
    for command in ([script], [python, "-m", "pixelprep"]):
        said = done([*command, "--version"], **settings)
        assert said == f"pixelprep {pixelprep.__version__}\n"
    assert list(home.iterdir()) == []
    answer = json.loads(done([script, "prepare", "sample", "--json"], **settings))
    assert Path(answer["path"]).is_relative_to(home)
    assert answer["path"] in done([script, "info", answer["key"]], **settings)
    train = [str(script), "train", "sample"]
    ran = execute(train, **settings)
    error, hint = failure(ran)
    assert "TensorFlow, which is not installed" in error
    assert hint.endswith('-py3-none-any.whl[train]"')
    assert [path.name for path in home.iterdir()] == [".cache"]
    assert "pixelprep" in done([f"{hint} --dry-run {' '.join(OFFLINE)}"], shell=True, **settings)


def test_the_wheel_works_alone(alone: Path, tmp_path: Path) -> None:
    """Installed with nothing but what it declares, it prepares; `train` says what is missing."""
    code = "from importlib.util import find_spec; print(*map(find_spec, ['tensorflow', 'PIL']))"
    assert done([alone, "-c", code], env=bare_home(tmp_path / "home")) == "None None\n"
    alone_with(alone, tmp_path / "home")


PYTHONS = ("3.11", "3.12", "3.13")


def python_of(version: str) -> str:
    """Return an interpreter of this version; skip the test where none starts."""
    found = shutil.which(f"python{version}")
    if found is None or execute([found, "-c", ""]).returncode:
        pytest.skip(f"there is no python{version}")
    return found


@pytest.mark.long
@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_reads_the_sources(version: str, tmp_path: Path) -> None:
    """Each Python that is promised compiles every module, without a warning."""
    compiled = ["-W", "error", "-X", f"pycache_prefix={tmp_path}", "-m", "compileall", "-q"]
    done([python_of(version), *compiled, ROOT / "pixelprep"])


@pytest.mark.long
@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_installs_the_wheel(version: str, wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment of each Python the wheel is installed from the index and works."""
    done([python_of(version), "-m", "venv", tmp_path / "environment"])
    python = tmp_path / "environment" / "bin" / "python"
    index = [*PIP, "--python", str(python), "download", "--no-deps", "-d", str(tmp_path), "tqdm"]
    if execute(index).returncode:
        pytest.skip("no package index can be reached")
    constraints = ROOT / "scripts" / "constraints.txt"
    done([*PIP, "--python", python, "install", "-c", constraints, wheel])
    alone_with(python, tmp_path / "home")


# What a hint says to install

COMMAND = "from pixelprep.installation import install_command; print(install_command('plot'))"
WHEEL: dict[str, Any] = {"archive_info": {}}
GIT = {"vcs": "git", "commit_id": "1f3a"}
PACKAGES = '"jinja2>=3.1" "matplotlib>=3.8"'
ORIGINS: dict[str, tuple[dict[str, Any] | None, str]] = {
    "an index": ({}, '"pixelprep[plot]"'),
    "a wheel": ({"url": "{site}/x.whl", **WHEEL}, '"{site}/x.whl[plot]"'),
    "a wheel that is gone": ({"url": "{site}/gone.whl", **WHEEL}, PACKAGES),
    "a wheel at a URL": (
        {"url": "https://h/x.whl", **WHEEL},
        '"pixelprep[plot] @ https://h/x.whl"',
    ),
    "a folder": ({"url": "{site}", "dir_info": {}}, '"{site}[plot]"'),
    "an editable one": ({"url": "{site}", "dir_info": {"editable": True}}, '-e "{site}[plot]"'),
    "another one": ({"url": "file:///other", "dir_info": {"editable": True}}, PACKAGES),
    "git": ({"url": "https://h/x", "vcs_info": GIT}, '"pixelprep[plot] @ git+https://h/x@1f3a"'),
    "a folder on PYTHONPATH": (None, PACKAGES),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_hint_installs_from_where_pixelprep_came(origin: str, tmp_path: Path) -> None:
    """It names the checkout, wheel, URL or index that is recorded, else the packages themselves."""
    recorded, expected = ORIGINS[origin]
    site = tmp_path / "a site"
    (site / "pixelprep").mkdir(parents=True)
    (site / "pixelprep" / "__init__.py").touch()
    shutil.copy(installation.__file__, site / "pixelprep")
    (site / "x.whl").touch()
    needs = {"jinja2>=3.1": "", "matplotlib>=3.8": "", "absent": "; sys_platform == 'none'"}
    lines = [f"{name}{marker}" for name, marker in needs.items()]
    if recorded is not None:
        told = site / "pixelprep-1.dist-info"
        told.mkdir()
        extra = [f"Requires-Dist: {name}; extra == 'plot'" for name in needs if name != "absent"]
        (told / "METADATA").write_text("\n".join(["Name: pixelprep", "Version: 1", *extra]))
        url = recorded.get("url", "").replace("{site}", site.as_uri())
        if url:
            (told / "direct_url.json").write_text(json.dumps(recorded | {"url": url}))
    project = f"[project]\nname = 'pixelprep'\noptional-dependencies.plot = {json.dumps(lines)}"
    (site / "pyproject.toml").write_text(project)
    said = done([sys.executable, "-c", COMMAND], cwd=site)
    start, _, rest = said.strip().partition(" install ")
    assert start.rpartition(" ")[2] in ("pip", str(sys.executable))
    assert rest == expected.replace("{site}", str(site))


# Help

Tree = dict[str, Any]


def tree(command: Any, name: str = "") -> Tree:
    """Return a command and all below it, by what is typed."""
    found = {name: command}
    for word, below in getattr(command, "commands", {}).items():
        found |= tree(below, f"{name} {word}".strip())
    return found


TREE = tree(get_command(app))
assert {"", "prepare", "train", "cache", "cache list", "cache prune"} <= TREE.keys()


@pytest.mark.parametrize(("name", "columns"), [*((name, 60) for name in TREE), ("prepare", 80)])
def test_help_is_whole(cache: Path, name: str, columns: int) -> None:
    """Every command, argument and option has a text, and all of it is printed, as wide as asked;
    no folder is made.
    """
    command = TREE[name]
    environment = os.environ | {"COLUMNS": str(columns)}
    ran = run(*name.split(), "--help", env=environment, bare=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert max(map(len, ran.stdout.splitlines())) <= columns
    printed = "".join(ran.stdout.split())  # wherever lines are broken
    for about in (command, *command.params):
        assert len(about.help) > 8
        assert "".join(about.help.split()) in printed
    words = {word for one in command.params for word in (*one.opts, *one.secondary_opts)}
    assert {word for word in words if word[0] == "-"} <= set(ran.stdout.replace(",", " ").split())
    commands = getattr(command, "commands", {})
    shown = {name for name, one in commands.items() if not one.hidden}
    assert shown <= set(ran.stdout.split())
    assert not cache.exists()


# Completion

SHELLS = {
    "bash": {".bashrc", ".bash_completions/pixelprep.sh"},
    "zsh": {".zshrc", ".zfunc/_pixelprep"},
    "fish": {".config/fish/completions/pixelprep.fish"},
}
BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="there is no bash")


def install_completion(shell: str, home: Path) -> Done:
    """Type ``pixelprep --install-completion`` in a shell of this name (which is bash)."""
    line = '"$0" -m pixelprep --install-completion; exit $?'
    return execute(
        [shell, "-c", line, sys.executable], executable=BASH, env=os.environ | {"HOME": str(home)}
    )


@needs_bash
@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_installed(shell: str, tmp_path: Path) -> None:
    """`--install-completion` writes what the shell in use reads at its start, and says where."""
    ran = install_completion(shell, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    made = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert made == SHELLS[shell]
    [script] = [tmp_path / name for name in made if "pixelprep" in name]
    assert str(script) in ran.stdout
    assert f"complete_{shell}" in script.read_text()


@needs_bash
def test_bash_completes(tmp_path: Path) -> None:
    """With the completion installed, bash ends a word, and offers the values of an option."""
    assert install_completion("bash", tmp_path).returncode == 0
    command = tmp_path / "bin" / "pixelprep"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pixelprep "$@"\n')
    command.chmod(0o755)
    env = os.environ | {"HOME": str(tmp_path), "PATH": f"{command.parent}:{os.environ['PATH']}"}

    def offered(*words: str) -> list[str]:
        line = """. ~/.bashrc; COMP_WORDS=("$0" "$@"); COMP_CWORD=$#; told=($(complete -p "$0"))
        "${told[-2]}" "$0"; echo ${COMPREPLY[@]}"""
        return done([str(BASH), "-c", line, "pixelprep", *words], env=env).split()

    assert offered("prep") == ["prepare"]
    assert offered("prepare", "--mode", "cen") == ["center"]
    assert offered("prepare", "--mode", "") == list(MODES)


CHOICES = {"--mode": MODES, "--per": PER, "--dtype": DTYPES, "--compression": COMPRESSIONS}
CHOICES |= {"--color": ("grey", "rgb"), "--on-error": ("fail", "skip")}


def test_completion_knows_the_entries(digits: str) -> None:
    """Where an entry is meant those of the cache are offered, by what is typed of their names;
    where a dataset is, the known ones, or paths.
    """
    entry = pixelprep.prepare(digits, quiet=True)
    offers = {"info dig": f"digits/{entry.path.name}", "prepare fash": "fashion-mnist"}
    for typed, offered in (offers | {f"prepare {digits[:5]}": digits}).items():
        asked = {"COMP_WORDS": f"pixelprep {typed}", "COMP_CWORD": str(typed.count(" ") + 1)}
        ran = run(env=os.environ | asked | {"_PIXELPREP_COMPLETE": "complete_bash"})
        assert ran.stdout.split() == [offered]


@pytest.mark.parametrize("option", CHOICES)
def test_completion_knows_the_values(option: str) -> None:
    """What is offered for an option with a few values is what it takes, all of it."""
    asked = {"COMP_WORDS": f"pixelprep prepare {option} ", "COMP_CWORD": "3"}
    ran = run(env=os.environ | asked | {"_PIXELPREP_COMPLETE": "complete_bash"})
    assert ran.stdout.split() == list(CHOICES[option])


def test_completion_is_quick() -> None:
    """Nothing heavy is loaded by the command line, nor to complete a word."""
    code = (
        "import atexit, sys\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'h5py', 'pooch', 'requests', 'matplotlib'}\n"
        "atexit.register(lambda: print(heavy & set(sys.modules), file=sys.stderr))\n"
        "from pixelprep.cli.app import main\n"
        "main()\n"
    )
    asked = {"COMP_WORDS": "pixelprep prepare --mode ", "COMP_CWORD": "3"}
    env = os.environ | asked | {"_PIXELPREP_COMPLETE": "complete_bash"}
    ran = execute([sys.executable, "-c", code], env=env)
    assert (ran.stdout.split(), ran.stderr) == (list(MODES), "set()\n")
