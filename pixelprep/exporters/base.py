"""What an export format has to do, and what the formats share."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from pixelprep.dataset.entry import Entry, Split

OnProgress = Callable[[int], object]  # is told how many more images were written, or checked

BESIDE = 32  # bytes of a row that are no pixels: label, mean, std, and what frames them


class Exporter(Protocol):
    """One shape that an entry can be exported to."""

    def require(self, entry: Entry) -> None:
        """Refuse, before anything is written, what cannot be exported so.

        Raises
        ------
        UsageError
            When the format cannot hold such images.
        MissingExtraError
            When a package is not installed.
        """

    def bytes_needed(self, entry: Entry) -> int:
        """What the files are known to take, at least."""

    def write(self, entry: Entry, folder: Path, note: OnProgress) -> None:
        """Write all splits into an empty folder, every file of it fsynced."""

    def check(self, entry: Entry, folder: Path, note: OnProgress) -> None:
        """Read every file as a user would, and compare every value with the entry, bit for bit.

        Raises
        ------
        EntryError
            When the entry itself cannot be read.
        Exception
            When a value differs; or whatever the library says of a file that it cannot read.
        """


def stored_bytes(entry: Entry) -> int:
    """Of all images as they are stored, uncompressed, with what is beside them."""
    return sum(
        len(split) * (math.prod(split.shape[1:]) * split.dtype.itemsize + BESIDE)
        for split in entry.splits.values()
    )


def columns_of(split: Split) -> tuple[str, ...]:
    """What is stored of each row."""
    return ("images", "labels", *(("mean", "std") if split.per_image else ()))


def steps(entry: Entry, rows: range) -> Iterator[range]:
    """These rows, as many at a time as a chunk has: of images, no more than 1 MiB."""
    step = int(entry.manifest["recipe"]["chunk_rows"])
    return (rows[i : i + step] for i in range(0, len(rows), step))


def compare(where: str, rows: range, found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Refuse rows that are not the same to the last bit.

    Raises
    ------
    ValueError
        When they differ in type, shape or value.
    """
    same = found.dtype == wanted.dtype and found.shape == wanted.shape
    if not same or found.tobytes() != wanted.tobytes():
        raise ValueError(
            f"{where}: rows {rows.start} to {rows.stop - 1} are not those of the entry"
        )
