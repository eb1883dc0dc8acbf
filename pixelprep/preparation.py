"""From a dataset and choices to its cache entry: found there, or built."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pixelprep import (
    files,
    locks,
    manifest,
    opening,
    origins,
    parallel,
    sources,
    words,
    workspace,
)
from pixelprep.entry import Entry
from pixelprep.errors import (
    EntryError,
    NewerFormatError,
    SourceError,
    UsageError,
    unknown,
    whole,
)
from pixelprep.recipe import Choices, Recipe

LOG = logging.getLogger("pixelprep")

# Arguments that change no byte: of the machine, and of where raw data comes from.
OF_THE_MACHINE = ("cache_dir", "quiet", "workers", "scheduler")
FREE = (*OF_THE_MACHINE, "mirror", "offline")
MOST_SIDE = 1 << 16  # pixels
CHOICES = {field.name: field for field in fields(Choices)}


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
        With `Entry.hit` telling whether it was there already.

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
    team = parallel.Team(workers, scheduler)
    place = sources.Place(files.cache_dir(cache_dir), team, quiet)
    return _made(asked, _network(mirror, offline), place, force)


def find(dataset: str | os.PathLike[str] | sources.Source = "mnist", **options: Any) -> Entry:
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
    cache = files.cache_dir(options.get("cache_dir"))
    network = _network(options.get("mirror"), options.get("offline"))
    quiet = options.get("quiet", False)
    choices, origin, _ = _meant({**options, "dataset": dataset}, network, quiet)
    with files.explained(cache):
        identities = origin.identities()
        facts = _remembered(cache, identities[0]) if identities else None
        if facts is not None:
            path = cache / origin.name / Recipe.of(choices, facts.digest, facts.splits).folder
            if path.exists():
                return opening.open_entry(path, cache, quiet)
    raise EntryError(
        f"{origin.name}, {choices.mode}, with these options: not prepared in {cache}",
        "do so with --prepare",
    )


def prepare_again(path: Path, cache: Path, asked: Mapping[str, Any], *, quiet: bool) -> Entry:
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
    return _made(asked, _network(), sources.Place(cache, quiet=quiet), True, only=path)


def _made(
    asked: Mapping[str, Any],
    network: Mapping[str, Any],
    place: sources.Place,
    force: bool,
    only: Path | None = None,
) -> Entry:
    choices, origin, dataset = _meant(asked, network, place.quiet)
    with files.explained(place.cache), place.team, place:
        entry = _prepared(origin, choices, place, force, only)
        noted = entry.hit and origins.is_known(entry.path, place.cache)
        if isinstance(dataset, str) and not noted:
            kept = {name: value for name, value in asked.items() if value is not None}
            origins.remember(entry.path, place.cache, kept | {"dataset": dataset})
    return entry


def _meant(
    asked: Mapping[str, Any], network: Mapping[str, Any], quiet: bool
) -> tuple[Choices, sources.Source, Any]:
    """What is asked for: choices and source, and the dataset as it can be asked for again."""
    choices = Choices(**{name: asked.get(name, field.default) for name, field in CHOICES.items()})
    origin, dataset = asked["dataset"], sources.as_typed(asked["dataset"])
    if isinstance(dataset, str):
        origin = sources.find(dataset, _options(asked, network, quiet))
    _check_name(origin)
    return choices, origin, dataset


def _prepared(
    origin: sources.Source,
    choices: Choices,
    place: sources.Place,
    force: bool,
    only: Path | None = None,
) -> Entry:
    cache = place.cache
    facts, raw = _facts(origin, place)
    recipe = Recipe.of(choices, facts.digest, facts.splits)
    path = cache / origin.name / recipe.folder
    if only not in (None, path):
        was = f"{only.parent.name}/{only.name}"
        raise SourceError(f"{was}: its raw data makes {origin.name}/{recipe.folder} now")
    workspace.sweep(cache)  # puts back what a killed process only meant to replace
    if not force and (found := _published(path, place, LOG.warning)):
        return found
    with locks.lock(cache, locks.of_entry(path)):
        if not force and (found := _published(path, place)):  # by another process meanwhile
            return found
        from pixelprep.build import Build  # loads h5py, which a hit does without

        workspace.sweep(cache)
        raw = _read_again(origin, place, facts) if raw is None else raw
        build = Build(origin.name, origin.provenance, raw, facts.about, recipe, place)
        return build.publish(path, lambda: not force and _published(path, place) is not None)


def _check_name(origin: sources.Source) -> None:
    """A dataset's name is a folder's name, and a known dataset's is its own alone."""
    if not manifest.fits_a_folder(origin.name):
        most = manifest.LONGEST_NAME
        raise UsageError(
            f"dataset name '{origin.name[:most]}': expected letters, digits, '.', '_' and '-',"
            f" at most {most} bytes"
        )
    if origin.name in sources.KNOWN and not isinstance(origin, sources.KnownSource):
        raise UsageError(f"dataset name '{origin.name}': is that of a known dataset")


def obtain(name: str, **options: Any) -> Entry:
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
    cache = files.cache_dir(options.get("cache_dir"))
    if not opening.names_an_entry(name):
        return prepare(name, **options)
    entry = opening.open_named(name, cache, options.get("quiet", False))
    recipe = entry.manifest["recipe"]
    for option, asked in options.items():
        if option in FREE or asked == recipe.get(option, object()):
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
    given: dict[str, Any] = {name: asked.get(name) for name in sources.DECODING}
    for name, known in (("color", ("grey", "rgb")), ("on_error", ("fail", "skip"))):
        if given[name] is not None and given[name] not in known:
            raise unknown(words.option(name), given[name], known)
    fraction, source = given["test_fraction"], asked.get("source")
    if fraction is not None and not 0 < fraction < 1:
        raise UsageError(f"--test-fraction {fraction}: expected more than 0, below 1")
    return sources.Options(
        source=files.expanded(source) if source is not None else None,
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
        height, width = (whole("--size", side, 1, MOST_SIDE) for side in sides)
    except (TypeError, ValueError):
        raise UsageError(
            f"--size {size}: expected HxW, such as 64x64, each 1 to {MOST_SIDE}"
        ) from None
    return height, width


@dataclass(frozen=True, slots=True)
class Facts:
    """What the key needs to know of raw data, so that a cache hit need not read it."""

    about: dict[str, Any]

    @property
    def digest(self) -> str:
        """The source digest."""
        return files.digest(self.about)

    @property
    def splits(self) -> dict[str, Any]:
        """Type, shape and digests of each split, in the format's order."""
        return {name: self.about["splits"][name] for name in ("train", "test")}


def _facts(origin: sources.Source, place: sources.Place) -> tuple[Facts, sources.Raw | None]:
    """The facts, remembered for this identity or read; and the raw data if it was read."""
    identities, cache = origin.identities(), place.cache
    if not identities:
        raw, facts = _read(origin, place)
        return facts, raw
    place.state = files.digest(identities[0])
    if known := _remembered(cache, identities[0]):
        return known, None
    with locks.lock(cache, locks.of_raw(origin.name)):  # one process downloads and reads
        if known := _remembered(cache, identities[0]):
            return known, None
        raw, facts = _read(origin, place)
        if origin.identities() == identities:  # the files stayed as they were while being read
            for identity in identities:
                note = {"identity": identity, "about": facts.about}
                files.remember(_note(cache, identity), note)
    return facts, raw


def _read(origin: sources.Source, place: sources.Place) -> tuple[sources.Raw, Facts]:
    """The raw data, where the workers can read it, and what the key needs to know of it."""
    place.team.start()  # they need a while, as listing and unpacking do
    raw = origin.load(place)
    if not place.team.inline:
        raw = raw.in_files(place)
    return raw, Facts(sources.about(raw, place.team, origin.name, place.quiet))


def _note(cache: Path, identity: Mapping[str, Any]) -> Path:
    """Where the facts of this identity are remembered."""
    return cache / files.SOURCES / f"{files.digest(identity)}.json"


def _remembered(cache: Path, identity: Mapping[str, Any]) -> Facts | None:
    kept = files.recall(_note(cache, identity)) or {}
    same = files.canonical_json(kept.get("identity")) == files.canonical_json(identity)
    return Facts(kept["about"]) if same and manifest.is_source(kept.get("about")) else None


def _published(
    path: Path, place: sources.Place, tell: Callable[..., object] = LOG.debug
) -> Entry | None:
    """The entry, if it is there and whole; a logger's `tell` says what is wrong with it."""
    if not path.exists():
        return None
    try:
        return opening.open_entry(path, place.cache, place.quiet)
    except NewerFormatError:
        raise  # which is not to be replaced
    except EntryError as error:
        tell("%s; making it again", error.message)
        return None


def _read_again(origin: sources.Source, place: sources.Place, facts: Facts) -> sources.Raw:
    """The raw data, once it is sure to be what the key was made of."""
    cache = place.cache
    # The raw files may have been deleted meanwhile.
    with locks.lock(cache, locks.of_raw(origin.name)):
        raw, found = _read(origin, place)
    if found != facts:
        raise SourceError(
            f"{origin.name}: the raw data is not what it was when its digest was taken",
            f"delete {cache / files.SOURCES} and run again",
        )
    return raw
