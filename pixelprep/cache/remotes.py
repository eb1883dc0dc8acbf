"""Share entries by a remote: any place that fsspec reaches, or a cache that somebody serves.

A remote has a cache's folders, DATASET/MODE-KEY, and in each the files of the entry. Their names
hold the beginning of their digest (train-0123456789abcdef.h5), so that nothing is ever written over
by other bytes; ``manifest.sha256`` alone has a fixed name. It names the manifest, which names the
files: writing it, last, is the act that publishes. A plain copy of a cache is read, too.
docs/sharing.md says more.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property, partial
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: a bar of tqdm's, JSON values
from urllib.parse import unquote

from pixelprep.cache import entries
from pixelprep.cache.inventory import parse_age, parse_size
from pixelprep.cache.trust import file_stamps
from pixelprep.dataset.entry import Entry
from pixelprep.errors import EntryError, NewerFormatError, RemoteError, UsageError
from pixelprep.format import layout, schema
from pixelprep.format import manifest as manifests
from pixelprep.format.manifest import FileRecord, Manifest
from pixelprep.format.source_record import SourceRecord
from pixelprep.sources.known.download import PART, incomplete
from pixelprep.system import canonical, formatting, fs, locks, os_calls, progress, records, staging
from pixelprep.system.remote import (
    PIECE,
    NotFoundError,
    TransientError,
    check_writable,
    is_read_only,
    is_url,
    open_at,
    open_remote,
    put_file,
    read_small,
    retried,
    scrub,
    size_of,
    translated,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

LOG = logging.getLogger("pixelprep")

ENV = "PIXELPREP_REMOTE"
PUSH_AGAIN = "push the entry again, with `force=True`"
BROKEN_AGE = 86400.0  # seconds after which an unfinished push is not going on any more
DIGITS = 16  # of a digest, in a name
PLACE = re.compile(f"(?P<dataset>[^./][^/]*)/(?P<folder>{entries.FOLDER_NAME.pattern})")
RECORD_BYTES = 1 << 20  # of a source's record, which names each class


@dataclass(frozen=True)
class Remote:
    """A remote by its URL; it is opened when it is first asked."""

    url: str

    @cached_property
    def _opened(self) -> "tuple[AbstractFileSystem, str]":
        return open_remote(self.url)

    @property
    def files(self) -> "AbstractFileSystem":
        return self._opened[0]

    def path(self, name: str = "") -> str:
        """Return the path in the file system of a name below the remote."""
        return f"{self._opened[1].rstrip('/')}/{name}" if name else self._opened[1]

    def address(self, name: str = "") -> str:
        """Return the URL of a name below the remote, as it may be shown."""
        return scrub(f"{self.url.rstrip('/')}/{name}") if name else scrub(self.url)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a small file's content; None where there is none."""
        try:
            return read_small(self.files, self.path(name), self.address(name), limit)
        except NotFoundError:
            return None

    def size(self, name: str) -> int | None:
        return size_of(self.files, self.path(name), self.address(name))

    def put(self, name: str, content: bytes | Path) -> None:
        put_file(self.files, self.path(name), self.address(name), content)


@dataclass(frozen=True)
class Published:
    """An entry of a remote, as its manifest describes it."""

    remote: Remote
    place: str  # DATASET/MODE-KEY below the remote; empty where the remote's URL is the entry's
    content: bytes  # of the manifest
    manifest: Manifest

    def names(self, file: FileRecord) -> tuple[str, str]:
        """Return the names that a file may have: of a push, and of a plain copy."""
        return tuple(_below(self.place, name) for name in _names(file.name, file.sha256))  # type: ignore[return-value] # two

    def is_whole(self) -> bool:
        """Tell whether every file is there, with the right number of bytes."""
        files = [file for _, file in self.manifest.files()]
        return all(any(self.remote.size(n) == f.bytes for n in self.names(f)) for f in files)


def _names(name: str, digest: str) -> tuple[str, str]:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}-{digest[:DIGITS]}.{suffix}", name


def _below(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


def find(source: Remote, place: str) -> Published | None:
    """Return the entry that a remote has published at a place; None where there is none.

    Raises `RemoteError` where the remote cannot be read, or has what is no entry.
    """

    def attempt() -> bytes | None:
        pointer = source.read(_below(place, manifests.DIGEST), 1000)
        if pointer is None:
            return None
        digest = pointer[:64].decode(errors="replace")
        for name in _names(manifests.NAME, digest) if re.fullmatch("[0-9a-f]{64}", digest) else ():
            content = source.read(_below(place, name), schema.MAX_BYTES)
            if content is not None and manifests.digest_line(content) == pointer:
                return content
        raise TransientError(  # a stale answer, or one of them is being written
            f"{source.address(place)}: expected a manifest of the digest in {manifests.DIGEST},"
            " got another or none",
            PUSH_AGAIN,
        )

    if (content := retried(attempt)) is None:
        return None
    where = source.address(place)
    try:
        manifest = manifests.parse(Path(manifests.NAME), content)
    except NewerFormatError as error:
        raise NewerFormatError(f"{where}: {error.message}", error.hint) from None
    except EntryError as error:
        raise RemoteError(f"{where}: {error.message}", PUSH_AGAIN) from None
    own = f"{manifest.dataset}/{manifest.recipe.folder}"
    if place and own not in (place, unquote(place)):
        raise RemoteError(f"{where}: expected the manifest of {place}, got that of {own}")
    return Published(source, place, content, manifest)


def fetch(found: Published, cache: Path, quiet: bool) -> Entry:
    """Copy an entry into the cache, unless it is there; return it.

    Every file is digested while it comes, and is no longer than the manifest says. One that broke
    off is continued by the next call.
    """
    manifest = found.manifest
    layout.check_compression(manifest.recipe.compression)
    path = cache / manifest.dataset / manifest.recipe.folder
    with locks.lock(cache, locks.entry_lock_name(path)):
        if entry := entries.existing_entry(path, cache, quiet):
            return entry
        staging.collect_garbage(cache)
        return fetch_locked(found, path, cache, quiet)


def fetch_locked(found: Published, path: Path, cache: Path, quiet: bool) -> Entry:
    """Do as `fetch`, holding the lock of the entry's folder, where there is no entry."""
    manifest = found.manifest
    files = [file for _, file in manifest.files()]
    folder = fs.ensure_dir(cache / fs.RAW / manifest.dataset)
    total = sum(file.bytes for file in files)
    try:
        fs.require_free_space(cache, total - _bytes_here(folder, files))
        with ExitStack() as held, progress.bar("pulling", total, "B", quiet) as bar:
            parts = [held.enter_context(incomplete(folder / _part_name(file))) for file in files]
            for file, part in zip(files, parts, strict=True):
                _Download(found, file, part, bar).run()
            with staging.workspace(cache, f"pull-{manifest.dataset}") as work:
                ready = fs.ensure_dir(work / staging.FILES)
                for file, part in zip(files, parts, strict=True):
                    part.rename(ready / file.name)
                _finish(found, ready, work)
                stamps = file_stamps(ready, manifest)
                staging.publish(ready, path, cache)
    finally:
        with suppress(OSError):  # it holds other files
            folder.rmdir()
            folder.parent.rmdir()
    return entries.published_entry(path, cache, manifest, stamps)


def _bytes_here(folder: Path, files: list[FileRecord]) -> int:
    """Return how many bytes of earlier calls are there."""
    parts = (part for file in files for part in folder.glob(f"{_part_name(file)}*{PART}"))
    return sum(part.stat().st_size for part in parts)


def drop_parts(found: Published, cache: Path) -> None:
    """Delete what has come of an entry, where it is not to be asked for again."""
    folder = cache / fs.RAW / found.manifest.dataset
    for _, file in found.manifest.files():
        with suppress(FileNotFoundError), incomplete(folder / _part_name(file)) as part:
            part.unlink()
    with suppress(OSError):  # it holds other files
        folder.rmdir()
        folder.parent.rmdir()


def _part_name(file: FileRecord) -> str:
    return _names(file.name, file.sha256)[0]


def _finish(found: Published, ready: Path, work: Path) -> None:
    """Check the files as those of any stranger, and bring them to the disk with the manifest."""
    from pixelprep.format import untrusted  # loads h5py

    for split, file in found.manifest.files():
        shape = found.manifest.file_layout(split, file.rows)
        if problem := untrusted.validate(ready / file.name, shape):
            raise RemoteError(f"{found.remote.address(found.place)}: {file.name}: {problem}")
        fs.fsync(ready / file.name)
    digest = manifests.digest_line(found.content)
    for name, content in {manifests.NAME: found.content, manifests.DIGEST: digest}.items():
        fs.write_atomically(ready / name, content, work)


class _Download:
    """One file on its way into a part of it that is there already, or empty."""

    def __init__(self, found: Published, file: FileRecord, part: Path, bar: Any) -> None:
        self.found, self.file, self.part, self.bar = found, file, part, bar
        self.digest, self.size = hashlib.sha256(), 0

    def run(self) -> None:
        """Bring the whole file; what cannot be continued is deleted."""
        resumed = self._begin()
        try:
            retried(self._any_name, lambda: self.size)
            if self.digest.hexdigest() != self.file.sha256 and resumed:
                self._restart()  # it may have begun with other bytes
                retried(self._any_name, lambda: self.size)
            if self.digest.hexdigest() != self.file.sha256:
                self.part.unlink(missing_ok=True)
                raise RemoteError(
                    f"{self._where}: expected SHA-256 {self.file.sha256[:12]}…,"
                    f" got {self.digest.hexdigest()[:12]}…",
                    PUSH_AGAIN,
                )
        except OSError:  # of the disk here
            self.part.unlink(missing_ok=True)
            raise
        finally:
            if self.part.exists() and self.part.stat().st_size == 0:
                self.part.unlink()

    @property
    def _where(self) -> str:
        return self.found.remote.address(_below(self.found.place, self.file.name))

    def _begin(self) -> bool:
        """Take up what is there, and return whether that is anything."""
        if not self.part.exists() or self.part.stat().st_size > self.file.bytes:
            self._restart()
            return False
        with self.part.open("rb") as file:
            while piece := file.read(fs.HASH_BYTES):
                self._count(piece)
        return self.size > 0

    def _restart(self) -> None:
        self.part.write_bytes(b"")
        self.bar.update(-self.size)
        self.digest, self.size = hashlib.sha256(), 0

    def _count(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.size += len(piece)
        self.bar.update(len(piece))

    def _any_name(self) -> None:
        """Read on, by the first of the names that there is."""
        if self.size == self.file.bytes:
            return
        pushed, plain = self.found.names(self.file)
        try:
            self._read_on(pushed)
        except NotFoundError:
            self._read_on(plain)

    def _read_on(self, name: str) -> None:
        """Send one request for the bytes that the part lacks, and append what comes."""
        source = self.found.remote
        with ExitStack() as held:
            with translated(source.address(name)):
                file, began = open_at(source.files, source.path(name), self.size)
                held.enter_context(file)
            if began != self.size:  # no ranges there
                self._restart()
            with self.part.open("ab") as out:
                while missing := self.file.bytes - self.size:
                    with translated(source.address(name)):
                        piece = file.read(min(missing, PIECE))
                    if not piece:
                        expected = f"expected {self.file.bytes:,} bytes, got {self.size:,}"
                        raise TransientError(f"{self._where}: {expected}")
                    out.write(piece)
                    self._count(piece)


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did.

    Parameters
    ----------
    url : str
        Where the entry is now, without credentials.
    files, bytes : int
        How many files went up, and how many bytes they have.
    present : bool
        Whether the whole entry was there before.
    """

    url: str
    files: int
    bytes: int
    present: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name.

        Returns
        -------
        dict
            JSON values.
        """
        return asdict(self)


def push_entry(entry: Entry, target: Remote, cache: Path, force: bool, quiet: bool) -> PushResult:
    """Publish an entry in a remote, unless one of its key is there, whole.

    With `force` every file is sent, as one of the right size may be damaged.
    """
    check_writable(target.files, target.url)
    manifest, place = entry.manifest, f"{entry.dataset}/{entry.manifest.recipe.folder}"
    content, line = manifest_bytes(entry.path)
    result = partial(PushResult, target.address(place))
    there = _find_whole(target, place)
    _push_records(manifest, target, cache)
    if there and not force:
        if there.content != content:
            LOG.warning("%s: has other bytes of the same recipe, which stay", target.address(place))
        return result(0, 0, present=True)
    stamps, sent = file_stamps(entry.path, manifest), list[int]()
    files = [file for _, file in manifest.files()]
    with progress.bar("pushing", sum(file.bytes for file in files), "B", quiet) as bar:
        for file in files:
            name = _below(place, _names(file.name, file.sha256)[0])
            if force or target.size(name) != file.bytes:
                target.put(name, entry.path / file.name)
                sent.append(file.bytes)
            bar.update(file.bytes)
    if file_stamps(entry.path, manifest) != stamps:
        raise EntryError(f"{entry.path}: was changed while it was pushed; nothing is published")
    target.put(_below(place, _names(manifests.NAME, line[:64].decode())[0]), content)
    target.put(_below(place, manifests.DIGEST), line)
    return result(len(sent), sum(sent), present=False)


def manifest_bytes(folder: Path) -> tuple[bytes, bytes]:
    """Return the content of an entry's two files that hold its manifest."""
    return (folder / manifests.NAME).read_bytes(), (folder / manifests.DIGEST).read_bytes()


def _find_whole(target: Remote, place: str) -> Published | None:
    """Return the entry at a place if all of it is there; one that is damaged counts as none."""
    try:
        found = find(target, place)
    except RemoteError as error:
        if error.hint != PUSH_AGAIN:
            raise
        return None
    return found if found is not None and found.is_whole() else None


# What is known of raw data by an identity that means the same anywhere: of pinned files, or a
# commit of the hub. By it the entry is found where no byte of the raw data is.


def is_portable(identity: Mapping[str, Any]) -> bool:
    return "pinned" in identity or {"hub", "commit"} <= identity.keys()


def _record_name(identity: Mapping[str, Any]) -> str:
    return f"{fs.SOURCES}/{canonical.digest(identity)}.json"


def _push_records(manifest: Manifest, target: Remote, cache: Path) -> None:
    for path in sorted((cache / fs.SOURCES).glob("*.json")):
        stored = records.read(path) or {}
        identity = stored.get("identity")
        if isinstance(identity, dict) and is_portable(identity):
            name = _record_name(identity)
            is_own = canonical.digest(stored.get("about")) == manifest.recipe.source
            if is_own and target.size(name) is None:
                target.put(name, canonical.dumps(stored))


def source_record(source: Remote, identity: Mapping[str, Any]) -> SourceRecord | None:
    """Return what a remote knows of raw data of this identity; None where it knows nothing."""
    content = source.read(_record_name(identity), RECORD_BYTES) if is_portable(identity) else None
    try:
        stored = json.loads(content or b"{}")
        same = stored.get("identity") == identity
        known = same and schema.is_source(stored.get("about"))
    except schema.BAD_JSON:
        known = False
    return SourceRecord.from_dict(stored["about"]) if known else None


def meant(url: str | None) -> str:
    """Return the URL of a remote: the one that is given, else that of the environment."""
    if chosen := url or os.environ.get(ENV):
        return os.fspath(chosen)
    raise UsageError("no remote is given", f"give its URL, or set {ENV}")


def pull(
    name: str,
    *,
    remote: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Entry:
    """Copy an entry of a remote into the cache, unless it is there, and return it.

    Parameters
    ----------
    name : str
        ``DATASET/MODE-KEY``, or the whole URL of an entry; or a key, or a dataset that has one
        entry, for which the remote must be one that can be listed.
    remote : str, optional
        As of `push`; also ``https://`` with any server of files.
    cache_dir : path, optional
        As of `push`.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    Entry
        `Entry.cached` says whether it was in the cache already.

    Raises
    ------
    RemoteError, MissingExtraError
        When the remote cannot be reached, has no such entry, or its bytes are not those of the
        manifest. What has come stays for the next call; the cache has no half entry.
    CacheError, UsageError
        When the cache cannot be written; when no remote is given.

    Examples
    --------
    >>> import pixelprep
    >>> entry = pixelprep.prepare("sample", mode="center", quiet=True)
    >>> url = pixelprep.push(entry, "memory://shared", quiet=True).url
    >>> pixelprep.pull(url, quiet=True).key == entry.key
    True
    """
    os_calls.require_posix("pulling an entry")
    cache = fs.cache_dir(cache_dir)
    source, place = _located(name, remote)
    if place and entries.FOLDER_NAME.fullmatch(place.rpartition("/")[2]):
        with fs.translate_oserror(cache):
            if entry := entries.existing_entry(cache / place, cache, quiet):
                return entry
    if (found := find(source, place)) is None:
        where = source.address(place)
        hint = f"see what there is: pixelprep remote ls {source.address()}"
        raise RemoteError(f"{where}: no entry there", hint)
    with fs.translate_oserror(cache):
        return fetch(found, cache, quiet)


def _located(name: str, url: str | None) -> tuple[Remote, str]:
    """Return the remote and the place of what is to be pulled."""
    if is_url(name) or Path(name).is_absolute():
        top, _, place = name.rstrip("/").rpartition("/")
        top, _, dataset = top.rpartition("/")
        place = f"{dataset}/{place}"
        return (Remote(top), place) if PLACE.fullmatch(place) else (Remote(name), "")
    source = Remote(meant(url))
    if PLACE.fullmatch(name):
        return source, name
    found = [
        item.name
        for item in list_remote(source.url)
        if item.published and (item.name.split("/")[0] == name or _has_key(item.name, name))
    ]
    if len(found) != 1:
        message = f"{source.address()}: {name}: expected one entry of this name, got {len(found)}"
        raise RemoteError(message, f"give one of: {formatting.shorten(found)}" if found else None)
    return source, found[0]


def _has_key(place: str, name: str) -> bool:
    key = place.rpartition("-")[2]
    return re.fullmatch("[0-9a-f]{4,12}", name) is not None and key.startswith(name)


@dataclass(frozen=True, slots=True)
class RemoteItem:
    """An entry of a remote, as a listing has it.

    Parameters
    ----------
    name : str
        ``DATASET/MODE-KEY``.
    files, bytes : int
        How many files are there, and how many bytes they have.
    made : float
        The time of its latest change in seconds since 1970; 0 where the remote does not tell.
    published : bool
        Whether its manifest is there; else it is being pushed, or its push was broken off.
    paths : tuple of str
        The files, below the remote.
    """

    name: str
    files: int
    bytes: int
    made: float
    published: bool
    paths: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, without the paths.

        Returns
        -------
        dict
            JSON values.
        """
        return {name: value for name, value in asdict(self).items() if name != "paths"}


def list_remote(remote: str | None = None) -> tuple[RemoteItem, ...]:
    """List the entries of a remote, in the order of their names.

    Parameters
    ----------
    remote : str, optional
        As of `push`.

    Returns
    -------
    tuple of RemoteItem
        Entries, also those that are not published.

    Raises
    ------
    RemoteError, MissingExtraError, UsageError
        As of `pull`; when the remote cannot be listed.

    Examples
    --------
    >>> import pixelprep
    >>> pixelprep.cache.list_remote("memory://empty")
    ()
    """
    source = Remote(meant(remote))
    return tuple(_item(place, files) for place, files in _listed(source).items())


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    name: str  # below the remote
    bytes: int
    changed: float


def _listed(source: Remote) -> dict[str, list[_RemoteFile]]:
    """List the files of a remote by their entries, which are in the order of their names."""

    def attempt() -> dict[str, Any]:
        with translated(source.url):
            source.files.invalidate_cache()
            try:
                found = source.files.find(source.path(), detail=True)
            except FileNotFoundError:  # nothing was pushed yet
                return {}
            if not found and is_read_only(source.files):  # whose `find` passes over what fails
                source.files.info(source.path())
        return found if isinstance(found, dict) else {}

    top, groups = source.path().rstrip("/") + "/", dict[str, list[_RemoteFile]]()
    for path, about in retried(attempt).items():
        name = path.removeprefix(top)
        place, _, file = name.rpartition("/")
        if PLACE.fullmatch(place) and file:
            size = about.get("size")
            size = source.size(name) if size is None else size  # not told in a list by HTTP
            groups.setdefault(place, []).append(_RemoteFile(name, size or 0, _changed(about)))
    return dict(sorted(groups.items()))


def _item(place: str, files: list[_RemoteFile]) -> RemoteItem:
    names = tuple(file.name for file in files)
    sizes, changed = sum(file.bytes for file in files), max(file.changed for file in files)
    is_published = f"{place}/{manifests.DIGEST}" in names
    return RemoteItem(place, len(files), sizes, changed, is_published, names)


def _changed(about: Mapping[str, Any]) -> float:
    """Return the time of a file's last change, by whatever name a backend has for it."""
    for name in ("mtime", "LastModified", "last_modified", "modified", "updated", "created"):
        value = about.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            with suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    return 0.0


def prune_remote(
    remote: str | None = None,
    *,
    older_than: str | None = None,
    max_size: str | int | None = None,
    dry_run: bool = False,
) -> tuple[RemoteItem, ...]:
    """Remove entries from a remote: those pushed longest ago, and broken pushes of days ago.

    The manifest of an entry goes first, so that nobody finds half an entry. A remote does not tell
    who reads it: a pull meanwhile ends with an error.

    Parameters
    ----------
    remote : str, optional
        As of `push`.
    older_than : str, optional
        Remove entries pushed longer ago than this, as of `pixelprep.cache.prune`.
    max_size : str or int, optional
        Remove entries, those pushed longest ago first, until the rest is no larger: ``50GB``.
    dry_run : bool
        Return what would be removed, and remove nothing.

    Returns
    -------
    tuple of RemoteItem
        What was removed.

    Raises
    ------
    RemoteError, MissingExtraError, UsageError
        As of `list_remote`; when the remote cannot be written, or an age or a size is wrong.

    Examples
    --------
    >>> import pixelprep
    >>> pixelprep.cache.prune_remote("memory://empty", max_size="50GB")
    ()
    """
    since = time.time() - parse_age(older_than) if older_than is not None else None
    most = parse_size(max_size) if max_size is not None else None
    target = Remote(meant(remote))
    check_writable(target.files, target.url)
    listed = _listed(target)
    going = [item for item in starmap(partial(_broken, target), listed.items()) if item]
    gone = {name for item in going for name in item.paths}
    kept = {place: [one for one in listed[place] if one.name not in gone] for place in listed}
    rest = [_item(place, files) for place, files in kept.items() if files]
    left = sum(item.bytes for item in rest)
    for item in sorted(rest, key=lambda item: item.made):
        is_old = since is not None and item.made < since
        if is_old or (most is not None and left > most):
            left -= item.bytes
            going.append(item)
    for item in () if dry_run else going:
        _delete(target, item)
    return tuple(going)


def _broken(target: Remote, place: str, files: list[_RemoteFile]) -> RemoteItem | None:
    """Return what pushes left of which none goes on, or what a later one replaced."""
    names, needed = {file.name for file in files}, set[str]()
    stale = time.time() - BROKEN_AGE
    unclear = sum(name.startswith(f"{place}/manifest-") for name in names) > 1
    if f"{place}/{manifests.DIGEST}" in names:
        if not (unclear or any(name.endswith(PART) for name in names)):
            return None
        if (found := find(target, place)) is None:
            return None
        needed = {f"{place}/{manifests.DIGEST}", f"{place}/{manifests.NAME}"}
        digest = hashlib.sha256(found.content).hexdigest()
        needed |= {_below(place, name) for name in _names(manifests.NAME, digest)}
        needed |= {name for _, file in found.manifest.files() for name in found.names(file)}
    elif max(file.changed for file in files) >= stale:
        return None
    left = [file for file in files if file.name not in needed and file.changed < stale]
    return _item(place, left) if left else None


def _delete(target: Remote, item: RemoteItem) -> None:
    pointer = f"{item.name}/{manifests.DIGEST}"
    for name in sorted(item.paths, key=lambda name: name != pointer):

        def attempt(name: str = name) -> None:
            with suppress(NotFoundError), translated(target.address(name)):
                target.files.rm_file(target.path(name))

        retried(attempt)
    with suppress(Exception):  # a place without folders, or another pushes into it
        target.files.rmdir(target.path(item.name))
