"""Find what a run's model is evaluated on: an entry, or new data, which is prepared for it."""

import logging
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias  # Any: options of `prepare`

import numpy as np
from numpy.typing import NDArray

from pixelprep import sources
from pixelprep.cache import entries, requests
from pixelprep.dataset.entry import Entry
from pixelprep.errors import EntryError, PixelprepError, UsageError
from pixelprep.format.manifest import Manifest
from pixelprep.format.options import FIXED, READING, decode_options
from pixelprep.pipeline.prepare import prepare
from pixelprep.sources.pictures import image_file
from pixelprep.system import formatting, fs
from pixelprep.training.run_folder import ENTRY, FinishedRun

LOG = logging.getLogger("pixelprep")

KEPT = ("on_error", "layout", "class_map")  # in a run, for new data: what no manifest tells whole

GIVE_ALIKE = "give pictures like those of training"
LIKE_TRAINING = {  # by the option of `prepare` that would help
    "alpha": "the training images had no transparency: lay these on a background first",
    "page": "the training images had one page each: give files of one",
}

Data: TypeAlias = Entry | str | os.PathLike[str] | sources.Source


def check_reading(options: Iterable[str]) -> None:
    """Refuse options that do not say how data is read, or that the run decides."""
    for name in options:
        if name not in READING:
            why = "the run decides it" if name in FIXED else "no option of how data is read"
            raise UsageError(f"`{name}`: {why}", "leave it out")


def entry_of(
    run: FinishedRun,
    data: Data | None,
    cache_dir: str | os.PathLike[str] | None,
    quiet: bool,
    options: Mapping[str, Any],
) -> Entry:
    """Return an entry: that of this name, of this data, or the one that the run was trained on.

    New data is read by these options.
    """
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if isinstance(data, str) and not entries.is_entry_name(data, fs.cache_dir(cache_dir)):
        data = sources.meant(data)
    found = _existing(run, data, cache_dir, quiet)
    if found is None:
        return _prepared(run, data, cache_dir, quiet, given)
    if given:
        listed = " ".join(f"`{name}`" for name in given)
        hint = "leave it out, or name new data"
        raise UsageError(f"{listed}: {found.path} is prepared already", hint)
    return found


def _existing(
    run: FinishedRun, data: Data | None, cache_dir: str | os.PathLike[str] | None, quiet: bool
) -> Entry | None:
    """Return the entry that is meant; None of new data."""
    if isinstance(data, Entry):
        return data
    cache, own = fs.cache_dir(cache_dir), run.result
    if data is None:  # wherever the cache is now
        try:
            return entries.open_recorded(own.entry, own.key, cache, quiet)
        except EntryError as error:
            error.hint = f"{error.hint}: {_prepare_again(run)}" if error.hint else None
            raise
    dataset = sources.normalize_dataset(data)
    if isinstance(dataset, str):
        # A path is read, so that what is new in it counts; any other name may be an entry's.
        is_path = "/" in dataset and not entries.is_entry_name(dataset, cache)
        if not is_path and entries.is_known(dataset, cache):
            return entries.open_named(dataset, cache, quiet)
        if any(path.name.endswith(f"-{own.key}") for path in entries.made_from(dataset, cache)):
            LOG.info("%s: %s was trained on it: its own splits are taken", dataset, run.folder)
            return entries.open_recorded(own.entry, own.key, cache, quiet)
    return None


def _prepared(
    run: FinishedRun,
    data: Data | None,
    cache_dir: str | os.PathLike[str] | None,
    quiet: bool,
    given: Mapping[str, Any],
) -> Entry:
    """Prepare new data with the run's scaling, read by the run's options and those given."""
    assert data is not None  # that is the run's own entry
    assert not isinstance(data, Entry)
    cache, dataset = fs.cache_dir(cache_dir), sources.normalize_dataset(data)
    options = dict(given)
    if isinstance(dataset, str):
        options = _supported_options(dataset, run, _read_by(run, cache)) | options
    if run.manifest.per == "pixel":
        message = f"{run.folder}: its scaling, per pixel, is not for other data"
        raise UsageError(message, "prepare the data with a scaling of its own, and name the entry")
    is_integer = np.dtype(run.manifest.scaling.raw_dtype).kind in "ui"
    try:
        return prepare(
            dataset,
            scaling_of=run.folder / ENTRY,
            dtype=run.manifest.recipe.dtype,
            storage="raw" if is_integer else "scaled",
            cache_dir=cache,
            quiet=quiet,
            **options,
        )
    except PixelprepError as error:
        error.hint = _without_fixed(error.hint)
        raise


def _without_fixed(hint: str | None) -> str | None:
    """Return a hint of `prepare` where it names nothing that the run decides; else what helps."""
    named = sorted(name for name in FIXED if f"`{name}" in (hint or ""))
    if not named:
        return hint
    return "; ".join(dict.fromkeys(LIKE_TRAINING.get(name, GIVE_ALIKE) for name in named))


def _prepare_again(run: FinishedRun) -> str:
    """Spell the command that prepares what a run was trained on."""
    options = requests.options_of(run.manifest, None) | dict(run.read_by or {})
    dataset = run.manifest.dataset
    data = dataset if dataset in sources.REGISTRY else f"path/of/{dataset}"
    return shlex.join(["pixelprep", "prepare", data, *formatting.options(options)])


def read_by(entry: Entry) -> dict[str, Any]:
    """Return the options by which an entry's data was read that hold for new data, too."""
    recorded = requests.load(entry.path, entry.path.parent.parent)
    return _kept(requests.options_of(entry.manifest, recorded.request))


def _kept(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in KEPT if name in options}


def _read_by(run: FinishedRun, cache: Path) -> Mapping[str, Any]:
    """Return these options of the run's entry; of an older run, as far as the cache has them."""
    if run.read_by is not None:
        return _kept(run.read_by)
    path = cache / run.manifest.dataset / run.manifest.recipe.folder
    return _kept(requests.options_of(run.manifest, requests.load(path, cache).request))


def _supported_options(dataset: str, run: FinishedRun, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options by which data is decoded as that of training, as far as it takes them."""
    source = sources.find_source(dataset, sources.Options())
    supported: frozenset[str] = getattr(source, "supported_options", frozenset())
    told = {name: value for name, value in decoding(run.manifest).items() if name != "layout"}
    told |= {name: own[name] for name in own if name != "class_map"}  # as given
    options = {name: value for name, value in told.items() if name in supported}
    if options:
        LOG.info("%s: decoded as in training: %s", dataset, shlex.join(formatting.options(options)))
    return options


def decoding(manifest: Manifest) -> dict[str, Any]:
    """Return the options of `prepare` by which image files become images like an entry's."""
    *size, channels = manifest.splits[manifest.first_split].shape[1:]
    told = decode_options(manifest.source.decode)
    kept = int(told.get("alpha") == "keep")
    colors = {count + kept: name for name, count in image_file.COLORS.items()}
    return told | {"size": tuple(size), "color": colors.get(channels)}


def labels_of_run(run: FinishedRun, entry: Entry, split: str, cache: Path) -> NDArray[np.int64]:
    """Return the labels of a split as the run numbers its classes; refuse those that it lacks."""
    known, given = run.manifest.source.class_names, entry.class_names
    labels = entry.splits[split].labels
    if given == known:
        return labels
    renamed = _read_by(run, cache).get("class_map", {})
    if merged := {n: renamed[n] for n in given if n not in known and n in renamed}:
        listed = formatting.shorten(f"{name} is {new}" for name, new in merged.items())
        LOG.info("%s: classes as in training: %s", entry.dataset, listed)
        given = tuple(merged.get(name, name) for name in given)
    counts = entry.manifest.splits[split].class_counts
    present = [name for name, count in zip(given, counts, strict=True) if count]
    if unknown := [name for name in present if name not in known]:
        listed = formatting.shorten(unknown)
        expected = f"expected classes {formatting.shorten(known)}, as {run.folder} was trained on"
        message = f"{entry.path}: {split}: {expected}, found {listed}, too"
        hint = "leave their images out, or rename them: `class_map=FILE` with lines CLASS,NEW"
        raise UsageError(message, hint)
    if absent := [name for name in known if name not in present]:
        LOG.info("%s: no image of %s", entry.dataset, formatting.shorten(absent))
    numbers = np.array([known.index(name) if name in known else -1 for name in given], np.int64)
    return np.take(numbers, labels)
