"""Read raw data, and remember what identifies it so that a cache hit need not read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any  # JSON values

from pixelprep import sources
from pixelprep.errors import SourceError
from pixelprep.format import schema
from pixelprep.format.options import PrepareOptions
from pixelprep.format.source_record import SourceRecord
from pixelprep.numerics.scaling import MODES, normalize_options
from pixelprep.system import canonical, fs, locks, records

# Raised when the same files would be read otherwise, so that they are read again.
READING_VERSION = 1


def recall(source: sources.Source, cache: Path) -> SourceRecord | None:
    """Return what identifies the data in the state that its files are in; None if not known."""
    identities = _identities(source)
    return _recall(identities[0], cache) if identities else None


def declared(source: sources.Source) -> Mapping[str, Any] | None:
    """Return the identity of data that is the same anywhere: of pinned files, or a commit.

    None of other data, such as a user's own: its files would have to be looked through.
    """
    if not (isinstance(source, sources.RegisteredSource) or hasattr(source, "repository")):
        return None
    identities = _identities(source)
    return identities[-1] if identities else None


def remember(source: sources.Source, record: SourceRecord, cache: Path) -> None:
    """Record what identifies data of which no byte was read."""
    if identity := declared(source):
        about = {"identity": identity, "about": record.to_dict()}
        records.write(_record_path(identity, cache), about)


def identify(
    source: sources.Source, context: sources.SourceContext, options: PrepareOptions | None
) -> tuple[SourceRecord, sources.Survey | None]:
    """Return what identifies the data: remembered, or taken from the data, which is returned too.

    Its files' state and the record are remembered where the files stayed as they were meanwhile.
    With `options`, what these need to be fitted is summed up on the way (`read`).
    """
    identities, cache = _identities(source), context.cache
    fetch = getattr(source, "fetch", None)
    if not identities and fetch is None:
        data = read(source, context, options)
        return data.record, data
    context.state = canonical.digest(identities[0]) if identities else ""
    if identities and (known := _recall(identities[0], cache)):
        return known, None
    with locks.lock(cache, locks.raw_lock_name(source.name)):  # one process downloads and reads
        if identities and (known := _recall(identities[0], cache)):
            return known, None
        if fetch is not None:
            fetch(context)
            identities = _identities(source)
            context.state = canonical.digest(identities[0]) if identities else ""
        data = read(source, context, options)
        if _identities(source) == identities:
            for identity in identities:
                about = {"identity": identity, "about": data.record.to_dict()}
                records.write(_record_path(identity, cache), about)
    return data.record, data


def read_again(
    source: sources.Source,
    context: sources.SourceContext,
    options: PrepareOptions,
    known: SourceRecord,
) -> sources.Survey:
    """Read data that is identified already; raise `SourceError` if it is not what it was."""
    # The lock: downloads that were deleted meanwhile are made again.
    with locks.lock(context.cache, locks.raw_lock_name(source.name)):
        data = read(source, context, options)
    if data.record != known:
        raise SourceError(
            f"{source.name}: the raw data is not what it was when its digest was taken",
            f"delete {context.cache / fs.SOURCES} and run again",
        )
    return data


def read(
    source: sources.Source, context: sources.SourceContext, options: PrepareOptions | None
) -> sources.Survey:
    """Load the data and take its digests; also its moments, so that it need not be read again.

    Not without `options`, nor if they take a split from train: that would change the moments.
    """
    context.pool.start()  # workers need a while to start, as listing and unpacking do
    raw = sources.as_requested(source.load(context), source)
    from pixelprep.pipeline.fit import scope  # loads NumPy, which need not be there to unpack

    if not context.pool.inline:
        raw = raw.materialize(context)
    scopes = {}
    if options and not (options.val_fraction or options.test_fraction):
        dtype = next(iter(raw.splits.values())).images.dtype
        mode, limits = MODES[options.mode], options.limits
        per, _ = normalize_options(options.mode, options.per, options.rescale, dtype, limits)
        per = "dataset" if options.scaling_of or mode.is_given else per  # nothing is fitted
        scopes = {name: scope(name, per) for name in raw.splits}
        if mode.uses_quantiles and not options.scaling_of:
            scopes.pop("train", None)  # whose pixels are counted, too
    on_leak = sources.on_leak_of(source)
    return sources.survey(raw, context.pool, source.name, context.quiet, scopes, on_leak)


def _identities(source: sources.Source) -> list[Mapping[str, Any]]:
    """Return a source's fingerprints, each with what was asked of its splits and classes."""
    about = {"reading": READING_VERSION, **sources.asked_of(source)}
    return [{**identity, **about} for identity in source.fingerprints()]


def _recall(identity: Mapping[str, Any], cache: Path) -> SourceRecord | None:
    stored = records.read(_record_path(identity, cache)) or {}
    about = stored.get("about")
    same = canonical.dumps(stored.get("identity")) == canonical.dumps(identity)
    return SourceRecord.from_dict(about) if same and schema.is_source(about) else None


def _record_path(identity: Mapping[str, Any], cache: Path) -> Path:
    return cache / fs.SOURCES / f"{canonical.digest(identity)}.json"
