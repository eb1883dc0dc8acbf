"""Examine the installation, the machine and the cache, and say what is wrong: for bug reports."""

import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any  # Any: JSON values
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pixelprep._version import __version__
from pixelprep.cache import inventory
from pixelprep.errors import CacheError, PixelprepError
from pixelprep.installation import pip_command
from pixelprep.system import disk_check, fs, machine, remote, staging
from pixelprep.system.child import Child, ChildError, deferred_interrupts
from pixelprep.system.json_record import Record

ELSEWHERE = "choose a folder of this machine's own disk: `cache_dir` or PIXELPREP_CACHE_DIR"
LIMIT = 60.0  # seconds for what starts beside this process
LITTLE_ROOM = 100_000_000  # bytes free, below which even a small dataset may not fit

# The extras whose packages are imported for a trial: the others are frameworks, which are looked at
# by themselves, or take seconds.
IMPORTED = ("images", "scientific", "plot", "matlab", "hub", "remote", "compression")
MODULES = {"pillow": "PIL"}  # of packages whose module has another name
IMPORT = """
import importlib, json
failed = {}
for name in %r:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = " ".join(f"{type(error).__name__}: {error}".split())
print(json.dumps(failed))
"""
FRAMEWORKS = {
    "tensorflow": """
import json, tensorflow as tf
details = tf.config.experimental.get_device_details
names = [f"{d.name.split(':', 1)[1]} {details(d).get('device_name', '')}".strip()
         for d in tf.config.list_physical_devices()]
print(json.dumps({"version": tf.__version__, "devices": names}))
""",
    "torch": """
import json, torch
names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
names += ["mps"] if torch.backends.mps.is_available() else []
print(json.dumps({"version": torch.__version__, "devices": ["cpu", *names],
                  "threads": torch.get_num_threads()}))
""",
    "jax": """
import json, jax
print(json.dumps({"version": jax.__version__,
                  "devices": [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]}))
""",
}
SELF_TEST = "from pixelprep.reports import self_test; self_test.main(%r)"

# Variables that change what is done, or how fast. Any other PIXELPREP_… may hold a secret.
VARIABLES = (
    "PIXELPREP_CACHE_DIR",
    "PIXELPREP_MIRROR",
    "PIXELPREP_OFFLINE",
    "PIXELPREP_REMOTE",
    "PIXELPREP_REMOTE_CACHE_SIZE",
    "CUDA_VISIBLE_DEVICES",
    "HDF5_PLUGIN_PATH",
    "HDF5_USE_FILE_LOCKING",
    "JAX_ENABLE_X64",
    "JAX_PLATFORMS",
    "KERAS_BACKEND",
    "KERAS_HOME",
    "LANG",
    "LC_ALL",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONPATH",
    "TF_CPP_MIN_LOG_LEVEL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XLA_FLAGS",
    "AWS_ENDPOINT_URL",
    "AWS_PROFILE",
    "AWS_REGION",
    "HF_ENDPOINT",
    "HF_HOME",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Problem(Record):
    """What is wrong, and what to do.

    Parameters
    ----------
    message, hint : str
        One line each; the hint may be empty.
    """

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Diagnosis(Record):
    """What `doctor` found. The home folder is ``~`` in it, and no password is.

    Parameters
    ----------
    versions, machine, extras, cache, settings, frameworks, self_test : dict
        JSON values by name; None where the system does not tell. Sizes are bytes, times seconds.
    problems : tuple of Problem
        What keeps pixelprep, or a part of it, from working.
    """

    versions: Mapping[str, object]
    machine: Mapping[str, object]
    extras: Mapping[str, object]
    cache: Mapping[str, object]
    settings: Mapping[str, object]
    frameworks: Mapping[str, object]
    self_test: Mapping[str, object]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def doctor(*, cache_dir: str | os.PathLike[str] | None = None) -> Diagnosis:
    """Examine the installation, the machine and the cache.

    A private folder is made in the cache (beside it, where there is no cache yet) to try its file
    system, and one in the system's place for temporary files for a self-test; both are removed.
    TensorFlow, PyTorch and JAX, where they are installed, are started in processes of their own.
    Nothing is read from the network.

    Parameters
    ----------
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.

    Returns
    -------
    Diagnosis
        What was found, and the problems. It raises nothing for what it finds.

    Examples
    --------
    >>> import pixelprep
    >>> pixelprep.doctor().problems  # doctest: +SKIP
    ()
    """
    problems: list[Problem] = [*_of_installation(), *_of_working_directory()]
    with _started() as beside:
        found: dict[str, Mapping[str, object]] = {"versions": _versions()}
        found |= {"machine": machine.describe(), "settings": _settings()}
        found["cache"] = _cache(cache_dir, problems)
        found["extras"] = _extras(problems)
        _tell_failed_imports(beside.pop("extras"), problems)
        tested = _answer("the self-test", beside.pop("self_test"), "", problems)
        started = {name: _framework(name, beside[name], problems) for name in beside}
    told = tuple(Problem(_public(one.message), _public(one.hint)) for one in problems)
    found |= {"self_test": tested, "frameworks": started}
    return Diagnosis(**_public(found), problems=told)


@contextmanager
def _started() -> Iterator[dict[str, Child]]:
    """Start all that takes long, at once; end it whole, even if interrupted again."""
    with ExitStack() as held:
        try:
            with deferred_interrupts():
                children = _start(held)
            yield children
        finally:
            with deferred_interrupts():
                held.close()


def _start(held: ExitStack) -> dict[str, Child]:
    folder = held.enter_context(tempfile.TemporaryDirectory(prefix="pixelprep-doctor-"))
    plain = {name: text for name, text in os.environ.items() if not name.startswith("PIXELPREP_")}
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    programs: dict[str, tuple[str, dict[str, str] | None]] = {
        "self_test": (SELF_TEST % folder, plain),
        "extras": (IMPORT % list(_imported_packages()), None),
        **{name: (FRAMEWORKS[name], quiet) for name in FRAMEWORKS if find_spec(name)},
    }
    return {name: held.enter_context(Child(*program)) for name, program in programs.items()}


def _answer(what: str, child: Child, hint: str, problems: list[Problem]) -> dict[str, Any]:
    try:
        return dict(child.answer(LIMIT))
    except ChildError as error:
        said = re.sub(r"^pixelprep\.errors\.\w+: ", "", str(error))
        problems.append(Problem(f"{what} fails: {said}", hint))
        return {"failed": said}


def _framework(name: str, child: Child, problems: list[Problem]) -> dict[str, Any]:
    package = next(filter(_version, (name, f"{name}-cpu")), name)
    hint = f"install it anew, or remove it: {pip_command()} --force-reinstall {package}"
    return _answer(f"importing {name}", child, hint, problems)


def _versions() -> dict[str, object]:
    import h5py
    import numpy

    return {
        "pixelprep": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "numpy": numpy.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        **_linear_algebra(numpy),
    }


def _linear_algebra(numpy: Any) -> dict[str, object]:
    """Return NumPy's library for it, and how many threads it uses, where that can be asked."""
    import ctypes

    blas: dict[str, str] = {}
    with suppress(AttributeError, KeyError, TypeError):
        blas = numpy.show_config("dicts")["Build Dependencies"]["blas"]
    threads = None
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(numpy.linalg._umath_linalg.__file__)
        threads = library.scipy_openblas_get_num_threads64_()
    return {"blas": f"{blas.get('name')} {blas.get('version')}", "blas_threads": threads}


def _requirements() -> dict[str, list[Any]]:
    """Return what each extra asks for, by its name; "" for what everybody needs."""
    from packaging.requirements import Requirement

    told = importlib.metadata.metadata("pixelprep")
    found: dict[str, list[Any]] = {name: [] for name in ("", *told.get_all("Provides-Extra", []))}
    for text in told.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        named = re.search(r"""extra == ['"]([^'"]+)""", text)
        extra = named[1] if named else ""
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            found[extra].append(requirement)
    return found


def _version(package: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _imported_packages() -> dict[str, str]:
    """Return the packages that are imported for a trial, by their modules."""
    with suppress(importlib.metadata.PackageNotFoundError):
        asked = _requirements()
        names = {one.name for extra in IMPORTED for one in asked.get(extra, ())}
        packages = sorted(filter(_version, names))
        return {MODULES.get(name, name.replace("-", "_")): name for name in packages}
    return {}


def _of_installation() -> Iterator[Problem]:
    """Yield a problem where the metadata is not that of the running code."""
    home = Path(__file__).resolve().parents[2]
    is_checkout = (home / "pyproject.toml").exists()
    target = shlex.quote(str(home)) if is_checkout else "pixelprep"
    try:
        installed = importlib.metadata.distribution("pixelprep")
    except importlib.metadata.PackageNotFoundError:
        message = "pixelprep itself is not installed, only found"
        yield Problem(message, f"{pip_command()} {target}")
        return
    place = _place(installed).resolve()
    if (place, installed.version) != (home, __version__):
        message = f"the running pixelprep {__version__} in {home} is not the installed"
        hint = f"{pip_command()} -e {target}" if is_checkout else "take it from PYTHONPATH"
        yield Problem(f"{message} {installed.version} in {place}", hint)


def _place(installed: importlib.metadata.Distribution) -> Path:
    """Return the folder that the package is in; PEP 610 tells it of an editable installation."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(url2pathname(urlsplit(origin["url"]).path))
    return Path(str(installed.locate_file("")))


def _of_working_directory() -> Iterator[Problem]:
    try:
        Path.cwd()
    except OSError as error:
        message = f"the working directory cannot be used: {error.strerror}"
        yield Problem(message, "change into a folder that is there")


def _extras(problems: list[Problem]) -> dict[str, object]:
    """Compare what is installed with the bounds that the installed pixelprep declares."""
    try:
        asked = _requirements()
    except importlib.metadata.PackageNotFoundError:
        return {}  # which `_of_installation` tells
    found: dict[str, object] = {}
    cpu = {one.name for one in asked.get("train-cpu", ())}
    if all(map(_version, cpu)) and "tensorflow-cpu" in cpu:  # in place of the larger wheel
        asked["train"] = [one for one in asked["train"] if one.name != "tensorflow"]
    for extra, requirements in sorted(asked.items()):
        versions = {one.name: _version(one.name) for one in requirements}
        missing = [name for name, version in versions.items() if version is None]
        old = [
            f"{one.name}{one.specifier}"
            for one in requirements
            if (version := versions[one.name]) and not one.specifier.contains(version, True)
        ]
        present = {name: version for name, version in versions.items() if version}
        found[extra or "base"] = {"installed": present, "missing": missing, "not_within": old}
        problems += _of_extra(extra, versions, missing, old)
    return found


def _of_extra(
    extra: str, versions: Mapping[str, str | None], missing: list[str], old: list[str]
) -> Iterator[Problem]:
    """Yield what is wrong; a package or two of an extra may be there for something else."""
    whose = f"the extra {extra}" if extra else "pixelprep"
    if missing and not extra:
        yield Problem(f"{whose} lacks {', '.join(missing)}", f"{pip_command()} {' '.join(missing)}")
    for bound in old if not missing or not extra else ():
        name = re.split("[<>=!~]", bound)[0]
        message = f"{whose} needs {bound}, and {versions[name]} is installed"
        yield Problem(message, f'{pip_command()} "{bound}"')


def _tell_failed_imports(child: Child, problems: list[Problem]) -> None:
    hint = f"install it anew: {pip_command()} --force-reinstall"
    check = pip_command().replace(" install", " check")
    failed = _answer("importing what extras brought", child, check, problems)
    failed.pop("failed", None)
    packages = _imported_packages()
    for name, reason in failed.items():
        problems.append(Problem(f"importing {name} fails: {reason}", f"{hint} {packages[name]}"))


def _cache(chosen: object, problems: list[Problem]) -> dict[str, object]:
    """Examine the cache and its file system."""
    try:
        # A relative path needs the working directory, which may have been deleted.
        with fs.translate_oserror(Path(str(chosen))):
            path = fs.cache_dir(chosen)  # type: ignore[arg-type] # as it is given to `doctor`
    except PixelprepError as error:
        problems.append(Problem(error.message, error.hint or ""))
        return {}
    told = os.environ.get("PIXELPREP_CACHE_DIR")  # which the command line takes for its option
    chosen_by = "PIXELPREP_CACHE_DIR" if told and str(chosen or told) == told else "option"
    chosen_by = chosen_by if chosen or told else "default"
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), path)
    found: dict[str, object] = {"path": str(path), "chosen_by": chosen_by}
    found |= {"exists": False, "file_system": machine.file_system(there)}
    try:
        with fs.translate_oserror(path):
            found["exists"] = there == path and there.exists()
            _check_place(path, there)
            free = shutil.disk_usage(there).free
            items = inventory.list(cache_dir=path) if there == path else ()
            entries = [item.bytes for item in items if item.kind == "entry"]
            found |= {
                "free_bytes": free,
                "entries": len(entries),
                "entries_take_bytes": sum(entries),
            }
            found["all_takes_bytes"] = sum(item.bytes for item in items)
            with _private_folder(path, there) as folder:
                tried = disk_check.check(folder)
    except PixelprepError as error:
        problems.append(Problem(error.message, error.hint or ""))
        return found | {"writable": False}
    problems += _of_disk(path, free, tried)
    return found | {"writable": True} | tried


def _check_place(path: Path, there: Path) -> None:
    """Raise an error where a cache cannot be, given what is there of its path."""
    if not there.is_dir():
        kind = "a file" if there.exists() else "a link to nothing"
        raise CacheError(f"{there}: expected a folder, found {kind}", ELSEWHERE)
    for one in (path, *(there / part for part in path.relative_to(there).parts)):
        with suppress(FileNotFoundError):  # another error would meet whoever makes it
            one.lstat()


@contextmanager
def _private_folder(cache: Path, there: Path) -> Iterator[Path]:
    """Make a folder in the cache, or in what is there above it; leave all as it was."""
    if cache != there:
        with tempfile.TemporaryDirectory(prefix=".pixelprep-doctor-", dir=there) as name:
            yield Path(name)
        return
    used = [cache / name for name in (fs.TMP, fs.TRASH)]
    new = [folder for folder in used if not folder.exists()]
    try:
        with staging.workspace(cache, "doctor") as folder:
            yield folder
    finally:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()


def _of_disk(path: Path, free: int, tried: Mapping[str, object]) -> Iterator[Problem]:
    if free < LITTLE_ROOM:
        yield Problem(f"{path}: {free:,} bytes are free", "free some space, or " + ELSEWHERE)
    if not tried["locks"]:
        yield Problem(f"{path}: locks do not work there, so work may be done twice", ELSEWHERE)
    if not tried["renames"]:
        yield Problem(f"{path}: renames do not do there what they should", ELSEWHERE)


def _settings() -> dict[str, str]:
    """Return the variables that are set; of what may be secret, only that it is."""
    proxies = [*PROXIES, *map(str.lower, PROXIES)]
    told = {name: os.environ[name] for name in (*VARIABLES, *proxies) if os.environ.get(name)}
    for name in proxies:  # whose passwords may have any sign in them, even those of URLs
        if name in told:
            told[name] = re.sub(r"^(\w[\w+.-]*://)?.*@", r"\1", told[name])
    secret = {
        name: "set"
        for name in sorted(os.environ)
        if remote.SECRET.search(name) or (name.startswith("PIXELPREP_") and name not in VARIABLES)
    }
    return {name: _without_password(text) for name, text in told.items()} | secret


def _without_password(text: str) -> str:
    """Return a value without what may be a credential, also of a proxy that has no scheme."""
    text = re.sub(r"://[^\s@]*:\S*@", "://", text)  # a password may have a slash in it
    return re.sub(r"(^|[\s,])[^\s,/@]*:[^\s,/@]*@", r"\1", remote.scrub(text))


def _public(value: Any) -> Any:
    """Return JSON values in which the home folder is ``~``."""
    if isinstance(value, Mapping):
        return {name: _public(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_public(one) for one in value]
    if not isinstance(value, str):
        return value
    with suppress(RuntimeError):  # no home is known
        homes = {str(Path.home()), os.path.realpath(Path.home())} - {"/", "."}
        for home in sorted(homes, key=len, reverse=True):  # only where a path begins
            begins = r"(?:(?<=://)|(?<![\w.)\]}@%+~/-]))"
            value = re.sub(rf"{begins}{re.escape(home)}(?![\w.-])", "~", value)
    return value
