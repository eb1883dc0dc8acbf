"""Find entries by name, and open them once their files are checked."""

import logging
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

from pixelprep.cache import requests
from pixelprep.cache.trust import Stamps, TrustRecord, in_cache
from pixelprep.dataset.entry import Entry
from pixelprep.errors import REPAIR_HINT, EntryError, NewerFormatError, UsageError
from pixelprep.format import layout, schema
from pixelprep.format import manifest as manifests
from pixelprep.format.manifest import Manifest
from pixelprep.sources import is_library_name
from pixelprep.sources.known.lookup import known_name
from pixelprep.system import formatting, fs, locks

LOG = logging.getLogger("pixelprep")

MAX_LISTED = 4  # entries in a hint
RUNS_ENTRY = "entry"  # the folder of a run that has its entry's manifest
FOLDER_NAME = re.compile("[a-z][a-z0-9_-]*-[0-9a-f]{12}")  # the name of an entry's folder


def open_entry(path: Path, cache: Path | None = None, quiet: bool = True) -> Entry:
    """Open the entry in this folder.

    Every file is hashed before libhdf5 reads it; in the cache, only if its `TrustRecord` does not
    tell that it is unchanged since.
    """

    def attempt() -> Entry:
        manifest = read_manifest(path, cache)
        layout.check_compression(manifest.recipe.compression)
        return Entry(path, manifest, TrustRecord.of(path, cache).check(manifest, quiet))

    return fs.retry_while_missing(attempt)


def existing_entry(
    path: Path, cache: Path, quiet: bool, log: Callable[..., object] = LOG.debug
) -> Entry | None:
    """Open the entry that should be in this folder of the cache; None if it must be made.

    `log` reports what is wrong with a damaged one; one of a newer format is not to be replaced.
    """
    if not path.exists():
        return None
    try:
        return open_entry(path, cache, quiet)
    except NewerFormatError:
        raise
    except EntryError as error:
        log("%s; making it again", error.message)
        return None


def published_entry(path: Path, cache: Path, manifest: Manifest, stamps: Stamps) -> Entry:
    """Return the entry that was just published, without reading again what was just written.

    `stamps` are those of the files, which were hashed as they were written. Where another process
    published the same entry first, or has replaced it, that one is opened.
    """
    if TrustRecord.of(path, cache).add_written(manifest, stamps):
        return Entry(path, manifest, stamps, cached=False)
    return replace(open_entry(path, cache), cached=False)


def check_entry(path: Path, cache: Path, quiet: bool) -> tuple[Entry | None, list[str]]:
    """Open an entry, hashing every file; return it, or None and a line for each problem.

    What is no fault of the entry, such as a newer format, is raised.
    """
    try:
        manifest = read_manifest(path, cache)
    except NewerFormatError:
        raise
    except EntryError as error:
        return None, [error.message]
    layout.check_compression(manifest.recipe.compression)
    stamps, problems = TrustRecord.of(path, cache).check_all(manifest, quiet)
    return (None if problems else Entry(path, manifest, stamps)), problems


def read_manifest(path: Path, cache: Path | None) -> Manifest:
    """Read the manifest of an entry; in the cache, its folder must have the name it implies."""
    manifest = manifests.read(path)
    own = f"{manifest.dataset}/{manifest.mode}-{manifest.key}"
    if in_cache(path, cache) and f"{path.parent.name}/{path.name}" != own:
        raise EntryError(f"{path}: folder name does not match its manifest ({own})", REPAIR_HINT)
    return manifest


@contextmanager
def hold_entry(path: Path, cache: Path) -> Iterator[None]:
    """Keep other processes from replacing an entry of the cache."""
    name, is_cached = locks.entry_lock_name(path), in_cache(path, cache)
    with locks.lock(cache, name) if is_cached else nullcontext():
        yield


def is_entry_name(name: str, cache: Path) -> bool:
    """Tell whether a name stands for an entry rather than for a dataset.

    That of data of one's own does: `prepare` knows such data by its path alone.
    """
    if "/" in name:
        matches = re.fullmatch(f"[^./][^/]*/{FOLDER_NAME.pattern}", name) is not None
        return matches or (fs.expand_user(name) / manifests.NAME).is_file()
    if re.fullmatch("[0-9a-f]{4,12}", name):
        return True
    if not _dataset_entries(name, cache) or _is_known(name):
        return False
    return not os.path.exists(name)  # noqa: PTH110 - long names


def _is_known(name: str) -> bool:
    from pixelprep import sources  # an entry that is there needs none of them

    known = sources.datasets()
    return name in [*(one.name for one in known.datasets), *(one.name for one in known.plugins)]


def is_known(name: str, cache: Path) -> bool:
    """Tell whether there is an entry, or more than one, that a name may stand for."""
    return is_entry_name(name, cache) or bool(_find(name, cache, damaged=False))


def entry_paths(cache: Path) -> list[Path]:
    """List everything in a cache that has an entry's place and name, in the order of the names."""
    paths: list[Path] = []
    for folder in fs.sorted_dir(cache):
        if not folder.name.startswith(".") and folder.is_dir():
            paths += [path for path in fs.sorted_dir(folder) if FOLDER_NAME.fullmatch(path.name)]
    return paths


def named_paths(names: Iterable[str | os.PathLike[str]], cache: Path) -> list[Path]:
    """List the folders that names stand for, damaged ones too; a dataset means all its entries."""
    found = []
    for name in names:
        every = _dataset_entries(name, cache) or made_from(name, cache)
        found.append(every or [resolve(name, cache, damaged=True)])
    return list(dict.fromkeys(chain.from_iterable(found)))


def open_named(name: str | os.PathLike[str], cache: Path, quiet: bool) -> Entry:
    """Open the entry that a name stands for, as `resolve` finds it."""
    return open_entry(resolve(name, cache), cache, quiet)


def open_recorded(path: Path, key: str, cache: Path, quiet: bool) -> Entry:
    """Open the entry that a run was trained on: that of this cache, or else where it was."""
    others = sorted(cache.glob(f"[!.]*/*-{key}"))
    for one in (cache / path.parent.name / path.name, path, *others):
        if _exists(one, damaged=False):
            return open_entry(one, cache, quiet)
    hint = "put it back, name its cache with `cache_dir`, or prepare it again from the same data"
    raise EntryError(f"{path}: no entry there, and none of its key {key} in {cache}", hint)


def resolve(name: str | os.PathLike[str], cache: Path, *, damaged: bool = False) -> Path:
    """Return the one folder that a path, key, ``DATASET/MODE-KEY`` or dataset stands for.

    The path of an entry in the cache begins with `cache`. `damaged` accepts whatever is there.
    """
    if not isinstance(name, str | os.PathLike):
        raise UsageError(f"{name!r}: expected the name or the path of an entry")
    name = os.fspath(name)
    found, lock = _find(name, cache, damaged), locks.entry_lock_name(cache / name)
    if not found and in_cache(cache / name, cache) and locks.lock_path(cache, lock).exists():
        with locks.lock(cache, lock):  # another process may be replacing it
            found = _find(name, cache, damaged)
    if len(found) > 1:
        listed = found[:MAX_LISTED]
        names = [
            f"{path.parent.name}/{path.name}{told}" for path, told in _told_apart(listed, cache)
        ]
        more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
        hint = f"choose one of: {', '.join(names)}{more}"
        raise EntryError(f"{name}: ambiguous, {len(found)} entries in {cache} match", hint)
    run = fs.expand_user(name) / RUNS_ENTRY
    if not found and _exists(run, damaged=False):
        own = manifests.read(run)
        hint = f"name its entry: {own.dataset}/{own.recipe.folder}"
        raise EntryError(f"{name}: a run of `train`, no entry", hint)
    if not found and "/" in name and os.path.exists(fs.expand_user(name)):  # noqa: PTH110 - long names
        none = f"{name}: no entry, and none in {cache} was made from it"
        raise EntryError(none, _prepare_first(name, cache))
    if not found:
        none = f"{name}: no entry of this name here or in {cache}"
        hint = "give a folder, a key, DATASET/MODE-KEY, or a dataset with one entry"
        raise EntryError(none, _prepare_first(name, cache) if _is_known(name) else hint)
    return found[0]


def _prepare_first(name: str, cache: Path) -> str:
    options = {} if cache == fs.cache_dir(None) else {"cache_dir": cache}
    command = ["pixelprep", "prepare", name, *formatting.options(options)]
    return f"prepare it first: {shlex.join(command)}"


def _find(name: str, cache: Path, damaged: bool) -> list[Path]:
    """List the folders that a name may stand for."""
    given = fs.expand_user(name).absolute()
    if _exists(given, damaged and "/" in name):
        inside = given.parent.parent.resolve() == cache.resolve()
        return [cache / given.parent.name / given.name if inside else given]
    if "/" in name:
        if _exists(cache / name, damaged):
            return [cache / name]
        return made_from(name, cache) or _dataset_entries(name, cache)
    by_key = re.fullmatch("[0-9a-f]{4,12}", name) and sorted(cache.glob(f"[!.]*/*-{name}*"))
    return by_key or _dataset_entries(name, cache) or made_from(name, cache)


def _dataset_entries(name: str | os.PathLike[str], cache: Path) -> list[Path]:
    """List the folders of a dataset's entries in a cache."""
    plain = os.fspath(name).rstrip("/")
    plain = known_name(plain) or plain
    if not schema.is_folder_name(plain):
        return []
    with suppress(OSError):  # another user's, which cannot be read
        return [path for path in fs.sorted_dir(cache / plain) if FOLDER_NAME.fullmatch(path.name)]
    return []


def made_from(name: str | os.PathLike[str], cache: Path) -> list[Path]:
    """List the entries of a cache that were made from the data at this path, or LIBRARY:NAME."""
    is_name = is_library_name(os.fspath(name))
    if "/" not in os.fspath(name) and not is_name:
        return []
    origins = ((path, requests.load(path, cache).origin) for path in entry_paths(cache))
    if is_name:
        return [path for path, own in origins if own == name]
    data = os.path.realpath(fs.expand_user(name))
    return [path for path, own in origins if own and "/" in own and os.path.realpath(own) == data]


def _told_apart(paths: Iterable[Path], cache: Path) -> list[tuple[Path, str]]:
    """Say of entries, in brackets, what user's data they were made from and how they differ."""
    recorded = {path: requests.load(path, cache) for path in paths}
    options: dict[Path, dict[str, object]] = {path: {} for path in recorded}
    for path, about in recorded.items():
        with suppress(EntryError):  # it is damaged
            options[path] = requests.options_of(read_manifest(path, cache), about.request)
    told = []
    for path, about in recorded.items():
        others = [one for other, one in options.items() if other != path]
        own = {k: v for k, v in options[path].items() if k != "mode"}  # which the name tells
        differ = {k: v for k, v in own.items() if any(one.get(k) != v for one in others)}
        origin = [about.origin] if about.origin and "/" in about.origin else []
        words = [*origin, *([shlex.join(formatting.options(differ))] if differ else [])]
        told.append((path, f" ({' '.join(words)})" if words else ""))
    return told


def _seems_entry(path: Path) -> bool:
    """Return whether a folder is or was an entry, not anything else that a path may lead to."""
    parts = (manifests.NAME, manifests.DIGEST)
    return bool(FOLDER_NAME.fullmatch(path.name)) or any((path / part).exists() for part in parts)


def _exists(path: Path, damaged: bool) -> bool:
    try:
        if (path / manifests.NAME).is_file():
            return True
        return damaged and os.path.lexists(path) and _seems_entry(path)
    except OSError:  # no file can have such a name
        return False
