"""Pixels in tables, as Kaggle has them: every value where it was written, or one line why not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelprep import PixelprepWarning, SourceError, UsageError, prepare
from pixelprep.numerics.grouping import grouped_mask
from pixelprep.numerics.permutation import Stream
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


def test_leading_zeros_are_text(tmp_path: Path) -> None:
    """Labels such as 01 and 1 are two classes."""
    codes = np.array(["01", "1", "10"])[LABELS]
    rows = [f"{c},{' '.join(map(str, row))}" for c, row in zip(codes, PIXELS, strict=True)]
    with pytest.warns(PixelprepWarning, match="3 classes in the order of code points: 01, 1, 10"):
        raw = raw_of(table(tmp_path / "codes.csv", "label,pixels", rows))
    assert [raw.class_names[k] for k in raw.splits["train"].labels[:]] == codes.tolist()


@pytest.mark.parametrize("order", ["as text", "mixed"])
def test_columns_in_another_order_are_taken_by_number(tmp_path: Path, order: str) -> None:
    """Columns that were sorted as text (pixel1, pixel10, pixel11, pixel2) or mixed give the same
    images as in order, which is said.
    """
    images = np.random.default_rng(7).integers(0, 256, (6, 16))
    places = np.random.default_rng(8).permutation(16)
    if order == "as text":
        places = np.array(sorted(range(16), key=lambda number: f"{number + 1}"))
    rows = [",".join(map(str, [row % 2, *one[places]])) for row, one in enumerate(images)]
    header = ",".join(["label", *(f"pixel{place + 1}" for place in places)])
    path = table(tmp_path / "digits.csv", header, rows)
    with pytest.warns(PixelprepWarning, match=r"another order than their .*: taken by number"):
        raw = raw_of(path)
    np.testing.assert_array_equal(raw.splits["train"].images[:].reshape(6, 16), images)


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
def test_columns_whose_order_cannot_be_known(tmp_path: Path) -> None:
    """Numbers that are no run, or rows and columns, are refused out of order; in order, from left
    to right or from top to bottom, they are taken as they stand.
    """
    grid = [f"{row}x{column}" for row in range(3) for column in range(3)]
    turned = [f"{row}x{column}" for column in range(3) for row in range(3)]
    gaps = [f"p{number}" for number in range(0, 18, 2)]
    for names in (grid, turned, gaps):
        path = table(tmp_path / "t.csv", ",".join(["label", *names]), in_columns())
        np.testing.assert_array_equal(
            raw_of(path).splits["train"].images[:], PIXELS.reshape(10, 3, 3, 1)
        )
        mixed = ",".join(["label", names[4], *names[:4], *names[5:]])
        path = table(tmp_path / "t.csv", mixed, in_columns())
        with pytest.raises(SourceError, match="another order than their numbers: ") as caught:
            raw_of(path)
        assert "row by row" in (caught.value.hint or "")


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
        ("label," + ",".join(f"p{i}" for i in range(9)), ["1,x" + ",1" * 8], "line 2: .*'x'"),
        (
            "label," + ",".join(f"p{i}" for i in range(9)),
            [*in_columns()[:4], " ", "1" + ",1" * 8],
            "line 7: expected at least 10 values, got 9",
        ),
        (
            "label,pixels",
            ["1,1 2 3 4", "0,1 2 3"],
            "line 3: the number of columns changed",
        ),
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


@pytest.mark.parametrize(
    ("shape", "given", "hint"),
    [((4, 4, 3), "4x4x3", "`shape=4x4x3`"), ((3, 5), "3x5", "`shape=HxW`")],
)
def test_pixels_that_make_no_square_take_a_shape(
    tmp_path: Path, shape: tuple[int, ...], given: str, hint: str
) -> None:
    """Colours, as HAM10000's table has them, and oblongs: refused with the option, read with it."""
    images = np.random.default_rng(0).integers(0, 256, (6, *shape))
    names = ",".join(f"pixel{i:04}" for i in range(images[0].size))
    rows = [",".join(map(str, [*one.reshape(-1), i % 2])) for i, one in enumerate(images)]
    path = table(tmp_path / "colours.csv", f"{names},label", rows)
    with pytest.warns(PixelprepWarning), pytest.raises(SourceError, match="flat rows") as caught:
        raw_of(path)
    assert hint in str(caught.value.hint)
    with pytest.warns(PixelprepWarning):
        found = raw_of(path, shape=given).splits["train"].images
    np.testing.assert_array_equal(found, images.reshape(len(images), *(*shape, 1)[:3]))


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
@pytest.mark.parametrize("name", ["", "sign_{split}.csv"])
def test_a_table_a_split_is_one_dataset(tmp_path: Path, name: str) -> None:
    """The folder of two tables and a path with {split} give both, in a type that holds both; one
    of them tells of the other.
    """
    (folder := tmp_path / "in").mkdir()
    header = "label," + ",".join(f"pixel{i}" for i in range(9))
    table(folder / "sign_train.csv", header, in_columns())
    table(folder / "sign_test.csv", header, [*in_columns()[:4], "1" + ",256" * 9])
    raw = raw_of(folder / name)
    images = PIXELS.reshape(10, 3, 3, 1)
    np.testing.assert_array_equal(raw.splits["train"].images[:], images)
    np.testing.assert_array_equal(raw.splits["test"].images[:4], images[:4])
    assert {one.images.dtype.name for one in raw.splits.values()} == {"uint16"}
    assert (raw.splits["test"].images[4] == 256).all()
    np.testing.assert_array_equal(raw.splits["test"].labels[:], [0, 1, 2, 0, 1])
    with pytest.warns(
        PixelprepWarning, match=r"beside it are not used; give all: .*sign_\{split\}.csv"
    ):
        assert raw_of(folder / "sign_train.csv").splits.keys() == {"train"}


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
def test_a_contests_test_without_labels_is_left_out(tmp_path: Path) -> None:
    """Kaggle's test.csv has pixels and no label: it is told, and the list of answers no table."""
    (folder := tmp_path / "in").mkdir()
    pixels = ",".join(f"pixel{i}" for i in range(9))
    table(folder / "train.csv", f"label,{pixels}", in_columns())
    table(folder / "test.csv", pixels, [row.partition(",")[2] for row in in_columns()])
    table(folder / "sample_submission.csv", "id,label", ["1,0"])
    with pytest.warns(PixelprepWarning, match="test.csv: no labels: test is left out"):
        assert raw_of(folder).splits.keys() == {"train"}


def test_a_column_without_a_name_is_named_so(tmp_path: Path) -> None:
    """Pandas writes its index under no name: what is not used is still said."""
    header = ",label," + ",".join(f"pixel{i}" for i in range(9))
    path = table(tmp_path / "idx.csv", header, [f"{i},{r}" for i, r in enumerate(in_columns())])
    with pytest.warns(PixelprepWarning, match="not used: one without a name"):
        raw_of(path)


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
def test_a_table_is_prepared(tmp_path: Path, cache: Path) -> None:
    """From the file to the entry: a split is taken as from any other data."""
    rows = in_columns() * 2
    path = table(tmp_path / "digits.csv", "label," + ",".join(f"{i}x0" for i in range(9)), rows)
    entry = prepare(path, test_fraction=0.5, cache_dir=cache, quiet=True)
    assert (entry.train.shape, entry.test.shape) == ((10, 3, 3, 1), (10, 3, 3, 1))


@pytest.mark.parametrize("name", ["sign_{split}.csv", "x_{split}.npy"])
def test_a_path_of_splits_that_no_file_matches_is_refused(tmp_path: Path, name: str) -> None:
    """What {split} stands for is said, whatever the ending."""
    with pytest.raises(
        SourceError, match=r"no such files: \{split\} stands for train, val or test"
    ):
        raw_of(tmp_path / name)


PATIENTS = np.arange(10) // 2


def of_patients(path: Path, column: str = "patient") -> Path:
    """Write a table with a column of patients, each of two rows."""
    rows = [f"p{one},{row}" for one, row in zip(PATIENTS, in_columns(), strict=True)]
    return table(path, f"{column},label," + ",".join(f"pixel{i}" for i in range(9)), rows)


@pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")
@pytest.mark.parametrize("how", ["option", "columns", "usual name"])
def test_rows_of_a_group_stay_together(tmp_path: Path, cache: Path, how: str) -> None:
    """No patient is in two splits; the test rows are those that the format's rule takes, and other
    fractions are another entry.
    """
    path = of_patients(tmp_path / "scans.csv", "Group" if how == "usual name" else "Patient")
    given = {"option": {"group_column": "patient"}, "columns": {"columns": "group=patient"}}
    options: dict[str, Any] = {"mode": "normalize", "quiet": True, **given.get(how, {})}
    entry = prepare(path, test_fraction=0.4, **options)
    taken = grouped_mask(LABELS, PATIENTS, 0.4, 0, Stream.TEST)
    for split, rows in (("train", ~taken), ("test", taken)):
        images, labels = entry.splits[split].to_numpy()
        assert entry.scaling.invert(images).reshape(-1, 9).tolist() == PIXELS[rows].tolist()
        assert labels.tolist() == LABELS[rows].tolist()
    recorded = entry.manifest.source.decode["groups"]
    column = "patient" if how == "option" else "group"
    assert recorded == {
        "column": column,
        "val_fraction": 0.0,
        "test_fraction": 0.4,
        "split_seed": 0,
    }
    assert prepare(path, test_fraction=0.4, **options).cached
    assert prepare(path, test_fraction=0.2, **options).key != entry.key
    assert list(prepare(path, val_fraction=0.2, **options).splits) == ["train", "val"]


def test_groups_are_divided_among_the_classes_that_are_taken(tmp_path: Path, cache: Path) -> None:
    """Of some classes alone their rows count; rows without a group are one, which is said."""
    path = of_patients(tmp_path / "scans.csv")
    path.write_text(path.read_text().replace("p4,", ","))
    options: dict[str, Any] = {"group_column": "patient", "test_fraction": 0.4, "classes": "0,1"}
    with pytest.warns(PixelprepWarning, match="scans: no group in 1 row: taken as one"):
        entry = prepare(path, mode="normalize", quiet=True, **options)
    stay = LABELS < 2
    in_order = (PATIENTS + 1) % 5  # of their names, the empty one first
    taken = grouped_mask(LABELS[stay], in_order[stay], 0.4, 0, Stream.TEST)
    assert entry.test.labels.tolist() == LABELS[stay][taken].tolist()


def test_groups_that_cannot_be_are_answered_with_the_way_on(tmp_path: Path) -> None:
    """A column that is not there, and a table without names of files or of columns."""
    path = of_patients(tmp_path / "scans.csv")
    with pytest.raises(SourceError, match=r"no column eye; beside pixels it has patient, label"):
        raw_of(path, group_column="eye")
    with pytest.raises(UsageError, match=r"`group_pattern`: does not apply to .*scans\.csv") as no:
        raw_of(path, group_pattern="p")
    assert "`group_column=NAME`" in str(no.value.hint)
    bare = table(tmp_path / "bare.csv", "", in_columns())
    with pytest.raises(SourceError, match="no column patient: it has no header"):
        raw_of(bare, group_column="patient")
    np.save(tmp_path / "x.npy", PIXELS)
    with pytest.raises(UsageError, match=r"`group_column`: does not apply to .*x\.npy") as no:
        raw_of(tmp_path / "x.npy", group_column="patient")
    assert "pixelprep.Arrays(" in str(no.value.hint)
