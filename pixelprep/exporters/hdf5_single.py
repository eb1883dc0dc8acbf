"""Export to one HDF5 file with a group a split."""

from pathlib import Path

from pixelprep.dataset.entry import Entry
from pixelprep.exporters.base import OnProgress, columns_of, compare, row_blocks, stored_bytes
from pixelprep.format import layout, single_file
from pixelprep.system import fs


class Hdf5Exporter:
    """``DATASET.h5`` with ``train/images``, ``train/labels`` and so on."""

    def require(self, entry: Entry) -> None:
        """Accept any entry: nothing is needed but what it needs itself."""

    def bytes_needed(self, entry: Entry) -> int:
        """Return what the entry holds; 0 where it is compressed, since nobody knows how far."""
        return stored_bytes(entry) if entry.manifest.recipe.compression == "none" else 0

    def write(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Write chunk by chunk."""
        with single_file.create(_path(entry, folder), _layouts(entry)) as put:
            for split in entry.splits.values():
                for rows in row_blocks(entry, range(len(split))):
                    names = columns_of(split)
                    block = {name: split.read(rows.start, rows.stop, name) for name in names}
                    put(split.name, rows.start, **block)
                    on_progress(len(rows))
        fs.fsync(_path(entry, folder))

    def check(self, entry: Entry, folder: Path, on_progress: OnProgress) -> None:
        """Read back by h5py, chunk by chunk; libhdf5 compares the checksums."""
        path = _path(entry, folder)
        with single_file.open_read(path, _layouts(entry)) as get:
            for split in entry.splits.values():
                for rows in row_blocks(entry, range(len(split))):
                    for name in columns_of(split):
                        expected = split.read(rows.start, rows.stop, name)
                        where = f"{path.name}: /{split.name}/{name}"
                        compare(where, rows, get(split.name, name, rows), expected)
                    on_progress(len(rows))


EXPORTER = Hdf5Exporter()


def _path(entry: Entry, folder: Path) -> Path:
    return folder / f"{entry.dataset}.h5"


def _layouts(entry: Entry) -> dict[str, layout.FileLayout]:
    """Lay out each group as the one file of a split is."""
    return {
        name: entry.manifest.file_layout(name, len(split)) for name, split in entry.splits.items()
    }
