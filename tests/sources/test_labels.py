"""Labels of every usual form: read where the meaning is certain, and told; else refused by name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import pixelprep
from pixelprep import SourceError, UsageError
from pixelprep.sources import Arrays, Options
from pixelprep.sources.assemble import assemble
from tests.helpers.data import write_digits
from tests.helpers.raw_files import PAIRS, write_hdf5, write_npz
from tests.helpers.sources import Pair, check, nothing_is_left, prepared, refused

(X, Y), (X2, Y2) = PAIRS
ANIMALS = np.array(["owl", "ape", "zebu", "Gnu"])
SORTED = ("Gnu", "ape", "owl", "zebu")  # by code points
TEXT_ORDER = {"class_order": "code points"}
READ: dict[str, Callable[..., pixelprep.Entry]] = {
    "arrays": lambda folder, y, y2, **options: prepared(
        Arrays("data", (X, y), (X2, y2), **options)
    ),
    "npz": lambda folder, y, y2, **options: prepared(
        write_npz(folder / "data.npz", ((X, y), (X2, y2))), **options
    ),
    "hdf5": lambda folder, y, y2, **options: prepared(
        write_hdf5(folder / "data.h5", ((X, y), (X2, y2))), **options
    ),
}


@pytest.fixture(params=READ)
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., pixelprep.Entry]:
    """Prepare the images with these labels, held by each kind of source."""

    def made(labels: np.ndarray, others: np.ndarray, **options: Any) -> pixelprep.Entry:
        return READ[request.param](tmp_path, labels, others, **options)

    return made


@pytest.fixture
def told(recwarn: pytest.WarningsRecorder) -> Callable[[str], bool]:
    """Say whether a line that was logged has these words."""
    return lambda words: any(words in str(one.message) for one in recwarn)


FORMS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "whole floats": (lambda y: y.astype(np.float32), "all of them whole numbers"),
    "one-hot": (lambda y: np.eye(4, dtype=np.uint8)[y], "taken as 4 classes, one-hot"),
    "one-hot floats": (lambda y: np.eye(4)[y], "taken as 4 classes, one-hot"),
    "one-hot booleans": (lambda y: np.eye(4, dtype=bool)[y], "taken as 4 classes, one-hot"),
    "a row": (lambda y: y[None], "taken as ("),
    "a row of floats": (lambda y: y[None] * 1.0, "all of them whole numbers"),
    "a column": (lambda y: y[:, None], ""),
    "four axes": (lambda y: y[:, None, None, None], ""),
}


ALIKE = ("one-hot booleans", "a row of floats", "four axes")  # to others


@pytest.mark.parametrize(
    "form", [pytest.param(f, marks=pytest.mark.long) if f in ALIKE else f for f in FORMS]
)
def test_labels_of_a_certain_meaning_are_taken(
    read: Callable[..., pixelprep.Entry], told: Callable[[str], bool], form: str
) -> None:
    """Numbers in whatever shape and type are the same dataset, and what was guessed is told."""
    make, line = FORMS[form]
    check(read(make(Y), make(Y2)), *PAIRS)
    assert not line or told(line)


def test_yes_and_no_are_two_classes(
    read: Callable[..., pixelprep.Entry], told: Callable[[str], bool]
) -> None:
    """False is 0 and true is 1."""
    check(read(Y > 1, Y2 > 1), (X, Y // 2), (X2, Y2 // 2), ("0", "1"))
    assert told("false is taken as class 0")


def test_text_names_the_classes(
    read: Callable[..., pixelprep.Entry], told: Callable[[str], bool]
) -> None:
    """Labels of text are numbered in the order of code points, which is told and recorded."""
    names = ANIMALS.astype("S")
    entry = read(names[Y], names[Y2])
    check(entry, *by_name(SORTED), SORTED, TEXT_ORDER)
    assert told("labels are text: 4 classes in the order of code points: Gnu, ape, owl, zebu")


def by_name(names: tuple[str, ...]) -> tuple[Pair, Pair]:
    """Return the images with the numbers that the animals have in this order."""
    numbers = np.array([names.index(name) for name in ANIMALS])
    return (X, numbers[Y]), (X2, numbers[Y2])


@pytest.mark.parametrize("storage", [{}, {"chunks": True, "compression": "gzip", "shuffle": True}])
def test_hdf5_text_of_any_length_names_the_classes(tmp_path: Path, storage: dict[str, Any]) -> None:
    """Text as h5py stores Python's own, also beyond ASCII, whole or in packed chunks."""
    words = np.array(["Wels", "Äsche", "Aal", "Zährte"], object)
    path = tmp_path / "text.h5"
    with h5py.File(path, "w") as file:
        file["images"] = X
        labels = list(words[Y])
        chunks = {"chunks": (7,)} if storage else {}
        file.create_dataset("labels", data=labels, dtype=h5py.string_dtype(), **storage | chunks)
    entry = prepared(path)
    names = ("Aal", "Wels", "Zährte", "Äsche")
    numbers = np.array([names.index(word) for word in words])
    check(entry, (X, numbers[Y]), None, names, TEXT_ORDER)


@pytest.mark.parametrize("kind", ["U", "O"])
def test_text_in_memory_takes_the_order_of_class_names(kind: str) -> None:
    """Names that are given with the arrays number the classes in their own order."""
    names, words = ("owl", "ape", "zebu", "Gnu"), ANIMALS.astype(kind)
    source = Arrays("data", (X, words[Y]), (X2, words[Y2]), class_names=names)
    check(prepared(source), *PAIRS, names, {"class_order": "given"})
    check(prepared(replace(source, class_names=())), *by_name(SORTED), SORTED, TEXT_ORDER)
    with pytest.raises(SourceError, match="labels that are no class name: zebu"):
        prepared(replace(source, class_names=("owl", "ape", "Gnu")))


BAD: dict[str, tuple[np.ndarray, str]] = {
    "halves": (Y / 2, "labels are float64 (40,) and not all whole, such as 0.5"),
    "no number": (np.where(Y > 2, np.nan, Y), "and not all whole, such as nan"),
    "infinity": (np.where(Y > 2, np.inf, Y), "and not all whole, such as inf"),
    "two ones in a row": (np.ones((40, 4), int), "labels are int64 (20,): expected 0 and 1"),
    "shares of classes": (np.eye(4)[Y] * 0.9 + 0.025, "labels are float64 (40, 4): expected"),
    "one-hot of other rows": (np.eye(4, dtype=int)[:, Y], "labels are int64 (4, 40): expected"),
    "complex numbers": (Y * 1j, "labels are complex128 (40,): expected integers (N,), or text"),
    "an empty word": (np.where(Y > 2, "", "x"), "has an empty label"),
    "text in train alone": (ANIMALS[Y], "labels are text in some splits only"),
}


@pytest.mark.parametrize("bad", BAD)
def test_other_labels_are_refused_by_what_they_are(tmp_path: Path, cache: Path, bad: str) -> None:
    """One line tells of the labels, and does not ask for numbers where these are numbers."""
    labels, reason = BAD[bad]
    path = write_npz(tmp_path / "bad.npz", ((X, labels), (X2, Y2)))
    refused(cache, path, path, reason)


def test_several_classes_a_row_are_named_as_such(cache: Path) -> None:
    """Rows with two ones are no classes where such were announced; the hint tells the way on."""
    arrays = Arrays("many", (X, np.ones((40, 2), int)), (X2, Y2))
    with pytest.raises(SourceError, match=r"labels are int64 \(40, 2\)") as caught:
        prepared(arrays)
    assert "task='multilabel'" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (np.full((40, 4), 0.25), "labels.argmax(axis=1)"),
        (np.resize([-1, 1], (40, 3)), "(labels > 0).astype('uint8')"),
        (np.zeros((1, 39)), "`layout=matlab`"),
    ],
    ids=["soft", "signs", "a row of another number"],
)
def test_labels_that_cannot_be_read_are_refused_with_what_makes_them_so(
    labels: np.ndarray, hint: str
) -> None:
    """Probabilities, -1 and 1, and the labels of images that lie along another axis."""
    with pytest.raises(SourceError, match="labels are ") as caught:
        prepared(Arrays("odd", (X, labels), (X2, Y2)))
    assert hint in str(caught.value.hint)


# Classes without an image


def test_labels_from_1_are_told_and_taken(
    read: Callable[..., pixelprep.Entry], told: Callable[[str], bool]
) -> None:
    """Without an option class 0 is there and empty, which is said; with `labels_from=1` it is
    not, and the classes are named by their labels.
    """
    check(read(Y + 1, Y2 + 1), (X, Y + 1), (X2, Y2 + 1), ("0", "1", "2", "3", "4"))
    assert told("no image of class 0; there are 15 of 1, 15 of 2, 15 of 3, 15 of 4")
    assert told("`labels_from=1`")


@pytest.mark.parametrize(
    ("labels", "options", "names"),
    [
        (Y + 1, {"labels_from": 1}, ("1", "2", "3", "4")),
        (Y * 7 - 3, {"renumber": True}, ("-3", "4", "11", "18")),
        (Y + 10**9, {"renumber": True}, tuple(str(10**9 + i) for i in range(4))),
        (Y + 10**9, {"labels_from": 10**9}, tuple(str(10**9 + i) for i in range(4))),
    ],
    ids=str,
)
def test_labels_are_numbered_as_told(
    read: Callable[..., pixelprep.Entry],
    told: Callable[[str], bool],
    labels: np.ndarray,
    options: dict[str, Any],
    names: tuple[str, ...],
) -> None:
    """Labels that count from another number, or with gaps, become 0, 1, 2, …; names keep them."""
    others = np.array([labels[label == Y][0] for label in range(4)])[Y2]
    check(read(labels, others, **options), *PAIRS, names)
    assert not told("no image of")


def test_gaps_are_told(read: Callable[..., pixelprep.Entry], told: Callable[[str], bool]) -> None:
    """Of 22 classes 18 have no image: the first of them are named, and those that have some."""
    entry = read(Y * 7, Y2 * 7)
    assert len(entry.class_names) == 22
    assert told("no image of classes 1, 2, 3, 4, 5, … (18 in all); there are 15 of 0, 15 of 7,")
    assert told("`renumber`")


def test_a_class_that_a_split_lacks_is_told(
    read: Callable[..., pixelprep.Entry], told: Callable[[str], bool]
) -> None:
    """A test split without a class is read, and said to be so."""
    others = np.where(Y2 == 3, 0, Y2)
    check(read(Y, others), (X, Y), (X2, others))
    assert told("test: no image of class 3; there are 10 of 0, 5 of 1, 5 of 2")


def test_a_class_that_train_lacks_is_refused(
    read: Callable[..., pixelprep.Entry], cache: Path
) -> None:
    """What no model can learn is not measured: the class is named."""
    with pytest.raises(SourceError, match="train has no image of class 3, test has") as caught:
        read(np.where(Y == 3, 0, Y), Y2)
    assert "leave them out (of files: `classes=A,B`)" in str(caught.value.hint)
    assert nothing_is_left(cache)


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_a_class_that_train_lacks_can_be_left_out(tmp_path: Path, kind: str) -> None:
    """Classes are chosen, or made one, before it is asked which of them train has."""
    made = partial(READ[kind], tmp_path, np.where(Y == 3, 0, Y), Y2)
    stay = Y2 != 3
    left = made(classes=["0", "1", "2"])
    assert left.class_names == ("0", "1", "2")
    assert left.test.labels.tolist() == Y2[stay].tolist()
    merged = made(class_map={"2": "rest", "3": "rest"})
    assert merged.class_names == ("0", "1", "rest")
    assert merged.test.labels.tolist() == np.minimum(Y2, 2).tolist()
    with pytest.raises(SourceError, match="train has no image of class 3, test has"):
        made(classes=["0", "1", "3"])


def test_options_of_labels_fit_the_labels(read: Callable[..., pixelprep.Entry]) -> None:
    """A label below the first, or two ways to number, are refused."""
    with pytest.raises(SourceError, match="`labels_from=1`: expected no label below, got 0"):
        read(Y, Y2, labels_from=1)
    with pytest.raises(UsageError, match="`labels_from` and `renumber`: expected one of the two"):
        read(Y, Y2, labels_from=1, renumber=True)


def test_idx_labels_from_1_are_taken(tmp_path: Path, told: Callable[[str], bool]) -> None:
    """EMNIST's letters count from 1: four IDX files take the option, too."""
    folder = write_digits(tmp_path / "letters")
    for path in folder.glob("*labels*"):
        content = path.read_bytes()
        path.write_bytes(content[:8] + bytes(label + 1 for label in content[8:]))
    assert prepared(folder).class_names == ("0", "1", "2", "3", "4")
    assert told("no image of class 0;")
    assert prepared(folder, labels_from=1).class_names == ("1", "2", "3", "4")


@pytest.mark.parametrize("name", ["test_fraction", "val_fraction"])
def test_fractions_leave_train_an_image_of_each_class(name: str) -> None:
    """Of eight images of one class and one each of two, half are taken: all of the first, which
    is said.
    """
    labels = np.array([0] * 8 + [1, 2])
    split = name.removesuffix("_fraction")
    lacks = f"rare: {split}: no image of classes 1, 2; there are 5 of 0"
    with pytest.warns(pixelprep.PixelprepWarning, match=lacks):
        entry = prepared(Arrays("rare", (X[:10], labels)), **{name: 0.5})
    assert np.bincount(entry.train.labels).tolist() == [3, 1, 1]
    taken = entry.splits[split]
    assert np.bincount(taken.labels).tolist() == [5]
    [verified] = pixelprep.verify(entry.path)
    assert verified.problems == ()


def test_fractions_that_would_take_a_class_are_refused(cache: Path) -> None:
    """Where nothing else is left to take, both fractions together, one line tells how many may."""
    labels = np.array([0] * 8 + [1, 2])
    source = Arrays("rare", (X[:10], labels))
    with pytest.raises(UsageError, match=r"`test_fraction=0\.8`: takes 8 of 10 .* at most 7, so"):
        prepared(source, test_fraction=0.8)
    with pytest.raises(UsageError, match=r"`val_fraction=0\.5`: takes 3 of 5 .* at most 2, so"):
        prepared(source, test_fraction=0.5, val_fraction=0.5)
    assert nothing_is_left(cache)


def test_files_may_have_several_classes_a_row(tmp_path: Path, cache: Path) -> None:
    """MedMNIST's form, (N, 14) of 0 and 1 with several or none in a row, is seen, said and read."""
    several = np.array([[(row >> k) & 1 for k in range(3)] for row in range(len(X))], np.uint8)
    others = np.eye(3, dtype=np.uint8)[Y2 % 3]  # a single one in each row of this split
    path = write_npz(tmp_path / "data.npz", ((X, several), (X2, others)))
    said = r"train: labels are uint8 \(40, 3\), several or none a row: 3 classes"
    with pytest.warns(pixelprep.PixelprepWarning, match=said):
        entry = prepared(path)
    assert entry.manifest.source.task == "multilabel"
    np.testing.assert_array_equal(entry.train.labels, several)
    np.testing.assert_array_equal(entry.test.labels, others)


class Counting:
    """Labels that count how many of them are read."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels, self.shape, self.dtype, self.read = labels, labels.shape, labels.dtype, 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Any) -> np.ndarray:
        found: np.ndarray = self.labels[rows]
        self.read += len(found)
        return found


def test_labels_of_named_classes_are_looked_at_once() -> None:
    """Their range and the images of each class are found in one pass; the wrong ones are named."""
    labels = Counting(Y)
    raw = assemble("data", {"train": (X, labels)}, Options(), class_names=list("abcd"))
    assert labels.read == len(Y)
    assert raw.class_names == tuple("abcd")
    with pytest.raises(SourceError, match=f"expected labels 0 to 1, got 0 to {Y.max()}"):
        assemble("data", {"train": (X, Y)}, Options(), class_names=["a", "b"])


# Numbers that have names


NAMES = tuple("abcdefghijk")


def test_renumbered_classes_keep_their_names() -> None:
    """A class is named by the number that it has in the data, not by its place among those met."""
    source = Arrays("gaps", (X, Y * 3), (X2, Y2 * 3), NAMES, renumber=True)
    check(prepared(source), *PAIRS, ("a", "d", "g", "j"))
    for first, hint in {1: "`labels_from=1`", 2: None}.items():
        beyond = Arrays("gaps", (X, Y + first), (X2, Y2 + first), NAMES[:4], renumber=True)
        with pytest.raises(SourceError, match="expected the numbers of 4 class names") as caught:
            prepared(beyond)
        assert (hint in str(caught.value.hint)) if hint else caught.value.hint is None


@pytest.mark.parametrize("renumber", [False, True])
def test_minus_one_beside_names_is_no_label(told: Callable[[str], bool], renumber: bool) -> None:
    """Hugging Face's way: refused, or left out and counted; no class gets another's name by it."""
    labels = np.where(np.arange(len(Y)) % 5 == 4, -1, Y)
    source = Arrays("some", (X, labels), (X2, Y2), tuple("abcd"))
    with pytest.raises(SourceError, match="got -1 to 3, -1 where there is no label") as caught:
        prepared(source)
    assert "`on_error=skip`" in str(caught.value.hint)
    skipped = replace(source, on_error="skip", renumber=renumber)
    lost = {"dropped": {"no label": 8}}
    check(prepared(skipped), (X[labels >= 0], Y[labels >= 0]), PAIRS[1], tuple("abcd"), lost)
    assert told("train: left out: without a label (-1): 8 of 40 images")


def test_a_split_of_no_labels_is_left_out(cache: Path) -> None:
    """Of a test split without labels nothing is left; a train split without any is refused."""
    none, names = (X2, np.full(len(X2), -1)), tuple("abcd")
    entry = prepared(Arrays("none", PAIRS[0], none, names, on_error="skip"))
    assert set(entry.manifest.source.splits) == {"train"}
    with pytest.raises(SourceError, match="train: no image has a label"):
        prepared(Arrays("none", none, None, names, on_error="skip"))


def test_numbers_beyond_the_names_have_a_way_on() -> None:
    """Labels that count from 1 have the option that does; others lack names."""
    hints = {"`labels_from=1`": Y + 1, "give names to all classes from 0 to 6": Y * 2}
    for hint, labels in hints.items():
        source = Arrays("from", (X, labels), class_names=tuple("abcd"))
        with pytest.raises(SourceError, match="expected labels 0 to 3, got ") as caught:
            prepared(source)
        assert hint in str(caught.value.hint)


def test_classes_of_one_name_are_told(tmp_path: Path, told: Callable[[str], bool]) -> None:
    """As ImageNet's two cranes: they stay two classes, which no name can choose."""
    path = tmp_path / "birds.npz"
    write_npz(path, PAIRS)
    with np.load(path) as held:
        np.savez(path, **held, class_names=np.array(["crane", "owl", "crane", "ape"]))
    entry = prepared(path)
    assert entry.class_names == ("crane", "owl", "crane", "ape")
    assert entry.train.labels.tolist() == Y.tolist()
    assert told("several classes of one name, told apart by number: crane")
    with pytest.raises(SourceError, match="expected names of one class each, by which to choose"):
        prepared(path, classes=["crane", "owl"])


@pytest.mark.parametrize("option", [{"labels_from": 1}, {"renumber": True}], ids=str)
def test_options_of_numbers_do_not_apply_to_other_labels(option: dict[str, Any]) -> None:
    """Text and several classes a row have no numbers: the option is refused, not ignored."""
    several = np.ones((len(Y), 3), np.uint8)
    [name] = option
    for labels, task, found in (
        (ANIMALS[Y], "classification", "text"),
        (several, "multilabel", "of several"),
    ):
        source = Arrays("odd", (X, labels), task=task, **option)
        with pytest.raises(UsageError, match=f"`{name}`: odd: labels are {found}"):
            prepared(source)


def test_a_file_of_classes_that_cannot_be_read_is_named_with_its_option() -> None:
    """The error says which option names the file, and once why it cannot be read."""
    with pytest.raises(pixelprep.SourceError) as caught:
        pixelprep.prepare("sample", class_map="no.csv")
    assert (
        str(caught.value) == "`class_map=no.csv`: cannot read the file: No such file or directory"
    )
