"""Export to one ``.npz`` file, with the names that Keras's datasets have."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar  # Any: arrays of any type

import numpy as np

from pixelprep.dataset.entry import Entry, Split
from pixelprep.exporters.base import (
    Content,
    Exporter,
    OnProgress,
    array_content,
    columns_of,
    compare,
    row_blocks,
)
from pixelprep.format.layout import EXPORTED, EXPORTED_NAMES
from pixelprep.system import fs


class NpzExporter(Exporter):
    """``DATASET.npz`` with ``x_train``, ``y_train``, ``x_test``, ``y_test``."""

    program = """\
import numpy as np

with np.load("$name.npz") as file:
    images, labels = file["x_$split"], file["y_$split"]$columns
"""
    per_image: ClassVar[dict[str, str]] = {
        "columns": '\n    mean, std = file["mean_$split"], file["std_$split"]'
    }

    def contents(self, entry: Entry) -> list[Content]:
        """List the arrays."""
        arrays = [array_content(*one) for one in _arrays(entry)]
        return [Content(f"{entry.dataset}.npz", "", "with these arrays, by np.load:"), *arrays]

    def write(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Write one array after the other, as NumPy's own ``savez`` would."""
        path = folder / f"{entry.dataset}.npz"
        # Opened here: where zipfile cannot, it tries again in other ways.
        with path.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.comment = EXPORTED
            for name, split, column in _arrays(entry):
                # An entry's own time and rights: equal entries give equal bytes.
                info = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(info, "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, _header(split, column))
                    for rows in row_blocks(entry, range(len(split))):
                        member.write(split.read(rows.start, rows.stop, column).data)
                        if column == "images":
                            on_progress(len(rows))
        fs.fsync(path)

    def check(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Read back by ``np.load``, block by block; zipfile compares the checksums."""
        with np.load(folder / f"{entry.dataset}.npz") as archive:
            arrays = list(_arrays(entry))
            if archive.files != [name for name, _, _ in arrays]:
                raise ValueError(f"it holds {', '.join(archive.files)}")
            for name, split, column in arrays:
                with archive.zip.open(f"{name}.npy") as member:
                    _check_array(member, entry, split, column, on_progress)


EXPORTER = NpzExporter()


def _arrays(entry: Entry) -> Iterator[tuple[str, Split, str]]:
    """List the arrays: each one's name, split and column."""
    for split in entry.splits.values():
        for column in columns_of(split):
            yield f"{EXPORTED_NAMES[column]}_{split.name}", split, column


def _header(split: Split, column: str) -> dict[str, Any]:
    like = split.read(0, 1, column)
    descr, shape = np.lib.format.dtype_to_descr(like.dtype), (len(split), *like.shape[1:])
    return {"descr": descr, "fortran_order": False, "shape": shape}


def _check_array(
    member: IO[bytes], entry: Entry, split: Split, column: str, on_progress: OnProgress
) -> None:
    np.lib.format.read_magic(member)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
    if {"descr": dtype.str, "fortran_order": fortran, "shape": shape} != _header(split, column):
        raise ValueError(f"{member.name}: its header differs")
    for rows in row_blocks(entry, range(len(split))):
        content = member.read(len(rows) * math.prod(shape[1:]) * dtype.itemsize)
        found = np.frombuffer(content, dtype).reshape(len(rows), *shape[1:])
        compare(member.name, rows, found, split.read(rows.start, rows.stop, column))
        if column == "images":
            on_progress(len(rows))
    if member.read(1):  # which is also what has zipfile compare the sum
        raise ValueError(f"{member.name}: goes on after its last row")
