"""Define what an export format does, and share what several need."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol  # Any: arrays of any type

from numpy.typing import NDArray

from pixelprep.dataset.entry import Entry, Split
from pixelprep.system.json_record import Record

OnProgress = Callable[[int], object]  # called with the number of images just written, or checked

ROW_OVERHEAD = 32  # bytes of a row that are no pixels: label, mean, std, and what frames them


@dataclass(frozen=True, slots=True)
class ExportedFile(Record):
    """One file of an export: its path in the folder, its size, and its digest, which single
    pictures have only if `digests` are on.
    """

    name: str
    bytes: int
    sha256: str | None


class Content(NamedTuple):
    """One line of what is in an export: a file, an array or a part of a row."""

    name: str
    type: str  # and the shape, of an array
    about: str


class Exporter(Protocol):
    """One format that an entry can be exported to."""

    program: ClassVar[str]  # that reads a split, in the folder; a `string.Template`
    per_image: ClassVar[dict[str, str]] = {}  # what `program` has more where rows have mean and std
    is_raw: ClassVar[bool] = False  # whether it has raw pixels, not scaled ones
    is_read: ClassVar[bool] = True  # whether `prepare` takes it again

    def contents(self, entry: Entry) -> list[Content]:
        """List what is there, for README.txt."""
        raise NotImplementedError

    def require(self, entry: Entry) -> None:
        """Refuse, before anything is written, an entry that the format cannot hold.

        It also refuses, with a `MissingExtraError`, to start without a package that it needs.
        """
        return  # most formats hold any entry

    def bytes_needed(self, entry: Entry) -> int:
        """Return how many bytes the files take, at least: all rows, as they are uncompressed."""
        splits = entry.splits.values()
        sizes = ((len(one), math.prod(one.shape[1:]) * one.dtype.itemsize) for one in splits)
        return sum(rows * (size + ROW_OVERHEAD) for rows, size in sizes)

    def write(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Write all splits into an empty folder, every file of it fsynced."""

    def check(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Read every file as a user would, and compare every value with the entry, bit for bit.

        An `EntryError` is one of the entry itself; any other says that a file is damaged.
        """


def read_columns(split: Split, rows: range) -> dict[str, NDArray[Any]]:
    """Read all that an entry has of these rows, by name."""
    return {name: split.read(rows.start, rows.stop, name) for name in columns_of(split)}


def columns_of(split: Split) -> tuple[str, ...]:
    """Return the names of what is exported of each row: all columns, images as scaled."""
    return split.column_names


MEANINGS = {
    "images": "images, scaled",
    "labels": "classes by number",
    "mean": "of each raw image: what was subtracted",
    "std": "of each raw image: what was divided by, where that is not 0",
    "names": "of the rows, as UTF-8",
}


def array_content(name: str, split: Split, column: str) -> Content:
    """Describe a column of a split, stored as an array of this name."""
    like = split.read(0, 1, column)
    several = ": 0 or 1 of each" if column == "labels" and like.ndim > 1 else ""
    shape = (len(split), *like.shape[1:])
    kind = like.dtype.str[1:] if like.dtype.kind == "S" else like.dtype.name  # S27, not bytes216
    return Content(name, f"{kind} {shape}", MEANINGS[column] + several)


def row_blocks(entry: Entry, rows: range) -> Iterator[range]:
    """Divide rows into as many at a time as a chunk has: of images, no more than 1 MiB."""
    step = entry.manifest.recipe.chunk_rows
    return (rows[i : i + step] for i in range(0, len(rows), step))


def compare(where: str, rows: range, found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Refuse rows that differ in type, shape or any bit."""
    same = found.dtype == expected.dtype and found.shape == expected.shape
    if not same or found.tobytes() != expected.tobytes():
        named = f"rows {rows.start} to {rows.stop - 1}"
        raise ValueError(f"{where}: {named} are not those of the entry")
