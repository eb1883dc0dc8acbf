"""One HDF5 file with a group a split."""

from pathlib import Path

from pixelprep.dataset.entry import Entry
from pixelprep.exporters.base import OnProgress, columns_of, compare, steps, stored_bytes
from pixelprep.format import layout, single_file
from pixelprep.system import fs


class Hdf5Exporter:
    """``DATASET.h5`` with ``train/images``, ``train/labels`` and so on."""

    def require(self, entry: Entry) -> None:
        """Nothing but what the entry itself needs."""

    def bytes_needed(self, entry: Entry) -> int:
        """As much as the entry holds; how far it is compressed, nobody knows before."""
        return stored_bytes(entry) if entry.manifest.recipe.compression == "none" else 0

    def write(self, entry: Entry, folder: Path, note: OnProgress) -> None:
        """Chunk by chunk."""
        with single_file.create(_path(entry, folder), _outlines(entry)) as put:
            for split in entry.splits.values():
                for rows in steps(entry, range(len(split))):
                    names = columns_of(split)
                    block = {name: split.read(rows.start, rows.stop, name) for name in names}
                    put(split.name, rows.start, **block)
                    note(len(rows))
        fs.fsync(_path(entry, folder))

    def check(self, entry: Entry, folder: Path, note: OnProgress) -> None:
        """By h5py, chunk by chunk, whose checksums libhdf5 compares."""
        path = _path(entry, folder)
        with single_file.open_read(path, _outlines(entry)) as get:
            for split in entry.splits.values():
                for rows in steps(entry, range(len(split))):
                    for name in columns_of(split):
                        wanted = split.read(rows.start, rows.stop, name)
                        where = f"{path.name}: /{split.name}/{name}"
                        compare(where, rows, get(split.name, name, rows), wanted)
                    note(len(rows))


def _path(entry: Entry, folder: Path) -> Path:
    return folder / f"{entry.dataset}.h5"


def _outlines(entry: Entry) -> dict[str, layout.FileLayout]:
    """A group is laid out as the one file of a split is."""
    return {
        name: entry.manifest.file_layout(name, len(split)) for name, split in entry.splits.items()
    }
