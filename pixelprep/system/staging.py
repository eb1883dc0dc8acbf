"""Private work folders, and publishing what is finished in them by one rename.

A final name means a finished thing. Whatever is made lies under a private name in ``.tmp`` of the
same cache until every byte of it is on the disk; one rename then gives it its final name.
"""

import errno
import hashlib
import logging
import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pixelprep.errors import CacheError
from pixelprep.system import canonical, fs, locks, records

LOG = logging.getLogger("pixelprep")

FILES, RECEIPTS, PARTIAL = (
    "files",
    "done",
    "parts",
)  # in a work folder: finished, their receipts, begun
RESUMABLE = ".resumable"  # at the end of a work folder's name
UNFINISHED = "unfinished"  # in the name of a private folder outside of any cache
UNOWNED = "free"  # in the place of its owner's tag
REPLACING = "~"  # in the name of rubbish, between dataset and folder: it was to be replaced
MAX_NAME_BYTES = 210  # bytes of a name that a tag can still follow
MAX_STEM_BYTES = (
    80  # bytes of what a work folder is called after; the rest of the name needs as much
)
PUBLISH_ATTEMPTS = 100  # times that others may take the place of what is being published


@contextmanager
def workspace(cache: Path, name: str, *, resumable: bool = False) -> Iterator[Path]:
    """A private folder in ``.tmp``, removed at the end.

    Its name says whose it is (`locks.owner_tag`), and its neighbour ``FOLDER.lock`` is locked as
    long as the owner lives: so `collect_garbage` tells a killed process's folder from one in use. A
    resumable folder that was left is taken over by the next owner of one of the same name, who
    finds what was finished there (see `once`).
    """
    top, name = fs.ensure_dir(cache / fs.TMP), _shorten(name)
    folder = top / f"{name}.{locks.owner_tag()}{RESUMABLE if resumable else ''}"
    with ExitStack() as held:
        held.enter_context(locks.acquire(_lock_file(folder)))
        keep = False
        try:
            if not (resumable and _take_over(top, name, folder)):
                folder.mkdir()
            yield folder
        except Exception:
            raise
        except BaseException:  # interrupted, which only costs time
            keep = resumable and any((folder / RECEIPTS).glob("*"))
            raise
        finally:
            if keep:
                folder.rename(top / f"{name}.{UNOWNED}-{uuid.uuid4().hex[:8]}{RESUMABLE}")
                _lock_file(folder).unlink(missing_ok=True)
            else:
                # Out of sight at once: whoever still works on it finds no place to leave things.
                _clear(folder, cache)


@contextmanager
def sibling_staging(final: Path) -> Iterator[Path]:
    """A private folder beside what it is to become, outside of any cache.

    It is removed at the end, unless it was renamed. What killed processes left of the same name is
    removed first.
    """
    start = f".{_shorten(final.name)}.{UNFINISHED}."
    for left in fs.sorted_dir(final.parent):
        if left.name.startswith(start) and locks.owner_dead(left.name.removeprefix(start), left):
            LOG.info("removing the leftovers of a killed process: %s", left.name)
            _remove(left)
    folder = final.with_name(start + locks.owner_tag())
    try:
        folder.mkdir()
        yield folder
    finally:
        _remove(folder)


def _shorten(name: str, most: int = MAX_STEM_BYTES) -> str:
    """The name, or its beginning and its digest: a file's name has no more than 255 bytes."""
    content = os.fsencode(name)
    if len(content) <= most:
        return name
    return f"{content[:most].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:8]}"


def _take_over(top: Path, name: str, folder: Path) -> bool:
    """Whether a folder of this name, which nobody works in any more, could be made one's own."""
    for left in sorted(top.glob(f"*{RESUMABLE}")):
        called, owner = _split_name(left)
        if (
            called != name
            or locks.owner_alive(owner, left)
            or not locks.is_unlocked(_lock_file(left))
        ):
            continue
        with suppress(FileNotFoundError):  # another process was faster
            left.rename(folder)
            _lock_file(left).unlink(missing_ok=True)
            return True
    return False


def _split_name(folder: Path) -> tuple[str, str]:
    """What a work folder is called after, and whose it is."""
    called, _, owner = folder.name.removesuffix(RESUMABLE).rpartition(".")
    return called, owner


def _lock_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def run_step(work: Path, name: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Make one file of a work folder, unless it is there, finished and whole.

    It is made under a private name, so that it may be made twice at the same time, and its maker
    killed at any moment. It is not fsynced: what is believed to be finished later must have the
    digest that was noted of it, and what is published must be fsynced before.

    Parameters
    ----------
    work : Path
        A `workspace`. The file will be ``work/files/NAME``.
    name : str
        The file's name, which says what is in it: equal names, equal bytes.
    make : callable
        Makes the file at the path it is given; returns JSON values, with the file's ``sha256``.

    Returns
    -------
    dict
        What `make` returned, now or then.

    Raises
    ------
    CacheError
        When there is no such work folder.
    """
    path, receipt = work / FILES / name, work / RECEIPTS / f"{name}.json"
    record = records.read(receipt)
    if record is not None and path.is_file() and fs.sha256(path) == record.get("sha256"):
        return record
    private = work / PARTIAL / f"{name}.{uuid.uuid4().hex[:12]}"
    try:
        for folder in (path, receipt, private):
            folder.parent.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise CacheError(
            f"{work}: not there, as seen from {platform.node()}",
            "the cache must lie on a file system that all workers share",
        ) from error
    try:
        record = make(private)
        private.rename(path)
    except BaseException:
        private.unlink(missing_ok=True)
        raise
    receipt.write_bytes(canonical.dumps(record))
    return record


def collect_garbage(cache: Path) -> None:
    """Remove what killed processes left in ``.tmp``, and what waits in ``.trash``.

    What somebody may want to go on with is kept for a week.
    """
    for path in stale_work(cache):
        LOG.info("removing the leftovers of a killed process: %s", path.name)
        remove_stale(path, cache)
    for old in trash_items(cache):
        if not _restore(old, cache):
            _remove(old)


def trash_items(cache: Path) -> list[Path]:
    """What is in ``.trash`` and whoever put it there is gone."""
    found = fs.sorted_dir(cache / fs.TRASH)
    return [path for path in found if not locks.owner_alive(path.name.rpartition(".")[2], path)]


def _restore(old: Path, cache: Path) -> bool:
    """Whether it was an entry that a process, before it was killed, only meant to replace."""
    dataset, replaced, folder = old.name.rpartition(".")[0].partition(REPLACING)
    if not replaced:
        return False
    final = cache / dataset / folder
    with locks.try_acquire(locks.lock_path(cache, locks.entry_lock_name(final))) as free:
        if not free or os.path.lexists(final):
            return not free  # whoever makes it now needs it no more
        with suppress(OSError):
            old.rename(final)
            LOG.info("%s is there again: it was about to be replaced", final)
            return True
    return False


def stale_work(cache: Path, *, unfinished: bool = False) -> list[Path]:
    """What is in ``.tmp`` and has no owner any more, but for work that may be gone on with.

    Parameters
    ----------
    cache : Path
        The cache folder.
    unfinished : bool
        Also work of the last week that may be gone on with.
    """
    there = list((cache / fs.TMP).glob("*"))
    found = {path.with_suffix("") if path.suffix == ".lock" else path for path in there}
    return sorted(path for path in found if _is_stale(path, unfinished))


def _is_stale(path: Path, unfinished: bool) -> bool:
    wanted = path.name.endswith(RESUMABLE) and (path / FILES).is_dir()  # not published yet
    if wanted and not (unfinished or locks.is_stale(path / RECEIPTS, locks.STALE_AFTER)):
        return False
    return not locks.owner_alive(_split_name(path)[1], path) and locks.is_unlocked(_lock_file(path))


def remove_stale(path: Path, cache: Path) -> bool:
    """Remove one of the `leftovers`, unless somebody took it up meanwhile; whether it is gone."""
    with locks.try_acquire(_lock_file(path)) as free:
        if free:
            _clear(path, cache)
    return not os.path.lexists(path)


def _clear(folder: Path, cache: Path) -> None:
    try:
        discard(folder, cache)
    except OSError:  # then where it stands
        _remove(folder)
    with suppress(OSError):
        _lock_file(folder).unlink(missing_ok=True)


def publish(
    folder: Path, final: Path, cache: Path, stays: Callable[[], bool] = lambda: False
) -> None:
    """Give a finished private folder its final name, durably.

    Every file in `folder` must have been fsynced. A rename never lands on an existing folder:
    what is there goes to ``.trash`` first, unless it stays and the new one is not needed.
    """
    fs.fsync(folder)
    old: list[Path] = []
    try:
        _rename_into_place(folder, final, cache, stays, old)
        fs.fsync(final.parent)
        fs.fsync(cache)
    except BaseException:
        if old and not os.path.lexists(final):
            with suppress(OSError):  # the entry that was there is better than none
                old[-1].rename(final)
        raise
    finally:
        for path in old:
            _remove(path)


def _rename_into_place(
    folder: Path, final: Path, cache: Path, stays: Callable[[], bool], old: list[Path]
) -> None:
    """One rename to where nothing is; what was there is put away, and added to `old`."""
    for _ in range(PUBLISH_ATTEMPTS):
        with _tolerate_missing(folder):  # another process took what is there, or its folder, away
            fs.ensure_dir(final.parent)
            try:
                folder.rename(final)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            if stays():
                LOG.info("another process published %s first", final.name)
                break
            old.append(_move_to_trash(final, cache, f"{final.parent.name}{REPLACING}{final.name}"))
    else:
        raise CacheError(f"{final}: its place was taken again and again", "try again")


@contextmanager
def _tolerate_missing(folder: Path) -> Iterator[None]:
    """Go on where something is not there, unless it is this folder."""
    try:
        yield
    except FileNotFoundError:
        if not folder.exists():
            raise


def discard(path: Path, cache: Path) -> None:
    """Take what stands here out of sight with one rename, then delete it."""
    _remove(_move_to_trash(path, cache))


def _move_to_trash(path: Path, cache: Path, name: str = "") -> Path:
    old = (
        fs.ensure_dir(cache / fs.TRASH)
        / f"{_shorten(name or path.name, MAX_NAME_BYTES)}.{locks.owner_tag()}"
    )
    path.rename(old)
    return old


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():  # somebody was just about to make a file in it
            shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
