"""Print results as tables or as JSON, in units that people use."""

import contextlib
import json
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any  # Any: JSON values

from pixelprep.system import formatting

if TYPE_CHECKING:
    from pixelprep.cache import CacheItem, EntrySummary, RemoteItem
    from pixelprep.dataset.entry import Entry
    from pixelprep.format.manifest import Manifest
    from pixelprep.pipeline.verify import VerifyResult
    from pixelprep.reports.dataset_stats import DatasetStats, PixelStats
    from pixelprep.reports.results import CompareResult, TrainResult
    from pixelprep.sources import DatasetSummary, KnownDatasets
    from pixelprep.system.notices import Duplicates
    from pixelprep.training.portable import ExportedModel
    from pixelprep.training.predict import EvaluationResult, PredictResult

Rows = list[tuple[str, ...]]  # of a table, the first being the titles of its columns

GAP = 2  # spaces between columns
MAX_ROWS = 20  # of a table: one for each class, or for each channel
FIELD = 10  # places of a name before what there is to say
AGES = (("year", 365 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60))  # seconds


def say(*lines: str, err: bool = False) -> None:
    """Print lines; control characters in names cannot steer the terminal."""
    for line in lines:
        print(escape_control(line), file=sys.stderr if err else sys.stdout, flush=True)


def print_error(label: str, text: str) -> None:
    """Print a line on standard error, its label in colour on a terminal that has colours."""
    colorful = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    color = 31 if label == "error" else 36  # red, cyan
    shown = f"\x1b[{color}m\x1b[1m{label}:\x1b[0m" if colorful else f"{label}:"
    with contextlib.suppress(OSError):  # the exit status still tells
        print(f"{shown} {escape_control(text)}", file=sys.stderr, flush=True)


def escape_control(text: str) -> str:
    """Return the text on one line, everything but letters, signs and spaces spelled out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
    if summary.origin:
        _print_field("from", summary.origin)
    about = entry.manifest.provenance
    _print_field("data", f"{about.title}; licence {about.licence}")
    for text in filter(None, (about.citation, about.homepage)):
        _print_field("", text)
    _print_field("classes", ", ".join(entry.class_names))
    origins = entry.manifest.recipe.splits
    if entry.manifest.recipe.is_taken_over:
        _print_field("scaling", "that of another entry, given as shift and divisor")
    taken = [f"{name} taken from train" for name in entry.splits if origins[name] == "train"]
    own = [name for name in entry.splits if origins[name] == "source"]
    _print_field("splits", ", ".join([f"{' and '.join(own)} as the data has", *taken]))
    _print_field("balance", "; ".join(_balance(entry, name) for name in entry.splits))
    _print_field("options", shlex.join(formatting.options(summary.options)))
    _print_found(summary.files, summary.duplicates)
    how = "exactly" if entry.is_exact else "approximately"
    lost = entry.scaling.clip and not entry.is_exact
    _print_field("raw", "pixels were clipped" if lost else f"pixels are {how} recoverable")
    say(str(entry.path), f"{size(entry.size)}, every file as it was when last checked")


def _balance(entry: "Entry", split: str) -> str:
    """Say how many images of a split the classes have: train 12 of leaf to 20 of apple."""
    counts = entry.manifest.splits[split].class_counts
    fewest, most = min(counts), max(counts)
    if fewest == most:
        return f"{split} {most:,} of each class"
    least, greatest = (entry.class_names[counts.index(count)] for count in (fewest, most))
    return f"{split} {fewest:,} of {least} to {most:,} of {greatest}"


def _print_found(
    files: Mapping[str, Mapping[str, int]], duplicates: "Iterable[Duplicates]"
) -> None:
    """Print what the files of data are, and which images it has more than once."""
    for kind, counts in files.items():
        told = (f"{what} {count:,}" for what, count in counts.items())
        _print_field(kind, formatting.shorten(told))
    for one in duplicates:
        _print_field("equal", _equal(one) + (", left out" if one.dropped else ""))


def _equal(found: "Duplicates") -> str:
    """Say which images are there more than once."""
    count, (split, _, other) = (
        formatting.pluralize(found.images, "image"),
        found.kind.partition(" in "),
    )
    if not other:  # label conflicts
        return f"{count} with more than one label"
    return f"{count} of {split} in {other}, too" if other != split else f"{count} twice in {split}"


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
    _print_found({"size": found.sizes, **found.files}, found.duplicates)
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


def _print_entry(entry: "Entry") -> None:
    from pixelprep.numerics.scaling import FORM, details

    scaling, recipe = entry.manifest.scaling, entry.manifest.recipe  # which need no NumPy
    say(f"{entry.dataset}, {entry.mode} per {entry.per}, key {entry.key}")
    units = f" (of pixels divided by {scaling.unit})" if scaling.unit != 1 else ""
    titles = ("shift", "divisor") if recipe.is_taken_over else ("mean", "std")
    for name, values in zip(titles, (scaling.mean, scaling.std), strict=True):
        _print_field(name, f"{formatting.format_numbers(values)}{units}")
    for name in ("low", "median", "high"):
        if values := _known_quantile(entry.manifest, name):
            _print_field(name, f"{formatting.format_numbers(values)}{units}")
    is_plain = recipe.constants is None and not any(getattr(recipe, name) for name in FORM)
    if told := [] if is_plain else details(entry.scaling):
        _print_field("scaling", ", ".join(told))
    rows: Rows = [("", "images", "shape", "type", "raw", "scaled min", "max", "mean", "std")]
    for name, record in entry.manifest.splits_in_order().items():
        first, raw = record.first_batch, record.raw
        figures = [f"{value:.6g}" for value in (first.min, first.max, first.mean, first.std)]
        shape = formatting.format_shape(record.shape[1:])
        limits = f"{raw.minimum:.6g} to {raw.maximum:.6g}"
        rows.append((name, f"{record.rows:,}", shape, record.dtype, limits, *figures))
    _table(rows)
    # What train as a whole is scaled to, which a first batch only comes near.
    whole = []
    if recipe.per != "image" and recipe.constants is None and not recipe.clip:
        kept = (scaling.mean, scaling.std, scaling.scale, scaling.offset)
        each = list(zip(*map(formatting.flatten, kept), strict=True))
        unit, rounding = scaling.unit, 1e-9  # what it leaves of 0
        if all(abs(mean * unit * scale + offset) < rounding for mean, _, scale, offset in each):
            whole.append("mean 0")
        if all(abs(std * unit * scale - 1) < rounding for _, std, scale, _ in each):
            whole.append("std 1")
    batch = entry.manifest.splits[entry.manifest.first_split].first_batch.shape[0]
    about = f"; of all of train: {', '.join(whole)}" if whole else ""
    say(*_wrapped(f"(scaled: of the first batch of {batch}, read back from the file{about})"))
    if recipe.storage == "raw":
        say("(stored raw, and scaled when they are read)")


def _known_quantile(manifest: "Manifest", name: str) -> list[object]:
    """Return a quantile of train, or what pixels are clipped to; empty where there is none."""
    found = manifest.scaling.quantiles
    limits = {"low": 0, "high": 1}
    if found is not None:
        return getattr(found, name)  # type: ignore[no-any-return] # of JSON
    given = manifest.recipe.constants and manifest.recipe.constants.limits
    return list(given[limits[name]]) if given and name in limits else []


def print_trained(result: "TrainResult") -> None:
    from pixelprep.training.run_folder import PAGE

    if result.score is None:
        say("not scored: there is neither a test nor a validation split")
    else:
        name, accuracy, loss = result.score
        count = formatting.pluralize(result.test_steps or 0, "step")
        steps = f" ({count})" if result.test_steps else ""
        say(f"{name} accuracy {accuracy:.2%}, loss {_decimal(loss)}{steps}")
    steps = formatting.pluralize(result.steps_per_epoch, "step")
    say(f"{result.seconds_per_epoch:.1f} s an epoch of {steps}")
    page = result.run / PAGE
    say(str(page if page.exists() else page.parent))


def print_compared(result: "CompareResult") -> None:
    """Print modes in the order of their rank, what their differences are worth, the verdict."""
    from pixelprep.numerics import significance

    rows: Rows = [("mode", "validation", "test", "an epoch")]
    for mode in result.ranked():
        val = significance.format_accuracy(mode.mean, mode.spread)
        test = significance.format_accuracy(mode.test_mean, mode.test_spread)
        rows.append((mode.mode, val, test, f"{mode.seconds_per_epoch:.1f} s"))
    _table(rows)
    about = "accuracy after the last epoch, mean ± deviation; validation ranks, test is only shown"
    say(*_wrapped(f"({about})"))
    for one in result.differences:
        say(*_wrapped(f"{' − '.join(one.pair)}: {significance.format_difference(one)}"))
    say(*_wrapped(result.verdict))
    if result.changed:
        say(*_wrapped(result.changed))
    say(str(result.page))


def print_scores(scores: "EvaluationResult", chosen: bool) -> None:
    """Print each class and the whole; `chosen` tells that nobody asked for this split."""
    rows: Rows = [("class", "images", "recall")]
    for one in scores.classes:
        recall = "" if one.recall is None else f"{one.recall:.2%}"
        rows.append((one.class_name, f"{one.images:,}", recall))
    _table(rows)
    what = f"{scores.split} accuracy {scores.accuracy:.2%}, loss {_decimal(scores.loss)}"
    about = "" if scores.exact else "; raw pixels recovered approximately from the stored ones"
    say(f"{what} ({formatting.pluralize(scores.images, 'image')}{about})", str(scores.entry))
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


def _decimal(number: float | None) -> str:
    return "not finite" if number is None else f"{number:.4f}"


def print_datasets(known: "KnownDatasets") -> None:
    counts: Rows = [("name", "train", "val", "test", "shape", "classes", "download")]
    about: Rows = [("name", "what it is; licence")]
    for one in known.datasets:
        splits = [f"{count:,}" if count else "" for count in (one.train, one.val, one.test)]
        name = one.name if one.tried else f"{one.name} *"
        what = (formatting.format_shape(one.shape) or "varies", str(one.classes), _download(one))
        counts.append((name, *splits, *what))
        several = "; several classes an image" if one.task == "multilabel" else ""
        about.append((one.name, f"{one.title}{several}; {one.licence}"))
    _table(counts)
    say("")
    _table(about)
    say("")
    say("* never downloaded by us: tested with files")
    say("  made after its published description")
    for plugin in known.plugins:
        say(f"{plugin.name}  from {plugin.origin}")


def _download(one: "DatasetSummary") -> str:
    if one.download_bytes is None:
        return "not stated"
    return size(one.download_bytes) if one.download_bytes else "embedded"


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

    plain = [tuple(map(escape_control, row)) for row in rows]
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


def size(count: int) -> str:
    """Return bytes in the unit that makes the number short."""
    number = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def print_verified(verdict: "VerifyResult") -> None:
    state = f"ok, {size(verdict.bytes)}" if verdict.ok else "DAMAGED"
    state = f"repaired, {state}" if verdict.repaired else state
    say(f"{verdict.path}  {state if verdict.checked else 'NOT CHECKED'}")
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
