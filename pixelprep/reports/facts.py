"""What commands and notebooks say of an entry, a run, a comparison: names, texts and tables.

What finds an entry again loads this, and no NumPy with it.
"""

import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pixelprep.system import formatting

if TYPE_CHECKING:
    from pixelprep.cache import EntrySummary
    from pixelprep.dataset.entry import Entry
    from pixelprep.format.manifest import Manifest
    from pixelprep.pipeline.verify import VerifyResult
    from pixelprep.reports.results import CompareResult, TrainResult
    from pixelprep.sources import DatasetSummary
    from pixelprep.system.notices import Duplicates

Rows = list[tuple[str, ...]]  # of a table, the first being the titles of its columns
Facts = list[tuple[str, str]]  # names, and what there is to say

QUANTILES = ("low", "median", "high")
MAX_EPOCHS = 12
EPOCH = {
    "loss": ("loss", "{:.4f}"),
    "accuracy": ("accuracy", "{:.2%}"),
    "val_loss": ("val loss", "{:.4f}"),
    "val_accuracy": ("val accuracy", "{:.2%}"),
    "seconds": ("time", "{:.1f} s"),
}


def size(count: int) -> str:
    """Return bytes in the unit that makes the number short."""
    number = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def title(entry: "Entry") -> str:
    """Name an entry: dataset, scaling, key."""
    return f"{entry.dataset}, {entry.mode} per {entry.per}, key {entry.key}"


def statistics(entry: "Entry") -> Facts:
    """Say to what the scaling was fitted, and what it does beside its mode."""
    from pixelprep.numerics.scaling import FORM, details

    scaling, recipe = entry.manifest.scaling, entry.manifest.recipe  # which need no NumPy
    units = f" (of pixels divided by {scaling.unit})" if scaling.unit != 1 else ""
    titles = ("shift", "divisor") if recipe.is_taken_over else ("mean", "std")
    named = list(zip(titles, (scaling.mean, scaling.std), strict=True))
    quantiles = ((name, _known_quantile(entry.manifest, name)) for name in QUANTILES)
    named += [(name, values) for name, values in quantiles if values]
    found = [(name, f"{formatting.format_numbers(values)}{units}") for name, values in named]
    is_plain = recipe.constants is None and not any(getattr(recipe, name) for name in FORM)
    told = [] if is_plain else details(entry.scaling)
    return [*found, ("scaling", ", ".join(told))] if told else found


def splits(manifest: "Manifest") -> Rows:
    """Return a row of each split: its images, and the figures of the first batch."""
    rows: Rows = [("", "images", "shape", "type", "raw", "scaled min", "max", "mean", "std")]
    for name, record in manifest.splits_in_order().items():
        first, raw = record.first_batch, record.raw
        figures = [f"{value:.6g}" for value in (first.min, first.max, first.mean, first.std)]
        shape = formatting.format_shape(record.shape[1:])
        limits = f"{raw.minimum:.6g} to {raw.maximum:.6g}"
        rows.append((name, f"{record.rows:,}", shape, record.dtype, limits, *figures))
    return rows


def notes(entry: "Entry") -> list[str]:
    """Say what the figures of `splits` are of."""
    scaling, recipe = entry.manifest.scaling, entry.manifest.recipe
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
    lines = [f"(scaled: of the first batch of {batch}, read back from the file{about})"]
    if recipe.storage == "raw":
        lines.append("(stored raw, and scaled when they are read)")
    return lines


def _known_quantile(manifest: "Manifest", name: str) -> list[object]:
    """Return a quantile of train, or what pixels are clipped to; empty where there is none."""
    found = manifest.scaling.quantiles
    limits = {"low": 0, "high": 1}
    if found is not None:
        return getattr(found, name)  # type: ignore[no-any-return] # of JSON
    given = manifest.recipe.constants and manifest.recipe.constants.limits
    return list(given[limits[name]]) if given and name in limits else []


def about(entry: "Entry", summary: "EntrySummary") -> Facts:
    """Say what the data is and where it is from, of which the cache has this to say."""
    source, recipe = entry.manifest.provenance, entry.manifest.recipe
    rows = [("from", summary.origin)] if summary.origin else []
    rows.append(("data", f"{source.title}; licence {source.licence}"))
    rows += [("", text) for text in (source.citation, source.homepage) if text]
    rows.append(("classes", ", ".join(entry.class_names)))
    if recipe.is_taken_over:
        rows.append(("scaling", "that of another entry, given as shift and divisor"))
    taken = [f"{name} taken from train" for name in entry.splits if recipe.splits[name] == "train"]
    own = [name for name in entry.splits if recipe.splits[name] == "source"]
    rows.append(("splits", ", ".join([f"{' and '.join(own)} as the data has", *taken])))
    rows.append(("balance", "; ".join(_balance(entry, name) for name in entry.splits)))
    rows.append(("options", shlex.join(formatting.options(summary.options))))
    rows += found(summary.files, summary.duplicates)
    how = "exactly" if entry.is_exact else "approximately"
    lost = entry.scaling.clip and not entry.is_exact
    return [*rows, ("raw", "pixels were clipped" if lost else f"pixels are {how} recoverable")]


def _balance(entry: "Entry", split: str) -> str:
    """Say how many images of a split the classes have: train 12 of leaf to 20 of apple."""
    counts = entry.manifest.splits[split].class_counts
    fewest, most = min(counts), max(counts)
    if fewest == most:
        return f"{split} {most:,} of each class"
    least, greatest = (entry.class_names[counts.index(count)] for count in (fewest, most))
    return f"{split} {fewest:,} of {least} to {most:,} of {greatest}"


def found(files: Mapping[str, Mapping[str, int]], duplicates: "Iterable[Duplicates]") -> Facts:
    """Say what the files of data are, and which images it has more than once."""
    rows = []
    for kind, counts in files.items():
        told = (f"{what} {count:,}" for what, count in counts.items())
        rows.append((kind, formatting.shorten(told)))
    return rows + [
        ("equal", _equal(one) + (", left out" if one.dropped else "")) for one in duplicates
    ]


def _equal(found: "Duplicates") -> str:
    """Say which images are there more than once."""
    count, (split, _, other) = (
        formatting.pluralize(found.images, "image"),
        found.kind.partition(" in "),
    )
    if not other:  # label conflicts
        return f"{count} with more than one label"
    return f"{count} of {split} in {other}, too" if other != split else f"{count} twice in {split}"


def trained(result: "TrainResult") -> list[str]:
    """Say how good a run's model is, and how long an epoch took."""
    steps = formatting.pluralize(result.steps_per_epoch, "step")
    took = f"{result.seconds_per_epoch:.1f} s an epoch of {steps}"
    if result.score is None:
        return ["not scored: there is neither a test nor a validation split", took]
    name, accuracy, loss = result.score
    count = formatting.pluralize(result.test_steps or 0, "step")
    of = f" ({count})" if result.test_steps else ""
    return [f"{name} accuracy {accuracy:.2%}, loss {decimal(loss)}{of}", took]


def epochs(result: "TrainResult") -> Rows:
    """Return a row of each epoch, of many epochs of the last ones."""
    history = result.history
    names = [name for name in EPOCH if name in history]
    every = range(len(history["loss"]))
    rows: Rows = [("epoch", *(EPOCH[name][0] for name in names))]
    for epoch in every[-MAX_EPOCHS:]:
        values = ((history[name][epoch], EPOCH[name][1]) for name in names)
        figures = ("not finite" if one is None else form.format(one) for one, form in values)
        rows.append((f"{epoch + 1}/{len(every)}", *figures))
    return rows


def compared(result: "CompareResult") -> Rows:
    """Return a row of each mode, in the order of their rank."""
    from pixelprep.numerics import significance

    rows: Rows = [("mode", "validation", "test", "an epoch")]
    for mode in result.ranked():
        val = significance.format_accuracy(mode.mean, mode.spread)
        test = significance.format_accuracy(mode.test_mean, mode.test_spread)
        rows.append((mode.mode, val, test, f"{mode.seconds_per_epoch:.1f} s"))
    return rows


def compared_lines(result: "CompareResult") -> list[str]:
    """Say what the differences of modes are worth, and the verdict."""
    from pixelprep.numerics import significance

    about = "accuracy after the last epoch, mean ± deviation; validation ranks, test is only shown"
    pairs = ((" − ".join(one.pair), one) for one in result.differences)
    worth = [f"{pair}: {significance.format_difference(one)}" for pair, one in pairs]
    return [f"({about})", *worth, result.verdict, *filter(None, [result.changed])]


def decimal(number: float | None) -> str:
    """Format a loss, which may not be finite."""
    return "not finite" if number is None else f"{number:.4f}"


def verified(verdict: "VerifyResult") -> str:
    """Say what became of an entry that was checked."""
    state = f"ok, {size(verdict.bytes)}" if verdict.ok else "DAMAGED"
    state = f"repaired, {state}" if verdict.repaired else state
    return f"{verdict.path}  {state if verdict.checked else 'NOT CHECKED'}"


def datasets(known: "Iterable[DatasetSummary]") -> Rows:
    """Return a row of each known dataset: its splits and images."""
    rows: Rows = [("name", "train", "val", "test", "shape", "classes", "download")]
    for one in known:
        splits = [f"{count:,}" if count else "" for count in (one.train, one.val, one.test)]
        name = one.name if one.tried else f"{one.name} *"
        shape = formatting.format_shape(one.shape) or "varies"
        rows.append((name, *splits, shape, str(one.classes), _download(one)))
    return rows


def described(one: "DatasetSummary") -> tuple[str, str]:
    """Return the name of a known dataset, what it is, and its licence."""
    several = "; several classes an image" if one.task == "multilabel" else ""
    return one.name, f"{one.title}{several}; {one.licence}"


def _download(one: "DatasetSummary") -> str:
    if one.download_bytes is None:
        return "not stated"
    return size(one.download_bytes) if one.download_bytes else "embedded"
