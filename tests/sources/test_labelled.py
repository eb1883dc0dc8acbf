"""Pictures whose classes a table has: every row finds its picture, and what is guessed is said."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelprep import PixelprepWarning, SourceError, UsageError, prepare
from pixelprep.cli.app import app
from pixelprep.cli.spelling import as_options
from pixelprep.sources import Raw
from tests.helpers.sources import raw_of
from tests.sources.test_image_folder import save

COUNT = 24
quiet = pytest.mark.filterwarnings("ignore::pixelprep.PixelprepWarning")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of pictures, each of whose pixels is its number."""
    for number in range(COUNT):
        save(tmp_path / f"photos/all/{number}.png", np.full((4, 4), number, np.uint8))
    return tmp_path / "photos"


def write(path: Path, header: str, rows: Sequence[str]) -> Path:
    """Write a table."""
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def labels_of(raw: Raw, split: str = "train") -> dict[int, Any]:
    """Return the names of the classes of each picture, by its number."""
    rows = raw.splits[split]
    images, labels = rows.images[:, 0, 0, 0].tolist(), np.asarray(rows.labels[:])
    if raw.task == "multilabel":
        names = [[raw.class_names[k] for k in np.flatnonzero(row)] for row in labels]
    else:
        names = [raw.class_names[k] for k in labels]
    return dict(zip(images, names, strict=True))


ANIMALS = {number: ["cat", "dog", "eel"][number % 3] for number in range(COUNT)}


@pytest.mark.parametrize("name", ["all/{}.png", "{}.png", "{}", "/elsewhere/photos/all/{}.png"])
@pytest.mark.parametrize(("file", "label"), [("file_name", "label"), ("ID", " Class")])
def test_a_table_is_found_and_its_rows_find_their_pictures(
    photos: Path, name: str, file: str, label: str
) -> None:
    """metadata.csv is found by itself; files are named by as much of their path as is needed."""
    rows = [f"{name.format(number)},{animal},0" for number, animal in ANIMALS.items()]
    write(photos / "metadata.csv", f"{file},{label},more", rows)
    said = f"pictures by {file}; classes by {label.strip()}; not used: more"
    with pytest.warns(PixelprepWarning, match=said):
        raw = raw_of(photos)
    assert labels_of(raw) == ANIMALS
    assert raw.class_names == ("cat", "dog", "eel")


@quiet
def test_leading_zeros_are_text(photos: Path) -> None:
    """01 and 1 are two classes, as the table has them; plain numbers are numbers."""
    codes = {number: ["01", "1", "10"][number % 3] for number in range(COUNT)}
    write(photos / "metadata.csv", "file,label", [f"{n}.png,{code}" for n, code in codes.items()])
    raw = raw_of(photos)
    assert labels_of(raw) == codes
    assert raw.class_names == ("01", "1", "10")
    plain = {number: number % 3 for number in range(COUNT)}
    write(photos / "metadata.csv", "file,label", [f"{n}.png,{code}" for n, code in plain.items()])
    assert labels_of(raw_of(photos)) == {n: str(code) for n, code in plain.items()}


@quiet
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "tsv"])
def test_every_kind_of_table(photos: Path, kind: str) -> None:
    """JSON lines, Parquet and tab-separated text say the same as CSV."""
    names, animals = [f"{number}.png" for number in ANIMALS], list(ANIMALS.values())
    path = photos / f"metadata.{kind}"
    if kind == "parquet":
        pq = pytest.importorskip("pyarrow.parquet")
        pa = pytest.importorskip("pyarrow")
        pq.write_table(pa.table({"file_name": names, "label": animals}), path)
    elif kind == "jsonl":
        pairs = zip(names, animals, strict=True)
        path.write_text("".join(json.dumps({"image": n, "class": a}) + "\n" for n, a in pairs))
    else:
        pairs = zip(names, animals, strict=True)
        write(path, "filename\ttarget", [f"{name}\t{animal}" for name, animal in pairs])
    assert labels_of(raw_of(photos)) == ANIMALS


@quiet
def test_another_table_with_splits_and_columns_of_other_names(photos: Path, tmp_path: Path) -> None:
    """A table from elsewhere is given, its columns named; a column has the splits."""
    splits = ["Training", "valid", "TEST"]
    rows = [f"{n};{a};{splits[n // 8]}" for n, a in ANIMALS.items()]
    table = write(tmp_path / "list.csv", "picture;beast;part", rows)
    raw = raw_of(photos, labels=table, columns="file=picture,label=beast,split=part")
    for index, name in enumerate(["train", "val", "test"]):
        expected = {n: a for n, a in ANIMALS.items() if n // 8 == index}
        assert labels_of(raw, name) == expected


@quiet
def test_a_table_in_each_folder_of_a_split(tmp_path: Path) -> None:
    """Hugging Face's form: train/metadata.csv and test/metadata.csv name the files beside them."""
    top = tmp_path / "photos"
    for split, first in {"train": 0, "test": 100}.items():
        rows = []
        for number in range(4):
            save(top / split / f"{number}.png", np.full((4, 4), first + number, np.uint8))
            rows.append(f"{number}.png,{'ab'[number % 2]}")
        write(top / split / "metadata.csv", "file_name,label", rows)
    raw = raw_of(top)
    assert labels_of(raw) == {0: "a", 1: "b", 2: "a", 3: "b"}
    assert labels_of(raw, "test") == {100: "a", 101: "b", 102: "a", 103: "b"}


@quiet
def test_several_labels_a_picture(photos: Path) -> None:
    """With a delimiter, lists in JSON, or a column a class, a picture has any number of labels."""
    several = {n: [a for k, a in enumerate("abc") if n >> k & 1] for n in range(COUNT)}
    rows = [f"{n},{'|'.join(labels)}" for n, labels in several.items()]
    table = write(photos / "delimited.csv", "id,label", rows)
    assert labels_of(raw_of(photos, labels=table, label_delimiter="|")) == several
    lines = (json.dumps({"id": str(n), "labels": labels}) for n, labels in several.items())
    (photos / "lists.jsonl").write_text("\n".join(lines))
    assert labels_of(raw_of(photos, labels=photos / "lists.jsonl")) == several
    rows = [f"{n},{n & 1},{n >> 1 & 1},{n >> 2 & 1}" for n in range(COUNT)]
    table = write(photos / "columns.csv", "filename, a, b, c", rows)
    raw = raw_of(photos, labels=table)
    assert (labels_of(raw), raw.task) == (several, "multilabel")


def test_labels_of_classes_that_are_not_chosen_are_counted(photos: Path) -> None:
    """Several labels a picture: how many go, and how many pictures have none left, is said."""
    several = {n: [a for k, a in enumerate("abc") if n >> k & 1] for n in range(COUNT)}
    rows = [f"{n},{'|'.join(labels)}" for n, labels in several.items()]
    table = write(photos / "delimited.csv", "id,label", rows)
    gone = sum("c" in one for one in several.values())
    emptied = sum(one == ["c"] for one in several.values())
    said = f"left out: {gone} labels of other classes; without any now: {emptied} images"
    with pytest.warns(PixelprepWarning, match=said):
        raw = raw_of(photos, labels=table, label_delimiter="|", classes="b,a")
    assert labels_of(raw) == {n: sorted({*one} - {"c"})[::-1] for n, one in several.items()}


@quiet
def test_pictures_without_a_label_are_left_out_when_asked(photos: Path) -> None:
    """Blank, null or NaN is no label: such rows are refused, or left out and counted."""
    blank = {3: "", 4: None, 5: float("nan")}
    rows = [{"image": f"{n}.png", "class": blank.get(n, animal)} for n, animal in ANIMALS.items()]
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = "without a label: 3 of 24 pictures, such as all/3.png"
    with pytest.raises(SourceError, match=f"{said} .*`on_error=skip`"):
        raw_of(photos)
    with pytest.warns(PixelprepWarning, match=f"left out: {said}"):
        raw = raw_of(photos, on_error="skip")
    assert labels_of(raw) == {n: animal for n, animal in ANIMALS.items() if n not in blank}
    assert raw.decode["dropped"] == {"no label": 3}


@quiet
@pytest.mark.parametrize("header", ["file_name,label", "file_name,label,split"])
def test_equal_names_in_two_splits_are_told_apart(tmp_path: Path, header: str) -> None:
    """A row means the picture in the folder of its split; without one the hint names two ways."""
    top, rows = tmp_path / "photos", []
    for split, first in {"train": 0, "test": 100}.items():
        for number in range(4):
            save(top / split / f"{number}.png", np.full((4, 4), first + number, np.uint8))
            rows.append(f"{number}.png,{'ab'[(number + first // 100) % 2]},{split}")
    columns = header.count(",") + 1
    table = [",".join(row.split(",")[:columns]) for row in rows]
    write(top / "metadata.csv", header, table)
    if columns == 2:
        with pytest.raises(SourceError, match=r"0\.png means several pictures") as caught:
            raw_of(top)
        with_folders = [f"{row.split(',')[2]}/{row}" for row in rows]
        assert caught.value.hint is not None
        assert "with its folder, such as test/0.png; or name a column" in caught.value.hint
        assert "`columns=split=NAME`" in caught.value.hint
        write(top / "metadata.csv", "file_name,label,more", with_folders)
    raw = raw_of(top)
    assert labels_of(raw) == {0: "a", 1: "b", 2: "a", 3: "b"}
    assert labels_of(raw, "test") == {100: "b", 101: "a", 102: "b", 103: "a"}


@pytest.mark.filterwarnings("default::pixelprep.PixelprepWarning")
@pytest.mark.parametrize("others", [False, True])
def test_words_in_the_folders_of_a_table_are_splits(photos: Path, others: bool) -> None:
    """Pictures in my_train and my_test are of these splits, which is said; where others lie beside
    them, all are train.
    """
    rows = []
    for number, animal in ANIMALS.items():
        folder = "my_test" if number < 6 else "more" if others and number > 20 else "my_train"
        save(photos / folder / f"{number}.png", np.full((4, 4), number, np.uint8))
        rows.append(f"{folder}/{number}.png,{animal}")
    write(photos / "metadata.csv", "file_name,label", rows)
    if others:
        assert labels_of(raw_of(photos)) == ANIMALS
        return
    with pytest.warns(PixelprepWarning, match="read so: my_test as test, my_train as train"):
        raw = raw_of(photos)
    assert labels_of(raw, "test") == {n: a for n, a in ANIMALS.items() if n < 6}
    assert labels_of(raw) == {n: a for n, a in ANIMALS.items() if n >= 6}


@pytest.mark.filterwarnings("default::pixelprep.PixelprepWarning")
@pytest.mark.parametrize("name", ["metadata.csv", "lab.csv"])
@pytest.mark.parametrize("label", ["dx", "the species"])
def test_columns_of_unusual_names_are_guessed_in_the_hint(
    photos: Path, name: str, label: str
) -> None:
    """The hint is the option as it is to be typed, by what is in the columns; then the table is
    used, and not said to be left over.
    """
    rows = [f"c{n % 2},{n}.png,{a},{n}" for n, a in ANIMALS.items()]
    header = "camera,photo,dx,age" if label == "dx" else f"shot,photo,{label},age"
    rows = rows if label != "dx" else [f"c,{row.partition(',')[2]}" for row in rows]
    table = write(photos / name, header, rows)
    with pytest.raises(SourceError) as caught:
        raw_of(photos)
    hint = as_options(str(caught.value.hint), app)
    typed = shlex.split(hint.partition(" has the labels: ")[2])
    columns = ["--columns", f"file=photo,label={label}"]
    assert typed == (columns if name == "metadata.csv" else ["--labels", str(table), *columns])
    given = {} if name == "metadata.csv" else {"labels": table}
    with pytest.warns(PixelprepWarning) as told:
        raw = raw_of(photos, columns=columns[1], **given)
    assert labels_of(raw) == ANIMALS
    assert not [one for one in told if "not used: 1 file" in str(one.message)]


def test_a_table_in_another_encoding_is_named(photos: Path) -> None:
    """The line is said, and what to do."""
    (photos / "latin.csv").write_bytes("id,label\n0,a\n1,caf\xe9\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"latin\.csv: line 3: not UTF-8: byte 0xe9"):
        raw_of(photos, labels=photos / "latin.csv")


def test_the_way_to_a_table_is_said(photos: Path) -> None:
    """Where no folders have classes but a table is there, the hint names it; a table that is not
    there is named as it was given.
    """
    table = write(photos / "train.csv", "id,label", [f"{n},{a}" for n, a in ANIMALS.items()])
    with pytest.raises(SourceError, match="two classes or more, found 1") as caught:
        raw_of(photos)
    assert caught.value.hint == f"if train.csv has the labels: `labels={table}`"
    with pytest.raises(SourceError, match=r"`labels=photos/no\.csv`: no such file, neither here"):
        raw_of(photos, labels="photos/no.csv")


def test_a_table_that_is_not_used_is_told(photos: Path) -> None:
    """A table beside class folders, under any name, may be what has the classes."""
    into_classes(photos)
    table = write(photos / "HAM_metadata.csv", "image_id,dx", ["0,cat"])
    with pytest.warns(PixelprepWarning, match=f"not used; if it has the labels: `labels={table}`"):
        assert labels_of(raw_of(photos)) == ANIMALS


@pytest.mark.parametrize("header", ["file_name,age", "file_name,group"])
def test_a_table_that_something_is_told_of_is_told_of_once(
    photos: Path, recwarn: pytest.WarningsRecorder, header: str
) -> None:
    """Beside class folders, one line says what a table is taken for, and the option in it works."""
    into_classes(photos)
    write(photos / "metadata.csv", header, [f"{n}.png,{n}" for n in range(COUNT)])
    assert labels_of(raw_of(photos)) == ANIMALS
    [told] = [str(one.message) for one in recwarn]
    assert told.startswith(f"{photos}/metadata.csv: ")
    if "age" in header:
        columns = told.rpartition("`columns=")[2][:-1].replace("NAME", "age")
        assert columns == "file=file_name,label=age"
        named = dict(one.split("=") for one in columns.split(","))
        assert len(raw_of(photos, columns=named).class_names) == COUNT


@quiet
def test_a_table_of_pictures_elsewhere_is_told_the_way(photos: Path, tmp_path: Path) -> None:
    """Where a folder has a table alone, whose pictures lie in another one, the hint gives both."""
    (tmp_path / "up").mkdir()
    rows = [f"../photos/all/{number}.png,{animal}" for number, animal in ANIMALS.items()]
    table = write(tmp_path / "up" / "metadata.csv", "file_name,label", rows)
    with pytest.raises(SourceError, match=r"no image in it; it holds metadata\.csv") as caught:
        raw_of(tmp_path / "up")
    folder = f"{photos}/all"
    hint = f"give the folder of its pictures, {folder}, and `labels={table}`"
    assert caught.value.hint == hint
    assert labels_of(raw_of(Path(folder), labels=table)) == ANIMALS


@quiet
def test_a_column_a_class_with_a_single_one_is_one_label(photos: Path) -> None:
    """Where each row has a single 1, a picture has one class."""
    rows = [f"{n},{','.join(str(int(n % 3 == k)) for k in range(3))}" for n in range(COUNT)]
    table = write(photos / "hot.csv", "file,eel,dog,cat", rows)
    raw = raw_of(photos, labels=table)
    assert raw.class_names == ("eel", "dog", "cat")
    assert labels_of(raw) == {n: ["eel", "dog", "cat"][n % 3] for n in range(COUNT)}


@pytest.mark.parametrize("how", ["column", "pattern"])
def test_groups_stay_together(photos: Path, how: str) -> None:
    """No patient is in two splits, by a column of the table or by the names of files."""
    rows = [f"{n}.png,{a},patient {n // 3}" for n, a in ANIMALS.items()]
    write(photos / "metadata.csv", "file_name,label,patient", rows)
    options = {"group_column": "patient"} if how == "column" else {"group_pattern": r"(\d)\.png"}
    with pytest.warns(PixelprepWarning, match="groups, "):
        raw = raw_of(photos, test_fraction=0.25, val_fraction=0.25, **options)
    group = {n: n // 3 if how == "column" else n % 10 for n in range(COUNT)}
    held = [{group[n] for n in labels_of(raw, name)} for name in ("train", "val", "test")]
    assert not held[0] & held[1] | held[0] & held[2] | held[1] & held[2]
    assert sum(len(split.labels) for split in raw.splits.values()) == COUNT
    assert len(raw.splits["test"].labels) >= 5
    recorded = {"val_fraction": 0.25, "test_fraction": 0.25, "split_seed": 0}
    by = {"column": "patient"} if how == "column" else {"pattern": r"(\d)\.png"}
    assert raw.decode["groups"] == by | recorded


def into_classes(photos: Path) -> None:
    """Sort the pictures into folders by class."""
    for number, animal in ANIMALS.items():
        (photos / animal).mkdir(exist_ok=True)
        (photos / f"all/{number}.png").rename(photos / animal / f"{number}.png")
    (photos / "all").rmdir()


def test_a_table_without_labels_has_groups_of_class_folders(photos: Path) -> None:
    """Folders give classes, the table groups; a picture without a row is refused."""
    into_classes(photos)
    rows = [f"{n}.png,p{n // 3}" for n in ANIMALS]
    write(photos / "metadata.csv", "file_name,patient", rows)
    options: dict[str, Any] = {"group_column": "patient", "test_fraction": 0.3}
    with pytest.warns(PixelprepWarning, match="groups by patient; classes by folders"):
        raw = raw_of(photos, **options)
    held = [{n // 3 for n in labels_of(raw, name)} for name in ("train", "test")]
    assert held[1]
    assert not held[0] & held[1]
    assert labels_of(raw) | labels_of(raw, "test") == ANIMALS
    write(photos / "metadata.csv", "file_name,patient", rows[1:])
    with pytest.raises(SourceError, match="no row of 1 of 24 pictures, such as cat/0"):
        raw_of(photos, **options)


@quiet
@pytest.mark.parametrize("option", ["group_column", "columns", "label_delimiter"])
def test_options_of_a_table_need_one(photos: Path, option: str) -> None:
    """What a table's option asks for is not passed over where there is no table."""
    into_classes(photos)
    with pytest.raises(UsageError, match=f"`{option}` is of a table, and there is none"):
        raw_of(photos, **{option: "label=kind" if option == "columns" else "kind"})


@quiet
def test_groups_are_prepared_by_fractions_of_their_own(photos: Path, cache: Path) -> None:
    """Another fraction or seed divides anew; the same one is found in the cache."""
    rows = [f"{n}.png,{a},{n // 3}" for n, a in ANIMALS.items()]
    write(photos / "metadata.csv", "file_name,label,group", rows)
    keys = {}
    for fraction, seed in [(0.25, 0), (0.5, 0), (0.25, 1), (0.25, 0)]:
        options: dict[str, Any] = {"test_fraction": fraction, "split_seed": seed}
        entry = prepare(photos, cache_dir=cache, quiet=True, **options)
        keys[fraction, seed, entry.cached] = entry.key
        assert len(entry.test) == COUNT * fraction
    assert keys.pop((0.25, 0, True)) == keys[0.25, 0, False]
    assert len(set(keys.values())) == 3


@quiet
@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("name,label", "0.png,a", "expected a column file_name, .* in all.; it has name, label"),
        ("id,label", "0,a\n1, ", "without a label: 1 of 2 pictures, such as all/1.png"),
        ("id,label", "99,a", "not there: 1 of 1 pictures, such as 99"),
        ("id,label", "0,a\n0.png,b", "more than one row for all/0.png"),
        ("id,label", "0,a,b", "line 2: expected 2 values, got 3"),
        ("id,label,split", "0,a,later", "row 1: split later: expected train, val or test"),
        ("id,label,split", "0,a,test", "expected pictures of train, got test"),
        ("id,label", "0,", "without a label: 1 of 1 pictures"),
        ("id,id", "0,1", "columns of one name: id"),
    ],
)
def test_what_a_table_lacks_is_said(
    photos: Path, tmp_path: Path, header: str, row: str, said: str
) -> None:
    """Each fault is one line that names the table."""
    table = write(tmp_path / "list.csv", header, [row])
    with pytest.raises(SourceError, match=said):
        raw_of(photos, labels=table)


@quiet
def test_classes_are_chosen_and_merged(photos: Path, tmp_path: Path) -> None:
    """Names give order and subset before anything is decoded; a map makes one class of several."""
    for number in range(COUNT):
        target = photos / ANIMALS[number] / f"{number}.png"
        target.parent.mkdir(exist_ok=True)
        (photos / f"all/{number}.png").rename(target)
    (photos / "all").rmdir()
    (photos / "cat/0.png").write_bytes(b"no picture")  # of a class that is not asked for
    raw = raw_of(photos, classes="eel,dog")
    assert raw.class_names == ("eel", "dog")
    assert labels_of(raw) == {n: a for n, a in ANIMALS.items() if a != "cat"}
    assert raw.decode["class_order"] == "given"
    assert raw.decode["dropped"] == {"other classes": 8}
    (tmp_path / "map.csv").write_text("dog,land\neel,water\n")
    raw = raw_of(photos, class_map=str(tmp_path / "map.csv"), classes=["water", "land"])
    assert labels_of(raw) == {
        n: {"eel": "water", "dog": "land"}[a] for n, a in ANIMALS.items() if n % 3
    }
    with pytest.raises(SourceError, match="no class cow; there are cat, dog, eel"):
        raw_of(photos, classes="cow")


@quiet
@pytest.mark.parametrize("word", ["holdout", "2"])
def test_words_that_are_no_split_are_answered_with_the_way_on(
    photos: Path, tmp_path: Path, word: str
) -> None:
    """The hint tells what happens when the column has another name, and so it is."""
    rows = [f"{number}.png,{'ab'[number % 2]},{word}" for number in range(4)]
    table = write(tmp_path / "list.csv", "id,label,split", rows)
    with pytest.raises(SourceError, match=f"split {word}: expected train, val or test") as caught:
        raw_of(photos, labels=table)
    assert "rename the column, and its rows are all train" in (caught.value.hint or "")
    renamed = write(tmp_path / "other.csv", "id,label,part", rows)
    assert raw_of(photos, labels=renamed).splits.keys() == {"train"}


@quiet
def test_several_rows_of_a_picture_can_be_several_labels(photos: Path, tmp_path: Path) -> None:
    """Two rows of one picture are refused; written in one cell as the hint says, they are both."""
    table = write(tmp_path / "list.csv", "id,label", ["0.png,a", "1.png,b", "0.png,b"])
    with pytest.raises(SourceError, match="more than one row for all/0") as caught:
        raw_of(photos, labels=table)
    assert "A|B and `label_delimiter='|'`" in (caught.value.hint or "")
    table = write(tmp_path / "list.csv", "id,label", ["0.png,a|b", "1.png,b"])
    found = raw_of(photos, labels=table, label_delimiter="|").splits["train"]
    assert found.labels[:].tolist() == [[1, 1], [0, 1]]
