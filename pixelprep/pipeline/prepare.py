"""From a dataset and options to its cache entry: found there, or built."""

import logging
import os
import shlex
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any  # options that a caller passes on by name

from pixelprep import sources
from pixelprep.cache import entries, requests
from pixelprep.dataset.entry import Entry
from pixelprep.errors import EntryError, SourceError, UsageError
from pixelprep.format import schema
from pixelprep.format.manifest import Manifest
from pixelprep.format.options import (
    PREPARE_OPTIONS,
    REPAIR_OPTIONS,
    RUNTIME_ONLY,
    SCALING_OPTIONS,
    PrepareOptions,
    RecipeOptions,
    ScalingOptions,
    declared_options,
    takes,
)
from pixelprep.format.recipe import TAKEN, Recipe
from pixelprep.format.source_record import SourceRecord
from pixelprep.pipeline import given_scaling, raw_data
from pixelprep.pipeline.shared import SharedEntries
from pixelprep.system import formatting, fs, locks, notices, os_calls, parallel, staging

LOG = logging.getLogger("pixelprep")

SCALING = ("mode", "per", "rescale", "dtype")  # options that ask for one of several entries
AS_BEFORE = "%s: as it was prepared before: %s"


@dataclass(frozen=True)
class PrepareCall(PrepareOptions):
    """The arguments of a call of `prepare`, checked."""

    dataset: str | os.PathLike[str] | sources.Source = "mnist"


@takes(PrepareCall)
def prepare(call: PrepareCall) -> Entry:
    """Scale and store a dataset once; return the same entry from the cache afterwards.

    Parameters
    ----------
    dataset : str, path or Source
        A known name, a path to images of your own (a string with a ``/`` in it, or a `Path`: a
        folder of images or of IDX files, an ``.npz``, HDF5 or Parquet file), the URL of such a
        file or folder (``https://…/set.zip``, ``s3://bucket/photos/``), what another library
        knows (``hf:OWNER/NAME``, ``torchvision:NAME``, ``tfds:NAME``, ``sklearn:NAME``), or a
        source object, which `Arrays`, `from_dataset` and `from_generator` of this package make.
    {options}

    Returns
    -------
    Entry
        `Entry.cached` says whether it was in the cache already.

    Raises
    ------
    UsageError, SourceError, CacheError, WorkerError, MissingExtraError
        When an option, the raw data, the cache or the workers are not usable; nothing is left
        behind.

    Examples
    --------
    >>> import pixelprep
    >>> entry = pixelprep.prepare("sample", mode="center", quiet=True)
    >>> entry.train.shape
    (6000, 28, 28, 1)
    """
    return _prepare(call)


@takes(PrepareCall)
def find_entry(call: PrepareCall) -> Entry:
    """Return the entry of a dataset that is prepared already; read, download and make nothing.

    Parameters
    ----------
    dataset : str, path or Source
        As for `prepare`; or an entry's folder, key or ``DATASET/MODE-KEY``.
    {options}

    Returns
    -------
    Entry
        As of `prepare`.

    Raises
    ------
    EntryError, UsageError
        When it is not prepared, or damaged; when an option is wrong.
    """
    usual = PrepareCall(call.dataset)
    return _find(call, {n: v for n, v in vars(call).items() if v != getattr(usual, n)})


def find_meant(dataset: str, **given: Any) -> Entry:
    """Return the entry as `find_entry` does; or the only one of this data, where no option asks for
    another, which is said.
    """
    try:
        return _find(PrepareCall(dataset, **given), given)
    except EntryError:
        cache = fs.cache_dir(given.get("cache_dir"))
        if given.keys() - RUNTIME_ONLY or entries.is_entry_name(dataset, cache):
            raise
        try:
            request = requests.load(entries.resolve(dataset, cache), cache).request or {}
        except EntryError:  # none, or several
            request = {}
        own = {n: v for n, v in request.items() if v != getattr(PrepareCall, n) and n != "dataset"}
        if not own:
            raise
    entry = find_entry(dataset, **own, **given)
    notices.tell(AS_BEFORE, dataset, shlex.join(formatting.options(own)))
    return entry


def _find(call: PrepareCall, given: Mapping[str, Any]) -> Entry:
    """Return the entry of a call, some options of which are given."""
    cache = fs.cache_dir(call.cache_dir)
    if isinstance(call.dataset, str) and entries.is_entry_name(call.dataset, cache):
        names = {*declared_options(RecipeOptions), *declared_options(ScalingOptions), "scaling_of"}
        asked = {name: value for name, value in given.items() if name in names}
        return _open_as_asked(call.dataset, cache, call.quiet, asked)
    source, dataset = _find_source(call)
    if entry := _recalled(call, source, cache):
        return entry
    if dataset is not None and not given.keys() & {*REPAIR_OPTIONS} - {*SCALING}:
        made = list(_made_before(dataset, given, cache).values())
        if len(made) == 1 and made[0]:
            call = replace(call, dataset=dataset, **made[0])
            if entry := _recalled(call, _find_source(call)[0], cache):
                return entry
    raise EntryError(
        f"{source.name}, {call.mode}, with these options: not prepared in {cache}",
        "prepare it first, or here with `prepare`",
    )


def _recalled(call: PrepareCall, source: sources.Source, cache: Path) -> Entry | None:
    """Return the entry of a call, if it is there and its data is as it was."""
    with fs.translate_oserror(cache):
        call, known = given_scaling.take_over(call, cache)
        if record := raw_data.recall(source, cache):
            path = cache / source.name / _recipe(call, source, record, known).folder
            if path.exists():
                return entries.open_entry(path, cache, call.quiet)
    return None


def _made_before(
    dataset: str, given: Mapping[str, Any], cache: Path, *, any_scaling: bool = False
) -> dict[str, dict[str, Any]]:
    """Return the options that made each entry of this data with the scaling that is asked for, by
    the entry's name, but for those that are given. A scaling is asked for though it is default;
    of `any_scaling` there are the other options alone.
    """
    usual = {name: getattr(PrepareCall, name) for name in REPAIR_OPTIONS}
    asked = {name: given.get(name, usual[name]) for name in SCALING}
    of_scaling = declared_options(ScalingOptions).keys()
    left_out = {*given}
    if any_scaling:
        left_out |= {*SCALING, *of_scaling}
    elif given.keys() & of_scaling:  # a mean that is given does not go with a preset of before
        left_out |= of_scaling
    made = {path: requests.load(path, cache).request for path in entries.made_from(dataset, cache)}
    return {
        f"{path.parent.name}/{path.name}": {
            name: value
            for name, value in request.items()
            if name not in left_out and value != usual.get(name, value)
        }
        for path, request in made.items()
        if request and (any_scaling or all(asked[n] == request.get(n, asked[n]) for n in SCALING))
    }


def as_before(
    dataset: str,
    given: Mapping[str, Any],
    cache: Path,
    *,
    any_scaling: bool = False,
    among: Collection[str] = REPAIR_OPTIONS,
) -> dict[str, Any]:
    """Return the options that this data was prepared with before, but for those given; and say so.

    They are those of the entries with the scaling that is asked for; or else (or of `any_scaling`)
    those of all its entries, but for what makes the scaling; of these options, those `among` some.
    Where entries differ, nobody knows which one is meant: a `UsageError`.
    """
    before = {} if any_scaling else _made_before(dataset, given, cache)
    before = before or _made_before(dataset, given, cache, any_scaling=True)
    before = {entry: {n: own[n] for n in own if n in among} for entry, own in before.items()}
    ways = {entry: _spelled(own) for entry, own in before.items()}
    if not all(ways.values()) or not ways:  # none, or one was made with what is given alone
        return {}
    if len(set(ways.values())) > 1:
        listed = formatting.shorten(f"{entry} ({way})" for entry, way in ways.items())
        hint = "name one of them; or give the options in which they differ"
        raise UsageError(f"{dataset}: prepared in several ways: {listed}", hint)
    notices.tell(AS_BEFORE, dataset, *set(ways.values()))
    return next(iter(before.values()))


def _spelled(options: Mapping[str, Any]) -> str:
    """Spell options as on the command line, but for those of `SCALING`."""
    return shlex.join(formatting.options({n: options[n] for n in options if n not in SCALING}))


def prepare_or_open(name: str, **options: Any) -> Entry:
    """Open the entry of this name; or prepare the dataset of this name, as `prepare` does.

    What no option says is as this data was prepared before (`as_before`).

    Of an entry, an option that was given and differs from its recipe is a `UsageError`.
    """
    cache = fs.cache_dir(options.get("cache_dir"))
    if entries.is_entry_name(name, cache):
        given = {option: value for option, value in options.items() if option not in RUNTIME_ONLY}
        return _open_as_asked(name, cache, options.get("quiet", False), given)
    dataset = name if sources.is_path(name) else sources.meant(name)
    return prepare(dataset, **{**options, **as_before(dataset, options, cache)})


def _open_as_asked(name: str, cache: Path, quiet: bool, options: dict[str, Any]) -> Entry:
    """Open the entry of this name; refuse options that differ from its recipe."""
    entry = entries.open_named(name, cache, quiet)
    recipe = entry.manifest.recipe.to_dict() | requests.request_of(entry.manifest)
    for option, value in options.items():
        check = PREPARE_OPTIONS[option].check if option in SCALING_OPTIONS else None
        value = check(option, value) if check else value
        value = list(value) if isinstance(value, tuple) else value
        if value != recipe.get(option, object()):
            recorded = requests.load(entry.path, cache)
            made_by = requests.options_of(entry.manifest, recorded.request) | options
            made_from = [recorded.origin or entry.dataset, *formatting.options(made_by)]
            own = f"with `{option}` {recipe[option]}" if option in recipe else "already prepared"
            raise UsageError(
                f"{name} is an entry {own}, but `{option}` {value} was given",
                f"leave the option out, or give what it was made from: {shlex.join(made_from)}",
            )
    return entry


def data_of(name: str, cache: Path, quiet: bool) -> tuple[str, dict[str, Any]]:
    """Return what the entry of this name was made from, and its options but for the mode."""
    entry = entries.open_named(name, cache, quiet)
    recorded = requests.load(entry.path, cache)
    made_from = recorded.origin
    if made_from is None:
        unknown = f"{name}: it is not recorded what this entry was made from"
        raise EntryError(unknown, "give the dataset, or the path of the data")
    options = requests.options_of(entry.manifest, recorded.request)
    return made_from, {option: value for option, value in options.items() if option != "mode"}


def source_of(call: PrepareCall) -> sources.Source:
    """Return the source of a call's dataset; refuse options that it does not support."""
    return _find_source(call)[0]


def rebuild(path: Path, cache: Path, request: Mapping[str, Any], *, quiet: bool) -> Entry:
    """Make the entry in this folder of the cache anew, from its raw data.

    `request` are the arguments of `prepare` that it came from (`cache.requests`). Raises
    `SourceError` when the raw data is no longer there, or no longer what it was.
    """
    return _prepare(PrepareCall(**request, cache_dir=cache, quiet=quiet, force=True), only=path)


def _prepare(call: PrepareCall, only: Path | None = None) -> Entry:
    """Find or build the entry (`only` the one in this folder), and keep what it came from."""
    os_calls.require_posix("preparing a dataset")
    call, known = given_scaling.take_over(call, fs.cache_dir(call.cache_dir))
    source, dataset = _find_source(call)
    pool = parallel.WorkerPool(call.workers, call.scheduler)
    context = sources.SourceContext(fs.cache_dir(call.cache_dir), pool, call.quiet)
    with fs.translate_oserror(context.cache), pool, context, notices.collect() as told:
        shared = SharedEntries(None if call.force or call.offline else call.remote, call.quiet)
        entry, is_read = _find_or_build(call, source, context, known, only, shared)
        recorded = requests.Recorded()
        if entry.cached:
            recorded = requests.load(entry.path, context.cache)
        if not is_read:  # nor was anything told of the data
            for line in recorded.told:
                notices.tell(line)
            told.duplicates += recorded.duplicates
            told.files = told.files or recorded.files
        if recorded.request is None and (dataset is not None or told):
            # The arguments that make the same entry again; none of an object in memory.
            names = REPAIR_OPTIONS if dataset is not None else ()
            request = {"dataset": dataset} | {name: getattr(call, name) for name in names}
            given = {name: value for name, value in request.items() if value is not None}
            requests.save_request(entry.path, context.cache, given, told)
        if call.push and call.remote is not None:
            shared.push(entry, call.remote, context.cache, call.force)
    return entry


def _find_source(call: PrepareCall) -> tuple[sources.Source, str | None]:
    """Return the source of a call's dataset; and the dataset as text, unless it is an object."""
    dataset = sources.normalize_dataset(call.dataset)
    if isinstance(dataset, str):
        dataset = sources.meant(dataset)
        given = {field.name: getattr(call, field.name) for field in fields(sources.Options)}
        folder = None if call.source is None else fs.expand_user(call.source)
        options = sources.Options(**given | {"source": folder})
        source = sources.find_source(dataset, options)
    else:
        source = dataset
        sources.refuse_unsupported(f"a source object; {source.name} has its own", call)
    if not schema.is_folder_name(source.name):
        most = schema.MAX_NAME_BYTES
        expected = f"expected letters, digits, '.', '_' and '-', at most {most} bytes"
        raise UsageError(f"dataset name '{source.name[:most]}': {expected}")
    if source.name in sources.REGISTRY and not isinstance(source, sources.RegisteredSource):
        raise UsageError(f"dataset name '{source.name}': is that of a known dataset")
    return source, dataset if isinstance(dataset, str) else None


def _recipe(
    call: PrepareCall, source: sources.Source, record: SourceRecord, known: Manifest | None
) -> Recipe:
    """Return the recipe of a call for data that is identified, with the scaling of an entry."""
    if known is not None:
        fields = given_scaling.fields_of(known, source.name, record)
        if given_scaling.is_test(record, call):
            record = given_scaling.record_as_test(record)
        return Recipe.of(call, record, fields)
    recipe = Recipe.of(call, record, call)
    if "train" not in record.splits and recipe.constants is None and recipe.per != "image":
        only = " and ".join(record.splits)
        message = f"{source.name}: expected a train split to fit the scaling to, found {only} alone"
        raise SourceError(message, "take over an entry's scaling: `scaling_of=ENTRY`")
    return recipe


def _tell_of_splits(
    call: PrepareCall, name: str, record: SourceRecord, recipe: Recipe, all_test: bool
) -> None:
    """Tell of fractions that are not used, and of data that is all taken for a test split."""
    divided = record.decode.get("groups") or {}  # by the source itself
    for split in TAKEN:
        fraction = getattr(call, f"{split}_fraction")
        is_taken = isinstance(divided, dict) and divided.get(f"{split}_fraction") == fraction
        if fraction and recipe.splits.get(split) != "train" and not is_taken:
            has = f"a {split} split of its own" if "train" in recipe.splits else "no train split"
            notices.tell(f"{name}: `{split}_fraction` is not used: the data has {has}")
    if all_test:
        notices.tell("%s: all of it is a test split", name)


def _tell_of_per(call: PrepareCall, name: str, recipe: Recipe) -> None:
    """Tell where pixels were to share a statistic that there is not."""
    if call.per not in (recipe.per, PrepareCall.per):
        why = "the constants are given"
        if recipe.constants is None:
            why = (
                "integers are divided by their type's maximum, unless limits are those of the data"
            )
        LOG.info("%s: per %s has no effect on %s: %s", name, call.per, recipe.mode, why)


def _load_build() -> None:
    with suppress(ImportError):  # which is raised where it is needed
        from pixelprep.pipeline import build as build


@contextmanager
def _loading_build() -> Iterator[None]:
    """Load libhdf5 while raw data is unpacked, which leaves the interpreter free."""
    loading = threading.Thread(target=_load_build)
    loading.start()
    try:
        yield
    finally:  # else an interpreter that ends early breaks it off, with a traceback
        loading.join()


def _find_or_build(
    call: PrepareCall,
    source: sources.Source,
    context: sources.SourceContext,
    known: Manifest | None,
    only: Path | None,
    shared: SharedEntries,
) -> tuple[Entry, bool]:
    """Return the entry, and whether the raw data was read for it."""
    cache = context.cache
    if shared and (record := shared.record_of(source, cache)):
        place = f"{source.name}/{_recipe(call, source, record, known).folder}"
        if entry := shared.fetch(place, cache):
            raw_data.remember(source, record, cache)
            return entry, False
    # Raw data is summed up while it is read, unless there seems to be such an entry already.
    is_new = call.force or not any((cache / source.name).glob(f"{call.mode}-*"))
    with _loading_build() if is_new else nullcontext():
        record, data = raw_data.identify(source, context, call if is_new else None)
    recipe = _recipe(call, source, record, known)
    all_test = known is not None and given_scaling.is_test(record, call)
    _tell_of_splits(call, source.name, record, recipe, all_test)
    _tell_of_per(call, source.name, recipe)
    path = cache / source.name / recipe.folder
    if only not in (None, path):
        was = f"{only.parent.name}/{only.name}"
        raise SourceError(f"{was}: its raw data makes {source.name}/{recipe.folder} now")

    def existing(log: Callable[..., object] = LOG.debug) -> Entry | None:
        return None if call.force else entries.existing_entry(path, cache, context.quiet, log)

    staging.collect_garbage(cache)  # puts back what a killed process only meant to replace
    if entry := existing(LOG.warning):
        return entry, data is not None
    with locks.lock(cache, locks.entry_lock_name(path)):
        if entry := existing():  # made by another process meanwhile
            return entry, data is not None
        if entry := shared.fetch_locked(f"{source.name}/{recipe.folder}", path, cache):
            return entry, data is not None
        from pixelprep.pipeline.build import build  # loads h5py, which a hit does without

        staging.collect_garbage(cache)
        data = data or raw_data.read_again(source, context, call, record)
        data = given_scaling.survey_as_test(data) if all_test else data
        check = partial(given_scaling.check_range, source.name, known) if known else bool
        return build(source, data, recipe, context, lambda: existing() is not None, check), True
