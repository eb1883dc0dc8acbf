"""Export to one HDF5 file with a group a split."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pixelprep.dataset.entry import Entry
from pixelprep.exporters.base import (
    Content,
    Exporter,
    OnProgress,
    array_content,
    columns_of,
    compare,
    read_columns,
    row_blocks,
)
from pixelprep.format import layout, single_file
from pixelprep.system import fs


class Hdf5Exporter(Exporter):
    """``DATASET.h5`` with ``train/images``, ``train/labels`` and so on."""

    program = """\
import h5py

with h5py.File("$name.h5") as file:
    images, labels = file["$split/images"][:], file["$split/labels"][:]$columns
"""
    per_image: ClassVar[dict[str, str]] = {
        "columns": '\n    mean, std = file["$split/mean"][:], file["$split/std"][:]'
    }

    def contents(self, entry: Entry) -> list[Content]:
        """List the data sets."""
        arrays = [
            array_content(f"{name}/{column}", split, column)
            for name, split in entry.splits.items()
            for column in columns_of(split)
        ]
        return [Content(f"{entry.dataset}.h5", "", "HDF5, with these data sets:"), *arrays]

    def bytes_needed(self, entry: Entry) -> int:
        """Return what the entry holds; 0 where it is compressed, since nobody knows how far."""
        return super().bytes_needed(entry) if entry.manifest.recipe.compression == "none" else 0

    def write(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Write chunk by chunk."""
        path = folder / f"{entry.dataset}.h5"
        with single_file.create(path, _layouts(entry)) as put:
            for split in entry.splits.values():
                for rows in row_blocks(entry, range(len(split))):
                    put(split.name, rows.start, **read_columns(split, rows))
                    on_progress(len(rows))
        fs.fsync(path)

    def check(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Read back by h5py, chunk by chunk; libhdf5 compares the checksums."""
        path = folder / f"{entry.dataset}.h5"
        with single_file.open_read(path, _layouts(entry)) as get:
            for split in entry.splits.values():
                for rows in row_blocks(entry, range(len(split))):
                    for name, expected in read_columns(split, rows).items():
                        where = f"{path.name}: /{split.name}/{name}"
                        compare(where, rows, get(split.name, name, rows), expected)
                    on_progress(len(rows))


EXPORTER = Hdf5Exporter()


def _layouts(entry: Entry) -> dict[str, layout.FileLayout]:
    """Lay out each group as the one file of a split is that stores its images scaled."""
    scaled = replace(entry.manifest, recipe=replace(entry.manifest.recipe, storage="scaled"))
    return {name: scaled.file_layout(name, len(split)) for name, split in entry.splits.items()}
