"""From a dataset and choices to its cache entry: found there, or built."""

import logging
import os
import re
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import fields
from pathlib import Path
from typing import Any

from pixelprep import sources
from pixelprep.cache import entries, requests
from pixelprep.dataset.entry import Entry
from pixelprep.errors import (
    EntryError,
    SourceError,
    UsageError,
    check_int,
    unknown_choice,
)
from pixelprep.format import schema
from pixelprep.format.recipe import PrepareOptions, Recipe
from pixelprep.format.source_record import SourceRecord
from pixelprep.system import canonical, fs, locks, parallel, records, staging

LOG = logging.getLogger("pixelprep")

# Arguments that change no byte: of the machine, and of where raw data comes from.
MACHINE_ONLY = ("cache_dir", "quiet", "workers", "scheduler")
RUNTIME_ONLY = (*MACHINE_ONLY, "mirror", "offline")
MAX_SIDE = 1 << 16  # pixels
CHOICES = {field.name: field for field in fields(PrepareOptions)}


def prepare(
    dataset: str | os.PathLike[str] | sources.Source = "mnist",
    *,
    mode: str = "standardize",
    per: str = "channel",
    rescale: bool = False,
    val_fraction: float = 0.0,
    split_seed: int = 0,
    dtype: str = "float32",
    compression: str = "none",
    shard_rows: int | None = None,
    source: str | os.PathLike[str] | None = None,
    mirror: str | None = None,
    offline: bool | None = None,
    size: str | tuple[int, int] | None = None,
    color: str | None = None,
    test_fraction: float | None = None,
    on_error: str | None = None,
    images_key: str | None = None,
    labels_key: str | None = None,
    workers: int | Executor = 1,
    scheduler: str | None = None,
    force: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Entry:
    """Have a dataset scaled and stored, doing the work only once.

    Parameters
    ----------
    dataset : str, path or Source
        A known name, a path to images of your own (a string with a ``/`` in it, or a `Path`: a
        folder of images or of IDX files, an ``.npz`` or HDF5 file), or a source object such as
        `pixelprep.Arrays`.
    mode : {"standardize", "center", "normalize"}
        The scaling, fitted on the training split.
    per : {"channel", "dataset", "pixel", "image"}
        Over what one statistic is shared.
    rescale : bool
        Divide integers by their type's maximum first (``normalize`` is this alone).
    val_fraction : float
        0 ≤ fraction < 1: share of every class taken from train, before the statistics are fitted.
    split_seed : int
        0 to 2**64 − 1: which rows are taken, here and for `test_fraction`.
    dtype : {"float32", "float16"}
        Of the stored images.
    compression : {"none", "gzip", "lzf", "lz4", "zstd"}
        Of the stored images.
    shard_rows : int, optional
        Rows a file; default: what fits into 256 MiB.
    source : path, optional
        A folder with the raw files; nothing is downloaded.
    mirror : str, optional
        A URL that is tried first; default: ``PIXELPREP_MIRROR``.
    offline : bool, optional
        Open no connection; default: whether ``PIXELPREP_OFFLINE`` is set.
    size : tuple of int or str, optional
        (H, W) or ``"HxW"`` that the images of a folder are resized to, by Pillow's bilinear filter.
    color : {"grey", "rgb"}, optional
        What the images of a folder are turned into.
    test_fraction : float, optional
        0 < fraction < 1: share of every class of a folder or HDF5 file that becomes the test split,
        where it has none of its own.
    on_error : {"fail", "skip"}, optional
        What to do about a damaged image of a folder; the manifest lists what was skipped.
    images_key, labels_key : str, optional
        Where an HDF5 file has images and labels, ``{split}`` in it standing for train and test.
    workers : int or Executor
        Processes that share the work; or an executor of your own, which can pickle functions of
        modules. Changes no byte.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers share the work and the cache's file system.
    force : bool
        Make the entry again even where it is there.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.
    quiet : bool
        Draw no progress bars (they are drawn on a terminal only).

    Returns
    -------
    Entry
        With `Entry.cached` telling whether it was there already.

    Raises
    ------
    UsageError, SourceError, CacheError, WorkerError, MissingExtraError
        When a choice, the raw data, the cache or the workers are not usable; nothing is left
        behind.

    Examples
    --------
    >>> import pixelprep
    >>> entry = pixelprep.prepare("sample", mode="center", quiet=True)
    >>> entry.train.shape
    (6000, 28, 28, 1)
    """
    asked = {
        "dataset": dataset,
        "mode": mode,
        "per": per,
        "rescale": rescale,
        "val_fraction": val_fraction,
        "split_seed": split_seed,
        "dtype": dtype,
        "compression": compression,
        "shard_rows": shard_rows,
        "source": source,
        "size": size,
        "color": color,
        "test_fraction": test_fraction,
        "on_error": on_error,
        "images_key": images_key,
        "labels_key": labels_key,
    }
    pool = parallel.WorkerPool(workers, scheduler)
    context = sources.SourceContext(fs.cache_dir(cache_dir), pool, quiet)
    return _run(asked, _network(mirror, offline), context, force)


def find_entry(dataset: str | os.PathLike[str] | sources.Source = "mnist", **options: Any) -> Entry:
    """The entry of a dataset that is prepared already; nothing is read, downloaded or made.

    Parameters
    ----------
    dataset : str, path or Source
        As for `prepare`.
    **options
        As for `prepare`.

    Raises
    ------
    EntryError
        When it is not prepared, or damaged.
    UsageError
        When an option is wrong.
    """
    cache = fs.cache_dir(options.get("cache_dir"))
    network = _network(options.get("mirror"), options.get("offline"))
    quiet = options.get("quiet", False)
    choices, origin, _ = _parse({**options, "dataset": dataset}, network, quiet)
    with fs.translate_oserror(cache):
        identities = origin.fingerprints()
        facts = _remembered(cache, identities[0]) if identities else None
        if facts is not None:
            path = cache / origin.name / Recipe.of(choices, facts).folder
            if path.exists():
                return entries.open_entry(path, cache, quiet)
    raise EntryError(
        f"{origin.name}, {choices.mode}, with these options: not prepared in {cache}",
        "do so with `prepare=True`",
    )


def rebuild(path: Path, cache: Path, asked: Mapping[str, Any], *, quiet: bool) -> Entry:
    """Make the entry in this folder of the cache anew, from its raw data.

    Parameters
    ----------
    path, cache : Path
        Where it stands, and the cache.
    asked : mapping
        The arguments of `prepare` that it came from (`origins`).
    quiet : bool
        Draw no progress bars.

    Raises
    ------
    SourceError
        When the raw data is no longer there, or no longer what it was.
    """
    return _run(asked, _network(), sources.SourceContext(cache, quiet=quiet), True, only=path)


def _run(
    asked: Mapping[str, Any],
    network: Mapping[str, Any],
    context: sources.SourceContext,
    force: bool,
    only: Path | None = None,
) -> Entry:
    choices, origin, dataset = _parse(asked, network, context.quiet)
    with fs.translate_oserror(context.cache), context.pool, context:
        entry = _find_or_build(origin, choices, context, force, only)
        noted = entry.cached and requests.has_request(entry.path, context.cache)
        if isinstance(dataset, str) and not noted:
            kept = {name: value for name, value in asked.items() if value is not None}
            requests.save_request(entry.path, context.cache, kept | {"dataset": dataset})
    return entry


def _parse(
    asked: Mapping[str, Any], network: Mapping[str, Any], quiet: bool
) -> tuple[PrepareOptions, sources.Source, Any]:
    """What is asked for: choices and source, and the dataset as it can be asked for again."""
    choices = PrepareOptions(
        **{name: asked.get(name, field.default) for name, field in CHOICES.items()}
    )
    origin, dataset = asked["dataset"], sources.normalize_dataset(asked["dataset"])
    if isinstance(dataset, str):
        origin = sources.find_source(dataset, _options(asked, network, quiet))
    _check_name(origin)
    return choices, origin, dataset


def _find_or_build(
    origin: sources.Source,
    choices: PrepareOptions,
    context: sources.SourceContext,
    force: bool,
    only: Path | None = None,
) -> Entry:
    cache = context.cache
    facts, raw = _fingerprint(origin, context)
    recipe = Recipe.of(choices, facts)
    path = cache / origin.name / recipe.folder
    if only not in (None, path):
        was = f"{only.parent.name}/{only.name}"
        raise SourceError(f"{was}: its raw data makes {origin.name}/{recipe.folder} now")
    staging.collect_garbage(cache)  # puts back what a killed process only meant to replace
    if not force and (found := entries.existing_entry(path, cache, context.quiet, LOG.warning)):
        return found

    def existing() -> Entry | None:
        return None if force else entries.existing_entry(path, cache, context.quiet)

    with locks.lock(cache, locks.entry_lock_name(path)):
        if found := existing():  # by another process meanwhile
            return found
        from pixelprep.pipeline.build import Build  # loads h5py, which a hit does without

        staging.collect_garbage(cache)
        raw = _read_again(origin, context, facts) if raw is None else raw
        build = Build(origin.name, origin.provenance, raw, facts, recipe, context)
        return build.publish(path, lambda: existing() is not None)


def _check_name(origin: sources.Source) -> None:
    """A dataset's name is a folder's name, and a known dataset's is its own alone."""
    if not schema.is_folder_name(origin.name):
        most = schema.MAX_NAME_BYTES
        raise UsageError(
            f"dataset name '{origin.name[:most]}': expected letters, digits, '.', '_' and '-',"
            f" at most {most} bytes"
        )
    if origin.name in sources.REGISTRY and not isinstance(origin, sources.RegisteredSource):
        raise UsageError(f"dataset name '{origin.name}': is that of a known dataset")


def prepare_or_open(name: str, **options: Any) -> Entry:
    """The entry that `name` means, or the entry of the dataset of this name, prepared if needed.

    Parameters
    ----------
    name : str
        An entry's folder, a key, ``DATASET/MODE-KEY``; else a dataset, as for `prepare`.
    **options
        As for `prepare`, only those that were asked for.

    Raises
    ------
    UsageError
        When `name` is an entry and an option asks for another recipe than the entry's.
    """
    cache = fs.cache_dir(options.get("cache_dir"))
    if not entries.is_entry_name(name):
        return prepare(name, **options)
    entry = entries.open_named(name, cache, options.get("quiet", False))
    recipe = entry.manifest["recipe"]
    for option, asked in options.items():
        if option in RUNTIME_ONLY or asked == recipe.get(option, object()):
            continue
        kept = f"with {option} {recipe[option]}" if option in recipe else "already prepared"
        raise UsageError(
            f"{name} is an entry {kept}, but {option} {asked} was asked for",
            f"leave the option out, or name the dataset: {entry.dataset}",
        )
    return entry


def _network(mirror: str | None = None, offline: bool | None = None) -> dict[str, Any]:
    """Where raw data may come from, as asked for or as the environment has it."""
    if offline is None:
        said = os.environ.get("PIXELPREP_OFFLINE", "").lower()
        offline = said not in ("", "0", "false", "f", "no", "n", "off")
    return {"mirror": mirror or os.environ.get("PIXELPREP_MIRROR") or None, "offline": offline}


def _options(asked: Mapping[str, Any], network: Mapping[str, Any], quiet: bool) -> sources.Options:
    given: dict[str, Any] = {name: asked.get(name) for name in sources.DECODE_OPTIONS}
    for name, known in (("color", ("grey", "rgb")), ("on_error", ("fail", "skip"))):
        if given[name] is not None and given[name] not in known:
            raise unknown_choice(name, given[name], known)
    fraction, source = given["test_fraction"], asked.get("source")
    if fraction is not None and not 0 < fraction < 1:
        raise UsageError(f"`test_fraction={fraction}`: expected more than 0, below 1")
    return sources.Options(
        source=fs.expand_user(source) if source is not None else None,
        quiet=quiet,
        split_seed=int(asked.get("split_seed", 0)),
        **given | {"size": _size(given["size"])},
        **network,
    )


def _size(size: str | tuple[int, int] | None) -> tuple[int, int] | None:
    """(H, W) of what the user wrote."""
    if size is None:
        return None
    try:
        sides = map(int, re.split("[x×]", size)) if isinstance(size, str) else size
        height, width = (check_int("size", side, 1, MAX_SIDE) for side in sides)
    except (TypeError, ValueError):
        raise UsageError(
            f"`size={size}`: expected HxW, such as 64x64, each 1 to {MAX_SIDE}"
        ) from None
    return height, width


def _fingerprint(
    origin: sources.Source, context: sources.SourceContext
) -> tuple[SourceRecord, sources.Raw | None]:
    """The facts, remembered for this identity or read; and the raw data if it was read."""
    identities, cache = origin.fingerprints(), context.cache
    if not identities:
        raw, facts = _read(origin, context)
        return facts, raw
    context.state = canonical.digest(identities[0])
    if known := _remembered(cache, identities[0]):
        return known, None
    with locks.lock(cache, locks.raw_lock_name(origin.name)):  # one process downloads and reads
        if known := _remembered(cache, identities[0]):
            return known, None
        raw, facts = _read(origin, context)
        if origin.fingerprints() == identities:  # the files stayed as they were while being read
            for identity in identities:
                note = {"identity": identity, "about": facts.to_dict()}
                records.write(_note(cache, identity), note)
    return facts, raw


def _read(
    origin: sources.Source, context: sources.SourceContext
) -> tuple[sources.Raw, SourceRecord]:
    """The raw data, where the workers can read it, and what the key needs to know of it."""
    context.pool.start()  # they need a while, as listing and unpacking do
    raw = origin.load(context)
    if not context.pool.inline:
        raw = raw.materialize(context)
    return raw, sources.describe(raw, context.pool, origin.name, context.quiet)


def _note(cache: Path, identity: Mapping[str, Any]) -> Path:
    """Where the facts of this identity are remembered."""
    return cache / fs.SOURCES / f"{canonical.digest(identity)}.json"


def _remembered(cache: Path, identity: Mapping[str, Any]) -> SourceRecord | None:
    kept = records.read(_note(cache, identity)) or {}
    same = canonical.dumps(kept.get("identity")) == canonical.dumps(identity)
    about = kept.get("about")
    return SourceRecord.from_dict(about) if same and schema.is_source(about) else None


def _read_again(
    origin: sources.Source, context: sources.SourceContext, facts: SourceRecord
) -> sources.Raw:
    """The raw data, once it is sure to be what the key was made of."""
    cache = context.cache
    # The raw files may have been deleted meanwhile.
    with locks.lock(cache, locks.raw_lock_name(origin.name)):
        raw, found = _read(origin, context)
    if found != facts:
        raise SourceError(
            f"{origin.name}: the raw data is not what it was when its digest was taken",
            f"delete {cache / fs.SOURCES} and run again",
        )
    return raw
