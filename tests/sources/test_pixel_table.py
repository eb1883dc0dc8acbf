"""Pixels in tables, as Kaggle has them: every value where it was written, or one line why not."""

from pathlib import Path

import numpy as np
import pytest

from pixelprep import PixelprepWarning, SourceError, prepare
from tests.helpers.sources import raw_of

PIXELS = np.arange(90).reshape(10, 9) * 2  # ten images of 3×3
LABELS = np.arange(10) % 3


def table(path: Path, header: str, rows: list[str]) -> Path:
    """Write a table."""
    path.write_text("\n".join(filter(None, [header, *rows])) + "\n")
    return path


def in_columns(separator: str = ",") -> list[str]:
    """Spell each image as a label and a number a column."""
    return [
        separator.join(map(str, [label, *row])) for label, row in zip(LABELS, PIXELS, strict=True)
    ]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_number_in_each_column(tmp_path: Path, first: int, separator: str) -> None:
    """Columns pixel0 … or pixel1 … are an image's rows, one after the other."""
    header = separator.join(["label", *(f"pixel{first + i}" for i in range(9))])
    path = table(tmp_path / "digits.csv", header, in_columns(separator))
    with pytest.warns(PixelprepWarning, match="9 pixels a row: taken as images of 3×3"):
        raw = raw_of(path)
    np.testing.assert_array_equal(raw.splits["train"].images[:], PIXELS.reshape(10, 3, 3, 1))
    np.testing.assert_array_equal(raw.splits["train"].labels[:], LABELS)
    assert raw.splits["train"].images.dtype == np.uint8


def test_no_header(tmp_path: Path) -> None:
    """Without a header the first column has the labels, which is said."""
    path = table(tmp_path / "digits.csv", "", in_columns())
    with pytest.warns(PixelprepWarning, match="no header: the first column is taken as labels"):
        raw = raw_of(path)
    np.testing.assert_array_equal(raw.splits["train"].labels[:], LABELS)


def test_all_pixels_in_a_cell_and_splits_in_a_column(tmp_path: Path) -> None:
    """FER2013's form, blanks in its header: Training, PublicTest (val) and PrivateTest (test)."""
    usage = ["Training"] * 6 + ["PublicTest"] * 2 + ["PrivateTest"] * 2
    rows = [
        f"{label},{use},{' '.join(map(str, row))}"
        for label, use, row in zip(LABELS, usage, PIXELS, strict=True)
    ]
    path = table(tmp_path / "faces.csv", "emotion, Usage, pixels", rows)
    with pytest.warns(PixelprepWarning, match="classes by emotion; splits by Usage"):
        raw = raw_of(path)
    images = PIXELS.reshape(10, 3, 3, 1)
    for name, part in {"train": images[:6], "val": images[6:8], "test": images[8:]}.items():
        np.testing.assert_array_equal(raw.splits[name].images[:], part)


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
@pytest.mark.parametrize(
    ("most", "dtype"), [("255", "uint8"), ("256", "uint16"), ("0.5", "float64"), ("-1", "float64")]
)
def test_the_type_holds_every_value(tmp_path: Path, most: str, dtype: str) -> None:
    """Pixels are bytes, 16 bits or floats, by what is in the table."""
    rows = [*in_columns()[:-1], "0," + ",".join([most] * 9)]
    path = table(tmp_path / "digits.csv", "label," + ",".join(f"p{i}" for i in range(9)), rows)
    images = raw_of(path).splits["train"].images
    assert images.dtype == dtype
    np.testing.assert_array_equal(images[9].reshape(-1), np.full(9, float(most)))


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        ("a,b", ["1,2"], "no pixels: pixel0, pixel1, …, or pixels alone; it has a, b"),
        ("a," + ",".join(f"p{i}" for i in range(9)), in_columns(), "no labels"),
        ("label," + ",".join(f"p{i}" for i in range(9)), ["1,x" + ",1" * 8], "from line 2 on"),
        ("label,pixels", ["1,1 2 3 4", "0,1 2 3"], "from line 2 on: the number of columns changed"),
        ("label,pixels,split", ["1,1 2 3 4,train", "1,1 2 3 4,later"], "row 2: its split later"),
        ("label,pixels,split", ["1,1 2 3 4,test"], "expected rows of train, got test"),
    ],
)
def test_what_is_no_such_table_is_said(
    tmp_path: Path, header: str, rows: list[str], said: str
) -> None:
    """Each fault is one line with its place."""
    path = table(tmp_path / "digits.csv", header, rows)
    with pytest.raises(SourceError, match=said):
        raw_of(path)


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
def test_a_table_is_prepared(tmp_path: Path, cache: Path) -> None:
    """From the file to the entry: a split is taken as from any other data."""
    rows = in_columns() * 2
    path = table(tmp_path / "digits.csv", "label," + ",".join(f"{i}x0" for i in range(9)), rows)
    entry = prepare(path, test_fraction=0.5, cache_dir=cache, quiet=True)
    assert (entry.train.shape, entry.test.shape) == ((10, 3, 3, 1), (10, 3, 3, 1))
