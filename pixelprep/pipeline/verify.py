"""Check entries from their digests to their statistics, and rebuild damaged ones."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
from pixelprep.system import fs, os_calls, progress
from pixelprep.views import View

LOG = logging.getLogger("pixelprep")


@dataclass(frozen=True, slots=True)
class VerifyResult(View):
    """The result of checking one entry.

    Parameters
    ----------
    path : Path
        The entry's folder.
    problems : tuple of str
        One line each; of a repaired entry, those that it had.
    bytes : int
        Of all its files, if these are whole.
    repaired : bool
        Whether the entry was rebuilt, and is whole now.
    checked : bool
        Whether it could be checked: not where the machine does not let its files be read, a
        package is missing, or the format is a newer one. Such an entry is never repaired.
    """

    path: Path
    problems: tuple[str, ...]
    bytes: int = 0
    repaired: bool = False
    checked: bool = True

    @property
    def ok(self) -> bool:
        """Whether the entry is as it should be."""
        return self.repaired or not self.problems

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values, by name.

        Returns
        -------
        dict
            What ``verify --json`` prints of an entry.
        """
        return {"path": str(self.path), "ok": self.ok, "problems": list(self.problems)} | {
            name: getattr(self, name) for name in ("repaired", "checked", "bytes")
        }


def verify(
    *names: str | os.PathLike[str],
    every: bool = False,
    repair: bool = False,
    on_result: Callable[[VerifyResult], object] = lambda _: None,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> tuple[VerifyResult, ...]:
    """Re-read entries from the first byte to the last, and check all that their manifests say.

    Digests, format, shapes; and that the stored arrays have the recorded statistics, which are
    computed again. Where the stored type is fine enough, the raw integers are recovered and
    compared with the digest of the raw data, bit for bit.

    Parameters
    ----------
    *names : str or path
        Folders, keys, ``DATASET/MODE-KEY``; or a dataset's name, for all its entries in the cache.
    every : bool
        All entries of the cache, instead of names.
    repair : bool
        Rebuild damaged entries of the cache from their raw data.
    on_result : callable
        Receives each result as soon as it is known: all may take hours.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.
    quiet : bool
        Draw no progress bars.

    Returns
    -------
    tuple of VerifyResult
        In the order of `names`; of all, in the order of their own names.

    Raises
    ------
    UsageError, EntryError, CacheError
        When neither names nor `every` is given, or both; when there is nothing of a name; when
        the cache cannot be read.

    Examples
    --------
    >>> import pixelprep
    >>> path = pixelprep.prepare("sample", mode="center", quiet=True).path
    >>> [result.ok for result in pixelprep.verify(path, quiet=True)]
    [True]
    """
    if repair:
        os_calls.require_posix("repairing an entry")
    if bool(names) == every:
        found = "both" if every else "neither"
        hint = "`every=True` checks all of the cache"
        raise UsageError(f"expected names of entries or `every=True`, got {found}", hint)
    cache, results = fs.cache_dir(cache_dir), []
    with fs.translate_oserror(cache):
        paths = entries.entry_paths(cache) if every else entries.named_paths(names, cache)
    for path in paths:
        with fs.translate_oserror(cache):
            results.append(_verify(path, cache, repair, quiet))
        on_result(results[-1])
    return tuple(results)


def _verify(path: Path, cache: Path, repair: bool, quiet: bool) -> VerifyResult:
    """Check one entry, and rebuild it if it is damaged and that is wanted."""
    with entries.hold_entry(path, cache):
        result = _check(path, cache, quiet)
        if not result.ok and result.checked:
            with suppress(OSError):  # in a cache that is read-only there is nothing to forget
                TrustRecord.of(path, cache).forget()  # whoever opens it next hashes it again
    if result.ok or not repair or not result.checked:
        return result
    try:
        if not in_cache(path, cache):
            raise EntryError("it is not in the cache", "copy it again from where it came")
        request = requests.load(path, cache).request
        if request is None:
            request = requests.request_of(manifests.read(path))
            if request["dataset"] not in REGISTRY:
                raise EntryError("its source is unknown", "prepare it again")
        LOG.info("%s; making it again", "; ".join(result.problems))
        entry = rebuild(path, cache, request, quiet=quiet)
    except PixelprepError as error:
        return VerifyResult(path, (*result.problems, f"cannot be repaired: {error}"))
    again = _check(entry.path, cache, quiet)
    return VerifyResult(path, result.problems + again.problems, again.bytes, again.ok)


def _check(path: Path, cache: Path, quiet: bool) -> VerifyResult:
    try:
        entry, problems = entries.check_entry(path, cache, quiet)
        if entry is not None:
            problems = _check_content(entry, quiet)
    except (CacheError, MissingExtraError, NewerFormatError) as error:  # no fault of the entry
        hint = f" ({error.hint})" if error.hint else ""
        return VerifyResult(path, (f"{error.message}{hint}",), checked=False)
    return VerifyResult(path, tuple(problems), 0 if entry is None or problems else entry.size)


def _check_content(entry: Entry, quiet: bool) -> list[str]:
    what = f"verifying {entry.dataset}/{entry.path.name}"
    with progress.bar(what, entry.rows, " images", quiet) as bar:
        try:
            failed = checks.failed_checks(entry, bar.update)
            return [f"{entry.path}: {problem}" for problem in failed]
        except (EntryError, UsageError) as error:  # the latter: values that cannot be scaled
            return [error.message]
