"""Entries found by their names, and opened once their files are known to be right."""

import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pixelprep.dataset.entry import Entry
from pixelprep.errors import REPAIR_HINT, EntryError
from pixelprep.format import layout, untrusted
from pixelprep.format import manifest as manifests
from pixelprep.system import fs, locks, progress, records

MAX_LISTED = 4  # entries in a hint
FOLDER_NAME = re.compile("[a-z]+-[0-9a-f]{12}")  # the name of an entry's folder


def open_entry(path: Path, cache: Path | None = None, quiet: bool = True) -> Entry:
    """Open and check the entry in this folder.

    Every file is hashed before libhdf5 reads it; below `cache` only if its inode, size or time
    differ from when it was last found right (or it was written just now, which times do not tell).

    Parameters
    ----------
    path, cache : Path
        Its folder, and the cache folder.
    quiet : bool
        Draw no progress bar.

    Raises
    ------
    EntryError
        When anything is missing, damaged, or not as the format has it.
    MissingExtraError
        When its compression needs a package that is not installed.
    """
    return fs.retry_while_missing(lambda: _opened(path, cache, quiet))


def _opened(path: Path, cache: Path | None, quiet: bool) -> Entry:
    manifest = manifests.read(path)
    check_location(path, manifest, cache)
    layout.check_compression(manifest["recipe"]["compression"])
    trusted = _record_path(path, cache)
    known = (records.read(trusted) or {}) if trusted else {}
    found = _states(path, manifest)
    listed = manifests.listed_files(manifest)
    new = [(split, file) for split, file in listed if known.get(file["name"]) != _note(file, found)]
    if new:
        with hashing_bar([file for _, file in new], quiet) as note:
            for split, file in new:
                check_file(path / file["name"], split, file, manifest, note)
    if trusted:
        seen = _notes(manifest, found)
        _touch(trusted) if seen == known else records.write(trusted, seen)
    return Entry(path, manifest, found)


def remember_checked(path: Path, cache: Path, manifest: manifests.Manifest) -> None:
    """Remember that the files of a just published entry are right: they were hashed as written."""
    trusted = _record_path(path, cache)
    if trusted:
        with suppress(EntryError):  # another process has replaced it already
            found = _states(path, manifest)
            time.sleep(max(0.0, fs.MTIME_RESOLUTION - min(map(fs.stamp_age, found.values()))))
            records.write(trusted, _notes(manifest, found))


def _states(path: Path, manifest: manifests.Manifest) -> dict[str, tuple[int, ...]]:
    """The state of each file, which is a plain one and as long as it should be."""
    listed = [file for _, file in manifests.listed_files(manifest)]
    return {file["name"]: checked_stamp(path / file["name"], file["bytes"]) for file in listed}


def _note(file: manifests.FileRecord, found: Mapping[str, tuple[int, ...]]) -> list[Any]:
    return [*found[file["name"]], file["sha256"]]


def _notes(
    manifest: manifests.Manifest, found: Mapping[str, tuple[int, ...]]
) -> dict[str, list[Any]]:
    """What to remember of files that were found right, but for those written just now."""
    listed = [file for _, file in manifests.listed_files(manifest)]
    return {
        f["name"]: _note(f, found)
        for f in listed
        if fs.stamp_age(found[f["name"]]) >= fs.MTIME_RESOLUTION
    }


def in_cache(path: Path, cache: Path | None) -> bool:
    """Whether an entry's folder is in this cache."""
    return cache is not None and path.parent.parent == cache


def check_location(path: Path, manifest: manifests.Manifest, cache: Path | None) -> None:
    """Refuse an entry of the cache that stands where another one belongs.

    Raises
    ------
    EntryError
        When the folders' names are not those of its dataset, mode and key.
    """
    own = f"{manifest['dataset']}/{manifest['mode']}-{manifest['key']}"
    if in_cache(path, cache) and f"{path.parent.name}/{path.name}" != own:
        raise EntryError(f"{path}: is the entry {own}, in another's place", REPAIR_HINT)


def _record_path(path: Path, cache: Path | None) -> Path | None:
    """Where it is remembered which files were found right; None outside the cache."""
    if cache is None or not in_cache(path, cache):
        return None
    return cache / fs.TRUST / path.parent.name / f"{path.name}.json"


def forget_checked(path: Path, cache: Path) -> None:
    """Drop what is noted of an entry of the cache: which files were found right, the last use."""
    trusted = _record_path(path, cache)
    if trusted:
        records.delete(trusted)


def last_use(path: Path, cache: Path) -> float:
    """When an entry of the cache was last opened or, where that is not known, made; in seconds."""
    trusted = _record_path(path, cache)
    assert trusted is not None
    return max(_changed(trusted), _changed(path))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _touch(trusted: Path) -> None:
    """The time of last use; a read-only cache goes without."""
    try:
        os.utime(trusted)
    except OSError:
        return


def checked_stamp(path: Path, size: int) -> tuple[int, ...]:
    """The `fs.file_stamp` of an entry's file, which is a plain one and of this size.

    Raises
    ------
    EntryError
        When it is not.
    """
    try:
        is_plain = stat.S_ISREG(path.lstat().st_mode)
        found = fs.file_stamp(path)
    except OSError as error:
        if not fs.is_damage(error):
            raise fs.unreadable(path, error) from error
        raise EntryError(f"{path}: missing, or not a plain file", REPAIR_HINT) from error
    if not is_plain:
        raise EntryError(f"{path}: missing, or not a plain file", REPAIR_HINT)
    if found[1] != size:
        raise EntryError(f"{path}: expected {size:,} bytes, found {found[1]:,}", REPAIR_HINT)
    return found


@contextmanager
def hashing_bar(
    listed: Iterable[manifests.FileRecord], quiet: bool
) -> Iterator[Callable[[int], object]]:
    """A bar of the bytes of these files of a manifest, for `check_file`."""
    with progress.bar("hashing", sum(file["bytes"] for file in listed), "B", quiet) as bar:
        yield bar.update


def check_file(
    path: Path,
    split: str,
    file: manifests.FileRecord,
    manifest: manifests.Manifest,
    note: Callable[[int], object],
) -> None:
    """Refuse a file of an entry that is not what the manifest says; its digest comes first.

    `note` is told how many more bytes were hashed.

    Raises
    ------
    EntryError
        When its bytes have another digest, or are not an HDF5 file as the format has it.
    """
    try:
        digest = fs.sha256(path, note)
    except OSError as error:
        raise fs.unreadable(path, error) from error
    if digest != file["sha256"]:
        raise EntryError(f"{path}: differs from its SHA-256 in the manifest", REPAIR_HINT)
    shape = (file["rows"], *manifest["splits"][split]["shape"][1:])
    try:
        wrong = untrusted.validate(path, manifests.file_layout(manifest, split, shape))
    except OSError as error:
        raise fs.unreadable(path, error) from error
    if wrong:
        # Taken away meanwhile it is only missing, and may be there again in a moment.
        gone = None if path.exists() else FileNotFoundError()
        raise EntryError(f"{path}: {wrong}", REPAIR_HINT) from gone


def is_entry_name(name: str) -> bool:
    """Whether this is meant as an entry rather than as a dataset."""
    if "/" in name:
        shaped = re.fullmatch(f"[^./][^/]*/{FOLDER_NAME.pattern}", name) is not None
        return shaped or (fs.expand_user(name) / manifests.NAME).is_file()
    return re.fullmatch("[0-9a-f]{4,12}", name) is not None


def entry_paths(cache: Path) -> list[Path]:
    """Everything in a cache that has the place and name of an entry, in the order of the names.

    Raises
    ------
    OSError
        When the cache, or a dataset's folder in it, cannot be listed.
    """
    found: list[Path] = []
    for folder in fs.sorted_dir(cache):
        if not folder.name.startswith(".") and folder.is_dir():
            found += [path for path in fs.sorted_dir(folder) if FOLDER_NAME.fullmatch(path.name)]
    return found


def open_named(name: str | os.PathLike[str], cache: Path, quiet: bool) -> Entry:
    """The entry that a name means (`resolve`), as `open_entry` opens it."""
    return open_entry(resolve(name, cache), cache, quiet)


def resolve(name: str | os.PathLike[str], cache: Path, *, damaged: bool = False) -> Path:
    """The folder that a path, a key, ``DATASET/MODE-KEY`` or a dataset with one entry means.

    Parameters
    ----------
    name : str or path
        What the user wrote.
    cache : Path
        The cache folder; an entry in it is given by a path that begins with this one.
    damaged : bool
        Whatever is there will do, though it be no entry any more.

    Raises
    ------
    EntryError
        When there is none, or a key means several.
    """
    name = os.fspath(name)
    found = _named(name, cache, damaged)
    if not found and _may_be_made(cache / name, cache):
        with locks.lock(cache, locks.entry_lock_name(Path(name))):
            found = _named(name, cache, damaged)
    if len(found) > 1:
        names = [f"{path.parent.name}/{path.name}" for path in found[:MAX_LISTED]]
        more = f" and {len(found) - MAX_LISTED} more" * (len(found) > MAX_LISTED)
        hint = f"say which: {', '.join(names)}{more}"
        raise EntryError(f"{name}: means {len(found)} entries in {cache}", hint)
    if not found:
        raise EntryError(
            f"{name}: no entry of this name here or in {cache}",
            "give a folder, a key, DATASET/MODE-KEY, or a dataset with one entry",
        )
    return found[0]


def _named(name: str, cache: Path, damaged: bool) -> list[Path]:
    """The folders that a name may mean."""
    given = fs.expand_user(name).absolute()
    if _is_there(given, damaged and "/" in name):
        inside = given.parent.parent.resolve() == cache.resolve()
        return [cache / given.parent.name / given.name if inside else given]
    if "/" in name and _is_there(cache / name, damaged):
        return [cache / name]
    by_key = re.fullmatch("[0-9a-f]{4,12}", name) and sorted(cache.glob(f"[!.]*/*-{name}*"))
    return by_key or dataset_entries(name, cache)


def dataset_entries(name: str | os.PathLike[str], cache: Path) -> list[Path]:
    """The folders of a dataset's entries in a cache."""
    plain = os.fspath(name).rstrip("/")
    if not manifests.is_folder_name(plain):
        return []
    with suppress(OSError):  # of somebody else's, which cannot be read
        return [path for path in fs.sorted_dir(cache / plain) if FOLDER_NAME.fullmatch(path.name)]
    return []


def _is_there(path: Path, damaged: bool) -> bool:
    try:
        return os.path.lexists(path) if damaged else (path / manifests.NAME).is_file()
    except OSError:  # no file has such a name
        return False


def _may_be_made(path: Path, cache: Path) -> bool:
    """Whether another process may be replacing this entry just now."""
    return in_cache(path, cache) and locks.lock_path(cache, locks.entry_lock_name(path)).exists()
