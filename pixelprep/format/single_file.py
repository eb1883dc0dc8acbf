"""All splits of an entry in one HDF5 file: a group each, as one of the entry's own files is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pixelprep.format import h5, libhdf5, untrusted
from pixelprep.format.layout import FileLayout

OF_A_SPLIT = "split"  # the attribute that only a group has

WriteRows = Callable[..., None]
ReadRows = Callable[[str, str, range], NDArray[Any]]


@contextmanager
def create(path: Path, outlines: Mapping[str, FileLayout]) -> Iterator[WriteRows]:
    """A new file with these splits; complete, but not yet fsynced, when the block is left.

    Yields ``put(split, first_row, **columns)``, which raises OSError when the disk is full or
    fails.
    """
    with libhdf5.open_empty(libhdf5.new_file(path)) as (file, _, check):
        for name, value in _shared(outlines).items():
            libhdf5.set_attribute(file, name, value)
        for split, outline in outlines.items():
            libhdf5.create_datasets(libhdf5.new_group(file, split), outline)
        check()

        def put(split: str, first: int, **columns: NDArray[Any]) -> None:
            for name, values in columns.items():
                file[split][name][first : first + len(values)] = values
            check()

        yield put


def _shared(outlines: Mapping[str, FileLayout]) -> dict[str, Any]:
    """The attributes that the splits have in common."""
    attributes = next(iter(outlines.values())).attributes
    return {name: value for name, value in attributes.items() if name != OF_A_SPLIT}


@contextmanager
def opened(path: Path, outlines: Mapping[str, FileLayout]) -> Iterator[ReadRows]:
    """A file that `create` made, read by h5py; yields ``get(split, column, rows)``.

    Raises
    ------
    ValueError
        When groups, datasets or attributes are others than the outlines say.
    """
    with h5.open_read(path) as file:
        _check(file, outlines)
        yield lambda split, column, rows: file[split][column][rows.start : rows.stop]


def _check(file: Any, outlines: Mapping[str, FileLayout]) -> None:
    if set(file) != set(outlines):
        raise ValueError(f"expected the groups {', '.join(outlines)}")
    attributes = {"": _shared(outlines)} | {name: o.attributes for name, o in outlines.items()}
    for where, expected in attributes.items():
        found = file[f"/{where}"]
        for name in untrusted.differing_attributes(found, untrusted.plain_attributes(expected)):
            raise ValueError(f"/{where}: its attribute {name} is another")
    for split, outline in outlines.items():
        shapes = {name: dataset.shape for name, dataset in file[split].items()}
        if shapes != {name: column.shape for name, column in outline.columns.items()}:
            raise ValueError(f"/{split}: its datasets are others")
