"""What is in a cache folder, and how it is taken out of it again.

Nothing is deleted where it stands: one rename takes it to ``.trash``, under the lock of those who
make it. So a reader finds an entry whole or not at all, and what somebody works on stays.
"""

import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pixelprep.cache import entries, requests
from pixelprep.errors import CacheError, EntryError, UsageError, check_int
from pixelprep.format import manifest as manifests
from pixelprep.sources.download import PART, stale_parts
from pixelprep.system import canonical, fs, locks, records, staging

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}  # seconds

Kind = Literal["entry", "raw", "left", "note"]


@dataclass(frozen=True, slots=True)
class CacheItem:
    """One thing that can be removed.

    Parameters
    ----------
    kind : str
        ``entry``; ``raw``: a dataset's downloads; ``left``: what an interrupted or killed process
        left; ``note``: locks, and what was noted of entries that are gone.
    name : str
        ``DATASET/MODE-KEY``, the dataset's name, or where it is below the cache folder.
    path : Path
        Of the file or folder.
    bytes : int
        Of all files in it.
    made, used : float
        When, in seconds since 1970; equal where the last use is not known.
    about : dict
        Of an entry: ``dataset``, ``mode``, ``per``, ``key``, ``images``, ``source`` (its digest)
        and ``options`` (that it is made with); or the ``problem`` that it has.
    """

    kind: Kind
    name: str
    path: Path
    bytes: int
    made: float
    used: float
    about: dict[str, Any]


def list_items(cache_dir: str | os.PathLike[str] | None = None) -> list[CacheItem]:
    """All that is in the cache, the entries first and in the order of their names.

    Parameters
    ----------
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.

    Raises
    ------
    CacheError
        When the cache cannot be listed.
    """
    cache = fs.cache_dir(cache_dir)
    with fs.translate_oserror(cache):
        found = [_entry(path, cache) for path in entries.entry_paths(cache)]
        return [*found, *_raw(cache), *_left(cache), *_notes(cache, found)]


def named_items(
    names: Iterable[str | os.PathLike[str]], cache_dir: str | os.PathLike[str] | None = None
) -> list[CacheItem]:
    """What these names mean in the cache.

    Parameters
    ----------
    names : iterable of str or path
        Folders, keys, ``DATASET/MODE-KEY``; or a dataset's name: all its entries and downloads.
    cache_dir : path, optional
        As for `contents`.

    Raises
    ------
    EntryError
        When there is nothing of a name in the cache.
    """
    cache = fs.cache_dir(cache_dir)
    there = list_items(cache)
    found: dict[Path, CacheItem] = {}
    for name in names:
        plain = os.fspath(name).rstrip("/")
        of_dataset = [item for item in there if item.name.split("/")[0] == plain]
        of_dataset = [item for item in of_dataset if item.kind in ("entry", "raw")]
        chosen = of_dataset or [_one(name, there, cache)]
        found |= {item.path: item for item in chosen}
    return list(found.values())


def _one(name: str | os.PathLike[str], there: list[CacheItem], cache: Path) -> CacheItem:
    path = entries.resolve(name, cache, damaged=True)
    for item in there:
        if item.path == path:
            return item
    raise EntryError(
        f"{path}: is not an entry in {cache}",
        "give a name that `pixelprep cache list` has",
    )


def prunable_items(
    older_than: str | None = None,
    keep: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> list[CacheItem]:
    """What may go: what killed processes left; and entries that were not used lately, if asked.

    Parameters
    ----------
    older_than : str, optional
        Entries last used longer ago than this, ``30d``: a number and one of m, h, d, w, y.
    keep : int, optional
        Never the so many entries that were used last; without `older_than`, all others.
    cache_dir : path, optional
        As for `contents`.

    Returns
    -------
    list of Item
        Where entries are asked for, also the downloads of datasets that have no other entry.

    Raises
    ------
    UsageError
        For another age or number.
    """
    least = time.time() - parse_age(older_than) if older_than is not None else None
    kept = check_int("keep", keep, 0) if keep is not None else 0
    there = list_items(cache_dir)
    chosen = [item for item in there if item.kind in ("left", "note")]
    if older_than is None and keep is None:
        return chosen

    def is_old(item: CacheItem) -> bool:
        return least is None or item.used < least

    found = sorted((i for i in there if i.kind == "entry"), key=lambda i: i.used, reverse=True)
    gone = [item for item in found[kept:] if is_old(item)]
    going = {item.path for item in gone}
    stay = {item.name.split("/")[0] for item in found if item.path not in going}
    raw = [item for item in there if item.kind == "raw" and item.name not in stay]
    return [*gone, *filter(is_old, raw), *chosen]


def parse_age(age: str) -> float:
    """The seconds of an age such as ``30d``; a number alone is days."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([mhdwy]?)", age.strip().lower())
    if match is None:
        raise UsageError(f"`older_than={age}`: expected a number and m, h, d, w or y, such as 30d")
    return float(match[1]) * UNITS[match[2] or "d"]


def remove_items(
    items: Iterable[CacheItem],
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    unless_used: bool = False,
) -> list[CacheItem]:
    """Take these things out of the cache; those that were, of those that can be.

    What somebody began to use since it was listed stays: a note whose entry was made again, a
    download that is going on, a folder with a living owner.

    Parameters
    ----------
    items : iterable of Item
        As `contents`, `named` or `unused` gave them.
    cache_dir : path, optional
        As for `contents`.
    unless_used : bool
        Leave an entry that was opened since it was listed.

    Raises
    ------
    CacheError
        When the first of them cannot be deleted.
    """
    cache = fs.cache_dir(cache_dir)
    gone: list[CacheItem] = []
    for item in items:
        try:
            with fs.translate_oserror(cache):
                removed = _removed(item, cache, unless_used)
        except CacheError:
            if not gone:
                raise
            continue  # one of another user's, among many
        gone += [item] * removed
    return gone


def _removed(item: CacheItem, cache: Path, unless_used: bool) -> bool:
    if item.kind == "entry":
        with locks.lock(cache, locks.entry_lock_name(item.path)):
            if unless_used and entries.last_use(item.path, cache) > item.used:
                return False
            _discard(item.path, cache)
            entries.forget_checked(item.path, cache)
            requests.delete_request(item.path, cache)
        with suppress(OSError):  # other entries are in it
            item.path.parent.rmdir()
    elif item.kind == "raw":
        with locks.lock(cache, locks.raw_lock_name(item.name)):
            _discard(item.path, cache)
    elif item.kind == "note":
        return _note_removed(item.path, cache)
    elif item.path.parent == cache / fs.TMP:
        return staging.remove_stale(item.path, cache)
    elif not locks.owner_alive(item.path.name.removesuffix(PART).rpartition(".")[2], item.path):
        _discard(item.path, cache)
    return not os.path.lexists(item.path)


def _discard(path: Path, cache: Path) -> None:
    with suppress(FileNotFoundError):  # somebody else was faster
        staging.discard(path, cache)


def _note_removed(path: Path, cache: Path) -> bool:
    if path.parent == cache / fs.LOCKS:
        return locks.remove_lock(path)
    if (cache / path.parent.name / path.stem / manifests.NAME).exists():
        return False
    records.delete(path)
    return True


def _entry(path: Path, cache: Path) -> CacheItem:
    about: dict[str, Any] = {}
    try:
        manifest = manifests.read(path)
        entries.check_location(path, manifest, cache)
        about = {name: manifest[name] for name in ("dataset", "mode", "per", "key")}
        about["source"] = manifest["recipe"]["source"]
        about["images"] = sum(split["rows"] for split in manifest["splits"].values())
        about["options"] = requests.options_of(manifest)
    except (EntryError, CacheError) as error:
        about = {"problem": error.message}
    used = entries.last_use(path, cache)
    name = f"{path.parent.name}/{path.name}"
    return _item("entry", name, path, used=used, about=about)


def _raw(cache: Path) -> Iterator[CacheItem]:
    for path in sorted((cache / fs.RAW).glob("*")):
        item = _item("raw", path.name, path)
        if item.bytes:  # else a download that got nothing
            yield item


def _left(cache: Path) -> Iterator[CacheItem]:
    for path in _left_paths(cache):
        yield _item("left", path.relative_to(cache).as_posix(), path)


def _left_paths(cache: Path) -> list[Path]:
    work = staging.stale_work(cache, unfinished=True)
    raw = (cache / fs.RAW).glob("*")
    unwatched = [folder for folder in raw if locks.is_free(cache, locks.raw_lock_name(folder.name))]
    broken = [part for folder in unwatched for part in stale_parts(folder)]
    return [*work, *staging.trash_items(cache), *broken]


def _notes(cache: Path, found: list[CacheItem]) -> Iterator[CacheItem]:
    there = {item.name for item in found}
    sources = {item.about.get("source") for item in found}
    for path in sorted((cache / fs.LOCKS).glob("*.lock")):
        if locks.is_free(cache, path.stem):
            yield _note(path, cache)
    for kind in (fs.TRUST, fs.ORIGINS):
        for path in sorted((cache / kind).glob("*/*.json")):
            if f"{path.parent.name}/{path.stem}" not in there:
                yield _note(path, cache)
    for path in sorted((cache / fs.SOURCES).glob("*.json")):
        if canonical.digest((records.read(path) or {}).get("about")) not in sources:
            yield _note(path, cache)


def _note(path: Path, cache: Path) -> CacheItem:
    return _item("note", path.relative_to(cache).as_posix(), path)


def _item(
    kind: Kind, name: str, path: Path, *, used: float = 0.0, about: dict[str, Any] | None = None
) -> CacheItem:
    inside = [] if path.is_symlink() else path.rglob("*")
    size, made = 0, 0.0
    for part in (path, *inside):
        with suppress(OSError):  # it may be gone meanwhile
            status = part.lstat()
            made = max(made, status.st_mtime)
            broken_off = kind == "raw" and part.suffix == PART  # listed by itself
            size += status.st_size if stat.S_ISREG(status.st_mode) and not broken_off else 0
    return CacheItem(kind, name, path, size, made, max(made, used), about or {})
