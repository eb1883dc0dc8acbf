"""Read tables of labels, CSV, JSON lines or Parquet, and know their columns by the usual names."""

import csv
import io
import json
import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar  # Any: JSON values

from pixelprep.errors import SourceError, missing_extra
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting

Column = TypeVar("Column")  # its name, or its number

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
FOUND_BY_ITSELF = tuple(f"metadata{ending}" for ending in ENDINGS)  # as Hugging Face names them
ROLES = {  # the usual names of each column, the more telling ones first
    "file": ("file_name", "filename", "file", "path", "image", "image_id", "id"),
    "label": ("label", "labels", "class", "target"),
    "split": ("split", "usage", "subset"),
    "group": ("group",),
}
LABEL_LIKE = re.compile("class|label|categ|species|target|diagnos", re.IGNORECASE)
CONTEST_SPLITS = {"publictest": "val", "privatetest": "test"}  # FER2013's
EXPECTED_SPLIT = "expected train, val or test"
SPLITS_HINT = "write these words there; or rename the column, and its rows are all train"
ZERO_OR_ONE = {"0", "1", "0.0", "1.0"}  # as text, of whichever type it was
DELIMITERS = ",;\t|"
HEAD_BYTES = 1 << 16  # of a file, by which its delimiter and header are known
MAX_HINTED = 1 << 24  # bytes of a table that is read for a hint
MAX_CELL = 1 << 20  # characters: a picture's pixels may be in one cell


@dataclass(frozen=True, slots=True)
class Table:
    """A table in memory."""

    path: str
    columns: Mapping[str, Sequence[Any]]  # text, or JSON values

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


@dataclass(frozen=True, slots=True)
class Roles:
    """Which columns of a table are what."""

    file: str | None = None
    labels: tuple[str, ...] = ()  # several: 0 or 1 in the column of each class
    split: str | None = None
    group: str | None = None

    def told(self, columns: Collection[str]) -> str:
        """Say what was taken for what, and what is not used."""
        parts = {
            "pictures by": [self.file] if self.file else [],
            "classes by": list(self.labels),
            "splits by": [self.split] if self.split else [],
            "groups by": [self.group] if self.group else [],
        }
        used = [f"{what} {formatting.shorten(names)}" for what, names in parts.items() if names]
        named = {name for names in parts.values() for name in names}
        if unused := [name for name in columns if name not in named]:
            used.append(f"not used: {formatting.shorten(unused)}")
        return "; ".join(used)


def read(path: str, content: bytes) -> Table:
    """Read a whole table, whose path tells its kind; raise `SourceError` if it is none."""
    kind = PurePath(path).suffix.lower()
    if kind not in ENDINGS:
        raise SourceError(f"{path}: expected a table that ends in {', '.join(ENDINGS)}")
    try:
        if kind == ".parquet":
            columns = _parquet(content)
        elif kind == ".jsonl":
            columns = _json_lines(path, content.decode("utf-8-sig"))
        else:
            columns = _csv(path, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        odd = content[error.start : error.start + 1].hex()
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"{path}: line {line}: not UTF-8: byte 0x{odd}"
        raise SourceError(reason, "save the table as UTF-8") from error
    except (ValueError, csv.Error) as error:
        raise SourceError(f"{path}: cannot read the table: {error}") from error
    if not columns or not len(next(iter(columns.values()))):
        raise SourceError(f"{path}: a table without rows")
    return Table(path, columns)


def _csv(path: str, text: str) -> dict[str, list[str]]:
    csv.field_size_limit(max(MAX_CELL, csv.field_size_limit()))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
    names = _names(path, next(rows, []))
    columns: list[list[str]] = [[] for _ in names]
    for row in filter(None, rows):
        if len(row) != len(names):
            expected = f"expected {len(names)} values, got {len(row)}"
            raise SourceError(f"{path}: line {rows.line_num}: {expected}")
        for column, value in zip(columns, row, strict=True):
            column.append(value.strip())
    return dict(zip(names, columns, strict=True))


def delimiter_of(head: str) -> str:
    """Return what separates the values of a table, of which this is the start."""
    line = head.partition("\n")[0]
    return max(DELIMITERS, key=line.count)


def _names(path: str, header: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        raise SourceError(f"{path}: columns of one name: {formatting.shorten(twice)}")
    return names


def _json_lines(path: str, text: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        row = json.loads(line) if line.strip() else None
        if row is None:
            continue
        if not isinstance(row, dict) or (columns and row.keys() != columns.keys()):
            expected = "expected objects with the same names in each"
            raise SourceError(f"{path}: line {number}: {expected}")
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def _parquet(content: bytes) -> dict[str, list[Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "hub", "a table in Parquet") from error
    return dict(pyarrow.parquet.read_table(io.BytesIO(content)).to_pydict())


def roles(table: Table, given: Mapping[str, str], group: str | None = None) -> Roles:
    """Tell the columns of a table by `given` names, else by the usual ones."""
    given = {**given, "group": group} if group else dict(given)
    labels = tuple(given.pop("label").split("+")) if "+" in given.get("label", "") else ()
    spelled = {name.strip().casefold(): name for name in table.columns}
    for name in (*given.values(), *labels):
        if name.casefold() not in spelled:
            raise SourceError(f"{table.path}: no column {name}; it has {_listed(table)}")
    found = dict[str, str]()
    for role, usual in ROLES.items():
        column = first_of(spelled, [given[role]] if role in given else usual)
        if column is not None and not (role == "label" and labels):
            found[role] = column
    if not labels:
        labels = (found["label"],) if "label" in found else ()
    labels = tuple(spelled[name.casefold()] for name in labels)
    labels = labels or _class_columns(table, set(found.values()))
    return Roles(found.get("file"), labels, found.get("split"), found.get("group"))


def _class_columns(table: Table, others: Collection[str]) -> tuple[str, ...]:
    """Return the columns but the others, if all have 0 and 1 alone: one a class."""
    names = tuple(name for name in table.columns if name not in others)
    values = {str(value) for name in names for value in table.columns[name]}
    return names if len(names) > 1 and values <= ZERO_OR_ONE else ()


def folder_of_pictures(path: Path) -> str | None:
    """Return the folder that all pictures are in that a table names by its own place; None where
    it names none that are there.
    """
    if path.suffix.lower() not in ENDINGS or path.stat().st_size > MAX_HINTED:
        return None
    try:
        table = read(os.fspath(path), path.read_bytes())
        file = roles(table, {}).file
    except SourceError:  # of something else, perhaps
        return None
    cells = table.columns[file] if file else ()
    named = [os.path.normpath(path.parent / str(name)) for name in cells]
    if not named or not os.path.isfile(named[0]):  # noqa: PTH113 - pathlib fails on long names
        return None
    return os.path.commonpath(map(os.path.dirname, named))


def lacking(table: Table, found: Roles) -> str:
    """Say which of a table's columns are not known: that of files, of labels, or both."""
    missing = {"file": not found.file, "label": not found.labels}
    usual = [formatting.shorten(ROLES[role]) for role, is_missing in missing.items() if is_missing]
    return f"{table.path}: expected a column {'; and one '.join(usual)}; it has {_listed(table)}"


def way_to(table: Table, found: Roles, given: Mapping[str, str], pictures: Iterable[str]) -> str:
    """Spell the option that names the columns of files and labels, `given` or else by a guess.

    Files are where most cells are names of pictures; labels where the name says so, or else where
    the fewest values are, but for one alone.
    """
    lasts = {last for one in map(PurePosixPath, pictures) for last in (one.name, one.stem)}
    named = {
        name: sum(PurePath(str(cell).replace("\\", "/")).name in lasts for cell in cells)
        for name, cells in table.columns.items()
    }
    file = found.file or max(named, key=named.__getitem__)
    taken = {file, found.split, found.group}
    kinds = {n: len(set(map(str, cells))) for n, cells in table.columns.items() if n not in taken}
    likely = [name for name in kinds if LABEL_LIKE.search(name)] or [
        name for name, count in sorted(kinds.items(), key=lambda one: one[1]) if count > 1
    ]
    label = "+".join(found.labels) or next(iter(likely), "NAME")
    guessed = {"file": file if found.file or named[file] else "NAME", "label": label}
    pairs = ",".join(f"{role}={name}" for role, name in (guessed | dict(given)).items())
    return f"`columns={shlex.quote(pairs)}`"


def _listed(table: Table) -> str:
    return formatting.shorten(list(table.columns))


def column_of(role: str, names: Iterable[str], given: str | None) -> str | None:
    """Return the column of a role by its `given` name, or else by the usual ones."""
    spelled = {name.strip().casefold(): name for name in names}
    return first_of(spelled, ROLES[role] if given is None else [given])


def first_of(spelled: Mapping[str, Column], names: Iterable[str]) -> Column | None:
    """Return the first column of these names, whatever their case; None if there is none."""
    return next((spelled[name.casefold()] for name in names if name.casefold() in spelled), None)


def split_named(value: object) -> str | None:
    """Return the split that a cell names; None if it names none."""
    word = str(value).strip()
    return split_of(word) or CONTEST_SPLITS.get(word.casefold())


def splits(path: str, column: str, values: Iterable[object]) -> Iterator[str | None]:
    """Yield the split of each row: train, val or test; None where the row names none."""
    for row, value in enumerate(values, 1):
        word, split = str(value).strip(), split_named(value)
        if word and split is None:
            raise SourceError(f"{path}: row {row}: {column} {word}: {EXPECTED_SPLIT}", SPLITS_HINT)
        yield split
