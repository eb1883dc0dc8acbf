"""Export an entry: written beside the folder to be, read back whole, and renamed."""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixelprep.cache import entries
from pixelprep.dataset.entry import Entry
from pixelprep.errors import REPAIR_HINT, CacheError, EntryError, UsageError, unknown_choice
from pixelprep.exporters import _croissant, _readme, format_names, get_exporter
from pixelprep.exporters.base import ExportedFile, Exporter
from pixelprep.format import manifest as manifests
from pixelprep.system import fs, os_calls, progress, staging
from pixelprep.system.json_record import Record

ELSEWHERE = "name another DIR"


@dataclass(frozen=True, slots=True)
class Export(Record):
    """An entry in another format.

    Parameters
    ----------
    path : Path
        The folder, absolute. Beside the files, ``entry.json`` is the entry's manifest, and
        ``croissant.json`` describes the files in MLCommons' Croissant, for catalogues;
        ``README.txt`` tells people what is there, and how to read it.
    to : str
        The format.
    entry : Path
        The entry's folder.
    files : tuple of ExportedFile
        In the order of their names.
    bytes : int
        Of all files.
    seconds : float
        What it took.
    """

    path: Path
    to: str
    entry: Path
    files: tuple[ExportedFile, ...]
    bytes: int
    seconds: float


def export(
    entry: Entry | str | os.PathLike[str],
    directory: str | os.PathLike[str],
    to: str,
    *,
    digests: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Export:
    """Write an entry in another format, for those who cannot read its own.

    All of it is read back and compared with the entry, bit for bit, before the folder is there.
    Whatever happens meanwhile, there is no folder, or a whole one. Memory does not grow with the
    number of images. `prepare` takes what all but tfrecord make for the raw data again.

    Parameters
    ----------
    entry : Entry, str or path
        An entry, or what `open` takes.
    directory : path
        The folder to be made, which must be new or empty.
    to : str
        ``npz``: one file with ``x_train``, ``y_train``, ``x_test``, ``y_test`` (and ``x_val``,
        ``y_val``; per image also ``mean_train``, ``std_train``, …; with names ``names_train``).
        ``hdf5-single``: one HDF5 file with the groups ``train``, ``test`` (and ``val``), each as
        a file of an entry that is stored scaled.
        ``tfrecord``: ``train.tfrecord`` and so on, of ``tf.train.Example`` with ``image`` (bytes:
        the scaled values, little-endian (H, W, C)), ``label`` (int64; of several a row, K of
        them), ``name`` where rows have names and, per image, ``mean`` and ``std`` (bytes: one
        float64 each); what is beside them lets ``tfds.builder_from_directory`` open the folder.
        ``png``: ``train/CLASS/0000012.png`` and so on, with the raw pixels; the number is the row;
        where rows have names, ``names.csv`` has each beside its picture.
        ``parquet``: ``train-00000-of-00001.parquet`` and so on, of some 500 MB at most, as Hugging
        Face's `datasets` and hub have pictures: ``image``, of raw pixels as PNG, with a row's
        name as its path, and ``label`` with the names of classes; of several classes a row
        ``labels``, a list of their numbers.
        ``webdataset``: tars, ``train-000000.tar`` and so on, of as much: ``0000012.png`` and
        ``0000012.cls``, the number being the row; ``0000012.json`` has the ``name`` of a row that
        has one, and, in the place of ``.cls``, as ``label`` 0 or 1 of each of several classes.
    digests : bool
        Return the SHA-256 of each picture of ``png``, too.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's folder for caches.
    quiet : bool
        Draw no progress bars.

    Returns
    -------
    Export
        The folder, and its files.

    Raises
    ------
    UsageError
        When there is no such format, it cannot hold such images, or the folder cannot be made.
    EntryError
        When there is no such entry, or it is damaged.
    CacheError
        When the disk is full or fails, or the files read back differ.
    MissingExtraError
        When a package that the format needs is not installed.

    Examples
    --------
    >>> import pixelprep, tempfile
    >>> entry = pixelprep.prepare("sample", quiet=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = pixelprep.export(entry, f"{folder}/sample", "npz", quiet=True)
    >>> [file.name for file in done.files]
    ['README.txt', 'croissant.json', 'entry.json', 'sample.npz']
    """
    os_calls.require_posix("exporting")
    started = time.perf_counter()
    if to not in format_names():
        raise unknown_choice("to", to, format_names())
    final = destination(directory)
    if not isinstance(entry, Entry):
        entry = entries.open_named(entry, fs.cache_dir(cache_dir), quiet)
    exporter = get_exporter(to)
    exporter.require(entry)
    with new_folder(final) as private:
        fs.require_free_space(private, exporter.bytes_needed(entry), ELSEWHERE)
        manifest = _manifest(entry)
        with progress.bar("writing", entry.rows, " images", quiet) as bar:
            exporter.write(entry, private, bar.update)
        (private / manifests.EXPORTED).write_bytes(manifest)
        fs.fsync(private / manifests.EXPORTED)
        (private / manifests.README).write_bytes(_readme.export_page(entry, to, exporter))
        fs.fsync(private / manifests.README)
        _check(exporter, entry, private, final, quiet)
        files = _list_files(private, digests)
        described = private / manifests.CROISSANT
        described.write_bytes(_croissant.describe(entry, to, files))
        fs.fsync(described)  # all that may fail comes before publishing
        files = sorted([*files, _file(private, described, digests)], key=lambda one: one.name)
    size = sum(file.bytes for file in files)
    return Export(final, to, entry.path, tuple(files), size, time.perf_counter() - started)


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Provide a private folder, and give it its final name, durably, once all went well."""
    try:
        with staging.sibling_staging(final) as private:
            yield private
            _publish(private, final)
    except OSError as error:
        denied = error.errno in fs.READ_ONLY_ERRNOS
        hint = ELSEWHERE if denied else f"free some space, or {ELSEWHERE}"
        raise CacheError(f"cannot write {final}: {error.strerror or error}", hint) from error


def destination(directory: str | os.PathLike[str]) -> Path:
    """Return the folder that is to be made, once it is sure that it can be."""
    try:
        final = fs.expand_user(directory).resolve()
        taken = fs.sorted_dir(final) if final.is_dir() else os.path.lexists(final)
    except (OSError, RuntimeError, ValueError) as error:  # the latter: no name, links in a circle
        raise UsageError(f"{os.fspath(directory)}: cannot be used: {error}", ELSEWHERE) from error
    if taken:
        raise UsageError(f"{final}: already exists: expected a new or empty folder", ELSEWHERE)
    if final == Path.cwd():
        raise UsageError(f"{final}: is the current folder, which would be replaced", ELSEWHERE)
    if not final.parent.is_dir():
        raise UsageError(f"{final}: no folder {final.parent}", "make it first")
    return final


def _check(exporter: Exporter, entry: Entry, private: Path, final: Path, quiet: bool) -> None:
    try:
        with progress.bar("checking", entry.rows, " images", quiet) as bar:
            exporter.check(entry, private, bar.update)
        if (private / manifests.EXPORTED).read_bytes() != _manifest(entry):
            raise ValueError(f"{manifests.EXPORTED} is not the entry's manifest")
    except (EntryError, CacheError):  # of the entry
        raise
    except Exception as error:  # libraries say in many ways that a file is damaged
        hint = "export again; if it happens again, check the disk"
        raise CacheError(f"{final}: read-back check failed: {error}", hint) from error


def _manifest(entry: Entry) -> bytes:
    """Read the manifest as it lies in the entry."""
    path = entry.path / manifests.NAME
    content = path.read_bytes()
    if json.loads(content) != entry.manifest.to_dict():
        raise EntryError(f"{path}: was changed meanwhile", REPAIR_HINT)
    return content


def _list_files(folder: Path, digests: bool) -> list[ExportedFile]:
    paths = filter(Path.is_file, sorted(folder.rglob("*")))
    return [_file(folder, path, digests) for path in paths]


def _file(folder: Path, path: Path, digests: bool) -> ExportedFile:
    digest = fs.sha256(path) if digests or path.suffix != ".png" else None
    return ExportedFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest)


def _publish(private: Path, final: Path) -> None:
    """Give the finished folder its name, durably; whatever goes wrong, it has none."""
    for folder in (*(path for path in private.rglob("*") if path.is_dir()), private):
        fs.fsync(folder)
    if final.is_dir():  # an empty one, whose rights somebody chose
        shutil.copymode(final, private)
    try:
        private.rename(final)  # which only ever takes the place of an empty folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise CacheError(f"{final}: was created meanwhile by another process", ELSEWHERE) from error
    try:
        fs.fsync(final.parent)
    except BaseException:
        final.rename(private)
        raise
