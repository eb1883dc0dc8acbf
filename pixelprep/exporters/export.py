"""An entry in another shape: written beside its place, read back whole, and renamed."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelprep.cache import entries
from pixelprep.dataset.entry import Entry
from pixelprep.errors import REPAIR_HINT, CacheError, EntryError, UsageError, unknown_choice
from pixelprep.exporters import EXPORTERS, Exporter
from pixelprep.format import manifest as manifests
from pixelprep.system import fs, progress, staging

MANIFEST = "entry.json"  # beside the files, the entry's manifest
ELSEWHERE = "name another DIR"
TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Export:
    """What was exported.

    Parameters
    ----------
    path : Path
        The folder.
    to : str
        The format.
    entry : Path
        The entry's folder.
    count, bytes : int
        Of the files.
    files : list of dict
        Where it was asked for: ``name``, ``bytes`` and ``sha256`` of each, in the order of names.
    """

    path: Path
    to: str
    entry: Path
    count: int
    bytes: int
    files: list[dict[str, Any]]


def export(
    entry: Entry | str | os.PathLike[str],
    directory: str | os.PathLike[str],
    to: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Path:
    """Write an entry in another shape, for those who cannot read its own.

    All of it is read back and compared with the entry, bit for bit, before the folder is there.
    Whatever happens meanwhile, there is no folder, or a whole one. Memory does not grow with the
    number of images.

    Parameters
    ----------
    entry : Entry, str or path
        An entry, or what `open` takes.
    directory : path
        The folder to be made: not there yet, or empty.
    to : str
        ``npz``: one file with ``x_train``, ``y_train``, ``x_test``, ``y_test`` (and ``x_val``,
        ``y_val``; per image also ``mean_train``, ``std_train``, …).
        ``hdf5-single``: one HDF5 file with the groups ``train``, ``test`` (and ``val``), each as
        a file of the entry.
        ``tfrecord``: ``train.tfrecord`` and so on, of ``tf.train.Example`` with ``image`` (bytes:
        the stored values, little-endian (H, W, C)), ``label`` (int64) and, per image, ``mean``
        and ``std`` (bytes: one float64 each).
        ``png``: ``train/CLASS/0000012.png`` and so on, with the raw pixels; the number is the row.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.
    quiet : bool
        Draw no progress bars.

    Returns
    -------
    Path
        The folder, absolute. Beside the files, ``entry.json`` is the entry's manifest.

    Raises
    ------
    UsageError
        When there is no such format, it cannot hold such images, or the folder cannot be made.
    EntryError
        When there is no such entry, or it is damaged.
    CacheError
        When the disk is full or fails, or what was written is not what is read back.
    MissingExtraError
        When a package that the format needs is not installed.

    Examples
    --------
    >>> import pixelprep, tempfile
    >>> entry = pixelprep.prepare("sample", quiet=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pixelprep.export(entry, f"{folder}/sample", "npz", quiet=True)
    ...     sorted(file.name for file in path.iterdir())
    ['entry.json', 'sample.npz']
    """
    return exported(entry, directory, to, cache_dir=cache_dir, quiet=quiet).path


def exported(
    entry: Entry | str | os.PathLike[str],
    directory: str | os.PathLike[str],
    to: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    digests: bool = False,
) -> Export:
    """As `export`, with what there is to say of it; of each file where `digests` are asked for."""
    if to not in EXPORTERS:
        raise unknown_choice("to", to, EXPORTERS)
    final = _place(directory)
    if not isinstance(entry, Entry):
        cache = fs.cache_dir(cache_dir)
        entry = entries.open_named(entry, cache, quiet)
    EXPORTERS[to].require(entry)
    with _explained(final), staging.sibling_staging(final) as private:
        _write(EXPORTERS[to], entry, private, quiet)
        _check(EXPORTERS[to], entry, private, final, quiet)
        # All that may fail comes before the folder is there.
        sizes = [path.stat().st_size for path in _files(private)]
        told = _report(private) if digests else []
        _publish(private, final)
    return Export(final, to, entry.path, len(sizes), sum(sizes), told)


def _place(directory: str | os.PathLike[str]) -> Path:
    """The folder that is to be made, once it is sure that it can be."""
    try:
        final = fs.expand_user(directory).resolve()
        there = fs.sorted_dir(final) if final.is_dir() else os.path.lexists(final)
    except (OSError, RuntimeError, ValueError) as error:  # the latter: no name, links in a circle
        raise UsageError(f"{os.fspath(directory)}: cannot be used: {error}", ELSEWHERE) from error
    if there:
        raise UsageError(f"{final}: is there already: expected a new or empty folder", ELSEWHERE)
    if final == Path.cwd():
        raise UsageError(f"{final}: is the current folder, which would be replaced", ELSEWHERE)
    if not final.parent.is_dir():
        raise UsageError(f"{final}: there is no folder {final.parent}", "make it first")
    return final


def _write(chosen: Exporter, entry: Entry, private: Path, quiet: bool) -> None:
    fs.require_free_space(private, chosen.bytes_needed(entry), ELSEWHERE)
    manifest = _manifest(entry)
    with progress.bar("writing", entry.rows, " images", quiet) as bar:
        chosen.write(entry, private, bar.update)
    (private / MANIFEST).write_bytes(manifest)
    fs.fsync(private / MANIFEST)


def _check(chosen: Exporter, entry: Entry, private: Path, final: Path, quiet: bool) -> None:
    try:
        with progress.bar("checking", entry.rows, " images", quiet) as bar:
            chosen.check(entry, private, bar.update)
        if (private / MANIFEST).read_bytes() != _manifest(entry):
            raise ValueError(f"{MANIFEST} is not the entry's manifest")
    except (EntryError, CacheError):  # of the entry
        raise
    except Exception as error:  # libraries say in many ways that a file is damaged
        raise CacheError(
            f"{final}: what was written is not what is read back: {error}",
            "export again; if it happens again, check the disk",
        ) from error


def _manifest(entry: Entry) -> bytes:
    """The manifest as it lies in the entry."""
    path = entry.path / manifests.NAME
    content = path.read_bytes()
    if json.loads(content) != entry.manifest.to_dict():
        raise EntryError(f"{path}: was changed meanwhile", REPAIR_HINT)
    return content


def _report(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "name": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": fs.sha256(path),
        }
        for path in sorted(_files(folder))
    ]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _publish(private: Path, final: Path) -> None:
    """Give the finished folder its name, durably; whatever goes wrong, it has none."""
    for folder in (*(path for path in private.rglob("*") if path.is_dir()), private):
        fs.fsync(folder)
    if final.is_dir():  # an empty one, whose rights somebody chose
        shutil.copymode(final, private)
    try:
        private.rename(final)  # which only ever takes the place of an empty folder
    except OSError as error:
        if error.errno not in TAKEN:
            raise
        raise CacheError(f"{final}: is there already by now", ELSEWHERE) from error
    try:
        fs.fsync(final.parent)
    except BaseException:
        final.rename(private)
        raise


@contextmanager
def _explained(final: Path) -> Iterator[None]:
    """Turn a system error about the export into one line that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        denied = error.errno in fs.READ_ONLY_ERRNOS
        hint = ELSEWHERE if denied else f"free some space, or {ELSEWHERE}"
        raise CacheError(f"cannot write {final}: {reason}", hint) from error
