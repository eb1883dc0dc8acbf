"""Export to folders of PNG files with the raw pixels that the entry was made of."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep import sources
from pixelprep.dataset.entry import Entry, Split
from pixelprep.dataset.raw import raw_view
from pixelprep.errors import EntryError, UsageError
from pixelprep.exporters import _pictures
from pixelprep.exporters._pictures import ELSEWHERE
from pixelprep.exporters.base import Content, Exporter, OnProgress, compare, row_blocks
from pixelprep.format.layout import class_folder
from pixelprep.sources.pictures import image_file
from pixelprep.sources.pictures.exported_pictures import (
    HEADER,
    NAMES,
    picture_name,
    read_names,
    write_names,
)
from pixelprep.system import fs, parallel

MOST_NAME = 255  # bytes


class PngExporter(Exporter):
    """``train/CLASS/0000012.png``, the number being the row; the names of rows in a table."""

    is_raw = True
    program = """\
from pathlib import Path

import numpy as np
from PIL import Image

files = sorted(Path("$split").glob("*/*.png"))
images = np.stack([np.asarray(Image.open(file)) for file in files])
labels = [file.parent.name for file in files]
"""

    def contents(self, entry: Entry) -> list[Content]:
        """List the pictures of each split, and the table of names."""
        found = [
            _pictures.picture_content(f"{name}/CLASS/0000012.png", entry) for name in entry.splits
        ]
        found.append(Content("0000012", "", "the row; classes are folders, by their names"))
        named = Content(NAMES, "", "the name of each row, beside its picture")
        return [*found, named] if _pictures.has_names(entry) else found

    def require(self, entry: Entry) -> None:
        """Refuse what its folders cannot hold, too."""
        _pictures.require("`to=png`", entry)
        if entry.manifest.source.task != "classification":
            raise UsageError("`to=png`: a picture lies in one folder, of one class", ELSEWHERE)
        _folders(entry)

    def bytes_needed(self, entry: Entry) -> int:
        """Return 0: nobody knows before how far they are compressed."""
        return 0

    def write(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Write as many blocks of rows at a time as there are processors."""
        classes = _folders(entry)
        with parallel.thread_pool() as pool:  # packing and fsync let the interpreter go
            for name, split in entry.splits.items():
                for class_name in classes:
                    # Also where it is empty, for classes to be counted alike in every split. One
                    # that is there is another class, in a file system that cannot tell them apart.
                    (folder / name / class_name).mkdir(parents=True)
                images = raw_view(split, entry.scaling)
                files = _PngImages(split, images, classes, folder / name)
                blocks = row_blocks(entry, range(len(split)))
                for count in parallel.WorkerPool(pool).map(files.write, blocks):
                    on_progress(count)
        if _pictures.has_names(entry):
            with (folder / NAMES).open("x", encoding="utf-8", newline="") as file:
                write_names(file, _names(entry))
            fs.fsync(folder / NAMES)

    def check(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Read back by Pillow, file by file; of a split stored as it came, check the digest too."""
        classes, lock = _folders(entry), threading.Lock()

        def locked_progress(count: int) -> None:
            with lock:
                on_progress(count)

        with image_file.strict_pillow():
            for name, split in entry.splits.items():
                images = raw_view(split, entry.scaling)
                files = _PngImages(split, images, classes, folder / name, locked_progress)
                # Which has every row read once, and so compared.
                digest = sources.images_digest(files, parallel.WorkerPool(), name)
                known = entry.manifest.source.splits.get(name)  # of val there is none
                whole = entry.manifest.recipe.keeps_whole(name)
                if known and whole and digest != known.images:
                    raise ValueError(f"{name}: its images are not those of the source's digest")
        if _pictures.has_names(entry):
            with (folder / NAMES).open(encoding="utf-8", newline="") as file:
                if any(a != b for a, b in zip_longest(read_names(file), _names(entry))):
                    raise ValueError(f"{NAMES}: its names are not those of the entry")


EXPORTER = PngExporter()


@dataclass(frozen=True, slots=True)
class _PngImages:
    """The images of a split in files, as an array that is compared when it is read."""

    split: Split  # whose labels they have
    raw: sources.LazyArray  # what they should be, (N, H, W, C)
    classes: Sequence[str]  # folders by label
    folder: Path  # in which these are
    on_progress: OnProgress = lambda _: None  # of reading
    first: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.raw.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.raw.dtype

    def __len__(self) -> int:
        return len(self.raw)

    def slice_rows(self, rows: range) -> "_PngImages":
        raw, first = sources.slice_rows(self.raw, rows), self.first + rows.start
        return _PngImages(self.split, raw, self.classes, self.folder, self.on_progress, first)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(len(self))
        expected = self.raw[start:stop]
        height, width, channels = self.shape[1:]
        look = image_file.ImageFormat((height, width, channels), self.dtype.name)
        reader = image_file.ImageDecoder(format=look, reference="the entry")
        numbers = range(self.first + start, self.first + stop)
        found = np.empty_like(expected)
        for i, path in enumerate(self._files(numbers)):
            found[i] = reader.read(str(path))
        compare(self.folder.name, numbers, found, expected)
        self.on_progress(len(numbers))
        return found

    def write(self, rows: range) -> int:
        """Write some of them; return how many."""
        raw, paths = self.raw[rows.start : rows.stop], self._files(rows)
        for path, pixels in zip(paths, raw, strict=True):
            with path.open("xb") as file:
                file.write(_pictures.png(pixels))
        for path in paths:  # all of them after the last is written: the first costs most
            fs.fsync(path)
        return len(rows)

    def _files(self, rows: range) -> list[Path]:
        return [self.folder.parent / name for name in _paths(self.split, self.classes, rows)]


def _paths(split: Split, classes: Sequence[str], rows: range) -> list[str]:
    """Return the files of rows, given the folders of classes."""
    labels = split.read(rows.start, rows.stop, "labels").tolist()
    if labels and not 0 <= min(labels) <= max(labels) < len(classes):
        raise EntryError(f"{split.name}: a label has no class name")
    pairs = zip(rows, labels, strict=True)
    return [picture_name(split.name, classes[label], row, len(split)) for row, label in pairs]


def _names(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield each row's file and its name, block by block; below a header."""
    yield HEADER
    classes = _folders(entry)
    for split in entry.splits.values():
        for rows in row_blocks(entry, range(len(split))):
            names = split.read(rows.start, rows.stop, "names").tolist()
            pairs = zip(_paths(split, classes, rows), names, strict=True)
            yield from ((picture, name.decode()) for picture, name in pairs)


def _folders(entry: Entry) -> list[str]:
    """Return the class names as folders."""
    names = list(map(class_folder, entry.class_names))
    if len(set(names)) < len(names):
        raise UsageError("`to=png`: two classes have the same name", ELSEWHERE)
    if too_long := [name for name in names if len(name.encode()) > MOST_NAME]:
        message = f"`to=png`: the class {too_long[0][:40]}… has a name too long for a folder"
        raise UsageError(message, ELSEWHERE)
    return names
