"""Draw what notebooks show of an object: its facts, and the first images, in their own colours.

No colour is named but grey, half transparent, so that dark themes can be read too. All that is not
ours is escaped, and cut where it is long. Neither Jinja nor Matplotlib is needed.
"""

from collections.abc import Iterable, Sequence
from functools import singledispatch
from html import escape
from pathlib import Path
from typing import Any  # Any: labels of either kind

import numpy as np

from pixelprep.dataset.entry import Entry, Split
from pixelprep.dataset.raw import raw_view
from pixelprep.errors import PixelprepError
from pixelprep.numerics.scaling import Scaling, describe
from pixelprep.pipeline.verify import VerifyResult
from pixelprep.reports import colormap, facts, html
from pixelprep.reports.facts import Facts, Rows
from pixelprep.reports.results import CompareResult, TrainResult
from pixelprep.sources import DatasetSummary, KnownDatasets
from pixelprep.system import formatting

IMAGES, MAX_SIDE, SIDE = 12, 48, 64  # how many; their pixels a side; CSS pixels
MAX_BYTES = 30_000  # of all pictures: of photos, a few less
MAX_TEXT, MAX_NAME = 300, 40  # letters of a fact, of a class below an image
MAX_ROWS = 60  # of a table
LINE = "border-bottom:1px solid rgba(127,127,127,.35);background:transparent"
FAINT = "opacity:.7"


@singledispatch
def draw(value: object) -> str:
    """Return an object as part of a notebook, HTML."""
    raise TypeError(f"{type(value).__name__} has no card")


@draw.register
def _entry(entry: Entry) -> str:
    from pixelprep.cache.inventory import describe as summary_of

    size = f"{facts.size(entry.size)} in {_place(entry.path)}"
    known = summary_of(entry, cache_dir=entry.path.parent.parent)
    first = entry.splits[entry.manifest.first_split]
    parts = [table(facts.splits(entry.manifest)), *map(line, facts.notes(entry))]
    about = fields([*facts.statistics(entry), *facts.about(entry, known)])
    return card(facts.title(entry), _images(first, entry.scaling), *parts, about, line(size))


@draw.register
def _split(split: Split) -> str:
    return card(f"{split.name}: {split._described}", _images(split, split._columns.scaling))


@draw.register
def _scaling(scaling: Scaling) -> str:
    of = f"y = {describe(scaling)}"
    both = [("mean", scaling.mean), ("std", scaling.std)]
    rows = [(name, formatting.format_numbers(values)) for name, values in both]
    return card(f"{scaling.mode} per {scaling.per}, of {scaling.raw_dtype}", line(of), fields(rows))


@draw.register
def _run(result: TrainResult) -> str:
    title = f"{result.dataset}, {result.mode} per {result.per}, key {result.key}"
    told = map(line, facts.trained(result))
    return card(title, table(facts.epochs(result)), *told, line(_place(result.run)))


@draw.register
def _comparison(result: CompareResult) -> str:
    told = map(line, facts.compared_lines(result))
    return card(result.dataset, table(facts.compared(result)), *told, line(_place(result.page)))


@draw.register
def _verified(result: VerifyResult) -> str:
    return card(facts.verified(result), *map(line, result.problems[:MAX_ROWS]))


@draw.register
def _known(known: KnownDatasets) -> str:
    plugins = [f"{one.name}  from {one.origin}" for one in known.plugins]
    return card("", table(facts.datasets(known.datasets)), *map(line, plugins))


@draw.register
def _dataset(one: DatasetSummary) -> str:
    return card(f"{one.title}; {one.licence}", table(facts.datasets([one])))


def card(title: str, *parts: str) -> str:
    """Return a title with what stands below it."""
    return f"<div><b>{_cut(title, MAX_TEXT)}</b>{''.join(parts)}</div>"


def line(text: str) -> str:
    """Return a line of text."""
    return f'<div style="{FAINT}">{_cut(text, MAX_TEXT)}</div>'


def fields(rows: Facts) -> str:
    """Return names, each with what there is to say."""
    cells = (
        (f'<span style="{FAINT}">{_cut(n, MAX_NAME)}</span>', _cut(v, MAX_TEXT)) for n, v in rows
    )
    return _table("", (_row("td", each, "left") for each in cells))


def table(rows: Rows) -> str:
    """Return a table, its titles in the first row, and numbers to the right."""
    head, *body = ([_cut(cell, MAX_TEXT) for cell in row] for row in rows)
    return _table(_row("th", head, "right"), (_row("td", row, "right") for row in body[:MAX_ROWS]))


def _table(head: str, rows: Iterable[str]) -> str:
    style = "border-collapse:collapse;margin:.4em 0;font-variant-numeric:tabular-nums"
    return f'<table style="{style}"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _row(kind: str, cells: Sequence[str], align: str) -> str:
    sides = ["left", *[align] * (len(cells) - 1)]
    drawn = (
        f'<{kind} style="text-align:{side};padding:.15em .8em .15em 0;{LINE}">{cell}</{kind}>'
        for side, cell in zip(sides, cells, strict=True)
    )
    return f'<tr style="background:transparent">{"".join(drawn)}</tr>'


def _cut(text: str, most: int) -> str:
    text = formatting.escape_control(text)
    return escape(text if len(text) <= most else f"{text[: most - 1]}…")


def _place(path: Path) -> str:
    """Return a path as people have it: from the current folder, or from home."""
    for top, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(top):
            return f"{name}{path.relative_to(top)}"
    return str(path)


def _images(split: Split, scaling: Scaling) -> str:
    """Return the first images of a split, raw, with their classes; or why they cannot be read."""
    count = min(IMAGES, len(split))
    try:
        raw = raw_view(split, scaling, clipped=True)[0:count]
        labels = split.read(0, count, "labels")
    except PixelprepError as error:
        return line(f"no images: {error.message}")
    scale = colormap.raw_scale(scaling.raw_dtype, float(raw.min()), float(raw.max()))
    drawn: list[str] = []
    size = 0
    for image, label in zip(raw, labels, strict=True):
        uri = html.png_uri(scale.colors(colormap.downsample(image, MAX_SIDE)))
        size += len(uri)
        if drawn and size > MAX_BYTES:
            break
        drawn.append(_image(uri, image.shape, _class_of(split._class_names, label)))
    return f'<div style="margin:.4em 0">{"".join(drawn)}</div>'


def _image(uri: str, shape: tuple[int, ...], name: str) -> str:
    height, width = (max(1, round(SIDE * side / max(shape[:2]))) for side in shape[:2])
    box = "display:inline-block;margin-right:.4em;text-align:center;vertical-align:bottom"
    below = f"max-width:{SIDE}px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;{FAINT}"
    size = f"width:{width}px;height:{height}px;image-rendering:pixelated"
    shown = _cut(name, MAX_NAME)
    return (
        f'<div style="{box}"><img style="{size}" alt="{shown}" src="{uri}">'
        f'<div style="{below}" title="{shown}">{shown}</div></div>'
    )


def _class_of(names: Sequence[str], label: Any) -> str:
    """Return the class of a row, or those that it has."""
    numbers = np.flatnonzero(label).tolist() if np.ndim(label) else [int(label)]
    return ", ".join(names[number] for number in numbers)
