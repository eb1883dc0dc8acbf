"""A report on an entry: what the data is, and what scaling made of it, on one page."""

from __future__ import annotations

import json
import os
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.cache import entries
from pixelprep.dataset.entry import Entry
from pixelprep.errors import UsageError, unknown_choice
from pixelprep.numerics.scaling import MODES
from pixelprep.reports import colormap, html
from pixelprep.reports import profile as facts_of
from pixelprep.reports.colormap import ColorScale, Pixels, downsample
from pixelprep.reports.profile import SIDE, EntryProfile, Histogram, PixelStats, Sample, Summary
from pixelprep.system import formatting, fs, progress
from pixelprep.system.json_record import Record

if TYPE_CHECKING:
    from markupsafe import Markup


FORMATS = ("html", "json")
THUMBNAIL = 56  # CSS pixels of a sample's longer side
LARGE, LARGE_SIDE = 224, 256  # likewise of the mean image, and pixels it has at most
MOST_BARS, MOST_LISTED = 24, 100  # classes with a bar, and with a row in a table
MOST_LINES = 4  # channels with a histogram
MOST_NUMBERS = 16  # of a statistic that are told one by one
SPREAD = 3  # deviations that the colours of scaled images reach to
LONGEST = 40  # signs of a class name on a picture
RGB = ("#d64545", "#2e9d6a", "#2f7dd1")


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
        A file, which is replaced, or a folder that exists. Default: the current folder, where
        the file is ``DATASET-MODE-KEY.html``.
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
    >>> entry = pixelprep.prepare("sample", quiet=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pixelprep.report(entry, f"{folder}/sample.json", format="json", quiet=True).path.name
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
    with progress.bar("reading", entry.rows, " images", quiet) as bar:
        profile = facts_of.profile(entry, bar.update)
    content = _html(profile) if format == "html" else _json(profile)
    html.write(path, content)
    return Report(path, entry.path, format, len(content))


def _destination(
    out: str | os.PathLike[str] | None, entry: Entry, cache: Path, format: str
) -> Path:
    """Return the file to be written, once it is sure that nothing of ours lies there."""
    given = os.fspath(out) if out is not None else "."
    try:
        path = fs.expand_user(given).resolve()
        if path.is_dir():
            path = (path / f"{entry.dataset}-{entry.mode}-{entry.key}.{format}").resolve()
        for kept in (entry.path, cache):
            if path.is_relative_to(kept.resolve()):
                message = f"{path}: no report is written into an entry or the cache"
                raise UsageError(message, "name another place with `out`")
        is_free = path.is_file() or not os.path.lexists(path)
    except (OSError, RuntimeError, ValueError) as error:  # the latter: no name, links in a circle
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{given}: cannot be used: {error}", "name another `out`") from error
    if not is_free:
        raise UsageError(f"{path}: is there, and is no plain file", "name another `out`")
    return path


def _json(facts: EntryProfile) -> bytes:
    told = {**facts_of.plain(facts), "commands": commands(facts)}
    return json.dumps(told, allow_nan=False).encode() + b"\n"


def commands(facts: EntryProfile) -> dict[str, str]:
    """What to type to have the entry again, and to use it."""
    name = _name(facts)
    statistics = ", entry.train.mean, entry.train.std" if facts.per == "image" else ""
    arguments = {
        "prepare": list(facts.prepare),
        "verify": ["verify", name],
        "train": ["train", name],
        "export": ["export", name, f"{facts.dataset}-npz", "--to", "npz"],
        "report": ["report", name],
    }
    lines = {what: shlex.join(["pixelprep", *own]) for what, own in arguments.items()}
    lines["python"] = (
        "import pixelprep\n\n"
        f"entry = pixelprep.open({name!r})\n"
        "images, labels = entry.train.to_numpy()\n"
        f"raw = entry.scaling.invert(images{statistics})"
    )
    lines["h5py"] = (
        "import h5py\n\n"
        f'with h5py.File("{facts.splits["train"].files[0]}") as file:\n'
        '    images, labels = file["images"][:], file["labels"][:]'
    )
    return lines


def _name(facts: EntryProfile) -> str:
    return f"{facts.dataset}/{facts.mode}-{facts.key}"


def _raw_look(facts: EntryProfile) -> ColorScale:
    every = [split.raw.overall for split in facts.splits.values()]
    low, high = min(one.minimum for one in every), max(one.maximum for one in every)
    return colormap.raw_scale(facts.raw_dtype, low, high)


def _stored_look(facts: EntryProfile) -> ColorScale:
    seen = facts.splits["train"].stored.overall
    if MODES[facts.mode].uses_range:
        return ColorScale(min(0.0, seen.minimum), 1.0)
    most = max(abs(seen.minimum), abs(seen.maximum))
    limit = min(most, SPREAD * float(np.hypot(seen.mean, seen.std)))
    return ColorScale(-limit, limit, diverging=facts.shape[2] != 3)


def _looks(facts: EntryProfile) -> dict[str, ColorScale]:
    return {"before": _raw_look(facts), "after": _stored_look(facts)}


def _mean_looks(facts: EntryProfile) -> dict[str, tuple[NDArray[np.float64], ColorScale]]:
    """Mean image and deviation image, and how they are shown."""
    deviation = facts.deviation_image
    return {
        "mean": (facts.mean_image, _raw_look(facts)),
        "deviation": (deviation, ColorScale(0.0, float(deviation.max()))),
    }


def _images_of(sample: Sample) -> dict[str, NDArray[np.float64]]:
    return {"before": sample.raw, "after": sample.stored}


@contextmanager
def _drawing() -> Iterator[None]:
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context({**html.DRAWN, "font.size": 9}):
        warnings.filterwarnings("ignore", "Glyph")  # the page's reader may have them
        yield


def _draw_histogram(axes: Any, values: PixelStats, title: str) -> None:
    """Shares of the pixels, with mean and deviation marked, in a line for each channel."""
    drawn = _drawn(values)
    alone = len(drawn) == 1
    for color, one, figures in drawn:
        seen = np.flatnonzero(one.counts)
        inside = slice(seen[0], seen[-1] + 1)
        share = one.counts[inside] / one.counts.sum()
        edges = one.edges[inside.start : inside.stop + 1]
        axes.stairs(share, edges, fill=alone, color=color, alpha=0.75 if alone else 1.0)
        low, high = figures.mean - figures.std, figures.mean + figures.std
        axes.axvspan(low, high, color=color, alpha=0.12, linewidth=0)
        axes.axvline(figures.mean, color=html.INK if alone else color, linewidth=1, ls="--")
    axes.set(yscale="log", title=title, xlabel="pixel", ylabel="share of the pixels")
    axes.yaxis.set_major_formatter(_percent)


def _drawn(values: PixelStats) -> list[tuple[str, Histogram, Summary]]:
    """The channels that are drawn, each in its colour."""
    shown = values.histograms[: _lines(len(values.histograms))]
    colors = RGB if len(shown) == 3 else html.COLORS
    return list(zip(colors, shown, values.channels, strict=False))


def _percent(share: float, _: int) -> str:
    return f"{100 * share:.4g}%"


def _lines(channels: int) -> int:
    """How many channels have a histogram on a picture."""
    return channels if channels <= MOST_LINES else 1


def _draw_balance(axes: Any, facts: EntryProfile) -> None:
    """The share of each class in each split: bars by name, or a line where there are too many."""
    names = [_short(name) for name in facts.class_names]
    splits = facts.splits.items()
    places, thick = np.arange(len(names)), 0.8 / len(splits)
    for number, (name, split) in enumerate(splits):
        share = split.classes / split.rows
        if len(names) <= MOST_BARS:
            axes.barh(places + number * thick, share, thick, label=name, align="edge")
        else:
            axes.stairs(share, np.arange(len(names) + 1) - 0.5, label=name)
    if len(names) <= MOST_BARS:
        axes.set(xlabel="share of the split", yticks=places + 0.4, yticklabels=names)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(_percent)
    else:
        axes.set(xlabel="class", ylabel="share", ylim=(0, None))
        axes.yaxis.set_major_formatter(_percent)


def _short(name: str) -> str:
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def _balance_height(facts: EntryProfile) -> float:
    classes = len(facts.class_names)
    return 1.2 + 0.13 * len(facts.splits) * classes if classes <= MOST_BARS else 2.6


def _html(facts: EntryProfile) -> bytes:
    with _drawing():
        content = html.render(
            "report.html",
            facts=facts,
            name=_name(facts),
            about=_about(facts),
            recipe=[(name, _told(value)) for name, value in facts.recipe.items()],
            samples=_samples(facts),
            sample_scales=_scales(_looks(facts)),
            balance=_balance(facts),
            counts=_counts(facts),
            histograms=_histograms(facts),
            pixels=_pixels(facts),
            scaling=[(name, _numbers(facts.scaling[name])) for name in NUMBERS],
            figures=_figures(facts),
            commands=commands(facts),
            limits={"side": SIDE, "bars": MOST_BARS, "listed": MOST_LISTED, "lines": MOST_LINES},
        )
    return content.encode()


PROVENANCE = ("title", "licence", "citation", "homepage")
NUMBERS = ("mean", "std", "minimum", "maximum", "scale", "offset")


def _about(facts: EntryProfile) -> list[tuple[str, str]]:
    provenance = {name: facts.provenance[name] for name in PROVENANCE}
    told = {name: text for name, text in provenance.items() if text}
    told["images"] = f"{formatting.format_shape(facts.shape)} (height, width, channels)"
    told["pixels"] = f"{facts.raw_dtype}, stored as {facts.dtype}"
    told["scaling"] = f"{facts.mode} per {facts.per}: {facts.formula}"
    unit = facts.scaling["unit"]
    if unit != 1 and not MODES[facts.mode].uses_range:
        told["scaling"] += f", of pixels divided by {unit} first"
    told |= {f"{name} of the images": _told(value) for name, value in _decoding(facts).items()}
    told["classes"] = f"{len(facts.class_names):,}"
    for name, split in facts.splits.items():
        count = "1 file" if len(split.files) == 1 else f"{len(split.files):,} files"
        told[name] = f"{split.rows:,} images, {count}, {split.bytes:,} bytes"
    return list(told.items())


def _decoding(facts: EntryProfile) -> dict[str, Any]:
    told = dict(facts.decode)
    if isinstance(told.get("skipped"), list):
        told["skipped"] = f"{len(told['skipped']):,} damaged ones"
    return told


def _told(value: Any) -> str:
    return "none" if value is None else str(value)


def _samples(facts: EntryProfile) -> list[dict[str, Any]]:
    """Of each class that is shown: its name, and its images before and after."""
    looks = _looks(facts)
    classes: dict[int, dict[str, Any]] = {}
    for sample in facts.samples:
        name = facts.class_names[sample.label]
        one = classes.setdefault(sample.label, {"name": name, "before": [], "after": []})
        for when, image in _images_of(sample).items():
            label = f"{name}, row {sample.row} of train, {when} scaling"
            one[when].append(_image(looks[when].colors(image), label, THUMBNAIL))
    return list(classes.values())


def _image(pixels: Pixels, label: str, side: int) -> Markup:
    """An image of the page whose longer side has so many CSS pixels."""
    height, width = pixels.shape[:2]
    return html.image(pixels, label, max(1, round(side * width / max(height, width))))


def _scales(looks: Mapping[str, ColorScale]) -> dict[str, dict[str, Any]]:
    """What the colours mean."""
    return {
        when: {
            "low": f"{look.low:.4g}",
            "high": f"{look.high:.4g}",
            "colors": html.image(look.scale(), f"the colours {when}, from low to high", 128),
        }
        for when, look in looks.items()
    }


def _balance(facts: EntryProfile) -> Markup:
    figure = html.figure(5.4, _balance_height(facts))
    axes = figure.subplots()
    _draw_balance(axes, facts)
    figure.legend(loc="outside upper right", ncols=len(facts.splits))
    return html.svg(figure, "The share of each class in each split")


def _counts(facts: EntryProfile) -> list[list[str]]:
    """Rows of each class in each split, with its share."""
    rows = []
    for label, name in enumerate(facts.class_names[:MOST_LISTED]):
        cells = [name]
        for split in facts.splits.values():
            count = int(split.classes[label])
            cells += [f"{count:,}", f"{count / split.rows:.2%}"]
        rows.append(cells)
    return rows


def _histograms(facts: EntryProfile) -> list[dict[str, Any]]:
    """Of each split before and after, with mean and deviation in words."""
    drawn = []
    for name, split in facts.splits.items():
        for when, values in (("before", split.raw), ("after", split.stored)):
            figure = html.figure(4.6, 2.6)
            _draw_histogram(figure.subplots(), values, f"{name}, {when}")
            picture = html.svg(figure, f"Histogram of the pixels of {name} {when} scaling")
            drawn.append({"picture": picture, "told": _marked(values)})
    return drawn


def _marked(values: PixelStats) -> str:
    """Mean and deviation of what is drawn."""
    shown = [one for _, _, one in _drawn(values)]
    means, stds = (", ".join(f"{getattr(one, f):.6g}" for one in shown) for f in ("mean", "std"))
    return f"mean {means}; deviation {stds}"


def _pixels(facts: EntryProfile) -> list[dict[str, Any]]:
    """Mean image and deviation image."""
    shown = []
    for name, (image, look) in _mean_looks(facts).items():
        colors = look.colors(downsample(image, LARGE_SIDE))
        picture = _image(colors, f"The {name} of each pixel of train", LARGE)
        shown.append({"name": name, "picture": picture, **_scales({name: look})[name]})
    return shown


def _numbers(values: Sequence[Any]) -> str:
    return formatting.format_numbers(np.array(values, np.float64), MOST_NUMBERS)


def _figures(facts: EntryProfile) -> list[list[str]]:
    """Extremes, mean and deviation, all digits: of each split, raw and stored, each channel."""
    rows = []
    for name, split in facts.splits.items():
        for kind, values in (("raw", split.raw), ("stored", split.stored)):
            channels = enumerate(values.channels) if 1 < len(values.channels) <= MOST_LINES else ()
            every = [("all", values.overall), *((str(number), one) for number, one in channels)]
            for channel, one in every:
                numbers = (one.minimum, one.maximum, one.mean, one.std)
                cells = [f"{name}, {kind}", channel, f"{one.count:,}"]
                rows.append([*cells, *(repr(float(number)) for number in numbers)])
    return rows
