"""Check entries from their digests to their promises, and make again what is broken."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelprep.cache import checks, entries, requests
from pixelprep.cache.trust import TrustRecord, in_cache
from pixelprep.dataset.entry import Entry
from pixelprep.errors import (
    CacheError,
    EntryError,
    MissingExtraError,
    NewerFormatError,
    PixelprepError,
    UsageError,
)
from pixelprep.format import manifest as manifests
from pixelprep.pipeline.prepare import rebuild
from pixelprep.sources import REGISTRY
from pixelprep.system import fs, progress

LOG = logging.getLogger("pixelprep")

# What is no fault of the entry.
NOT_CHECKED = (CacheError, MissingExtraError, NewerFormatError)


@dataclass(frozen=True, slots=True)
class VerifyResult:
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
    checked : bool
        Whether it could be checked: not where the machine does not let its files be read, a
        package is missing, or the format is a newer one. Such an entry is never repaired.
    """

    path: Path
    problems: list[str]
    bytes: int = 0
    repaired: bool = False
    checked: bool = True

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
) -> list[VerifyResult]:
    """Re-read entries from the first byte to the last and check all that they say of themselves.

    Digests, format, shapes; and whether the stored arrays have the statistics that the manifest
    promises, computed from them again. Integers that the stored type holds finely enough are had
    back from what is stored, to be compared with the digest of the raw data, bit for bit.

    Parameters
    ----------
    *names : str or path
        Folders, keys, ``DATASET/MODE-KEY``; or a dataset's name, for all its entries in the cache.
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
    CacheError
        When the cache cannot be read.

    Examples
    --------
    >>> import pixelprep
    >>> path = pixelprep.prepare("sample", mode="center", quiet=True).path
    >>> [verdict.ok for verdict in pixelprep.verify(path, quiet=True)]
    [True]
    """
    options: dict[str, Any] = {"every": every, "repair": repair}
    return list(verdicts(*names, **options, cache_dir=cache_dir, quiet=quiet))


def verdicts(
    *names: str | os.PathLike[str],
    every: bool = False,
    repair: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Iterator[VerifyResult]:
    """As `verify`, each as soon as it is known."""
    if bool(names) == every:
        raise UsageError("verify: expected entries, or `every=True`", "pixelprep verify --all")
    cache = fs.cache_dir(cache_dir)
    with fs.translate_oserror(cache):
        found = entries.entry_paths(cache) if every else entries.named_paths(names, cache)
        for path in found:
            yield _verdict(path, cache, repair, quiet)


def _verdict(path: Path, cache: Path, repair: bool, quiet: bool) -> VerifyResult:
    with entries.hold_entry(path, cache):
        verdict = _checked(path, cache, quiet)
        if not verdict.ok and verdict.checked:
            with suppress(OSError):  # in a cache that is read-only there is nothing to forget
                TrustRecord.of(path, cache).forget()  # whoever opens it next hashes it again
    if verdict.ok or not repair or not verdict.checked:
        return verdict
    try:
        asked = _asked(path, cache)
        LOG.info("%s; making it again", "; ".join(verdict.problems))
        entry = rebuild(path, cache, asked, quiet=quiet)
    except PixelprepError as error:
        return VerifyResult(path, [*verdict.problems, f"cannot be repaired: {error}"])
    again = _checked(entry.path, cache, quiet)
    return VerifyResult(path, verdict.problems + again.problems, again.bytes, again.ok)


def _checked(path: Path, cache: Path, quiet: bool) -> VerifyResult:
    try:
        return _looked_at(path, cache, quiet)
    except NOT_CHECKED as error:
        hint = f" ({error.hint})" if error.hint else ""
        return VerifyResult(path, [f"{error.message}{hint}"], checked=False)


def _looked_at(path: Path, cache: Path, quiet: bool) -> VerifyResult:
    entry, problems = entries.check_entry(path, cache, quiet)
    if entry is None:
        return VerifyResult(path, problems)
    problems = _promises_broken(entry, quiet)
    return VerifyResult(path, problems, 0 if problems else entry.size)


def _promises_broken(entry: Entry, quiet: bool) -> list[str]:
    what = f"verifying {entry.dataset}/{entry.path.name}"
    with progress.bar(what, entry.rows, " images", quiet) as bar:
        try:
            return [
                f"{entry.path}: {problem}" for problem in checks.failed_checks(entry, bar.update)
            ]
        except (EntryError, UsageError) as error:  # the latter: values that cannot be scaled
            return [error.message]


def _asked(path: Path, cache: Path) -> Mapping[str, Any]:
    """What an entry of the cache came from."""
    if not in_cache(path, cache):
        raise EntryError("it is not in the cache", "copy it again from where it came")
    asked = requests.load_request(path, cache)
    if asked is None:
        asked = requests.request_of(manifests.read(path))
        if asked["dataset"] not in REGISTRY:
            raise EntryError("it is not known what it was made of", "prepare it again")
    return asked
