"""Read pixels that stand in a table: one in each column, or all of an image in one cell."""

import csv
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS
from pixelprep.sources import axes, labels, lazy_arrays
from pixelprep.sources.assemble import assemble
from pixelprep.sources.base import Raw, SourceContext
from pixelprep.sources.containers.array_files import expand, family_of, is_family
from pixelprep.sources.lazy_arrays import (
    AnyArray,
    AnyDType,
    FileArray,
    LazyArray,
    TakeView,
    single_file_array,
)
from pixelprep.sources.local import LocalSource
from pixelprep.sources.pictures import image_file, tables
from pixelprep.sources.split_names import split_of_file
from pixelprep.system import formatting, fs, notices

PIXEL_COLUMN = re.compile(r"(?:pixel|px|p|x|v|attr|feature)?[ _]?\d+(?:x\d+)?", re.IGNORECASE)
PIXELS_CELL = "pixels"  # a column whose cells hold all pixels of an image, with blanks between
LABEL_COLUMNS = (*tables.ROLES["label"], "emotion")  # the last is FER2013's
ENDINGS = (".csv", ".tsv")
MIN_PIXELS = 9  # columns of numbers that are taken for an image
ROWS = 2048  # parsed at once
TYPES = ("u1", "u2", "f8")  # of pixels, the narrowest that holds all is taken


@dataclass(frozen=True, slots=True)
class _Form:
    """How a table holds images."""

    path: Path
    delimiter: str
    header: bool
    pixels: tuple[int, ...]  # numbers of the columns; one alone is that of cells with all pixels
    label: int
    split: int | None = None
    group: int | None = None


class PixelTable(LocalSource):
    """A CSV file of labels and pixels, as Kaggle has MNIST's relatives and FER2013."""

    supported_options = frozenset(
        {"layout", "shape", "labels_from", "renumber", "on_leak", "columns", "group_column"}
    )

    def load(self, context: SourceContext) -> Raw:
        """Parse all rows; the splits are files, or those of the column split, if there is one."""
        where = os.fspath(self.path)
        try:
            pairs, groups = self._pairs(context)
        except (ValueError, OSError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
            raise SourceError(f"{where}: cannot read the table: {error}") from error
        if "train" not in pairs:
            raise SourceError(f"{where}: expected rows of train, got {', '.join(pairs)}")
        raw = assemble(where, pairs, self.options)
        splits = {n: replace(split, groups=groups.get(n)) for n, split in raw.splits.items()}
        return replace(raw, splits=splits)

    def _pairs(
        self, context: SourceContext
    ) -> tuple[dict[str, tuple[LazyArray, LazyArray]], dict[str, AnyArray]]:
        """Return images and labels by split, and the groups of rows where a column has these."""
        where, files = os.fspath(self.path), tables_at(self.path)
        if family := family_of(self.path):
            notices.tell(
                "%s: files of other splits beside it are not used; give all: %s", where, family
            )
        given = dict(self.options.columns or {})
        if self.options.group_column is not None:
            given["group"] = self.options.group_column
        found = {split: _form(path, given, split) for split, path in files.items()}
        forms = {split: form for split, form in found.items() if form is not None}
        columns = {split: _labels(form) for split, form in forms.items()}
        flat = _write_all(
            forms, {name: len(one["label"]) for name, one in columns.items()}, context
        )
        images = {
            name: axes.shaped(f"{where}: {name}", one, self.options.shape)
            if self.options.shape
            else _as_squares(where, one)
            for name, one in flat.items()
        }
        pairs: dict[str, tuple[LazyArray, LazyArray]] = {
            name: (one, columns[name]["label"]) for name, one in images.items()
        }
        groups = {name: one["group"] for name, one in columns.items() if "group" in one}
        for name, one in columns.items():
            if "split" not in one:
                continue
            if len(files) > 1:
                both = f"{files[name]}: has a column of splits, and is one file of several"
                raise SourceError(both, "give it alone")
            rows = {n: np.flatnonzero(one["split"] == n) for n in np.unique(one["split"]).tolist()}
            pairs = {n: (TakeView(images[name], i), one["label"][i]) for n, i in rows.items()}
            groups = {n: one["group"][i] for n, i in rows.items() if "group" in one}
        return pairs, groups

    def _stamps(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        paths = [*tables_at(self.path).values()]
        return [(path.name, fs.file_stamp(path)) for path in paths]


def tables_at(path: Path) -> dict[str, Path]:
    """Return by split the tables that a path stands for; none of a folder with other data."""
    if is_family(path):
        found = expand(path)
        return {split: found[split] for split in SPLITS if split in found}
    if not path.is_dir():
        return {"train": path}
    with os.scandir(path) as entries:  # of a million pictures the first is enough
        shown = (one for one in entries if not one.name.startswith("."))
        if any(one.is_dir() or one.name.lower().endswith(image_file.SUFFIXES) for one in shown):
            return {}
    files = [one for one in fs.sorted_dir(path) if not one.name.startswith(".")]
    tables = [one for one in files if one.suffix.lower() in ENDINGS]
    named = {one: split_of_file(Path(one.name)) for one in tables}
    splits = {split: [one for one in tables if named[one] == split] for split in SPLITS}
    if not splits["train"] or any(len(of_split) > 1 for of_split in splits.values()):
        return {}
    return {split: of_split[0] for split, of_split in splits.items() if of_split}


def _as_squares(where: str, images: LazyArray) -> LazyArray:
    """Take flat rows for square grey images, where they can be."""
    pixels = images.shape[1]
    side = math.isqrt(pixels)
    if side * side != pixels:
        return axes.shaped(where, images, None)  # which says what shape it may be
    notices.tell("%s: %d pixels a row: taken as images of %d×%d", where, pixels, side, side)
    return lazy_arrays.reshape_rows(images, (side, side))


def _form(path: Path, given: Mapping[str, str], split_of_file: str) -> _Form | None:
    """Tell the columns of a table from its first line; None of a test table without labels."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = tables.delimiter_of(file.read(tables.HEAD_BYTES))
        file.seek(0)
        names = [name.strip() for name in next(csv.reader(file, delimiter=delimiter), [])]
    if len(names) > MIN_PIXELS and all(map(_is_number, names)):
        told = "no header: the first column is taken as labels, the other %d as pixels"
        notices.tell(f"%s: {told}", path, len(names) - 1)
        if given:
            named = next(iter(given.values()))
            raise SourceError(f"{path}: no column {named}: it has no header", "write one above it")
        return _Form(path, delimiter, False, tuple(range(1, len(names))), 0)
    spelled = {name.casefold(): column for column, name in enumerate(names)}
    label = tables.first_of(spelled, [given["label"]] if "label" in given else LABEL_COLUMNS)
    split, group = (
        tables.first_of(spelled, [given[role]] if role in given else tables.ROLES[role])
        for role in ("split", "group")
    )
    pixels = _pixel_columns(os.fspath(path), names, spelled, {label, split, group})
    if label is None and pixels and split_of_file != "train":
        notices.tell("%s: no labels: %s is left out", path, split_of_file)
        return None
    for role, column in (("split", split), ("group", group)):
        if role in given and column is None:
            has = formatting.shorten([name for n, name in enumerate(names) if n not in pixels])
            raise SourceError(f"{path}: no column {given[role]}; beside pixels it has {has}")
    if label is None or not pixels:
        lacks = "labels" if pixels else f"pixels: pixel0, pixel1, …, or {PIXELS_CELL} alone"
        hint = "of pictures in files give the folder that these are in, and `labels=TABLE`"
        named = "name the column: `columns=label=NAME`" if pixels else hint
        raise SourceError(f"{path}: no {lacks}; it has {formatting.shorten(names)}", named)
    shown = [None if column is None else names[column] for column in (split, group)]
    roles = tables.Roles(None, (names[label],), *shown)
    others = [name or "one without a name" for n, name in enumerate(names) if n not in pixels]
    columns = formatting.pluralize(len(pixels), "column")
    notices.tell("%s: pixels in %s; %s", path, columns, roles.told(others))
    return _Form(path, delimiter, True, tuple(pixels), label, split, group)


def _pixel_columns(
    where: str, names: Sequence[str], spelled: Mapping[str, int], others: Collection[int | None]
) -> list[int]:
    if PIXELS_CELL in spelled:
        return [spelled[PIXELS_CELL]]
    named = [n for n, name in enumerate(names) if n not in others and PIXEL_COLUMN.fullmatch(name)]
    return _in_order(where, names, named) if len(named) >= MIN_PIXELS else []


def _in_order(where: str, names: Sequence[str], columns: list[int]) -> list[int]:
    """Return columns in the order of their numbers, where these are a whole run; refuse others that
    are not in order, row by row or column by column.
    """
    numbers = {n: tuple(map(int, re.findall("[0-9]+", names[n]))) for n in columns}
    ordered = sorted(columns, key=numbers.__getitem__)
    turned = sorted(columns, key=lambda n: numbers[n][::-1])
    if columns in (ordered, turned):
        return columns
    told = f"pixels stand in another order than their numbers: {names[columns[0]]}, "
    told += ", ".join(names[n] for n in columns[1:4]) + ", …"
    first = numbers[ordered[0]]
    run = [(first[0] + i,) for i in range(len(columns))]
    if sorted(numbers.values()) != run:
        hint = "write the columns in the order of an image's pixels, row by row"
        raise SourceError(f"{where}: {told}", hint)
    notices.tell("%s: %s: taken by number", where, told)
    return ordered


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _labels(form: _Form) -> dict[str, AnyArray]:
    """Return each row's label, a number or text; and its split and group, if columns have these."""
    roles = {"label": form.label, "split": form.split, "group": form.group}
    columns = {role: column for role, column in roles.items() if column is not None}
    blocks = _blocks(form, [*columns.values()], np.dtype(np.str_))
    cells = np.concatenate([block for _, block in blocks])
    found = {role: np.char.strip(cells[:, i]) for i, role in enumerate(columns)}
    found["label"] = labels.of_cells(found["label"])
    if "split" in found:
        splits = list(tables.splits(str(form.path), "its split", found["split"].tolist()))
        if None in splits:
            raise SourceError(f"{form.path}: row {splits.index(None) + 1}: expected a split")
        found["split"] = np.array(splits)
    return found


def _blocks(
    form: _Form, columns: Sequence[int], dtype: AnyDType
) -> Iterator[tuple[list[int], AnyArray]]:
    """Parse columns of all rows, some rows at once: the numbers of lines, and (rows, columns)."""
    with form.path.open(encoding="utf-8-sig", newline="") as file:
        numbered = enumerate(file, 1)
        if form.header:
            next(numbered, None)
        while lines := list(islice(numbered, ROWS)):
            filled = dict(one for one in lines if not one[1].isspace())
            yield [*filled], _parsed(form, filled, dtype, delimiter=form.delimiter, usecols=columns)


def _pixels(form: _Form) -> Iterator[NDArray[np.float64]]:
    """Parse the pixels of all rows, some rows at once: (rows, pixels)."""
    if len(form.pixels) > 1:
        yield from (block for _, block in _blocks(form, form.pixels, np.dtype(np.float64)))
        return
    for numbers, block in _blocks(form, form.pixels, np.dtype(np.str_)):
        cells = dict(zip(numbers, block[:, 0].tolist(), strict=False))
        yield _parsed(form, cells, np.dtype(np.float64))


def _parsed(form: _Form, lines: Mapping[int, str], dtype: AnyDType, **how: Any) -> AnyArray:
    """Parse lines, by their number in the file; name the first that is not like others."""

    def parse(some: Sequence[str]) -> AnyArray:
        return np.loadtxt(some, dtype, ndmin=2, quotechar='"', comments=None, **how)

    texts = [*lines.values()]
    try:
        return parse(texts)
    except ValueError:
        for number, text in lines.items():
            try:
                parse([texts[0], text])
            except ValueError as error:
                wrong = _in_words(str(error))
                raise SourceError(f"{form.path}: line {number}: {wrong}") from error
        raise


def _in_words(error: str) -> str:
    """Return what NumPy says of a line, without its arguments and its own count of rows."""
    said = re.sub(r" at row \d+", "", error.partition(";")[0])
    lacks = re.fullmatch(r"invalid column index (\d+) with (\d+) columns", said)
    return f"expected at least {int(lacks[1]) + 1} values, got {lacks[2]}" if lacks else said


def _write_all(
    forms: Mapping[str, _Form], rows: Mapping[str, int], context: SourceContext
) -> dict[str, FileArray]:
    """Write the pixels of all splits to files, in the narrowest type that holds them all."""
    found, narrowest = dict[str, FileArray](), 0
    while len(found) < len(forms):
        for split, form in forms.items():
            name = f"{split}-pixels"
            if split not in found:
                found[split] = _write_pixels(form, rows[split], context, name, narrowest)
        narrowest = max(TYPES.index(one.dtype.str.lstrip("<>|")) for one in found.values())
        found = {s: one for s, one in found.items() if one.dtype == np.dtype(TYPES[narrowest])}
    return found


def _write_pixels(
    form: _Form, rows: int, context: SourceContext, name: str, narrowest: int
) -> FileArray:
    """Write the pixels of all rows to a file, in the narrowest type, from this one on, of all."""
    written = 0
    while True:
        dtype, written, width = np.dtype(TYPES[narrowest]), 0, 0
        path = context.file(f"{name}-{narrowest}")
        with path.open("xb") as file:
            for block in _pixels(form):
                if width and block.shape[1] != width:
                    found = f"expected {width} pixels, as before, got {block.shape[1]}"
                    raise SourceError(f"{form.path}: rows from {written + 1} on: {found}")
                pixels = block.astype(dtype)
                if (pixels != block).any():
                    break
                file.write(pixels.data)
                written, width = written + len(block), block.shape[1]
            else:
                break
        narrowest += 1
    if written != rows:
        raise SourceError(f"{form.path}: {rows} labels but pixels of {written} images")
    return single_file_array(path, (rows, width), dtype)
