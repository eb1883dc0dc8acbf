"""Write README.txt beside an export, for whoever finds the folder and knows nothing of pixelprep.

Nothing in it tells when, where or by whom it was made: equal entries give equal bytes.
"""

import textwrap
from collections.abc import Iterable, Mapping
from string import Template

import numpy as np

from pixelprep._version import __version__
from pixelprep.dataset.entry import Entry
from pixelprep.exporters.base import Content, Exporter
from pixelprep.format.manifest import CROISSANT, EXPORTED, Manifest
from pixelprep.numerics.scaling import CLIPPED, describe, why_inexact
from pixelprep.system import formatting

RAW = """\
import json

import numpy as np

with open("entry.json") as file:
    scaling = json.load(file)["scaling"]
raw = images.astype(np.float64) - np.array(scaling["offset"])
raw = $rounded(raw / np.array(scaling["scale"])).astype("$raw")$order
"""
RAW_PER_IMAGE = """\
import numpy as np

shift, divisor = (one.reshape(-1, 1, 1, 1) for one in (mean, $divisor))
raw = $rounded((images.astype(np.float64) * divisor + shift) * $unit).astype("$raw")
"""


def export_page(entry: Entry, to: str, exporter: Exporter) -> bytes:
    """Return the content of an export's README.txt."""
    about = entry.manifest
    rows = ", ".join(f"{name} {len(split):,}" for name, split in entry.splits.items())
    own = "how the entry was made, its statistics and classes; its .h5 files are not here"
    more = [
        Content(EXPORTED, "", own),
        Content(CROISSANT, "", "the files here, in MLCommons' Croissant, for catalogues"),
    ]
    sections = {
        "What is in it": _table([*exporter.contents(entry), *more]),
        "Images": _images(entry, exporter),
        "Splits": f"{rows} images.",
        "Classes": class_list(entry.class_names),
        "Read it": indented(program(entry, exporter)),
        "Raw pixels": raw_pixels(entry, exporter),
        "Back into pixelprep": _way_back(exporter),
        "Data": terms(about),
    }
    return page(f"{about.dataset}, as {to}", about, sections)


def page(title: str, manifest: Manifest, sections: Mapping[str, str]) -> bytes:
    """Return a page: what it is, made from which entry, and its sections."""
    source = f"{manifest.dataset}/{manifest.mode}-{manifest.key}"
    made = f"Made by pixelprep {__version__} from the entry {source}."
    parts = [f"{title}\n{'=' * len(title)}", made]
    parts += [f"{name}\n{'-' * len(name)}\n{text}" for name, text in sections.items()]
    return ("\n\n".join(part.rstrip("\n") for part in parts) + "\n").encode()


def program(entry: Entry, exporter: Exporter) -> str:
    """Return the program that reads the first split, to be run in the folder."""
    split = next(iter(entry.splits.values()))
    several = entry.manifest.source.task == "multilabel"
    has_more = "mean" in split.column_names
    more = {name: text if has_more else "" for name, text in exporter.per_image.items()}
    return Template(Template(exporter.program).safe_substitute(more)).substitute(
        name=entry.dataset,
        split=split.name,
        shape=(-1, *split.shape[1:]),
        dtype=split.dtype.name,
        classes=(len(entry.class_names),) if several else (),
        label="labels" if several else "label",
        ending="json" if several else "cls",
    )


def raw_pixels(entry: Entry, exporter: Exporter) -> str:
    """Say how raw pixels are had back from what is there."""
    scaling = entry.scaling
    if exporter.is_raw:
        return f"They are what is there, as {scaling.raw_dtype}."
    if scaling.clip:
        return f"Not to be had: {CLIPPED}."
    floats = scaling.raw_dtype.startswith("float")
    divisor = "np.ones_like(std)" if entry.mode == "center" else "np.where(std == 0, 1, std)"
    code = Template(RAW_PER_IMAGE if entry.per == "image" else RAW).substitute(
        rounded="" if floats else "np.rint",
        raw=scaling.raw_dtype,
        order="[..., ::-1]  # the channels were turned round" if scaling.channel_order else "",
        divisor=divisor,
        unit=scaling.unit,
    )
    exact = (
        "Exactly"
        if entry.is_exact
        else f"Not exactly ({why_inexact(scaling, entry.manifest.recipe.dtype)})"
    )
    of_each = ", mean and std of the same rows" if entry.per == "image" else ""
    return f"{exact}, from images{of_each}:\n\n{indented(code)}"


def class_list(names: Iterable[str]) -> str:
    """List the classes by number."""
    shown = map(formatting.escape_control, names)
    return "\n".join(f"{number}: {name}" for number, name in enumerate(shown))


def terms(manifest: Manifest) -> str:
    """List the origin of the data, and the terms of its use."""
    about = manifest.provenance
    lines = [("Title", about.title), ("Licence", about.licence)]
    lines += [("Home", about.homepage), ("Citation", about.citation)]
    lines.append(("SHA-256", f"{manifest.recipe.source}, of the raw data as pixelprep takes it"))
    return "\n".join(f"{name}: {value}" for name, value in lines if value)


def _images(entry: Entry, exporter: Exporter) -> str:
    manifest, scaling = entry.manifest, entry.scaling
    shape = formatting.format_shape(next(iter(entry.splits.values())).shape[1:])
    raw = [record.raw for record in manifest.splits.values()]
    low, high = min(one.minimum for one in raw), max(one.maximum for one in raw)
    kind = f"{scaling.raw_dtype}, {formatting.format_value(low)} to {formatting.format_value(high)}"
    size = f"{shape}: height, width, channels"
    if exporter.is_raw:
        return f"{size}; raw pixels: {kind}."
    named = "Given" if scaling.fixed else "Of train"
    mean, std = map(formatting.format_numbers, (scaling.mean, scaling.std))
    constant = "" if scaling.per == "image" or np.all(scaling.std) else "; 0 divides by 1"
    first, batch = manifest.first_split, manifest.splits[manifest.first_split].first_batch
    return "\n".join(
        [
            f"{size}; {manifest.recipe.dtype}, little-endian, in C order.",
            f"Each value is, of a raw pixel x ({kind}):",
            f"{describe(scaling)}; {entry.mode} per {entry.per}.",
            f"{named}: mean {mean}; std {std}{constant}.",
            f"The first {batch.shape[0]} of {first}: {batch.min:g} to {batch.max:g}.",
        ]
    )


def _way_back(exporter: Exporter) -> str:
    if not exporter.is_read:
        return "Not from this format: export to parquet, png, webdataset, npz or hdf5-single."
    undone = "" if exporter.is_raw else "; its scaling is undone, where that is exact"
    return f"    pixelprep prepare ./FOLDER\n\nFOLDER is this one{undone}."


def _table(rows: Iterable[Content]) -> str:
    """Align what has a type below one another; all else is a line of its own."""
    listed = list(rows)
    aligned = [row for row in listed if row.type]
    widths = [max((len(row[at]) for row in aligned), default=0) for at in (0, 1)]
    return "\n".join(
        f"{row.name:{widths[0]}}  {row.type:{widths[1]}}  {row.about}".rstrip()
        if row.type
        else f"{row.name}: {row.about}"
        for row in listed
    )


def indented(code: str) -> str:
    """Set a program off from the text."""
    return textwrap.indent(code, "    ")
