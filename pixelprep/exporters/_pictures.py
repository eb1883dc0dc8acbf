"""Raw pixels as PNG files in shards: what Parquet and WebDataset share."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from io import BytesIO
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.entry import Entry, Split
from pixelprep.dataset.raw import RawView, raw_view
from pixelprep.errors import UsageError
from pixelprep.exporters.base import Content, Exporter, OnProgress, compare, row_blocks
from pixelprep.numerics.scaling import CLIPPED_HINT, why_inexact
from pixelprep.sources.pictures import image_file
from pixelprep.system import fs, parallel

CHANNELS = {"uint8": (1, 3), "uint16": (1,)}  # of PNG files that `prepare` reads back as they are
ELSEWHERE = "export to npz or hdf5-single"
SHARD_BYTES = 500_000_000  # of rows in a file, at most; as the hub's own shards have


class Row(NamedTuple):
    """What a file has of a row; where several classes are a row's, its label is a list."""

    png: bytes
    label: int | list[int]  # the class; or 0 and 1 of each class
    name: str | None  # None where rows have no names


class Put(Protocol):
    """What writes rows, one block after the other."""

    def __call__(self, rows: list[Row]) -> None: ...


class PictureExporter(Exporter):
    """Files of PNG pictures, of `SHARD_BYTES` at most, their labels and names beside them."""

    is_raw = True
    to: str
    ending: str
    row_bytes = 16  # that a row takes beside its picture

    def require(self, entry: Entry) -> None:
        """Refuse pixels that PNG files do not give back."""
        require(f"`to={self.to}`", entry)

    def bytes_needed(self, entry: Entry) -> int:
        """Return 0: nobody knows before how far they are compressed."""
        return 0

    def file_name(self, split: str, number: int, total: int) -> str:
        """Name one of the files of a split."""
        raise NotImplementedError

    def create(self, path: Path, entry: Entry, first: int) -> AbstractContextManager[Put]:
        """Open a new file, to write rows, whose numbers in the split count from `first`."""
        raise NotImplementedError

    def read(self, path: Path, entry: Entry) -> Iterator[Row]:
        """Yield the rows of a file, read as a user would."""
        raise NotImplementedError

    def write(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Write file by file; pictures are packed on all processors."""
        with parallel.thread_pool() as pool:
            for name, split in entry.splits.items():
                pack = partial(_pack, split, raw_view(split, entry.scaling))
                blocks = parallel.WorkerPool(pool).map(pack, row_blocks(entry, range(len(split))))
                paths, written = list[Path](), 0
                for rows_of_file in _shards(blocks, self.row_bytes):
                    paths.append(folder / f"{name}.{len(paths)}")
                    with self.create(paths[-1], entry, written) as put:
                        for rows in rows_of_file:
                            put(rows)
                            written += len(rows)
                            on_progress(len(rows))
                    fs.fsync(paths[-1])
                for number, path in enumerate(paths):  # now that it is known how many there are
                    path.rename(folder / self.file_name(name, number, len(paths)))

    def check(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Read file by file; pictures are decoded by Pillow, on all processors."""
        with parallel.thread_pool() as pool, image_file.strict_pillow():
            for name, split in entry.splits.items():
                paths = sorted(folder.glob(f"{name}-*{self.ending}"))
                found = chain.from_iterable(self.read(path, entry) for path in paths)
                every = row_blocks(entry, range(len(split)))
                blocks = ((rows, list(islice(found, len(rows)))) for rows in every)
                check = partial(_check, split, raw_view(split, entry.scaling))
                for count in parallel.WorkerPool(pool).map(check, blocks):
                    on_progress(count)
                if next(found, None) is not None:
                    raise ValueError(f"{name}: goes on after its last row")


def require(to: str, entry: Entry) -> None:
    """Refuse all but 8 bits of grey or RGB, or 16 of grey, that are recovered exactly."""
    raw, channels = entry.scaling.raw_dtype, next(iter(entry.splits.values())).shape[-1]
    if channels not in CHANNELS.get(raw, ()):
        expected = "expected uint8 of 1 or 3 channels, or uint16 of 1"
        raise UsageError(f"{to}: images of {channels} channels of {raw}: {expected}", ELSEWHERE)
    if not entry.is_exact:
        message = why_inexact(entry.scaling, entry.manifest.recipe.dtype)
        finer = "prepare the dataset with `dtype=float32` first"
        raise UsageError(f"{to}: {message}", CLIPPED_HINT if entry.scaling.clip else finer)
    image_file.require(to)


def picture_content(name: str, entry: Entry) -> Content:
    """Describe the pictures."""
    raw, split = entry.scaling.raw_dtype, next(iter(entry.splits.values()))
    kind = "grey" if split.shape[-1] == 1 else "RGB"
    return Content(name, f"PNG, {kind} of {raw}", "the raw pixels of a row")


def has_names(entry: Entry) -> bool:
    """Tell whether any rows have names."""
    return any("names" in split.column_names for split in entry.splits.values())


def png(pixels: NDArray[Any]) -> bytes:
    """Return the PNG file of an image (H, W, C)."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def _rows(split: Split, rows: range, contents: Iterable[bytes]) -> list[Row]:
    """Put together what an entry has of rows."""
    labels = split.read(rows.start, rows.stop, "labels").tolist()
    names: list[str | None] = [None] * len(rows)
    if "names" in split.column_names:
        names = [one.decode() for one in split.read(rows.start, rows.stop, "names").tolist()]
    return list(map(Row, contents, labels, names))


def _pack(split: Split, images: RawView, rows: range) -> list[Row]:
    return _rows(split, rows, map(png, images[rows.start : rows.stop]))


def _check(split: Split, images: RawView, block: tuple[range, list[Row]]) -> int:
    rows, found = block
    named, contents = f"{split.name}: rows {rows.start} to {rows.stop - 1}", [r.png for r in found]
    if len(found) != len(rows) or found != _rows(split, rows, contents):
        raise ValueError(f"{named}: labels or names are not those of the entry")
    height, width, channels = images.shape[1:]
    look = image_file.ImageFormat((height, width, channels), images.dtype.name)
    decoder = image_file.ImageDecoder(format=look, reference="the entry")
    pixels = np.empty((len(rows), *images.shape[1:]), images.dtype)
    for at, content in enumerate(contents):
        one, problems = decoder.examine_bytes(f"{split.name}: row {rows[at]}", content)
        if problems or one is None:
            raise image_file.ImageError.of(f"{split.name}: row {rows[at]}", problems)
        pixels[at] = one
    compare(split.name, rows, pixels, images[rows.start : rows.stop])
    return len(rows)


def _shards(blocks: Iterable[list[Row]], row_bytes: int) -> Iterator[Iterator[list[Row]]]:
    """Divide blocks of rows into as many at a time as a file takes."""
    number = size = 0

    def shard(rows: list[Row]) -> int:
        nonlocal number, size
        more = sum(len(row.png) + row_bytes for row in rows)
        if size and size + more > SHARD_BYTES:
            number, size = number + 1, 0
        size += more
        return number

    return (rows for _, rows in groupby(blocks, shard))
