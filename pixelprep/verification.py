"""Check entries from their digests to their promises, and make again what is broken."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelprep import files, locks, opening, origins, progress, promises
from pixelprep import manifest as manifests
from pixelprep.entry import Entry
from pixelprep.errors import EntryError, PixelprepError, UsageError
from pixelprep.preparation import prepare_again
from pixelprep.sources import KNOWN
from pixelprep.store import layout

LOG = logging.getLogger("pixelprep")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one entry.

    Parameters
    ----------
    path : Path
        The entry's folder.
    problems : list of str
        One line each; of a repaired entry, those that it had.
    bytes : int
        Of the files that were found whole.
    repaired : bool
        Whether the entry was made again, and is whole now.
    """

    path: Path
    problems: list[str]
    bytes: int = 0
    repaired: bool = False

    @property
    def ok(self) -> bool:
        """Whether the entry is as it should be."""
        return self.repaired or not self.problems


def verify(
    *names: str | os.PathLike[str],
    every: bool = False,
    repair: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> list[Verdict]:
    """Re-read entries from the first byte to the last and check all that they say of themselves.

    Digests, format, shapes; and whether the stored arrays have the statistics that the manifest
    promises, computed from them again. Integers are had back from what is stored, so that they are
    compared with the digest of the raw data, bit for bit.

    Parameters
    ----------
    *names : str or path
        Folders, keys, or ``DATASET/MODE-KEY``.
    every : bool
        All entries of the cache, instead of names.
    repair : bool
        Make what is broken again, from its raw data.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.
    quiet : bool
        Draw no progress bars.

    Returns
    -------
    list of Verdict
        In the order asked for; of all, in the order of their names.

    Raises
    ------
    UsageError
        When neither names nor `every` is given, or both.
    EntryError
        When there is nothing of a name.

    Examples
    --------
    >>> import pixelprep
    >>> path = pixelprep.prepare("sample", mode="center", quiet=True).path
    >>> [verdict.ok for verdict in pixelprep.verify(path, quiet=True)]
    [True]
    """
    if bool(names) == every:
        raise UsageError("verify: expected entries, or --all", "pixelprep verify --all")
    cache = files.cache_dir(cache_dir)
    found = opening.all_of(cache) if every else _resolved(names, cache)
    return [_report(path, cache, repair, quiet) for path in found]


def _resolved(names: Iterable[str | os.PathLike[str]], cache: Path) -> list[Path]:
    return [opening.resolve(name, cache, damaged=True) for name in names]


def _report(path: Path, cache: Path, repair: bool, quiet: bool) -> Verdict:
    with _kept_still(path, cache):
        report = _checked(path, cache, quiet)
    if report.ok or not repair:
        return report
    LOG.info("%s: %s; making it again", path, "; ".join(report.problems))
    try:
        entry = prepare_again(path, cache, _asked(path, cache), quiet=quiet)
    except PixelprepError as error:
        return Verdict(path, [*report.problems, f"cannot be repaired: {error}"])
    again = _checked(entry.path, cache, quiet)
    return Verdict(path, report.problems + again.problems, again.bytes, again.ok)


@contextmanager
def _kept_still(path: Path, cache: Path) -> Iterator[None]:
    """Have nobody replace an entry of the cache while it is looked at."""
    if not opening.in_cache(path, cache):
        yield
        return
    with locks.lock(cache, f"{path.parent.name}-{path.name}"):
        yield


def _checked(path: Path, cache: Path, quiet: bool) -> Verdict:
    try:
        manifest = manifests.read(path)
        opening.check_place(path, manifest, cache)
        layout.check_compression(manifest["recipe"]["compression"])
    except PixelprepError as error:
        return Verdict(path, [error.message])
    problems, states = [], {}
    for split, file in manifests.files_of(manifest):
        where = path / file["name"]
        try:
            states[file["name"]] = opening.state(where, file["bytes"])
            opening.check_file(where, split, file, manifest)
        except EntryError as error:
            problems.append(error.message)
    if not problems:
        problems = _promises_broken(Entry(path, manifest, states), quiet)
    return Verdict(path, problems, 0 if problems else Entry(path, manifest, states).size)


def _promises_broken(entry: Entry, quiet: bool) -> list[str]:
    images = sum(map(len, entry.splits.values()))
    what = f"verifying {entry.dataset}/{entry.path.name}"
    with progress.bar(what, images, " images", quiet) as bar:
        try:
            return [f"{entry.path}: {problem}" for problem in promises.broken(entry, bar.update)]
        except PixelprepError as error:
            return [error.message]


def _asked(path: Path, cache: Path) -> Mapping[str, Any]:
    """What an entry of the cache came from."""
    if not opening.in_cache(path, cache):
        raise EntryError("it is not in the cache", "copy it again from where it came")
    asked = origins.recall(path, cache)
    if asked is None:
        asked = origins.of_manifest(manifests.read(path))
        if asked["dataset"] not in KNOWN:
            raise EntryError("it is not known what it was made of", "prepare it again")
    return asked
