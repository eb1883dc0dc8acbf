"""Work in private folders, and publish what is finished by one rename.

A final name means a finished thing. Unfinished work lies under a private name in ``.tmp`` of the
same cache until every byte of it is on the disk; one rename then gives it its final name.
"""

import errno
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any  # Any: JSON values

from pixelprep.errors import CacheError
from pixelprep.system import canonical, fs, locks, os_calls, records

LOG = logging.getLogger("pixelprep")

FILES = "files"  # in a workspace: the finished files
RECEIPTS = "done"  # in a workspace: the receipts of the finished files
PARTIAL = "parts"  # in a workspace: unfinished files
RESUMABLE = ".resumable"  # the end of a resumable workspace's name
UNFINISHED = "unfinished"  # in the name of a private folder outside any cache
REPLACING = "~"  # in the name of trash, between dataset and folder: it was to be replaced
MAX_NAME_BYTES = 210  # of a name, so that a tag can follow
MAX_STEM_BYTES = 80  # of what a workspace is named after; the rest of the name needs as many


@contextmanager
def workspace(cache: Path, name: str, *, resumable: bool = False) -> Iterator[Path]:
    """Make a private folder in ``.tmp``, and remove it at the end.

    Its name holds its owner's tag, and ``FOLDER.lock`` beside it is locked as long as the owner
    lives, by which `collect_garbage` knows that it is in use. A resumable folder that was left is
    taken over by the next one of the same name, with the files that `run_step` finished in it.
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
        except BaseException:  # interrupted: what is finished can be resumed
            keep = resumable and any((folder / RECEIPTS).glob("*"))
            raise
        finally:
            if keep:
                folder.rename(top / f"{name}.free-{os.urandom(4).hex()}{RESUMABLE}")
                _lock_file(folder).unlink(missing_ok=True)
            else:
                # Renamed first: a worker that is still running can no longer write into it.
                _clear(folder, cache)


@contextmanager
def sibling_staging(final: Path) -> Iterator[Path]:
    """Make a private folder beside its final place; remove what dead processes left of its kind."""
    prefix = f".{_shorten(final.name)}.{UNFINISHED}."
    for path in fs.sorted_dir(final.parent):
        if path.name.startswith(prefix) and locks.owner_dead(path.name.removeprefix(prefix), path):
            LOG.info("removing the leftovers of a killed process: %s", path.name)
            _remove(path)
    folder = final.with_name(prefix + locks.owner_tag())
    try:
        folder.mkdir()
        yield folder
    finally:
        _remove(folder)


def _shorten(name: str, max_bytes: int = MAX_STEM_BYTES) -> str:
    """Shorten a long name to its beginning and its digest: file names end at 255 bytes."""
    content = os.fsencode(name)
    if len(content) <= max_bytes:
        return name
    digest = hashlib.sha256(content).hexdigest()[:8]
    return f"{content[:max_bytes].decode(errors='ignore')}-{digest}"


def _take_over(top: Path, name: str, folder: Path) -> bool:
    """Rename an abandoned workspace of this name to `folder`; return whether there was one."""
    for path in sorted(top.glob(f"*{RESUMABLE}")):
        stem, owner = _split_name(path)
        if stem != name or locks.owner_alive(owner, path):
            continue
        if not locks.is_unlocked(_lock_file(path)):
            continue
        with suppress(FileNotFoundError):  # another process was faster
            _move(path, folder)
            _lock_file(path).unlink(missing_ok=True)
            return True
    return False


def _split_name(folder: Path) -> tuple[str, str]:
    """Split a workspace's name into what it is named after and its owner's tag."""
    stem, _, owner = folder.name.removesuffix(RESUMABLE).rpartition(".")
    return stem, owner


def _lock_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def run_step(work: Path, name: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Make ``work/files/NAME`` in a workspace, unless it is there, finished and intact.

    `make` makes the file at a path, and returns its receipt: JSON values with its ``sha256``. Equal
    names must mean equal bytes. The path is private, so that two workers may make the file at once,
    and be killed at any moment. It is not fsynced: a file counts as finished only while it has the
    digest of its receipt, and must be fsynced before it is published.
    """
    path, receipt_path = work / FILES / name, work / RECEIPTS / f"{name}.json"
    receipt = records.read(receipt_path)
    if receipt is not None and path.is_file() and fs.sha256(path) == receipt.get("sha256"):
        return receipt
    private = work / PARTIAL / f"{name}.{os.urandom(6).hex()}"
    try:
        for file in (path, receipt_path, private):
            file.parent.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise CacheError(
            f"{work}: does not exist, as seen from {os_calls.node_name()}",
            "the cache must lie on a file system that all workers share",
        ) from error
    try:
        receipt = make(private)
        private.rename(path)
    except BaseException:
        private.unlink(missing_ok=True)
        raise
    receipt_path.write_bytes(canonical.dumps(receipt))
    return receipt


def collect_garbage(cache: Path) -> None:
    """Remove what dead processes left in ``.tmp`` and ``.trash``; resumable work after a week."""
    for path in stale_work(cache):
        LOG.info("removing the leftovers of a killed process: %s", path.name)
        remove_stale(path, cache)
    for path in trash_items(cache):
        if not _restore(path, cache):
            _remove(path)


def trash_items(cache: Path) -> list[Path]:
    """List what dead processes left in ``.trash``."""
    paths = fs.sorted_dir(cache / fs.TRASH)
    return [path for path in paths if not locks.owner_alive(path.name.rpartition(".")[2], path)]


def _restore(path: Path, cache: Path) -> bool:
    """Return an entry from the trash to its place if it was to be replaced but never was."""
    dataset, replacing, folder = path.name.rpartition(".")[0].partition(REPLACING)
    if not replacing:
        return False
    final = cache / dataset / folder
    with locks.try_acquire(locks.lock_path(cache, locks.entry_lock_name(final))) as free:
        if not free:
            return True  # its trash is left to the process at work on that entry
        if os.path.lexists(final):
            return False
        with suppress(OSError):
            _move(path, final)
            LOG.info("restored %s: the process replacing it was killed", final)
            return True
    return False


def stale_work(cache: Path, *, unfinished: bool = False) -> list[Path]:
    """List dead processes' workspaces; this week's that can be resumed only if `unfinished`."""
    paths = list((cache / fs.TMP).glob("*"))
    folders = {path.with_suffix("") if path.suffix == ".lock" else path for path in paths}
    return sorted(path for path in folders if _is_stale(path, unfinished))


def _is_stale(path: Path, unfinished: bool) -> bool:
    resumable = path.name.endswith(RESUMABLE) and (path / FILES).is_dir()  # not published yet
    if resumable and not (unfinished or locks.is_stale(path / RECEIPTS, locks.STALE_AFTER)):
        return False
    return not locks.owner_alive(_split_name(path)[1], path) and locks.is_unlocked(_lock_file(path))


def remove_stale(path: Path, cache: Path) -> bool:
    """Remove one item of `stale_work`, unless another process resumed it; return if it is gone."""
    with locks.try_acquire(_lock_file(path)) as free:
        if free:
            _clear(path, cache)
    return not os.path.lexists(path)


def _clear(folder: Path, cache: Path) -> None:
    try:
        discard(folder, cache)
    except OSError:  # it cannot be renamed: remove it where it is
        _remove(folder)
    with suppress(OSError):
        _lock_file(folder).unlink(missing_ok=True)


def publish(
    folder: Path, final: Path, cache: Path, keep_existing: Callable[[], bool] = lambda: False
) -> None:
    """Give a finished private folder its final name, durably.

    Every file in `folder` must have been fsynced. A rename never lands on an existing folder:
    that one goes to ``.trash`` first, unless `keep_existing` says that it makes this one needless.
    """
    fs.fsync(folder)
    replaced: list[Path] = []
    try:
        _rename_into_place(folder, final, cache, keep_existing, replaced)
        fs.fsync(final.parent)
        fs.fsync(cache)
    except BaseException:
        if replaced and not os.path.lexists(final):
            with suppress(OSError):  # the old entry is better than none
                replaced[-1].rename(final)
        raise
    finally:
        for path in replaced:
            _remove(path)


def _rename_into_place(
    folder: Path, final: Path, cache: Path, keep_existing: Callable[[], bool], replaced: list[Path]
) -> None:
    """Rename to a free name; move what has the name to the trash, and append it to `replaced`."""
    for _ in range(100):  # while other processes keep recreating the target
        try:
            fs.ensure_dir(final.parent)
            try:
                folder.rename(final)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            if keep_existing():
                LOG.info("another process published %s first", final.name)
                break
            name = f"{final.parent.name}{REPLACING}{final.name}"
            trashed = _trash_name(name, cache)
            _move(final, trashed)
            replaced.append(trashed)
        except FileNotFoundError:  # another process removed the old one, or its parent
            if not folder.exists():
                raise
    else:
        raise CacheError(f"could not publish {final}: other processes keep recreating it")


def discard(path: Path, cache: Path) -> None:
    """Move a file or folder to the trash with one rename, then delete it."""
    try:
        path.rename(trashed := _trash_name(path.name, cache))
    except OSError as error:
        if error.errno != errno.EXDEV:  # as of `_move`
            raise
        trashed = path
    _remove(trashed)


def _trash_name(name: str, cache: Path) -> Path:
    trash = fs.ensure_dir(cache / fs.TRASH)
    return trash / f"{_shorten(name, MAX_NAME_BYTES)}.{locks.owner_tag()}"


def _move(path: Path, to: Path) -> None:
    """Rename a folder; copy it, and delete it, if it lies in a lower layer of a container image."""
    try:
        path.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        import shutil  # hardly ever needed

        try:
            shutil.copytree(path, to, symlinks=True)
        except shutil.Error:
            _remove(to)
            raise error from None
        _remove(path)


def _remove(path: Path) -> None:
    import shutil  # a hit removes nothing

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():  # another process just made a file in it
            shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
