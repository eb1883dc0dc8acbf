"""Find splits and classes of pictures in a table that lies beside them (see `tables`)."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any  # Any: cells of a table

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS
from pixelprep.sources import labels
from pixelprep.sources.base import Options
from pixelprep.sources.pictures import picture_names, tables
from pixelprep.sources.pictures.layouts import ImageList, Layout
from pixelprep.sources.pictures.tables import Roles, Table
from pixelprep.sources.split_names import split_in
from pixelprep.system import formatting, notices


@dataclass(frozen=True, slots=True)
class _Rows:
    """What tables say of pictures: of each its name, split, group and labels."""

    names: list[str]
    splits: list[str | None]
    groups: list[str]  # none where no column has them
    cells: list[Any]  # a label, or several


def find_tables(names: Sequence[str]) -> list[str]:
    """Return the tables among the files of a folder that are found by their names."""
    found = [
        name for name in names if name[name.rfind("/") + 1 :].lower() in tables.FOUND_BY_ITSELF
    ]
    return [one for one in found if not any(_is_below(one, other) for other in found)]


def _is_below(one: str, other: str) -> bool:
    folder = other[: other.rfind("/") + 1]
    return one != other and one.startswith(folder) and "/" in one[len(folder) :]


def labelled_layout(
    where: str,
    names: Sequence[str],
    given: Mapping[str, Table],
    is_picture: Callable[[str], bool],
    options: Options,
    *,
    required: bool,
) -> Layout | None:
    """Find the splits and classes of pictures by tables.

    `given` are the tables by the folder, with a slash behind it, whose pictures they name. Where
    none is `required`, those without labels are told of, and nothing is returned.
    """
    pictures = [name for name in names if not name.endswith("/") and is_picture(name)]
    rows, used = _Rows([], [], [], []), set[str]()
    several = False
    for folder, table in given.items():
        roles = tables.roles(table, options.columns or {}, options.group_column)
        if _has_groups_alone(roles):
            return None  # folders have the classes
        if not (roles.labels and roles.file):
            way = tables.way_to(table, roles, options.columns or {}, pictures)
            if required:
                raise SourceError(tables.lacking(table, roles), f"name them: {way}")
            notices.tell("%s: not used; if it has the labels: %s", table.path, way)
            return None
        notices.tell("%s: %s", table.path, roles.told(list(table.columns)))
        several |= len(roles.labels) > 1
        _add(rows, folder, table, roles, [p for p in pictures if p.startswith(folder)], options)
        used |= set(rows.names)
    if not any(rows.splits):
        _split_by_words(where, rows)
    if several:
        classes = roles.labels
        found = _one_column_a_class(where, rows, classes)
    elif options.label_delimiter is not None or isinstance(rows.cells[0], list | tuple):
        found = _delimited(where, rows, options)
    else:
        rows, blank = _without_blank(where, rows, options)
        found = _numbered(where, rows, options)
        if blank:
            found = replace(found, decode={**found.decode, "dropped": {"no label": blank}})
    unused = [name for name in names if not name.endswith("/") and name not in used]
    own = {os.path.relpath(table.path, where) for table in given.values()}
    return replace(found, unused=[name for name in unused if name not in own])


def way_to(option: str, table: Table, names: Sequence[str], options: Options) -> str:
    """Spell the `option` that names a table of labels, with that of its columns where needed."""
    columns = options.columns or {}
    roles = tables.roles(table, columns, options.group_column)
    if roles.file and roles.labels:
        return option
    return f"{option} {tables.way_to(table, roles, columns, names)}".strip()


def _has_groups_alone(roles: Roles) -> bool:
    return bool(roles.file and roles.group) and not roles.labels


def with_groups(layout: Layout, given: Mapping[str, Table], options: Options) -> Layout:
    """Return a layout of class folders with the groups that tables without labels have."""
    if not given:
        return layout
    known = dict[str, str]()
    names = [name for listed in layout.splits.values() for name in listed.names]
    for folder, table in given.items():
        roles = tables.roles(table, options.columns or {}, options.group_column)
        if not _has_groups_alone(roles):
            return layout
        told = replace(roles, split=None).told(list(table.columns))
        notices.tell("%s: %s; classes by folders", table.path, told)
        assert roles.file is not None
        assert roles.group is not None
        pictures = [name for name in names if name.startswith(folder)]
        wanted = [str(name) for name in table.columns[roles.file]]
        means = picture_names.match(
            str(table.path), [name[len(folder) :] for name in pictures], wanted
        )
        for group, number in zip(table.columns[roles.group], means, strict=True):
            if number is None:
                continue
            if known.setdefault(pictures[number], str(group)) != str(group):
                raise SourceError(f"{table.path}: {pictures[number]} is of several groups")
        if lacking := [name for name in pictures if name not in known]:
            of = f"no row of {len(lacking):,} of {len(pictures):,} pictures, such as {lacking[0]}"
            raise SourceError(f"{table.path}: {of}", "add their groups, or leave them out")
    splits = {
        name: replace(listed, groups=[known[one] for one in listed.names])
        for name, listed in layout.splits.items()
    }
    return replace(layout, splits=splits)


def _add(
    rows: _Rows, folder: str, table: Table, roles: Roles, pictures: Sequence[str], options: Options
) -> None:
    """Add what a table says of the pictures that are there."""
    assert roles.file is not None
    wanted = [str(name) for name in table.columns[roles.file]]
    where = str(table.path)
    splits: Sequence[str | None] | None = None
    if roles.split is not None:
        splits = list(tables.splits(table.path, roles.split, table.columns[roles.split]))
    means = picture_names.match(where, [name[len(folder) :] for name in pictures], wanted, splits)
    absent = [name for name, number in zip(wanted, means, strict=True) if number is None]
    if absent:
        of = f"not there: {len(absent):,} of {len(wanted):,} pictures, such as {absent[0]}"
        if len(absent) == len(wanted):
            raise SourceError(f"{where}: {of}", "give the folder that the names start from")
        if options.on_error != "skip":
            raise SourceError(f"{where}: {of}", "leave them out: `on_error=skip`")
        notices.tell("%s: left out: %s", where, of)
    known = {number for number in means if number is not None}
    if len(known) < len(means) - len(absent):
        twice = next(p for n, p in enumerate(pictures) if means.count(n) > 1)
        hint = "keep one; several labels are in one cell: A|B and `label_delimiter='|'`"
        raise SourceError(f"{where}: more than one row for {twice}", hint)
    for row, number in enumerate(means):
        if number is not None:
            folders = PurePosixPath(pictures[number]).parts[:-1]
            split = splits[row] if splits else None
            rows.names.append(pictures[number])
            rows.splits.append(split or picture_names.split_of_folders(folders))
            cells = [table.columns[name][row] for name in roles.labels]
            rows.cells.append(cells[0] if len(cells) == 1 else tuple(cells))
            if roles.group is not None:
                rows.groups.append(str(table.columns[roles.group][row]))


def _split_by_words(where: str, rows: _Rows) -> None:
    """Take the splits that words in the folders' names say, such as ``my_train``, if all are in
    such folders.
    """
    tops = [
        next((folder for folder in PurePosixPath(name).parts[:-1] if split_in(folder)), "")
        for name in rows.names
    ]
    words = {top: split for top in sorted(set(tops)) if (split := split_in(top))}
    splits = set(words.values())
    if "" not in tops and "train" in splits and len(splits) > 1:
        named = ", ".join(f"{top} as {split}" for top, split in words.items())
        notices.tell("%s: folders are read so: %s", where, named)
        rows.splits[:] = [words[top] for top in tops]


def _rows_of_splits(where: str, rows: _Rows) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split; all are of train where none says otherwise."""
    named = set(rows.splits)
    if named == {None}:
        return {"train": np.arange(len(rows.names))}
    if None in named:
        name = rows.names[rows.splits.index(None)]
        raise SourceError(f"{where}: {name}: of no split, but others are of one")
    if "train" not in named:
        raise SourceError(f"{where}: expected pictures of train, got {', '.join(map(str, named))}")
    splits = np.array(rows.splits)
    return {name: np.flatnonzero(splits == name) for name in SPLITS if name in named}


def _layout(
    where: str,
    rows: _Rows,
    labels_by_split: Mapping[str, NDArray[Any]],
    class_names: Sequence[str],
    **more: Any,
) -> Layout:
    splits = {}
    for name, of_split in _rows_of_splits(where, rows).items():
        groups = [rows.groups[row] for row in of_split] if rows.groups else ()
        names = [rows.names[row] for row in of_split]
        splits[name] = ImageList(names, labels_by_split[name], groups)
    return Layout(tuple(class_names), splits, **more)


def _numbered(where: str, rows: _Rows, options: Options) -> Layout:
    """Give numbers to classes of one label a picture, integers or text."""
    labelled = zip(rows.names, rows.cells, strict=True)
    cells = [_scalar(f"{where}: {name}", cell) for name, cell in labelled]
    values = labels.of_cells(np.array(cells, np.str_))
    by_split = _rows_of_splits(where, rows)
    columns = {name: (values[of_split], len(of_split)) for name, of_split in by_split.items()}
    numbered = labels.numbered(where, columns, options, "classification", ())
    own = {name: np.asarray(one[:], np.int64) for name, one in numbered.labels.items()}
    return _layout(where, rows, own, numbered.class_names, decode=numbered.decode)


def _without_blank(where: str, rows: _Rows, options: Options) -> tuple[_Rows, int]:
    """Return the rows that have a label, and how many have none."""
    stay = [row for row, cell in enumerate(rows.cells) if not _is_blank(cell)]
    blank = len(rows.cells) - len(stay)
    if not blank:
        return rows, 0
    first = next(name for name, cell in zip(rows.names, rows.cells, strict=True) if _is_blank(cell))
    told = f"without a label: {blank:,} of {len(rows.cells):,} pictures, such as {first}"
    if options.on_error != "skip" or not stay:
        hint = "fill in their labels, or leave them out: `on_error=skip`"
        raise SourceError(f"{where}: {told}", hint if stay else "fill in their labels")
    notices.tell("%s: left out: %s", where, told)
    columns: tuple[list[Any], ...] = (rows.names, rows.splits, rows.groups, rows.cells)
    return _Rows(*([one[row] for row in stay] if one else [] for one in columns)), blank


def _is_blank(cell: object) -> bool:
    return cell is None or cell != cell or str(cell).strip() == ""


def _scalar(where: str, cell: object) -> str:
    if isinstance(cell, bool | dict):
        raise SourceError(f"{where}: a label is {cell!r:.80}: expected text or a number")
    return str(cell).strip()


def _delimited(where: str, rows: _Rows, options: Options) -> Layout:
    """Give numbers to classes of several labels a picture."""
    lists = []
    for cell in rows.cells:
        parts = cell if isinstance(cell, list | tuple) else str(cell).split(options.label_delimiter)
        lists.append([text for part in parts if (text := str(part).strip())])
    names = sorted({label for several in lists for label in several})
    if not names:
        raise SourceError(f"{where}: no label in any row")
    numbers = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(lists), len(names)), np.uint8)
    for row, several in enumerate(lists):
        table[row, [numbers[label] for label in several]] = 1
    count = formatting.pluralize(len(names), "class", "classes")
    listed = (where, count, formatting.shorten(names))
    notices.tell("%s: several labels a picture: %s: %s", *listed)
    return _multilabel(where, rows, table, names, "code points")


def _one_column_a_class(where: str, rows: _Rows, classes: Sequence[str]) -> Layout:
    """Take a column of 0 and 1 for each class: one label a picture if each has a single 1."""
    odd = (one for row in rows.cells for one in row if str(one) not in tables.ZERO_OR_ONE)
    if (first := next(odd, None)) is not None:
        raise SourceError(f"{where}: columns of classes: expected 0 and 1, got {first!r:.80}")
    table = np.array(rows.cells, np.float64)
    if (table.sum(axis=1) == 1).all():
        notices.tell("%s: %d columns of classes, one a picture", where, len(classes))
        column = table.argmax(axis=1)
        own = {name: column[of] for name, of in _rows_of_splits(where, rows).items()}
        return _layout(where, rows, own, classes, decode={"class_order": "given"})
    notices.tell("%s: %d columns of classes, several or none a picture", where, len(classes))
    return _multilabel(where, rows, table.astype(np.uint8), classes, "given")


def _multilabel(
    where: str, rows: _Rows, table: NDArray[np.uint8], names: Sequence[str], order: str
) -> Layout:
    own = {name: table[of] for name, of in _rows_of_splits(where, rows).items()}
    more = {"task": "multilabel", "decode": {"class_order": order}}
    return _layout(where, rows, own, names, **more)
