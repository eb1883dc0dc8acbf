"""Write a report on an entry: what the data is, and what scaling made of it, on one page."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelprep.cache import entries
from pixelprep.cache.inventory import describe
from pixelprep.dataset.entry import Entry
from pixelprep.errors import UsageError, unknown_choice
from pixelprep.numerics.scaling import MODES
from pixelprep.reports import colormap, entry_charts, html
from pixelprep.reports.colormap import ColorScale
from pixelprep.reports.entry_charts import MAX_BARS, MAX_LINES
from pixelprep.reports.profile import SAMPLE_SIDE, EntryProfile, to_json
from pixelprep.reports.profile import profile as profile_entry
from pixelprep.system import formatting, fs, progress
from pixelprep.system.json_record import Record
from pixelprep.views import Page, framed

if TYPE_CHECKING:
    from markupsafe import Markup

FORMATS = ("html", "json")
SAMPLE, LARGE = 56, 224  # CSS pixels of the longer side of a sample, and of the mean image
MAX_LISTED = 100  # classes with a row in a table
NUMBERS = ("mean", "std", "minimum", "maximum", "scale", "offset")


@dataclass(frozen=True, slots=True)
class Report(Record):
    """A report on an entry.

    Parameters
    ----------
    path : Path
        The file, absolute.
    entry : Path
        The entry's folder.
    format : str
        ``html`` or ``json``.
    bytes : int
        Of the file.
    """

    path: Path
    entry: Path
    format: str
    bytes: int

    def _repr_html_(self) -> str | None:
        is_page = self.format == "html" and self.path.is_file()
        return framed(self.path.read_text(encoding="utf-8")) if is_page else None


def page(entry: Entry) -> Page:
    """Make the page on an entry of any cache, in memory."""
    html.require("report")
    cache = entry.path.parent.parent
    return Page(_html(_profile(entry, cache, quiet=False)).decode(), _write=html.write)


def _profile(entry: Entry, cache: Path, quiet: bool) -> EntryProfile:
    with progress.bar("reading", entry.rows, " images", quiet) as bar:
        return profile_entry(entry, bar.update, describe(entry, cache_dir=cache))


def report(
    entry: Entry | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "html",
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Report:
    """Write a report on an entry, with pictures: one file that needs no other.

    Each row is read once, and memory does not grow with their number.

    Parameters
    ----------
    entry : Entry, str or path
        An entry, or what `open` takes.
    out : path, optional
        A file, which is replaced; or a folder, which exists or is written with a ``/`` at its
        end, for a file ``DATASET-MODE-KEY.html``. Default: the current folder.
    format : {"html", "json"}
        A page; or all of its facts as JSON, with every digit.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's folder for caches.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    Report
        The file, and its size.

    Raises
    ------
    UsageError
        When there is no such format, or the file would lie in the entry or in the cache.
    EntryError
        When there is no such entry, or it is damaged.
    CacheError
        When the file cannot be written.
    MissingExtraError
        When Jinja or Matplotlib is not installed, which JSON does not need.

    Examples
    --------
    >>> import pixelprep, tempfile
    >>> from pixelprep.reports.entry_report import report
    >>> entry = pixelprep.prepare("sample", quiet=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report(entry, f"{folder}/sample.json", format="json", quiet=True).path.name
    'sample.json'
    """
    if format not in FORMATS:
        raise unknown_choice("format", format, FORMATS)
    if format == "html":
        html.require("report")
    cache = fs.cache_dir(cache_dir)
    if not isinstance(entry, Entry):
        entry = entries.open_named(entry, cache, quiet)
    path = _destination(out, entry, cache, format)
    profile = _profile(entry, cache, quiet)
    if format == "html":
        content = _html(profile)
    else:
        values = {**to_json(profile), "commands": commands(profile)}
        content = json.dumps(values, allow_nan=False, default=to_json).encode() + b"\n"
    html.write(path, content)
    return Report(path, entry.path, format, len(content))


def _destination(
    out: str | os.PathLike[str] | None, entry: Entry, cache: Path, format: str
) -> Path:
    """Return the file to be written, once it is sure that nothing of ours lies there."""
    given = os.fspath(out) if out is not None else "."
    try:
        path = fs.expand_user(given).resolve()
        if path.is_dir() or given.endswith("/"):
            path = (path / f"{entry.dataset}-{entry.mode}-{entry.key}.{format}").resolve()
        is_ours = any(path.is_relative_to(folder.resolve()) for folder in (entry.path, cache))
        is_free = path.is_file() or not os.path.lexists(path)
    except UsageError:  # of a home folder
        raise
    except (OSError, RuntimeError, ValueError) as error:  # the latter: no name, links in a circle
        raise UsageError(f"{given}: cannot be used: {error}", "name another `out`") from error
    if is_ours:
        message = f"{path}: no report is written into an entry or the cache"
        raise UsageError(message, "name another place with `out`")
    if not is_free:
        raise UsageError(f"{path}: exists, and is not a regular file", "name another `out`")
    return path


def commands(profile: EntryProfile) -> dict[str, str]:
    """Return what to type to make the entry again, and to use it."""
    name = _name(profile)
    statistics = ", entry.train.mean, entry.train.std" if profile.per == "image" else ""
    arguments = {"prepare": profile.prepare}
    arguments |= {verb: (verb, name) for verb in ("verify", "train", "export", "report")}
    arguments["export"] += (f"{profile.dataset}-npz", "--to", "npz")
    first = next(iter(profile.splits))
    if profile.task != "classification" or first != "train":
        del arguments["train"]  # which needs one class a row, and a train split
    lines = {what: shlex.join(["pixelprep", *own]) for what, own in arguments.items()}
    lines["python"] = (
        "import pixelprep\n\n"
        f"entry = pixelprep.open({name!r})\n"
        f"images, labels = entry.{first}.to_numpy()\n"
        f"raw = entry.scaling.invert(images{statistics})"
    )
    lines["h5py"] = (
        "import h5py\n\n"
        f'with h5py.File("{profile.splits[first].files[0]}") as file:\n'
        '    images, labels = file["images"][:], file["labels"][:]'
    )
    if profile.recipe.storage == "raw":
        own = 'file["mean"][:, None, None, None]', 'file["std"][:, None, None, None]'
        shared = 'file.attrs["shift"]', 'file.attrs["divisor"]'
        shift, divisor = own if profile.per == "image" else shared
        unit = ' / file.attrs["unit"]' if profile.scaling.unit != 1 else ""
        lines["h5py"] += (
            f'\n    images = ((images{unit} - {shift}) / {divisor}).astype("{profile.dtype}")'
        )
    return lines


def _name(profile: EntryProfile) -> str:
    return f"{profile.dataset}/{profile.mode}-{profile.key}"


def _html(profile: EntryProfile) -> bytes:
    every = [split.raw.overall for split in profile.splits.values()]
    low, high = min(one.minimum for one in every), max(one.maximum for one in every)
    raw_scale = colormap.raw_scale(profile.raw_dtype, low, high)
    stored_scale = _stored_scale(profile)
    recipe = sorted(profile.recipe.to_dict().items())
    scales = {"before": _legend("before", raw_scale), "after": _legend("after", stored_scale)}
    most = {"side": SAMPLE_SIDE, "bars": MAX_BARS, "listed": MAX_LISTED, "lines": MAX_LINES}
    with entry_charts.drawing():
        content = html.render(
            "report.html",
            profile=profile,
            name=_name(profile),
            about=_about(profile),
            recipe=[(name, formatting.format_value(value)) for name, value in recipe],
            samples=_samples(profile, raw_scale, stored_scale),
            sample_scales=scales,
            balance=entry_charts.balance(profile),
            counts=_counts(profile),
            histograms=entry_charts.histograms(profile),
            pixels=_pixel_images(profile, raw_scale),
            scaling=[(name, _numbers(getattr(profile.scaling, name))) for name in NUMBERS],
            figures=_figures(profile),
            commands=commands(profile),
            limits=most,
        )
    return content.encode()


def _about(profile: EntryProfile) -> list[tuple[str, str]]:
    """Describe the data: names and values."""
    scaling = f"{profile.mode} per {profile.per}: {profile.formula}"
    described = ("title", "licence", "citation", "homepage")
    rows = [
        *((name, getattr(profile.provenance, name)) for name in described),
        ("images", f"{formatting.format_shape(profile.shape)} (height, width, channels)"),
        ("pixels", f"{profile.raw_dtype}, {_how_stored(profile)}"),
        ("scaling", scaling),
    ]
    for name, value in profile.decode.items():
        if name == "skipped" and isinstance(value, list):
            value = f"{len(value):,} damaged ones"
        rows.append((f"{name} of the images", formatting.format_value(value)))
    rows.append(("classes", f"{len(profile.class_names):,}"))
    for name, split in profile.splits.items():
        files = formatting.pluralize(len(split.files), "file")
        images = formatting.pluralize(split.rows, "image")
        rows.append((name, f"{images}, {files}, {split.bytes:,} bytes"))
    return [(name, text) for name, text in rows if text]


def _how_stored(profile: EntryProfile) -> str:
    if profile.recipe.storage == "raw":
        return f"stored as they came, scaled to {profile.dtype} when they are read"
    return f"stored as {profile.dtype}"


def _stored_scale(profile: EntryProfile) -> ColorScale:
    """Return the colours of stored images."""
    seen = next(iter(profile.splits.values())).stored.overall
    if MODES[profile.mode].uses_range:
        low, high = profile.recipe.target_range or (0.0, 1.0)
        return ColorScale(min(low, seen.minimum), max(high, seen.maximum))
    most = max(abs(seen.minimum), abs(seen.maximum))
    limit = min(most, 3 * float(np.hypot(seen.mean, seen.std)))  # so many standard deviations
    return ColorScale(-limit, limit, diverging=profile.shape[2] != 3)


def _legend(when: str, scale: ColorScale) -> dict[str, object]:
    """Return what the colours mean: the lowest and the highest value, and all colours between."""
    label = f"the colours {when}, from low to high"
    low, high = f"{scale.low:.4g}", f"{scale.high:.4g}"
    return {"low": low, "high": high, "colors": html.image(scale.scale(), label, 128)}


def _samples(
    profile: EntryProfile, raw_scale: ColorScale, stored_scale: ColorScale
) -> list[dict[str, object]]:
    """Return, of each class that is shown, its name, and its images before and after."""
    strips: dict[int, tuple[list[Markup], list[Markup]]] = {}
    split = next(iter(profile.splits))  # train, if it is there
    for sample in profile.samples:
        label = f"{profile.class_names[sample.label]}, row {sample.row} of {split}"
        raw = html.pixels(sample.raw, raw_scale, f"{label}, before scaling", SAMPLE)
        stored = html.pixels(sample.stored, stored_scale, f"{label}, after scaling", SAMPLE)
        before, after = strips.setdefault(sample.label, ([], []))
        before.append(raw)
        after.append(stored)
    names = profile.class_names
    return [{"name": names[i], "before": b, "after": a} for i, (b, a) in strips.items()]


def _counts(profile: EntryProfile) -> list[list[str]]:
    """Return the rows of each class in each split, with their share."""
    rows = []
    for label, name in enumerate(profile.class_names[:MAX_LISTED]):
        cells = [name]
        for split in profile.splits.values():
            count = int(split.classes[label])
            cells += [f"{count:,}", f"{count / split.rows:.2%}"]
        rows.append(cells)
    return rows


def _pixel_images(profile: EntryProfile, raw_scale: ColorScale) -> list[dict[str, object]]:
    """Draw mean image and deviation image."""
    deviation_scale = ColorScale(0.0, float(profile.deviation_image.max()))
    images = {
        "mean": (profile.mean_image, raw_scale),
        "deviation": (profile.deviation_image, deviation_scale),
    }
    drawn = []
    split = next(iter(profile.splits))
    for name, (image, scale) in images.items():
        picture = html.pixels(image, scale, f"The {name} of each pixel of {split}", LARGE)
        drawn.append({"name": name, "picture": picture, **_legend(name, scale)})
    return drawn


def _numbers(values: object) -> str:
    return formatting.format_numbers(np.array(values, np.float64), 16)


def _figures(profile: EntryProfile) -> list[list[str]]:
    """Return extremes, mean and deviation, all digits: of each split, raw and stored, channel."""
    rows = []
    for name, split in profile.splits.items():
        for kind, stats in (("raw", split.raw), ("scaled", split.stored)):
            channels = stats.channels if 1 < len(stats.channels) <= MAX_LINES else ()
            every = [("all", stats.overall), *((str(i), one) for i, one in enumerate(channels))]
            for channel, one in every:
                numbers = (one.minimum, one.maximum, one.mean, one.std)
                cells = [f"{name}, {kind}", channel, f"{one.count:,}"]
                rows.append([*cells, *(repr(float(number)) for number in numbers)])
    return rows
