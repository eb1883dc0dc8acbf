"""Entries found by their names, and opened once their files are known to be right."""

import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pixelprep import files, locks, progress
from pixelprep import manifest as manifests
from pixelprep.entry import Entry
from pixelprep.errors import AGAIN, EntryError
from pixelprep.store import layout, reading

MOST_TOLD = 4  # entries in a hint
IN_PLACE = re.compile("[a-z]+-[0-9a-f]{12}")  # the name of an entry's folder


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
    return files.patiently(lambda: _opened(path, cache, quiet))


def _opened(path: Path, cache: Path | None, quiet: bool) -> Entry:
    manifest = manifests.read(path)
    check_place(path, manifest, cache)
    layout.check_compression(manifest["recipe"]["compression"])
    trusted = _trust_file(path, cache)
    known = (files.recall(trusted) or {}) if trusted else {}
    found = _states(path, manifest)
    listed = manifests.files_of(manifest)
    new = [(split, file) for split, file in listed if known.get(file["name"]) != _note(file, found)]
    if new:
        with hashing([file for _, file in new], quiet) as note:
            for split, file in new:
                check_file(path / file["name"], split, file, manifest, note)
    if trusted:
        seen = _notes(manifest, found)
        _touch(trusted) if seen == known else files.remember(trusted, seen)
    return Entry(path, manifest, found)


def trust(path: Path, cache: Path, manifest: Mapping[str, Any]) -> None:
    """Remember that the files of a just published entry are right: they were hashed as written."""
    trusted = _trust_file(path, cache)
    if trusted:
        with suppress(EntryError):  # another process has replaced it already
            found = _states(path, manifest)
            time.sleep(max(0.0, files.TICK - min(map(files.age, found.values()))))
            files.remember(trusted, _notes(manifest, found))


def _states(path: Path, manifest: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The state of each file, which is a plain one and as long as it should be."""
    listed = [file for _, file in manifests.files_of(manifest)]
    return {file["name"]: state(path / file["name"], file["bytes"]) for file in listed}


def _note(file: Mapping[str, Any], found: Mapping[str, tuple[int, ...]]) -> list[Any]:
    return [*found[file["name"]], file["sha256"]]


def _notes(
    manifest: Mapping[str, Any], found: Mapping[str, tuple[int, ...]]
) -> dict[str, list[Any]]:
    """What to remember of files that were found right, but for those written just now."""
    listed = [file for _, file in manifests.files_of(manifest)]
    return {f["name"]: _note(f, found) for f in listed if files.age(found[f["name"]]) >= files.TICK}


def in_cache(path: Path, cache: Path | None) -> bool:
    """Whether an entry's folder is in this cache."""
    return cache is not None and path.parent.parent == cache


def check_place(path: Path, manifest: Mapping[str, Any], cache: Path | None) -> None:
    """Refuse an entry of the cache that stands where another one belongs.

    Raises
    ------
    EntryError
        When the folders' names are not those of its dataset, mode and key.
    """
    own = f"{manifest['dataset']}/{manifest['mode']}-{manifest['key']}"
    if in_cache(path, cache) and f"{path.parent.name}/{path.name}" != own:
        raise EntryError(f"{path}: is the entry {own}, in another's place", AGAIN)


def _trust_file(path: Path, cache: Path | None) -> Path | None:
    """Where it is remembered which files were found right; None outside the cache."""
    if cache is None or not in_cache(path, cache):
        return None
    return cache / files.TRUST / path.parent.name / f"{path.name}.json"


def forget(path: Path, cache: Path) -> None:
    """Drop what is noted of an entry of the cache: which files were found right, the last use."""
    trusted = _trust_file(path, cache)
    if trusted:
        files.forget(trusted)


def last_use(path: Path, cache: Path) -> float:
    """When an entry of the cache was last opened or, where that is not known, made; in seconds."""
    trusted = _trust_file(path, cache)
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


def state(path: Path, size: int) -> tuple[int, ...]:
    """The `files.state` of an entry's file, which is a plain one and of this size.

    Raises
    ------
    EntryError
        When it is not.
    """
    try:
        is_plain = stat.S_ISREG(path.lstat().st_mode)
        found = files.state(path)
    except OSError as error:
        if not files.is_damage(error):
            raise files.unreadable(path, error) from error
        raise EntryError(f"{path}: missing, or not a plain file", AGAIN) from error
    if not is_plain:
        raise EntryError(f"{path}: missing, or not a plain file", AGAIN)
    if found[1] != size:
        raise EntryError(f"{path}: expected {size:,} bytes, found {found[1]:,}", AGAIN)
    return found


@contextmanager
def hashing(listed: Iterable[Mapping[str, Any]], quiet: bool) -> Iterator[Callable[[int], object]]:
    """A bar of the bytes of these files of a manifest, for `check_file`."""
    with progress.bar("hashing", sum(file["bytes"] for file in listed), "B", quiet) as bar:
        yield bar.update


def check_file(
    path: Path,
    split: str,
    file: Mapping[str, Any],
    manifest: Mapping[str, Any],
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
        digest = files.sha256(path, note)
    except OSError as error:
        raise files.unreadable(path, error) from error
    if digest != file["sha256"]:
        raise EntryError(f"{path}: differs from its SHA-256 in the manifest", AGAIN)
    shape = (file["rows"], *manifest["splits"][split]["shape"][1:])
    try:
        wrong = reading.problem(path, manifests.outline(manifest, split, shape))
    except OSError as error:
        raise files.unreadable(path, error) from error
    if wrong:
        # Taken away meanwhile it is only missing, and may be there again in a moment.
        gone = None if path.exists() else FileNotFoundError()
        raise EntryError(f"{path}: {wrong}", AGAIN) from gone


def names_an_entry(name: str) -> bool:
    """Whether this is meant as an entry rather than as a dataset."""
    if "/" in name:
        shaped = re.fullmatch(f"[^./][^/]*/{IN_PLACE.pattern}", name) is not None
        return shaped or (files.expanded(name) / manifests.NAME).is_file()
    return re.fullmatch("[0-9a-f]{4,12}", name) is not None


def all_of(cache: Path) -> list[Path]:
    """Everything in a cache that has the place and name of an entry, in the order of the names.

    Raises
    ------
    OSError
        When the cache, or a dataset's folder in it, cannot be listed.
    """
    found: list[Path] = []
    for folder in files.listed(cache):
        if not folder.name.startswith(".") and folder.is_dir():
            found += [path for path in files.listed(folder) if IN_PLACE.fullmatch(path.name)]
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
        with locks.lock(cache, locks.of_entry(Path(name))):
            found = _named(name, cache, damaged)
    if len(found) > 1:
        names = [f"{path.parent.name}/{path.name}" for path in found[:MOST_TOLD]]
        more = f" and {len(found) - MOST_TOLD} more" * (len(found) > MOST_TOLD)
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
    given = files.expanded(name).absolute()
    if _is_there(given, damaged and "/" in name):
        inside = given.parent.parent.resolve() == cache.resolve()
        return [cache / given.parent.name / given.name if inside else given]
    if "/" in name and _is_there(cache / name, damaged):
        return [cache / name]
    by_key = re.fullmatch("[0-9a-f]{4,12}", name) and sorted(cache.glob(f"[!.]*/*-{name}*"))
    return by_key or of_dataset(name, cache)


def of_dataset(name: str | os.PathLike[str], cache: Path) -> list[Path]:
    """The folders of a dataset's entries in a cache."""
    plain = os.fspath(name).rstrip("/")
    if not manifests.fits_a_folder(plain):
        return []
    with suppress(OSError):  # of somebody else's, which cannot be read
        return [path for path in files.listed(cache / plain) if IN_PLACE.fullmatch(path.name)]
    return []


def _is_there(path: Path, damaged: bool) -> bool:
    try:
        return os.path.lexists(path) if damaged else (path / manifests.NAME).is_file()
    except OSError:  # no file has such a name
        return False


def _may_be_made(path: Path, cache: Path) -> bool:
    """Whether another process may be replacing this entry just now."""
    return in_cache(path, cache) and locks.path_of(cache, locks.of_entry(path)).exists()
