"""List what is in a cache folder, and remove it.

Nothing is deleted in place: one rename moves it to ``.trash``, under the lock of those who make it.
So a reader finds an entry whole or not at all, and what a process works on stays.
"""

import logging
import math
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pixelprep.cache import entries, requests
from pixelprep.cache.trust import TrustRecord
from pixelprep.dataset.entry import Entry
from pixelprep.errors import CacheError, EntryError, UsageError, check_int
from pixelprep.format import manifest as manifests
from pixelprep.format.manifest import Manifest
from pixelprep.sources.known.download import PART, stale_parts
from pixelprep.sources.known.lookup import REGISTRY, known_name
from pixelprep.system import canonical, formatting, fs, locks, notices, os_calls, records, staging

LOG = logging.getLogger("pixelprep")

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}  # seconds

Kind = Literal["entry", "raw", "leftover", "metadata"]


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """An entry of the cache, as its manifest describes it.

    Parameters
    ----------
    dataset, mode, per, key : str
        As of an `Entry`.
    source : str
        The digest of its raw data.
    images : int
        The number of images in all splits.
    options : mapping
        The arguments of `prepare` that make it, where they are not the defaults. Some of how its
        data was read are known only of an entry in the cache.
    origin : str, optional
        What it was made from: a known name, or the path of data of one's own; None where that is
        not recorded, as of arrays in memory.
    duplicates : tuple of Duplicates
        The images that its data has more than once, as far as that is recorded.
    files : mapping
        How many of its image files are of each format, type and size, and how many were resized,
        stretched or turned, as far as that is recorded.
    """

    dataset: str
    mode: str
    per: str
    key: str
    source: str
    images: int
    options: Mapping[str, object]
    origin: str | None
    duplicates: tuple[notices.Duplicates, ...] = ()
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CacheItem:
    """Something in the cache that can be removed.

    Parameters
    ----------
    kind : str
        ``entry``; ``raw``: a dataset's downloads; ``leftover``: work of an interrupted or killed
        process; ``metadata``: locks, and records of entries that are gone.
    name : str
        ``DATASET/MODE-KEY``, the dataset's name, or the path below the cache folder.
    path : Path
        The file or folder.
    bytes : int
        The size of all files in it.
    made, used : float
        Times in seconds since 1970; equal if the last use is not known.
    entry : EntrySummary, optional
        The entry, if it is one.
    problem : str, optional
        What is wrong with a damaged entry.
    """

    kind: Kind
    name: str
    path: Path
    bytes: int
    made: float
    used: float
    entry: EntrySummary | None = None
    problem: str | None = None


def path(*, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return where the cache folder is, whether or not it exists yet.

    Parameters
    ----------
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.

    Returns
    -------
    Path
        The absolute path.

    Examples
    --------
    >>> import pixelprep
    >>> pixelprep.cache.path(cache_dir="/data/pixels")
    PosixPath('/data/pixels')
    """
    return fs.cache_dir(cache_dir)


def list(*, cache_dir: str | os.PathLike[str] | None = None) -> tuple[CacheItem, ...]:
    """List all that is in the cache: entries first, in the order of their names.

    Parameters
    ----------
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.

    Returns
    -------
    tuple of CacheItem
        Entries, downloads, leftovers and metadata.

    Raises
    ------
    CacheError
        When the cache cannot be listed.

    Examples
    --------
    >>> import pixelprep
    >>> key = pixelprep.prepare("sample", mode="center", quiet=True).key
    >>> key in [item.entry.key for item in pixelprep.cache.list() if item.entry]
    True
    """
    cache = fs.cache_dir(cache_dir)
    with fs.translate_oserror(cache):
        found = [_entry_item(path, cache) for path in entries.entry_paths(cache)]
        return (*found, *_raw_items(cache), *_leftovers(cache), *_metadata(cache, found))


def describe(
    entry: Entry | str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None
) -> EntrySummary:
    """Describe an entry: what it is, what it was made from, and by which options.

    Parameters
    ----------
    entry : Entry, str or path
        An entry, or what `pixelprep.open` takes.
    cache_dir : path, optional
        As for `list`.

    Returns
    -------
    EntrySummary
        Its origin and its duplicates are known only of an entry in the cache.

    Raises
    ------
    EntryError
        When there is no such entry, or its manifest is damaged.

    Examples
    --------
    >>> import pixelprep
    >>> entry = pixelprep.prepare("sample", mode="center", quiet=True)
    >>> pixelprep.cache.describe(entry).origin
    'sample'
    """
    cache = fs.cache_dir(cache_dir)
    if isinstance(entry, Entry):
        return _summary(entry.path, entry.manifest, cache)
    path = entries.resolve(entry, cache)
    return _summary(path, entries.read_manifest(path, cache), cache)


def remove(
    *names: str | os.PathLike[str] | CacheItem,
    unless_used: bool = False,
    dry_run: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[CacheItem, ...]:
    """Remove entries, or all there is of a dataset, from the cache.

    What another process uses stays: an entry of which it has batches, a download that continues,
    a work folder whose owner is alive, the record of an entry that was made again.

    Parameters
    ----------
    *names : str, path or CacheItem
        Folders, keys, ``DATASET/MODE-KEY``; a dataset's name for all its entries and downloads; or
        items, as `list`, `remove` and `prune` return them.
    unless_used : bool
        Keep entries that were opened since they were listed.
    dry_run : bool
        Return what would be removed, and remove nothing.
    cache_dir : path, optional
        As for `list`.

    Returns
    -------
    tuple of CacheItem
        What was removed; what is in use, or belongs to another user, is not among it.

    Raises
    ------
    EntryError
        When there is nothing of a name in the cache; or entries made from folders of this name in
        several places, none of them here.
    CacheError
        When nothing could be deleted.

    Examples
    --------
    >>> import pixelprep
    >>> key = pixelprep.prepare("sample", mode="center", quiet=True).key
    >>> [item.entry.mode for item in pixelprep.cache.remove(key)]
    ['center']
    """
    if not dry_run:
        os_calls.require_posix("deleting from the cache")
    cache = fs.cache_dir(cache_dir)
    items = []
    for item in _named_items(names, cache):
        if _is_in_use(item):
            LOG.warning("%s: a running process uses it, so it stays", item.name)
        else:
            items.append(item)
    return tuple(items) if dry_run else _remove(items, cache, unless_used)


def prune(
    older_than: str | None = None,
    keep: int | None = None,
    *,
    max_size: str | int | None = None,
    dry_run: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[CacheItem, ...]:
    """Remove what killed processes left and, if asked, entries that have not been used lately.

    An entry that another process trains on stays, however long ago it was opened.

    Parameters
    ----------
    older_than : str, optional
        Remove entries last used longer ago than this, such as ``30d``: a number and one of m, h,
        d, w, y. With them go the downloads of datasets that have no other entry.
    keep : int, optional
        Keep this many entries, those used last; without `older_than`, remove all others.
    max_size : str or int, optional
        Of what the other two leave, remove more entries, those used longest ago first and never one
        of the `keep` used last, until all entries together have no more bytes: ``50GB``, ``50GiB``.
    dry_run : bool
        Return what would be removed, and remove nothing.
    cache_dir : path, optional
        As for `list`.

    Returns
    -------
    tuple of CacheItem
        What was removed.

    Raises
    ------
    UsageError
        When the age, the number or the size is invalid.
    CacheError
        When the cache cannot be listed, or nothing could be deleted.

    Examples
    --------
    >>> import pixelprep
    >>> pixelprep.prepare("sample", mode="center", quiet=True).mode
    'center'
    >>> [item.name for item in pixelprep.cache.prune(older_than="30d") if item.entry]
    []
    """
    if not dry_run:
        os_calls.require_posix("deleting from the cache")
    since = time.time() - parse_age(older_than) if older_than is not None else None
    kept = check_int("keep", keep, 0) if keep is not None else 0
    cache = fs.cache_dir(cache_dir)
    listed = list(cache_dir=cache)
    items = [item for item in listed if item.kind in ("leftover", "metadata")]
    most = parse_size(max_size) if max_size is not None else None
    if (older_than, keep, max_size) != (None, None, None):
        all_old = since is None and most is None
        limits = math.inf if all_old else since or 0.0, math.inf if most is None else most
        items = [*_unused(listed, kept, *limits), *items]
    return tuple(items) if dry_run else _remove(items, cache, unless_used=True)


def _unused(
    items: Sequence[CacheItem], keep: int, since: float, most: float
) -> Iterator[CacheItem]:
    """Yield entries last used before `since`, or else beyond the bytes of `most`, the longest
    unused first, all but the last `keep`; and the downloads of datasets that have no other.
    """
    found = sorted((i for i in items if i.kind == "entry"), key=lambda i: i.used, reverse=True)
    left, going = sum(item.bytes for item in found), []
    for item in reversed(found[keep:]):
        if (item.used < since or left > most) and not _is_in_use(item):
            left -= item.bytes
            going.append(item)
    if left > most:
        about = f"{left:,.0f} bytes, more than {most:,.0f}"
        LOG.warning("entries that are in use, or to be kept, have %s", about)
    yield from going
    paths = {item.path for item in going}
    staying = {item.name.split("/")[0] for item in found if item.path not in paths}
    for item in items:
        if item.kind == "raw" and item.name not in staying and item.used < since:
            yield item


def parse_age(age: str) -> float:
    """Return the seconds of an age such as ``30d``; a number alone means days."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([mhdwy]?)", str(age).strip().lower())
    if match is None:
        raise UsageError(f"`older_than={age}`: expected a number and m, h, d, w or y, such as 30d")
    return float(match[1]) * UNITS[match[2] or "d"]


def parse_size(size: str | int) -> int:
    """Return the bytes of a size such as ``50GB`` (10⁹ bytes each) or ``50GiB`` (2³⁰)."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([kmgtp]?)(i?)b?", str(size).lower())
    if match is None:
        raise UsageError(f"`max_size={size}`: expected bytes, or a number and a unit, such as 50GB")
    step = 1024 if match[3] else 1000
    return int(float(match[1]) * step ** " kmgtp".index(match[2] or " "))


def _named_items(
    names: Iterable[str | os.PathLike[str] | CacheItem], cache: Path
) -> Iterable[CacheItem]:
    """Return the items that names stand for, each once."""
    items: dict[Path, CacheItem] = {}
    listed: tuple[CacheItem, ...] | None = None
    for name in names:
        if isinstance(name, CacheItem):
            items[name.path] = name
            continue
        listed = list(cache_dir=cache) if listed is None else listed
        plain = os.fspath(name).rstrip("/")
        plain = known_name(plain) or plain
        meant = [i for i in listed if i.kind in ("entry", "raw") and i.name.split("/")[0] == plain]
        if not meant:
            paths = entries.named_paths([name], cache)
            meant = [item for item in listed if item.path in paths]
            if not meant:
                hint = "give a folder, a key, DATASET/MODE-KEY or a dataset of this cache"
                raise EntryError(f"{paths[0]}: is not an entry in {cache}", hint)
        else:
            meant = [*_of_one_place(plain, meant, cache)]
        items |= {item.path: item for item in meant}
    return items.values()


def _of_one_place(name: str, items: Sequence[CacheItem], cache: Path) -> Sequence[CacheItem]:
    """Return the items of a dataset's name; of folders of that name, those of the one here."""
    origins = {item.entry.origin for item in items if item.entry}
    if len(origins) < 2 or name in REGISTRY:
        return items
    own = os.path.join(os.curdir, name)  # noqa: PTH118 - Path drops the dot and slash
    here = entries.made_from(own, cache)
    if found := [item for item in items if item.path in here]:
        LOG.info(
            "%s: taken as %s: %d of %d entries of this name", name, own, len(found), len(items)
        )
        return found
    listing = formatting.shorten(sorted(one or "data in memory" for one in origins))
    message = f"{name}: ambiguous, its entries were made from {len(origins)} places: {listing}"
    raise EntryError(message, "give a path of these, a key or DATASET/MODE-KEY")


def _remove(items: Iterable[CacheItem], cache: Path, unless_used: bool) -> tuple[CacheItem, ...]:
    removed: tuple[CacheItem, ...] = ()
    for item in items:
        try:
            with fs.translate_oserror(cache):
                if _remove_item(item, cache, unless_used):
                    removed += (item,)
        except CacheError:
            if not removed:  # else it is one of another user's, among many
                raise
    return removed


def _remove_item(item: CacheItem, cache: Path, unless_used: bool) -> bool:
    """Remove an item if nobody uses it; return whether it is gone."""
    if item.kind == "entry":
        with locks.lock(cache, locks.entry_lock_name(item.path)):
            trust = TrustRecord.of(item.path, cache)
            if _is_in_use(item) or (unless_used and trust.last_use() > item.used):
                return False
            _discard(item.path, cache)
            trust.forget()
            requests.delete_request(item.path, cache)
        with suppress(OSError):  # it holds other entries
            item.path.parent.rmdir()
    elif item.kind == "raw":
        with locks.lock(cache, locks.raw_lock_name(item.name)):
            _discard(item.path, cache)
    elif item.kind == "metadata" and item.path.parent == cache / fs.LOCKS:
        return locks.remove_lock(item.path)
    elif item.kind == "metadata":
        if (cache / item.path.parent.name / item.path.stem / manifests.NAME).exists():
            return False  # its entry was made again
        records.delete(item.path)
        return True
    elif item.path.parent == cache / fs.TMP:
        return staging.remove_stale(item.path, cache)
    elif not locks.owner_alive(item.path.name.removesuffix(PART).rpartition(".")[2], item.path):
        _discard(item.path, cache)
    return not os.path.lexists(item.path)


def _is_in_use(item: CacheItem) -> bool:
    """Tell whether another process has batches of an entry or, by libhdf5, a file of it.

    Locks tell it, so where the file system has none it is not known.
    """
    return item.kind == "entry" and locks.is_in_use(fs.sorted_dir(item.path))


def _discard(path: Path, cache: Path) -> None:
    with suppress(FileNotFoundError):  # another process was faster
        staging.discard(path, cache)


def _entry_item(path: Path, cache: Path) -> CacheItem:
    entry, problem = None, None
    try:
        entry = _summary(path, entries.read_manifest(path, cache), cache)
    except (EntryError, CacheError) as error:
        problem = error.message
    size, made = _size_and_time(path)
    used = max(made, TrustRecord.of(path, cache).last_use())
    name = f"{path.parent.name}/{path.name}"
    return CacheItem("entry", name, path, size, made, used, entry, problem)


def _summary(path: Path, manifest: Manifest, cache: Path) -> EntrySummary:
    names = (manifest.dataset, manifest.mode, manifest.per, manifest.key)
    images = sum(split.rows for split in manifest.splits.values())
    recorded = requests.load(path, cache)
    options = requests.options_of(manifest, recorded.request)
    about = (recorded.origin, recorded.duplicates, recorded.files)
    return EntrySummary(*names, manifest.recipe.source, images, options, *about)


def _raw_items(cache: Path) -> Iterator[CacheItem]:
    for path in sorted((cache / fs.RAW).glob("*")):
        size, made = _size_and_time(path, without=PART)  # incomplete files are listed apart
        if size:  # else a download that got nothing
            yield CacheItem("raw", path.name, path, size, made, made)


def _leftovers(cache: Path) -> Iterator[CacheItem]:
    raw = (cache / fs.RAW).glob("*")
    parts = [
        part
        for folder in raw
        if locks.is_unlocked(locks.lock_path(cache, locks.raw_lock_name(folder.name)))
        for part in stale_parts(folder)
    ]
    for path in (*staging.stale_work(cache, unfinished=True), *staging.trash_items(cache), *parts):
        yield _hidden_item("leftover", path, cache)


def _metadata(cache: Path, found: Sequence[CacheItem]) -> Iterator[CacheItem]:
    """Yield locks that nobody holds, and records of entries and sources that are gone."""
    names = {item.name for item in found}
    sources = {item.entry.source for item in found if item.entry}
    for path in sorted((cache / fs.LOCKS).glob("*.lock")):
        if locks.is_unlocked(path):
            yield _hidden_item("metadata", path, cache)
    for folder in (fs.TRUST, fs.ORIGINS):
        for path in sorted((cache / folder).glob("*/*.json")):
            if f"{path.parent.name}/{path.stem}" not in names:
                yield _hidden_item("metadata", path, cache)
    for path in sorted((cache / fs.SOURCES).glob("*.json")):
        if canonical.digest((records.read(path) or {}).get("about")) not in sources:
            yield _hidden_item("metadata", path, cache)


def _hidden_item(kind: Kind, path: Path, cache: Path) -> CacheItem:
    size, made = _size_and_time(path)
    return CacheItem(kind, path.relative_to(cache).as_posix(), path, size, made, made)


def _size_and_time(path: Path, without: str | None = None) -> tuple[int, float]:
    """Return the bytes of all files in a folder, and the time of the last change in it."""
    inside = [] if path.is_symlink() else path.rglob("*")
    size, changed = 0, 0.0
    for part in (path, *inside):
        with suppress(OSError):  # it may be gone meanwhile
            status = part.lstat()
            changed = max(changed, status.st_mtime)
            if stat.S_ISREG(status.st_mode) and part.suffix != without:
                size += status.st_size
    return size, changed
