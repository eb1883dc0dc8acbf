"""Write and read all splits of an entry in one HDF5 file, each a group like an entry's file."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any  # Any: h5py has no types; arrays of every stored type

from numpy.typing import NDArray

from pixelprep.format import h5, libhdf5, untrusted
from pixelprep.format.layout import FileLayout


@contextmanager
def create(path: Path, layouts: Mapping[str, FileLayout]) -> Iterator[Callable[..., None]]:
    """Create a file, complete but not fsynced at the end; yield ``put(split, row, **columns)``."""
    with libhdf5.open_empty(libhdf5.new_file(path)) as (file, _, check):
        for name, value in _root_attributes(layouts).items():
            libhdf5.set_attribute(file, name, value)
        for split, layout in layouts.items():
            libhdf5.create_datasets(libhdf5.new_group(file, split), layout)
        check()

        def put(split: str, row: int, **columns: NDArray[Any]) -> None:
            for name, values in columns.items():
                libhdf5.write_rows(file[split][name], row, values)
            check()

        yield put


def _root_attributes(layouts: Mapping[str, FileLayout]) -> dict[str, Any]:
    """Return the attributes that the splits have in common."""
    attributes = next(iter(layouts.values())).attributes
    return {name: value for name, value in attributes.items() if name != "split"}


@contextmanager
def open_read(
    path: Path, layouts: Mapping[str, FileLayout]
) -> Iterator[Callable[[str, str, range], NDArray[Any]]]:
    """Open a file that `create` made; yield ``get(split, column, rows)``."""
    with h5.open_read(path) as file:
        if set(file) != set(layouts):
            raise ValueError(f"expected the groups {', '.join(layouts)}")
        attributes = {"": _root_attributes(layouts)}
        attributes |= {split: dict(layout.attributes) for split, layout in layouts.items()}
        for group, expected in attributes.items():
            stored = untrusted.stored_attributes(expected)
            for name in untrusted.differing_attributes(file[f"/{group}"], stored):
                raise ValueError(f"/{group}: its attribute {name} differs")
        for split, layout in layouts.items():
            shapes = {name: dataset.shape for name, dataset in file[split].items()}
            if shapes != {name: column.shape for name, column in layout.columns.items()}:
                raise ValueError(f"/{split}: its datasets differ")
        yield lambda split, column, rows: file[split][column][rows.start : rows.stop]
