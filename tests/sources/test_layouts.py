"""Layouts: which split and class a picture is of follows from names alone."""

import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelprep import PixelprepWarning, SourceError
from pixelprep.sources.pictures.layouts import Layout, find_layout
from tests.helpers.sources import prepared, raw_of, refused
from tests.sources.test_image_folder import numbered, picture, save, write

WORDS = {
    "train": ("train", "Train", "TRAINING"),
    "val": ("val", "valid", "Validation", "dev"),
    "test": ("test", "Testing", "eval"),
}
CLASSES = ("cat", "dog", "emu", "10", "9", "é")


def find(names: Sequence[str], text: str = "") -> Layout:
    """Return the layout of files in a folder `top`; those that end in .png are pictures."""
    parents = {f"{name[:i]}/" for name in names for i, c in enumerate(name) if c == "/"}
    every = [*names, *sorted(parents)]
    return find_layout("top", every, lambda name: name.endswith(".png"), lambda _: text)


def pairs(layout: Layout) -> dict[str, list[tuple[str, str]]]:
    """Return each split's names of pictures and classes."""
    return {
        split: [(name, layout.class_names[label]) for name, label in zip(*listed, strict=True)]
        for split, listed in ((s, (i.names, i.labels.tolist())) for s, i in layout.splits.items())
    }


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[str, list[tuple[str, str]]], list[str], str]:
    """Draw what each split holds, other files, and the folder around all."""
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))
    splits = ["train", *draw(st.lists(st.sampled_from(["val", "test"]), unique=True))]
    around = draw(st.sampled_from(["", "data/", "my set/v1/"]))
    held: dict[str, list[tuple[str, str]]] = {}
    others = []
    for split in splits:
        word = draw(st.sampled_from(WORDS[split]))
        held[split] = []
        some = classes[: None if split == "train" else draw(st.integers(1, len(classes)))]
        for name in some:
            for path in draw(
                st.lists(st.sampled_from(["0", "1", "a/0", "a/b/0", "images/7"]), min_size=1)
            ):
                pair = (f"{around}{word}/{name}/{path}.png", name)
                if pair not in held[split]:
                    held[split].append(pair)
            others += [f"{around}{word}/{name}/notes.txt"] * draw(st.booleans())
        others += [f"{around}{word}/README.md"] * draw(st.booleans())
    others += ["LICENSE"] * draw(st.booleans())
    return held, sorted(set(others)), around


@given(trees(), st.randoms())
def test_every_file_is_of_one_split_or_not_used(
    tree: tuple[Mapping[str, list[tuple[str, str]]], list[str], str], random: object
) -> None:
    """Under any words for splits, at any depth below a class and in any order: each picture has
    its split and class, sorted by class and path, and every other file is counted.
    """
    held, others, around = tree
    names = [name for listed in held.values() for name, _ in listed] + others
    random.shuffle(names)  # type: ignore[attr-defined] # as of the module
    layout = find(names)
    assert layout.class_names == tuple(sorted({name for _, name in held["train"]}))
    expected = {s: sorted(listed, key=lambda p: (p[1], p[0])) for s, listed in held.items()}
    assert pairs(layout) == expected
    assert sorted(layout.unused) == others
    assert list(layout.splits) == [s for s in ("train", "val", "test") if s in held]
    told = " ".join(layout.told)
    assert (f"from its folder {around[:-1]}" in told) == bool(around)


def test_without_split_folders_all_is_train() -> None:
    """Folders of classes alone are train; a class may be called like a split, which is said."""
    layout = find(["cat/0.png", "dog/a/0.png", "test/1.png"])
    assert pairs(layout) == {
        "train": [("cat/0.png", "cat"), ("dog/a/0.png", "dog"), ("test/1.png", "test")]
    }
    assert layout.told == ["top/test: taken for a class: there is no folder train"]


NAMED = [
    ("train_set", "test_set"),
    ("training_set", "TestSet"),
    ("seg_train", "seg_test"),
    ("train2017", "test2017"),
    ("my-trainset", "test"),
    ("seg_train/seg_train", "seg_test/seg_test"),
    ("train/train", "test/test"),
]


@pytest.mark.parametrize(("train", "test"), NAMED)
def test_a_word_for_a_split_in_a_name_is_enough(train: str, test: str) -> None:
    """Folders of the same classes, a word for a split in their names, are splits, and said."""
    names = [f"{s}/{c}/{i}.png" for s in (train, test) for c in ("cat", "dog") for i in (0, 1)]
    layout = find(["LICENSE", *names])
    assert layout.class_names == ("cat", "dog")
    assert {split: list(listed.names) for split, listed in layout.splits.items()} == {
        "train": [name for name in names if name.startswith(f"{train}/")],
        "test": [name for name in names if name.startswith(f"{test}/")],
    }
    assert layout.unused == ["LICENSE"]
    tops = [train.partition("/")[0], test.partition("/")[0]]
    pairs = zip(tops, ("train", "test"), strict=True)
    said = [f"{top} as {split}" for top, split in pairs if top != split]
    assert layout.told == ([f"top: folders are read so: {', '.join(said)}"] if said else [])


def test_a_split_by_its_name_without_classes_is_not_train() -> None:
    """Pictures of a test split in no class are not taken for a class beside its train split."""
    layout = find(["my_train/cat/0.png", "my_train/dog/0.png", "my_test/0.png"])
    assert list(layout.splits) == ["train"]
    assert layout.class_names == ("cat", "dog")
    assert "top/my_test: not used: 1 image" in layout.told[-1]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["test tube/0.png", "train station/0.png"], ("test tube", "train station")),
        (["bus/a/0.png", "test tube/b/0.png", "train/0.png"], None),
        (
            ["bus/0.png", "test tube/x/0.png", "train station/in/0.png", "train station/out/0.png"],
            ("bus", "test tube", "train station"),
        ),
    ],
)
def test_a_word_for_a_split_in_a_class_is_no_split(
    names: Sequence[str], classes: tuple[str, ...] | None
) -> None:
    """Folders of pictures, or of others than train's, are classes; that they might be splits is
    said.
    """
    if classes is None:
        with pytest.raises(SourceError, match="top/train is taken for the split train"):
            find(names)
        return
    layout = find(names)
    assert layout.class_names == classes
    assert layout.told == [
        "top: taken for classes, though the names have words for splits: test tube, train station"
    ]


def test_splits_below_some_classes_alone_are_told() -> None:
    """Where only some classes have folders of splits, that their test pictures are of train is
    said, and every picture is counted once.
    """
    names = [f"{c}/{s}/0.png" for c in ("cat", "dog") for s in ("test", "train")]
    for more in ("emu/0.png", "dog/0.png", "dog/more/0.png"):
        layout = find([*names, more])
        assert sorted(pairs(layout)["train"]) == sorted((n, n[:3]) for n in [*names, more])
        assert layout.unused == []
        assert layout.told == [
            "top: test, train in cat, dog are all taken as train: not every class has folders of"
            " splits alone"
        ]


@pytest.mark.parametrize("around", ["", "data/"])
def test_what_is_read_is_not_counted_as_unused(around: str) -> None:
    """Of splits below classes, and of classes alone, every other file is counted, once."""
    names = [f"{around}{c}/{s}/0.png" for c in ("cat", "dog") for s in ("train", "test")]
    others = ["LICENSE", f"{around}README", f"{around}cat/notes.txt"]
    assert sorted(find([*names, *others]).unused) == sorted(others)
    names = [f"{around}{c}/0.png" for c in ("cat", "dog")]
    assert sorted(find([*names, *others]).unused) == sorted(others)


def test_splits_below_each_class_are_read() -> None:
    """CLASS/SPLIT is read as SPLIT/CLASS is, in any words, and said; others are no splits."""
    names = [f"{c}/{s}/{i}.png" for c in ("cat", "dog") for s in ("Train", "test") for i in (0, 1)]
    layout = find(names)
    assert pairs(layout) == {
        split: [(f"{c}/{word}/{i}.png", c) for c in ("cat", "dog") for i in (0, 1)]
        for split, word in {"train": "Train", "test": "test"}.items()
    }
    assert layout.told == ["top: in each class, folders of splits: train, test"]
    assert list(find([*names, "dog/more/0.png"]).splits) == ["train"]


def test_a_class_called_like_a_split_is_told() -> None:
    """A folder `train` among classes is a split: the error says so."""
    with pytest.raises(
        SourceError, match=r"found 0: none \(top/train is taken for the split train"
    ):
        find(["bus/0.png", "car/0.png", "train/0.png"])


@pytest.mark.parametrize(
    ("names", "expected", "way"),
    [
        (
            ["0.png", "1.png", "notes.txt"],
            "top: 2 pictures lie in it, in no class folder: ",
            "above",
        ),
        ([], "top: it is empty: ", "the folder that has the images"),
        (["notes.txt"], "top: expected a folder of images for each of two", "sort the images"),
    ],
)
def test_what_has_no_class_is_told_apart(names: list[str], expected: str, way: str) -> None:
    """Pictures of one class, an empty folder, and files of another kind."""
    with pytest.raises(SourceError) as refused:
        find(names)
    assert refused.value.message.startswith(expected)
    assert way in str(refused.value.hint)


def test_words_for_splits_are_said() -> None:
    """What was taken for which split is one line."""
    layout = find([f"{s}/{c}/0.png" for s in ("Train", "valid", "test") for c in "ab"])
    assert layout.told == ["top: folders are read so: Train as train, valid as val"]


TINY = ["train/n1/images/a.png", "train/n2/images/b.png", "val/images/v0.png", "val/images/v1.png"]
TABLE = "val/val_annotations.txt"


def test_a_table_of_classes_stands_for_folders() -> None:
    """As in Tiny ImageNet: each picture of val has the class of its line; test has none."""
    names = [*TINY, "val/images/v2.png", TABLE, "test/images/t.png"]
    layout = find(names, "v0.png\tn2\t0\t0\t9\t9\nv1.png\tn1\t1\t1\t2\t2\n\nv9.png\tn1\n")
    assert pairs(layout)["val"] == [("val/images/v1.png", "n1"), ("val/images/v0.png", "n2")]
    assert list(layout.splits) == ["train", "val"]
    assert layout.unused == ["val/images/v2.png"]
    assert layout.told == [
        "top/val/val_annotations.txt: names the classes of 2 images; no image of 1 more",
        "top/test: not used: 1 image, in no folder of a class: `test_fraction` takes such a split"
        " from train",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("v0.png\tn3\n", "these differ: n3"), ("v0.png n1\n", "expected lines of FILE, tab, CLASS")],
)
def test_a_wrong_table_is_refused(text: str, reason: str) -> None:
    """A class that train lacks, or lines of another kind, are named with the table."""
    with pytest.raises(SourceError, match=f"top/{TABLE}: .*{reason}"):
        find([*TINY, TABLE], text)


@pytest.mark.parametrize("below", ["", "images/", "unknown/deep/"])
def test_a_split_without_classes_is_not_used(below: str) -> None:
    """Its pictures are counted, and the way on is said."""
    names = ["train/cat/0.png", "train/dog/0.png", *(f"test/{below}{i}.png" for i in range(4))]
    layout = find([*names, "test/list.txt"])
    assert list(layout.splits) == ["train"]
    assert layout.unused == ["test/list.txt"]
    [told] = layout.told
    assert told.startswith("top/test: not used: 4 images, in no folder of a class")


def test_a_class_that_train_lacks_is_refused() -> None:
    """A class may be absent from test, but not from train alone."""
    train = ["train/cat/0.png", "train/dog/0.png"]
    assert list(find([*train, "test/dog/0.png"]).splits) == ["train", "test"]
    with pytest.raises(SourceError, match=r"top/test: expected the classes of train.*: emu"):
        find([*train, "test/dog/0.png", "test/emu/0.png"])


def test_a_class_that_is_not_chosen_may_be_empty_or_in_test_alone(tmp_path: Path) -> None:
    """The errors say how a class is left out, which then is done, and counted."""
    folder = tmp_path / "pets"
    write(folder / "train", numbered({"cat": 3, "dog": 3}))
    write(folder / "test", numbered({"cat": 1, "dog": 2, "emu": 4}))
    with pytest.raises(SourceError, match="classes of train, these differ: emu") as one:
        raw_of(folder)
    assert one.value.hint == "add them to train, or take the others: `classes=cat,dog`"
    (folder / "train" / "fox").mkdir()
    with pytest.raises(SourceError, match="train/fox: an empty class") as one:
        raw_of(folder)
    assert one.value.hint == "remove it, or take the others: `classes=cat,dog`"
    with pytest.warns(PixelprepWarning, match="left out as of other classes: 4 images"):
        raw = raw_of(folder, classes=("cat", "dog"))
    assert raw.class_names == ("cat", "dog")
    assert {s: np.bincount(one.labels[:]).tolist() for s, one in raw.splits.items()} == {
        "train": [3, 3],
        "test": [1, 2],
    }
    assert raw.decode["dropped"] == {"other classes": 4}
    with pytest.raises(SourceError, match="these differ: emu"):
        raw_of(folder, classes=("cat", "emu"))


def test_equal_names_in_other_characters_are_told() -> None:
    """A class whose name looks like one of train is told apart from it, not taken for it."""
    train, test = "\u00e9", "e\u0301"
    names = ["train/b/0.png", f"train/{train}/0.png", f"test/{test}/0.png", "test/b/0.png"]
    with pytest.raises(SourceError, match=f"these differ: {test}; {train} is there, in other Uni"):
        find(names)


def test_splits_beside_the_one_that_is_given_are_told(tmp_path: Path) -> None:
    """A folder or an archive that is one split of several by its name is taken as asked, and what
    gives all is said; where nothing is fitted to it, that is what was meant.
    """
    top = tmp_path / "pets"
    for seed, split in ((0, "train"), (50, "test")):
        write(top / split, numbered({"cat": 3, "dog": 3}), seed)
        shutil.make_archive(str(tmp_path / f"pets-{split}"), "zip", top / split)
    said = "folders of other splits beside it are not used; give all: "
    with pytest.warns(PixelprepWarning, match=f"{said}{top}$"):
        entry = prepared(top / "test")
    said = "files of other splits beside it are not used; give all: "
    with pytest.warns(PixelprepWarning, match=f"{said}{tmp_path}/pets-{{split}}.zip"):
        raw_of(tmp_path / "pets-test.zip")
    with warnings.catch_warnings(record=True) as caught:
        prepared(top)
        prepared(top / "test", scaling_of=entry.key)
    assert [one for one in caught if "beside" in str(one.message)] == []


def test_numbers_out_of_order_are_said(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Labels follow code points; where names are numbers that sort otherwise, that is a line."""
    for name in ("1", "10", "2"):
        save(tmp_path / "nums" / name / "0.png", picture(int(name)))
    line = "nums: classes sort by code points: label 0 is 1, 1 is 10, 2 is 2"
    with pytest.warns(PixelprepWarning, match=line):
        assert raw_of(tmp_path / "nums").class_names == ("1", "10", "2")
    assert raw_of(tmp_path / "nums", classes="10,2").class_names == ("10", "2")
    assert not [one for one in recwarn if "0 is 1," in str(one.message)]  # untrue of that choice


def test_a_class_missing_in_test_is_told_and_accepted(tmp_path: Path) -> None:
    """The classes of train are those of all; one without an image in test is named."""
    write(tmp_path / "train", numbered({"cat": 3, "dog": 3}))
    write(tmp_path / "test", numbered({"cat": 2}), seed=50)
    (tmp_path / "test" / "dog").mkdir()
    with pytest.warns(match="test: no image of class dog; there are 2 of cat"):
        entry = prepared(tmp_path)
    assert entry.class_names == ("cat", "dog")
    assert entry.test.labels.tolist() == [0, 0]


def test_links_out_of_the_folder_are_followed_where_that_is_wanted(tmp_path: Path) -> None:
    """A folder made of links alone gives what the folder that they lead to gives."""
    write(tmp_path / "real", numbered({"cat": 3, "dog": 3}))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "cat").symlink_to(tmp_path / "real" / "cat")
    (tmp_path / "links" / "dog").mkdir()
    for path in (tmp_path / "real" / "dog").iterdir():
        (tmp_path / "links" / "dog" / path.name).symlink_to(path)
    with pytest.raises(SourceError, match="a link that leaves") as caught:
        prepared(tmp_path / "links")
    assert caught.value.hint == "use what such links lead to: `follow_links`"
    found = prepared(tmp_path / "links", follow_links=True)
    assert found.key == prepared(tmp_path / "real").key
    (tmp_path / "links" / "cat" / "back").symlink_to(tmp_path)
    with pytest.raises(SourceError, match="a link that leads back"):
        prepared(tmp_path / "links", follow_links=True)


def test_pictures_without_an_ending_are_known_by_their_content(tmp_path: Path) -> None:
    """A file without an ending is a picture if it begins like one."""
    for name in ("a", "b"):
        save(tmp_path / "f" / name / "0", picture(ord(name)), format="PNG")
        (tmp_path / "f" / name / "notes").write_text("no picture")
    with pytest.warns(match=r"not used: 2 files \(2 without ending\)"):
        entry = prepared(tmp_path / "f")
    images = entry.scaling.invert(entry.train.to_numpy()[0])
    assert entry.train.names is not None
    found = dict(zip(entry.train.names.tolist(), images, strict=True))
    assert np.array_equal(found["a/0"], picture(ord("a")))


@pytest.mark.long
@pytest.mark.parametrize("library", ["keras", "torchvision"])
def test_classes_and_pictures_are_those_of_other_libraries(tmp_path: Path, library: str) -> None:
    """Of pictures at any depth below classes, both find the same classes, paths and pixels."""
    names = {
        name: ["0.png", "10.png", "9.PNG", "x/1.png", "x/y/2.png"] for name in ("10", "9", "b")
    }
    write(tmp_path / "f", names)
    entry = prepared(tmp_path / "f")
    assert entry.train.names is not None
    images, labels = entry.train.to_numpy()
    rows = zip(entry.train.names.tolist(), entry.scaling.invert(images), labels, strict=True)
    ours = {path: (image.tobytes(), int(label)) for path, image, label in rows}
    if library == "keras":
        keras = pytest.importorskip("keras")
        found = keras.utils.image_dataset_from_directory(
            tmp_path / "f", shuffle=False, batch_size=None, image_size=(9, 7)
        )
        classes, paths = found.class_names, found.file_paths
        pairs = [(image.numpy().astype(np.uint8), int(label)) for image, label in found]
    else:
        datasets = pytest.importorskip("torchvision.datasets")
        found = datasets.ImageFolder(tmp_path / "f")
        classes, paths = found.classes, [path for path, _ in found.samples]
        pairs = [(np.asarray(image), label) for image, label in found]
    assert tuple(classes) == entry.class_names
    relative = [str(Path(path).relative_to(tmp_path / "f")) for path in paths]
    theirs = {
        path: (image.tobytes(), label) for path, (image, label) in zip(relative, pairs, strict=True)
    }
    assert theirs == ours


def containers(folder: Path, *names: str) -> Path:
    """Make a folder of files that hold data, by their names."""
    for name in ("LICENSE.txt", *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"whatever")
    return folder


@pytest.mark.parametrize(
    ("names", "told", "way"),
    [
        (
            ["a/test.zip", "a/train.zip"],
            "a/test.zip, a/train.zip",
            "give the folder that they are in: {}/a",
        ),
        (["all.zip"], "all.zip", "give it: {}/all.zip"),
        (["a.csv", "b.csv"], "a.csv, b.csv", "give one of them: {}/a.csv"),
        (
            ["arrays/x_test.npy", "arrays/x_train.npy"],
            "arrays/x_test.npy, arrays/x_train.npy",
            "give the folder that they are in: {}/arrays",
        ),
    ],
)
def test_a_folder_of_containers_is_told_the_way(
    tmp_path: Path, cache: Path, names: list[str], told: str, way: str
) -> None:
    """Where a folder has no picture but files that hold data, they are named with what to do."""
    folder = containers(tmp_path / "own", *names)
    error = refused(cache, folder, folder, f"no image in it; it holds {told}")
    assert error.hint is not None
    assert error.hint.startswith(way.format(folder))
