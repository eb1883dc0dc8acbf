"""Print results as tables or as JSON, in units that people use."""

import contextlib
import json
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any  # Any: JSON values

from pixelprep.reports import facts
from pixelprep.reports.facts import Rows
from pixelprep.reports.facts import size as size
from pixelprep.system import formatting

if TYPE_CHECKING:
    from pixelprep.cache import CacheItem, EntrySummary, RemoteItem
    from pixelprep.dataset.entry import Entry
    from pixelprep.pipeline.verify import VerifyResult
    from pixelprep.reports.dataset_stats import DatasetStats, PixelStats
    from pixelprep.reports.results import CompareResult, TrainResult
    from pixelprep.sources import KnownDatasets
    from pixelprep.training.portable import ExportedModel
    from pixelprep.training.predict import EvaluationResult, PredictResult

GAP = 2  # spaces between columns
MAX_ROWS = 20  # of a table: one for each class, or for each channel
FIELD = 10  # places of a name before what there is to say
AGES = (("year", 365 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60))  # seconds


def say(*lines: str, err: bool = False) -> None:
    """Print lines; control characters in names cannot steer the terminal."""
    for line in lines:
        print(formatting.escape_control(line), file=sys.stderr if err else sys.stdout, flush=True)


def print_error(label: str, text: str) -> None:
    """Print a line on standard error, its label in colour on a terminal that has colours."""
    colorful = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    color = 31 if label == "error" else 36  # red, cyan
    shown = f"\x1b[{color}m\x1b[1m{label}:\x1b[0m" if colorful else f"{label}:"
    with contextlib.suppress(OSError):  # the exit status still tells
        print(f"{shown} {formatting.escape_control(text)}", file=sys.stderr, flush=True)


def show(result: dict[str, Any], as_json: bool, print_table: Callable[[], None]) -> None:
    """Print a result as one JSON object, or for people."""
    if as_json:
        print(json.dumps(result, allow_nan=False), flush=True)
    else:
        print_table()


def prepared(entry: "Entry", seconds: float) -> dict[str, Any]:
    """Return what ``--json`` holds of a prepared entry."""
    from pixelprep.cache import requests

    found = requests.load(entry.path, entry.path.parent.parent).duplicates
    scaling = entry.manifest.scaling.to_dict()
    splits = {name: one.to_dict() for name, one in entry.manifest.splits_in_order().items()}
    shown = ("rows", "shape", "dtype", "bytes", "first_batch", "raw")
    return {name: getattr(entry, name) for name in ("dataset", "mode", "per", "key")} | {
        "path": str(entry.path),
        "hit": entry.cached,
        "seconds": seconds,
        "duplicates": [one.to_dict() for one in found],
        "scaling": {name: scaling[name] for name in ("mean", "std", "scale", "offset")},
        "splits": {name: {k: split[k] for k in shown} for name, split in splits.items()},
    }


def print_prepared(entry: "Entry", seconds: float) -> None:
    _print_entry(entry)
    done = "already prepared" if entry.cached else f"prepared in {seconds:.1f} s"
    say(str(entry.path), f"{size(entry.size)}, {done}")


def print_info(entry: "Entry", summary: "EntrySummary") -> None:
    _print_entry(entry)
    for name, text in facts.about(entry, summary):
        _print_field(name, text)
    say(str(entry.path), f"{size(entry.size)}, every file as it was when last checked")


def _print_entry(entry: "Entry") -> None:
    say(facts.title(entry))
    for name, text in facts.statistics(entry):
        _print_field(name, text)
    _table(facts.splits(entry.manifest))
    say(*(line for note in facts.notes(entry) for line in _wrapped(note)))


def print_stats(found: "DatasetStats") -> None:
    """Print a row of each channel of each split, and what else there is in the data."""
    from pixelprep.numerics.scaling import rescale_unit

    one = found.splits[found.split].channels
    of = f"{formatting.format_shape(found.shape)} {found.dtype}"
    say(f"{found.dataset}, {of}, in pixel units")
    shares = [f"{float(share):.0%}" for share in one.quantiles or ()]
    unit = rescale_unit(found.dtype, rescale=True)
    over = [f"mean/{unit}", f"std/{unit}"] if one.mean_over_max else []
    rows: Rows = [("", "images", "mean", "std", *over, "min", *shares, "max")]
    channels = len(one.mean)
    for name, split in found.splits.items():
        for at in range(channels if 1 < channels <= MAX_ROWS else 0):
            rows.append((f"{name}, channel {at}", "", *_pixel_figures(split.channels, at)))
        rows.append((name, f"{split.images:,}", *_pixel_figures(split.overall, 0)))
    _table(rows)
    if channels > MAX_ROWS:
        say(f"(of all {channels} channels together: --json has each)")
    if not one.quantiles:
        say("(quantiles are measured of integers only)")
    _print_classes(found)
    for name, text in facts.found({"size": found.sizes, **found.files}, found.duplicates):
        _print_field(name, text)
    if not found.duplicates:
        _print_field("equal", "no two images")
    say(f"(code with these numbers: --paste {'|'.join([*found.pasted(), 'all'])})")


def _pixel_figures(pixels: "PixelStats", at: int) -> list[str]:
    over = (pixels.mean_over_max, pixels.std_over_max)
    quantiles = (pixels.quantiles or {}).values()
    every = (pixels.mean, pixels.std, *filter(None, over), pixels.minimum, *quantiles)
    return [f"{numbers[at]:.6g}" for numbers in (*every, pixels.maximum)]


def _print_classes(found: "DatasetStats") -> None:
    """Print how many images each class has, of many classes the smallest and the largest."""
    counts = {name: split.class_counts for name, split in found.splits.items()}
    if len(found.class_names) <= MAX_ROWS:
        of_each = zip(*counts.values(), strict=True)
        named = zip(found.class_names, of_each, strict=True)
        rows: Rows = [("class", *counts)]
        _table([*rows, *((name, *(f"{count:,}" for count in each)) for name, each in named)])
        return
    for name, each in counts.items():
        of = f"{len(each):,}, of {min(each):,} to {max(each):,} images in {name}"
        _print_field("classes", of)


def print_trained(result: "TrainResult") -> None:
    from pixelprep.reports.results import PAGE

    say(*facts.trained(result))
    page = result.run / PAGE
    say(str(page if page.exists() else page.parent))


def print_compared(result: "CompareResult") -> None:
    """Print modes in the order of their rank, what their differences are worth, the verdict."""
    _table(facts.compared(result))
    say(*(part for line in facts.compared_lines(result) for part in _wrapped(line)))
    say(str(result.page))


def print_scores(scores: "EvaluationResult", chosen: bool) -> None:
    """Print each class and the whole; `chosen` tells that nobody asked for this split."""
    from pixelprep.training.predict import recalls, scored

    _table(recalls(scores))
    say(scored(scores), str(scores.entry))
    if chosen and scores.split != "test":
        say("(validation, as the entry has no test split)")


def print_predicted(result: "PredictResult") -> None:
    rows = [
        (image.path, *(f"{top.class_name} {top.probability:.1%}" for top in image.top))
        for image in result.images
    ]
    _columns(rows)


def print_exported_model(done: "ExportedModel") -> None:
    say(str(done.path / done.model))
    off = f"at most {done.largest_difference:.2g} from serving.keras in a probability"
    images = f"{formatting.pluralize(done.images, 'image')} of {done.split}"
    others = f"of {done.other_class:,} another class" if done.other_class else "the same classes"
    say(f"{size(done.bytes)}, read back: {off} ({images}, {others}); {done.seconds:.1f} s")


def print_datasets(known: "KnownDatasets") -> None:
    _table(facts.datasets(known.datasets))
    say("")
    _table([("name", "what it is; licence"), *map(facts.described, known.datasets)])
    say("")
    say("* never downloaded by us: tested with files")
    say("  made after its published description")
    for plugin in known.plugins:
        say(f"{plugin.name}  from {plugin.origin}")


def _table(rows: Rows) -> None:
    """Print aligned columns; where these are too wide, transposed, or each row on its own lines."""
    room = _terminal_width()
    for table in (rows, list(zip(*rows, strict=True))):
        if sum(_widths(table)) - GAP <= room:
            _columns(table)
            return
    from rich.cells import cell_len

    titles = [f"  {title}" for title in rows[0][1:]]
    for first, *cells in rows[1:]:
        say(first)
        for title, cell in zip(titles, cells, strict=True):
            _print_field(title, cell, max(map(cell_len, titles)) + GAP)


def _columns(rows: Rows) -> None:
    from rich.cells import set_cell_size  # JSON needs it not

    plain = [tuple(map(formatting.escape_control, row)) for row in rows]
    widths = _widths(plain)
    for row in plain:
        say("".join(map(set_cell_size, row, widths)).rstrip())


def _widths(rows: Rows) -> list[int]:
    """Return the places that each column takes, with what separates it from the next."""
    from rich.cells import cell_len

    return [max(map(cell_len, column)) + GAP for column in zip(*rows, strict=True)]


def _print_field(name: str, text: str, places: int = FIELD) -> None:
    """Print a name and, so many places on, what there is to say, in as many lines as it needs."""
    first, *rest = _wrapped(text, " " * places) or [""]
    say((name.ljust(places) + first[places:]).rstrip(), *rest)


def _wrapped(text: str, indent: str = "") -> list[str]:
    wrapper = textwrap.TextWrapper(_terminal_width(), indent, indent, break_long_words=False)
    wrapper.break_on_hyphens = False
    return wrapper.wrap(text)


def _terminal_width() -> int:
    """Return the places of a line: those of the terminal; a pipe has as many as are needed."""
    import shutil  # JSON needs it not

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def print_verified(verdict: "VerifyResult") -> None:
    say(facts.verified(verdict))
    for problem in verdict.problems:
        say(f"  {problem.removeprefix(f'{verdict.path}: ').removeprefix(f'{verdict.path}/')}")


def group_by_kind(items: "Iterable[CacheItem]") -> dict[str, list[dict[str, Any]]]:
    """Return what ``--json`` holds of things in the cache, in lists of their kinds."""
    names = {"entry": "entries", "raw": "raw", "leftover": "leftovers", "metadata": "metadata"}
    kinds: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for item in items:
        values: dict[str, Any] = {"name": item.name, "path": str(item.path), "bytes": item.bytes}
        if item.problem:
            values["problem"] = item.problem
        elif item.entry:
            values |= asdict(item.entry)
            del values["duplicates"], values["files"]  # up to a thousand of each kind
        values |= {"made": _time(item.made), "used": _time(item.used)}
        values["age_seconds"] = max(0.0, time.time() - item.used)
        kinds[names[item.kind]].append(values)
    return kinds


def print_cache(items: "Sequence[CacheItem]") -> None:
    """Print a table of what is in the cache, or of what is taken out of it."""
    rows: Rows = [("", "images", "size", "made", "last used", "options", "made from")]
    labels = {"raw": "raw downloads of ", "leftover": "left over: "}
    for item in items:
        if item.kind != "metadata":
            images = f"{item.entry.images:,}" if item.entry else ""
            used = _ago(item.used) if item.kind == "entry" else ""
            images = "DAMAGED" if item.problem else images
            name = labels.get(item.kind, "") + item.name
            given = item.entry.options if item.entry else {}  # other than the defaults
            options = formatting.options({k: v for k, v in given.items() if k != "mode"})
            origin = (item.entry.origin if item.entry else None) or ""
            last = (shlex.join(options), origin if "/" in origin else "")
            rows.append((name, images, size(item.bytes), _ago(item.made), used, *last))
    if len(rows) > 1:
        _table(_without_empty(rows))
    unneeded = sum(item.kind == "metadata" for item in items)
    total = size(sum(item.bytes for item in items))
    files = formatting.pluralize(unneeded, "unneeded record or lock", "unneeded records and locks")
    say(f"{total}, with {files}" if unneeded else total)


def print_remote(items: "Sequence[RemoteItem]") -> None:
    """Print a table of the entries of a remote, or of those taken out of it."""
    rows: Rows = [("", "files", "size", "pushed", "")]
    for item in items:
        state = "" if item.published else "not published"
        made = _ago(item.made) if item.made else ""
        rows.append((item.name, str(item.files), size(item.bytes), made, state))
    if not items:
        say("no entries")
        return
    _table(_without_empty(rows))
    say(size(sum(item.bytes for item in items)))


def _without_empty(rows: Rows) -> Rows:
    """Leave out columns in which there is nothing below the title."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return list(zip(*columns, strict=True))


def _time(seconds: float) -> str:
    seconds = min(max(seconds, 0.0), 253402300799.0)  # up to the year 9999: a file may have any
    from datetime import UTC, datetime  # only what lists the cache needs it

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _ago(seconds: float) -> str:
    age = max(0.0, time.time() - seconds)
    for unit, length in AGES:
        if count := int(age // length):
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
