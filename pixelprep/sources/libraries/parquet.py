"""Read Parquet files in Hugging Face's form: a column of images, and one of labels."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any  # Any: pyarrow's objects, which have no types

from pixelprep.errors import SourceError, missing_extra
from pixelprep.format.recipe import SPLITS
from pixelprep.sources import shards
from pixelprep.sources.base import Options, Raw, SourceContext
from pixelprep.sources.containers import exported
from pixelprep.sources.libraries.features import RowColumns, find_columns, names_of, tell_columns
from pixelprep.sources.libraries.spool import (
    GROUPED,
    Row,
    RowStreams,
    class_matcher,
    load_rows,
)
from pixelprep.sources.local import LocalSource
from pixelprep.sources.pictures import tables
from pixelprep.sources.split_names import files_by_split
from pixelprep.system import formatting, fs

BATCH = 64  # rows in memory at once: pictures may be large
SUFFIX = ".parquet"


class ParquetFiles(LocalSource):
    """One Parquet file, which is train; or a folder of them, whose names tell their splits."""

    supported_options = GROUPED | {"images_key", "labels_key", "columns"}

    def _files(self) -> list[Path]:
        return parquet_files(self.path) if self.path.is_dir() else [self.path]

    def _stamps(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        return [
            (os.fspath(path.relative_to(self.path.parent)), fs.file_stamp(path))
            for path in self._files()
        ]

    def load(self, context: SourceContext) -> Raw:
        """Copy the rows of all files, one split after the other."""
        splits, files, path = {"train": [self.path]}, self._files(), self.path
        if path.is_dir():
            splits = files_by_split(os.fspath(path), files, path)
        shards.refuse_missing(os.fspath(path), chain(*splits.values()), files)
        raw = load_rows(self.name, open_rows(splits, self.options), self.options, context)
        return exported.recognized(path, raw, context.pool)


def parquet_files(folder: Path) -> list[Path]:
    """List the Parquet files in a folder, or in its folder ``data``, by name."""
    inner = folder / "data"
    tops = [folder] if inner.is_symlink() else [folder, inner]  # no link is followed
    every = (path for top in tops for path in sorted(top.glob(f"*{SUFFIX}")))
    return [path for path in every if path.name not in tables.FOUND_BY_ITSELF]


def open_rows(
    splits: Mapping[str, Sequence[Path]],
    options: Options,
    described: Callable[[], Mapping[str, Any] | None] = lambda: None,
) -> RowStreams:
    """Return the rows of files; `described` gives the columns' features where they tell none."""
    first = next(iter(splits.get("train") or next(iter(splits.values()))))
    own = _features(first) or described() or _guessed_features(first)
    given = dict(options.columns or {})
    keys = options.images_key or given.get("file"), options.labels_key or given.get("label")
    group = options.group_column or given.get("group")
    columns = find_columns(os.fspath(first), own, *keys)
    with _open(first) as file:
        every: list[str] = file.schema_arrow.names
    names = [name for name in every if name not in (columns.image, columns.label)]
    split, words = _splits_by_column(splits, names, given.get("split"))
    columns = replace(columns, group=group, split=split)
    tell_columns(os.fspath(first), columns, every)
    readers = {name: partial(_read, files, columns) for name, files in splits.items()}
    if split is not None:
        files = splits["train"]
        readers = {
            name: partial(_read, files, columns, partial(_of_split, split, words, name))
            for name in SPLITS
            if name in words.values()
        }
    task = "multilabel" if columns.several else "classification"
    return RowStreams(readers, columns.class_names, task, grouped=group is not None)


def _splits_by_column(
    splits: Mapping[str, Sequence[Path]], names: Sequence[str], given: str | None
) -> tuple[str | None, Mapping[str, str]]:
    """Return the column that tells rows' splits, and what its values mean; none where files do, or
    where a column that is not `given` names no split.
    """
    files = next(iter(splits.values()))
    column = tables.column_of("split", names, given)
    if given is not None and (column is None or splits.keys() != {"train"}):
        if column is None:
            raise SourceError(f"{files[0]}: no column {given}; it has {formatting.shorten(names)}")
        several = f"{files[0]}: has a column of splits, and is one file of several"
        raise SourceError(several, "give it alone, or leave the option out")
    if column is None or splits.keys() != {"train"}:
        return None, {}
    words = {value: tables.split_named(value) for path in files for value in _values(path, column)}
    if given is None and not any(words.values()):
        return None, {}
    for value, split in words.items():
        if split is None:
            of = f"{column} {value}" if value else f"a row without a {column}"
            raise SourceError(f"{files[0]}: {of}: {tables.EXPECTED_SPLIT}", tables.SPLITS_HINT)
    return column, {value: split for value, split in words.items() if split is not None}


def _values(path: Path, column: str) -> set[str]:
    with _open(path) as file, _readable(path):
        if column not in file.schema_arrow.names:
            raise SourceError(f"{path}: lacks the column {column}, which other files have")
        batches = file.iter_batches(columns=[column])
        return {_word(value) for batch in batches for value in batch.column(0).to_pylist()}


def _word(value: object) -> str:
    return "" if value is None else str(value).strip()


def _of_split(column: str, words: Mapping[str, str], split: str, batch: Any) -> Any:
    """Return those rows of a batch that are of a split."""
    import pyarrow

    values = batch.column(column).to_pylist()
    return batch.filter(pyarrow.array([words.get(_word(value)) == split for value in values]))


def _open(path: Path) -> Any:
    """Open a file; say in one line what is wrong with it."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "hub", "a Parquet file") from error
    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{path}: not a readable Parquet file: {reason}") from error


def _features(path: Path) -> Mapping[str, Any] | None:
    """Return what `datasets` wrote of the columns, if it wrote the file."""
    with _open(path) as file:
        written = (file.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(written)["info"]["features"] if written else None
    except (ValueError, KeyError, TypeError):
        return None
    return features if isinstance(features, dict) else None


def _guessed_features(path: Path) -> Mapping[str, Any]:
    """Describe columns as `datasets` does; those of bytes, or of bytes with a path, are images."""
    with _open(path) as file:
        return {one.name: _feature(one.type) for one in file.schema_arrow}


def _feature(kind: Any) -> dict[str, Any]:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    names = {"halffloat": "float16", "float": "float32", "double": "float64"}  # of pyarrow's types
    if "binary" in str(kind):
        return {"_type": "Image"}
    is_plain = not types.is_nested(kind)
    return {"_type": "Value" if is_plain else "", "dtype": names.get(str(kind), str(kind))}


def _read(
    files: Sequence[Path], columns: RowColumns, choose: Callable[[Any], Any] | None = None
) -> Iterator[Row]:
    """Yield the rows of files, or those that `choose` leaves of each batch."""
    for path in files:
        own = names_of(_features(path) or {}, columns.label)
        match = class_matcher(os.fspath(path), own, columns.class_names)
        if columns.several:
            match = partial(_of_several, path, columns, match)
        with _open(path) as file:
            for image, label, *group in _rows_of(path, file, columns, choose):
                yield columns.row(image, match(label), *group)


def _of_several(
    path: Path, columns: RowColumns, match: Callable[[Any], Any], numbers: Sequence[Any] | None
) -> list[int] | None:
    """Return 0 or 1 of each class, given the numbers of those that a row has."""
    if numbers is None:
        return None
    count = len(columns.class_names)
    has = {match(number) for number in numbers}
    if not has <= set(range(count)):
        expected = f"expected numbers of {count} classes, got {formatting.shorten(map(str, has))}"
        raise SourceError(f"{path}: {columns.label}: {expected}")
    return [int(number in has) for number in range(count)]


def _rows_of(
    path: Path, file: Any, columns: RowColumns, choose: Callable[[Any], Any] | None
) -> Iterator[tuple[Any, ...]]:
    wanted, names = [columns.image, columns.label], file.schema_arrow.names
    if missing := [name for name in wanted if name not in names]:
        raise SourceError(f"{path}: lacks the column {missing[0]}, which other files have")
    if columns.group is not None:
        wanted.append(columns.group)
        if columns.group not in names:
            has = formatting.shorten(names)
            raise SourceError(f"{path}: no column {columns.group}; it has {has}")
    read = dict.fromkeys(filter(None, [*wanted, columns.split]))
    with _readable(path):
        # Group by group: of several, `iter_batches` keeps all that it has read.
        groups = ([group] for group in range(file.num_row_groups))
        parts = (file.iter_batches(BATCH, row_groups=one, columns=[*read]) for one in groups)
        for batch in chain.from_iterable(parts):
            rows = choose(batch) if choose else batch
            for row in zip(*(rows.column(n).to_pylist() for n in wanted), strict=True):
                image = row[0]
                if isinstance(image, dict) and image.get("bytes") is None:
                    # Never a path: it could lead to any file of this machine.
                    raise SourceError(f"{path}: {columns.image}: expected the bytes of an image")
                yield row


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say in one line what is wrong with a file that is read meanwhile."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{path}: not a readable Parquet file: {reason}") from error
