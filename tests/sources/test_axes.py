"""The order of axes: another than (N, H, W, C) is turned where it is said, or refused by name."""

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pixelprep import SourceError, UsageError
from pixelprep.sources import Arrays
from pixelprep.sources.lazy_arrays import TurnedView, slice_rows, write_array
from tests.helpers.raw_files import random_pairs, write_hdf5, write_npz
from tests.helpers.sources import Pair, check, prepared, refused

PAIRS = random_pairs(shape=(6, 7, 3))
Maker = Callable[[Path, tuple[Pair, Pair]], Path | Arrays]
HOLDERS: dict[str, Maker] = {
    "arrays": lambda folder, pairs: Arrays("data", *pairs),
    "npz": lambda folder, pairs: write_npz(folder / "data.npz", pairs),
    "hdf5": lambda folder, pairs: write_hdf5(folder / "data.h5", pairs),
}


def turned(*axes: int) -> tuple[Pair, Pair]:
    """Return the same images in another order of axes."""
    (x, y), (x2, y2) = PAIRS
    return (x.transpose(axes), y), (x2.transpose(axes), y2)


def prepared_as(data: Path | Arrays, layout: str) -> object:
    """Return the entry of data that is read in this order."""
    if isinstance(data, Path):
        return prepared(data, layout=layout)
    return prepared(Arrays(data.name, data.train, data.test, layout=layout))


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("kind", [3, 1])
def test_channels_first_is_refused_or_turned(tmp_path: Path, holder: str, kind: int) -> None:
    """(N, 3, H, W) and (N, 1, H, W) are never taken as H = 3: one line tells the way to turn
    them, which gives the images that they are.
    """
    (x, y), (x2, y2) = random_pairs(shape=(6, 7, kind))
    first = ((x.transpose(0, 3, 1, 2), y), (x2.transpose(0, 3, 1, 2), y2))
    data = HOLDERS[holder](tmp_path, first)
    with pytest.raises(SourceError, match=r"train: .* \(40, ., 6, 7\) looks like channels") as got:
        prepared(data)
    assert got.value.hint is not None
    assert "`layout=nchw` turns them" in got.value.hint
    entry = prepared_as(data, "nchw")
    check(entry, (x, y), (x2, y2), decode={"layout": "nchw"})  # type: ignore[arg-type]


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("order", ["cwhn", "hwcn", "nwhc"])
def test_any_order_of_axes_is_turned(tmp_path: Path, holder: str, order: str) -> None:
    """Whichever axes come first, in whatever holds them, the pixels are those of (N, H, W, C)."""
    data = HOLDERS[holder](tmp_path, turned(*map("nhwc".index, order)))
    check(prepared_as(data, order), *PAIRS, decode={"layout": order})  # type: ignore[arg-type]


def test_a_usual_order_that_is_named_changes_nothing(tmp_path: Path) -> None:
    """`layout=nhwc` takes rows 3 pixels high with 6 channels as they are; it is no other data."""
    pairs = random_pairs(shape=(3, 5, 6))
    path = write_npz(tmp_path / "data.npz", pairs)
    check(prepared(path, layout="nhwc"), *pairs)


def write_matlab(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Return a file as MATLAB 7.3 writes it: axes reversed, the class as an attribute, a block of
    512 bytes before HDF5's own.
    """
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = np.ascontiguousarray(array.T)
            kind = "double" if array.dtype == np.float64 else array.dtype.name
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    return path


def test_matlab_files_by_their_own_ending(tmp_path: Path, cache: Path) -> None:
    """A .mat file of version 7.3 with X and y is read; of an older one the way on is told."""
    x, y = PAIRS[0]
    path = tmp_path / "old.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(600))
    refused(cache, path, path, "not a readable MATLAB file")
    path = write_matlab(tmp_path / "new.mat", {"X": x.transpose(1, 2, 3, 0), "y": y[:, None] + 1.0})
    assert refused(cache, path, path, "was written by MATLAB").hint == "turn it: `layout=matlab`"
    entry = prepared(path, layout="matlab", labels_from=1)
    check(entry, (x, y), None, ("1", "2", "3", "4"), decode={"layout": "ncwh"})


@pytest.mark.parametrize(
    ("axes", "order"), [((1, 2, 3, 0), "ncwh"), ((0, 1, 2, 3), "cwhn")], ids=["HWCN", "NHWC"]
)
def test_matlab_files_are_turned_round(
    tmp_path: Path, cache: Path, axes: tuple[int, ...], order: str
) -> None:
    """Of H×W×C×N and of N×H×W×C alike, `layout=matlab` gives the images that MATLAB shows, and
    without it the file is refused; labels are a column of MATLAB's doubles.
    """
    x, y = PAIRS[0]
    held = {"images": x.transpose(axes), "labels": y[:, None].astype(np.float64)}
    path = write_matlab(tmp_path / "m.h5", held)
    error = refused(cache, path, path, "was written by MATLAB: HDF5 has its axes reversed")
    assert error.hint == "turn it: `layout=matlab`"
    check(prepared(path, layout="matlab"), (x, y), None, decode={"layout": order})


def test_matlab_grey_images_are_turned_round(tmp_path: Path) -> None:
    """H×W×N of grey images, with labels from 1 in a row."""
    (x, y), _ = random_pairs(shape=(6, 7))
    held = {"images": x.transpose(1, 2, 0), "labels": y[None] + 1.0}
    path = write_matlab(tmp_path / "m.h5", held)
    entry = prepared(path, layout="matlab", labels_from=1)
    check(entry, (x, y), None, ("1", "2", "3", "4"), decode={"layout": "nwh"})


def test_matlab_axes_that_could_be_either_are_refused(tmp_path: Path, cache: Path) -> None:
    """Where both outer axes have the number of labels, the order has to be spelled."""
    images = np.arange(6 * 5 * 3 * 6, dtype=np.uint8).reshape(6, 5, 3, 6)
    path = write_matlab(tmp_path / "m.h5", {"images": images, "labels": np.arange(6.0)[:, None]})
    error = refused(cache, path, path, "along one of its outer axes", layout="matlab")
    assert error.hint is not None
    assert "`layout=ncwh`" in error.hint


@pytest.mark.parametrize("layout", ["nchx", "chw", "nnhw", "MATLAB", ""])
def test_what_is_no_order_of_axes_is_refused(tmp_path: Path, cache: Path, layout: str) -> None:
    """Each of the letters n, h, w and c once, or without c; nothing else."""
    path = write_npz(tmp_path / "data.npz", PAIRS)
    refused(cache, path, f"`layout={layout}`", "expected the letters n, h, w and c", layout=layout)
    with pytest.raises(UsageError, match="`layout="):
        prepared(Arrays("data", *PAIRS, layout=layout))


def test_an_order_of_too_few_axes_is_refused(tmp_path: Path, cache: Path) -> None:
    """Three letters do not fit four axes."""
    path = write_npz(tmp_path / "data.npz", PAIRS)
    refused(cache, path, path, "expected 3 axes, got (40, 6, 7, 3)", layout="nwh")


def test_an_option_of_a_source_object_is_refused(cache: Path) -> None:
    """What an object says itself is not overruled in silence."""
    with pytest.raises(UsageError, match="`layout`: does not apply to a source object"):
        prepared(Arrays("data", *PAIRS), layout="nchw")


def test_many_channels_are_said(recwarn: pytest.WarningsRecorder) -> None:
    """Thirteen bands are read, and one line says that they are thirteen."""
    prepared(Arrays("bands", *random_pairs(shape=(6, 5, 13))))
    prepared(Arrays("colours", *random_pairs(shape=(6, 5, 4))))
    told = [str(one.message) for one in recwarn if "channels" in str(one.message)]
    assert told == ["bands: images of 6×5 with 13 channels"]


@pytest.mark.parametrize("unlike", [True, False])
def test_floats_scaled_in_one_split_only_are_told(
    recwarn: pytest.WarningsRecorder, unlike: bool
) -> None:
    """Train from 0 to 255 beside test from 0 to 1 is said in a line; twice the range is not."""
    images, labels = np.full((8, 3, 4, 1), 255.0), np.arange(8) % 2
    images[:, 0] = np.arange(8).reshape(8, 1, 1)
    prepared(Arrays("floats", (images, labels), ((images + 1) / (255 if unlike else 2), labels)))
    told = [str(one.message) for one in recwarn if "unlike ranges" in str(one.message)]
    said = "train up to 255, test up to 1.00392: scaled in some splits only?"
    assert told == [f"floats: floats of unlike ranges: {said}"] * unlike


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (3, 1, 2, 0)])
@pytest.mark.parametrize("kind", ["<u2", ">f4"])
def test_a_turned_array_is_read_in_any_process(
    tmp_path: Path, axes: tuple[int, ...], kind: str
) -> None:
    """Rows by slices and by indices, of parts, after the way to another process: all are those of
    the array that NumPy turns.
    """
    whole = np.random.default_rng(0).integers(0, 999, (5, 4, 3, 7)).astype(kind)
    stored = write_array(tmp_path / "a.0", whole.shape, [whole])
    right, rows = whole.transpose(axes), np.array([3, 0, 2])
    for array in (stored, whole):
        view = pickle.loads(pickle.dumps(TurnedView(array, axes)))
        assert view.shape == right.shape
        part = slice_rows(view, range(1, 4))
        for found, expected in (
            (view[1:3], right[1:3]),
            (view[rows], right[rows]),
            (part[0:2], right[1:3]),
            (part[:], right[1:4]),
        ):
            assert (found == expected).all()
            assert found.flags.c_contiguous
            assert found.dtype.isnative
