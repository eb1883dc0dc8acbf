"""Arrays known by their names: every usual spelling, in every container, is the same dataset."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pixelprep
from pixelprep import SourceError, UsageError
from pixelprep.format import untrusted
from pixelprep.sources import Arrays
from pixelprep.sources.containers.array_names import Header, Keys, Place, meaning, select
from pixelprep.sources.split_names import SPLIT_WORDS
from tests.helpers.raw_files import random_pairs
from tests.helpers.sources import check, prepared, refused

(X, Y), (X2, Y2) = PAIRS = random_pairs(shape=(5, 4))
IMAGES, OTHERS = Header((9, 5, 4), "uint8"), Header((9,), "int64")
PAIRED = [("x", "y"), ("images", "labels"), ("image", "label"), ("imgs", "labels")]
PAIRED += [("data", "target"), ("data", "labels"), ("pixels", "targets"), ("images", "ans")]
FORMS = [
    "{role}_{split}",
    "{split}_{role}",
    "{split}/{role}",
    "{split}_set_{role}",
    "{split}-{role}",
]
CASES: list[Callable[[str], str]] = [str.lower, str.upper, str.capitalize]
NOTHING = {"images": None, "labels": None}


def selected(arrays: dict[str, Header], file: str = "a.npz") -> dict[str, tuple[str, str]]:
    """Return the keys that are chosen of one file's arrays, by split."""
    held = {Place(file, key): header for key, header in arrays.items()}
    pairs = select("a", held, Keys([file], NOTHING, by_file=False)).pairs
    return {split: (pair["images"].key, pair["labels"].key) for split, pair in pairs.items()}


@given(
    st.sampled_from(PAIRED),
    st.sampled_from(FORMS),
    st.tuples(*(st.sampled_from([None, *SPLIT_WORDS[one]]) for one in ("val", "test"))),
    st.sampled_from(SPLIT_WORDS["train"]),
    st.lists(st.sampled_from(CASES), min_size=3, max_size=3),
    st.integers(0, 9),
)
def test_every_usual_name_is_known(
    roles: tuple[str, str],
    form: str,
    others: tuple[str | None, str | None],
    train: str,
    cases: list[Callable[[str], str]],
    seed: int,
) -> None:
    """Whatever the words for split and role, their order, signs and case, and whatever lies beside
    them: images and labels of each split are those that are named so.
    """
    of_split = {"train": train, "val": others[0], "test": others[1]}
    expected = {
        name: tuple(
            form.format(role=case(role), split=cases[2](word))
            for role, case in zip(roles, cases, strict=False)
        )
        for name, word in of_split.items()
        if word
    }
    keys = [(pair[i], [IMAGES, OTHERS][i]) for pair in expected.values() for i in (0, 1)]
    keys += [("mean", IMAGES), ("extra/x_train", IMAGES), ("weights_train", OTHERS)]
    random.Random(seed).shuffle(keys)
    assert selected(dict(keys)) == expected


@pytest.mark.parametrize("pair", [("images", "labels"), ("X", "y"), ("x", "y"), ("data", "target")])
def test_names_without_a_split_are_train(pair: tuple[str, str]) -> None:
    """Images and labels alone are all of it; beside arrays of splits they are not used."""
    whole = dict(zip(pair, (IMAGES, OTHERS), strict=True))
    assert selected(whole) == {"train": pair}
    of_splits = {"train_images": IMAGES, "train_labels": OTHERS}
    assert selected(whole | of_splits) == {"train": ("train_images", "train_labels")}


def test_arrays_beside_those_of_a_test_split_are_train() -> None:
    """X and y beside X_test and y_test, where nothing else is train."""
    arrays = {"X": IMAGES, "y": OTHERS, "X_test": IMAGES, "y_test": OTHERS}
    assert selected(arrays) == {"train": ("X", "y"), "test": ("X_test", "y_test")}
    alone = {"y": OTHERS, "X_test": IMAGES, "y_test": OTHERS}
    assert selected(alone) == {"test": ("X_test", "y_test")}


def test_short_words_name_splits_of_arrays() -> None:
    """x_tr, x_va and x_te; a short word alone says nothing of a role."""
    words = {"train": "tr", "val": "va", "test": "te"}
    keys = {split: (f"x_{word}", f"y_{word}") for split, word in words.items()}
    pairs = [zip(pair, (IMAGES, OTHERS), strict=True) for pair in keys.values()]
    assert selected(dict(one for pair in pairs for one in pair) | {"tr": IMAGES}) == keys


def test_labels_of_several_kinds_are_refused_with_the_way_on(tmp_path: Path, cache: Path) -> None:
    """CIFAR-100's fine and coarse labels: either is named by the option that the hint spells."""
    held = {f"{split}_images": x for split, (x, _) in {"train": (X, Y), "test": (X2, Y2)}.items()}
    held |= {"train_labels_fine": Y, "train_labels_coarse": Y // 2}
    path = write(tmp_path / "a.npz", held | {"test_labels_fine": Y2, "test_labels_coarse": Y2 // 2})
    error = refused(cache, path, path, "may be train_labels_fine, train_labels_coarse")
    assert error.hint == "name it: `labels_key={split}_labels_fine`"
    check(prepared(path, labels_key="{split}_labels_fine"), *PAIRS)


def test_two_arrays_that_may_be_meant_are_refused() -> None:
    """What could be either is not chosen: both are listed, and the option that tells."""
    arrays = {"x_train": IMAGES, "train_images": IMAGES, "y_train": OTHERS}
    with pytest.raises(SourceError, match="may be the images of train: x_train, train_im") as got:
        selected(arrays)
    assert "`images_key=KEY`" in str(got.value.hint)


@pytest.mark.parametrize(
    "text", ["restrain", "contest", "pretrain_mean", "exam_ple", "annotations"]
)
def test_a_word_within_a_word_says_nothing(text: str) -> None:
    """A name is divided at signs, digits and capitals only."""
    assert meaning(text)[:2] == (None, None)


# Files

COURSE = {"train": ("train_set_x", "train_set_y"), "test": ("test_set_x", "test_set_y")}


def write_family(folder: Path, suffix: str) -> Path:
    """Return a folder with a file a split, as a well-known course has them, with class names."""
    folder.mkdir()
    for (split, keys), pair in zip(COURSE.items(), PAIRS, strict=True):
        held = {**dict(zip(keys, pair, strict=True)), "list_classes": np.array([*"abcd"], "S")}
        write(folder / f"{split}_thing{suffix}", held)
    return folder


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Return a file of arrays, of the kind that its ending says."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type] # its stub takes no mapping
    elif path.suffix == ".npy":
        [array] = arrays.values()
        np.save(path, array)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array
    return path


NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_a_file_a_split_is_one_dataset(tmp_path: Path, cache: Path, suffix: str) -> None:
    """The folder, and a path with {split}, give both files with their class names; one of them
    alone is refused with what gives both, and taken where its arrays are named.
    """
    folder = write_family(tmp_path / "in", suffix)
    family = folder / f"{{split}}_thing{suffix}"
    error = refused(cache, folder / f"test_thing{suffix}", "test_thing", "files of others lie")
    assert str(family) in str(error.hint)
    for path, name in ((folder, "in"), (family, "thing")):
        entry = prepared(path)
        check(entry, *PAIRS, NAMES)
        assert entry.dataset == name
        assert prepared(path).cached
    keys = {"images_key": "train_set_x", "labels_key": "train_set_y"}
    check(prepared(folder / f"train_thing{suffix}", **keys), PAIRS[0], None, NAMES)


PCAM = "camelyonpatch_level_2_split_{}_{}.h5"


@pytest.mark.parametrize(
    ("name", "keys", "roles"),
    [
        ("{}_{}.npy", ("", ""), ("x", "y")),
        ("{1}_{0}.npy", ("", ""), ("X", "y")),
        ("k49-{}-{}.npz", ("arr_0", "arr_0"), ("imgs", "labels")),
        (PCAM, ("x", "y"), ("x", "y")),
    ],
)
def test_a_file_an_array_is_one_dataset(
    tmp_path: Path, name: str, keys: tuple[str, str], roles: tuple[str, str]
) -> None:
    """Images and labels of each split in files of their own are found by the files' names."""
    for split, pair in zip(("train", "test"), PAIRS, strict=True):
        for role, key, array in zip(roles, keys, pair, strict=True):
            write(tmp_path / name.format(split, role), {key: array})
    check(prepared(tmp_path), *PAIRS)


def write_folders(top: Path, train: str, test: str, suffix: str) -> Path:
    """Return a folder with a folder for each split: of files of the same names in each."""
    for split, (x, y) in zip((train, test), PAIRS, strict=True):
        (top / split).mkdir(parents=True)
        if suffix == ".npy":
            write(top / split / "images.npy", {"": x})
            write(top / split / "labels.npy", {"": y})
        else:
            write(top / split / f"all{suffix}", {"x": x, "y": y})
    (top / "README").write_text("free")
    return top


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".npy"])
@pytest.mark.parametrize("words", [("Train", "eval"), ("train_set", "my-test")])
def test_a_folder_a_split_is_one_dataset(
    tmp_path: Path, words: tuple[str, str], suffix: str
) -> None:
    """Files of the same names in folders of splits are one dataset: by the folder around them, and
    by a path with {split} for a folder.
    """
    top = write_folders(tmp_path / "in", *words, suffix)
    check(prepared(top), *PAIRS)
    if words[0] != "Train":
        return
    if suffix == ".npy":
        labels = "{split}/labels.npy"
        check(prepared(top / "{split}" / "images.npy", labels_key=labels), *PAIRS)
    else:
        check(prepared(top / "{split}" / f"all{suffix}"), *PAIRS)


def test_a_part_of_such_folders_is_refused(tmp_path: Path, cache: Path) -> None:
    """A file or a folder of one split, beside those of others, is no train split: the error says
    what gives all; and what gives it alone does.
    """
    top = write_folders(tmp_path / "in", "train", "test", ".npz")
    error = refused(cache, top / "test" / "all.npz", "test", "is one split, and files of others")
    assert str(error.hint).startswith(f"give them all: {top}/{{split}}/all.npz; or this one alone")
    top = write_folders(tmp_path / "arrays", "train", "test", ".npy")
    error = refused(cache, top / "test" / "images.npy", "test", "is one file of several")
    assert error.hint == f"give their folder: {top}"
    error = refused(cache, top / "test", "test", "is one split, and files of others lie beside it")
    alone = {"images_key": "images.npy", "labels_key": "labels.npy"}
    options = " ".join(f"`{role}={key}`" for role, key in alone.items())
    assert error.hint == f"give them all: {top}; or this one alone: {options}"
    check(prepared(top / "test", **alone), PAIRS[1], None)


def test_an_array_without_a_key_has_its_files_name(tmp_path: Path, cache: Path) -> None:
    """Where labels are missing, what is there is named: a .npy file has no key, but a name."""
    path = write(tmp_path / "images.npy", {"": X})
    refused(cache, path, "images.npy", "it holds images.npy (")


def test_another_file_is_named_by_an_option(tmp_path: Path, cache: Path) -> None:
    """A path with {split} has the images, FILE:KEY with {split} the labels; a file that is not
    there is named.
    """
    for split, (x, y) in zip(("training", "eval"), PAIRS, strict=True):
        write(tmp_path / f"k-{split}-imgs.npz", {"arr_0": x})
        write(tmp_path / f"k-{split}-classes.npz", {"arr_0": y})
    path = tmp_path / "k-{split}-imgs.npz"
    refused(cache, path, "none.npz", "no such file", labels_key="none.npz:y")
    one = "k-eval-classes.npz:arr_0"
    error = refused(cache, path, "", "in both or none", images_key="a", labels_key=one)
    assert isinstance(error, UsageError)
    check(prepared(path, labels_key="k-{split}-classes.npz:arr_0"), *PAIRS)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_one_key_may_be_left_to_guess(tmp_path: Path, suffix: str) -> None:
    """Images of an odd name are given, {split} standing for any word; the labels are found."""
    held = {"pics/training": X, "pics/testing": X2, "labels_train": Y, "labels_test": Y2}
    path = write(tmp_path / f"odd{suffix}", held)
    check(prepared(path, images_key="pics/{split}"), *PAIRS)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("fractions", [("test_fraction", "val_fraction"), ("test_fraction",)])
def test_splits_are_taken_from_arrays(
    tmp_path: Path, suffix: str, fractions: tuple[str, ...]
) -> None:
    """Of a file without splits, fractions make them, whatever holds it."""
    path = write(tmp_path / f"whole{suffix}", {"X": X, "y": Y})
    entry = prepared(path, **dict.fromkeys(fractions, 0.25))
    assert entry.splits.keys() == {"train", *(one.partition("_")[0] for one in fractions)}
    check(entry, (X, Y), None)


def test_arrays_lie_in_groups_within_groups(tmp_path: Path) -> None:
    """Names of groups count at any of five levels; one around it all that says nothing is left out,
    as a folder around pictures is.
    """
    held = dict(zip(("images", "labels"), PAIRS[0], strict=True))
    tested = dict(zip(("images", "labels"), PAIRS[1], strict=True))
    for around in ("data", "scans/site_3/raw/v1"):
        splits = {f"{around}/train/{role}": one for role, one in held.items()}
        splits |= {f"{around}/test/{role}": one for role, one in tested.items()}
        path = write(tmp_path / f"{len(around)}.h5", splits)
        check(prepared(path), *PAIRS)


def test_arrays_deep_in_groups_are_listed(tmp_path: Path, cache: Path) -> None:
    """Where names do not say what arrays are, the error lists them, and they are taken if named."""
    odd = write(tmp_path / "odd.h5", {"a/b/cubes": X, "a/c/d/e/f/kind": Y})
    error = refused(cache, odd, odd, f"it holds a/b/cubes {X.shape} uint8, a/c/d/e/f/kind (")
    assert "images_key" in str(error.hint)
    check(prepared(odd, images_key="a/b/cubes", labels_key="a/c/d/e/f/kind"), (X, Y), None)


def test_groups_without_end_are_listed_as_such(tmp_path: Path, cache: Path) -> None:
    """A group that holds itself, and groups deeper than is looked, are no endless work."""
    path = write(tmp_path / "deep.h5", {"a/b/c/d/e/f/g/images": X, "a/kind": Y})
    with h5py.File(path, "a") as file:
        file["a/again"] = file["a"]
    error = refused(cache, path, path, "it holds a/b/c/d/e/f () group, a/kind (")
    assert "again" not in error.message
    check(prepared(path, images_key="a/b/c/d/e/f/g/images", labels_key="a/kind"), (X, Y), None)


def test_very_many_arrays_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many arrays, groups within groups are named, and not looked into."""
    monkeypatch.setattr(untrusted, "MAX_ARRAYS", 7)
    path = write(tmp_path / "many.h5", {f"{i}/b/x": np.zeros(1) for i in range(9)})
    with h5py.File(path) as file:
        found = untrusted.list_arrays(file, (), "@")
    assert [key for key, (_, kind) in found.items() if kind == "group"] == [
        f"{i}/b" for i in range(3, 9)
    ]


def test_class_names_of_an_attribute(tmp_path: Path) -> None:
    """Names that the labels carry name the classes; those of another array do not."""
    path = write(tmp_path / "named.h5", {"images": X, "labels": Y, "more": Y})
    with h5py.File(path, "a") as file:
        file["labels"].attrs["class_names"] = [*"abcd"]
        file["more"].attrs["classes"] = [*"dcba"]
    check(prepared(path), (X, Y), None, NAMES)


@pytest.mark.parametrize(
    "names", [[*"abcd"], "a, b,c,d", '["a", "b", "c", "d"]', np.bytes_("a,b,c,d")], ids=str
)
@pytest.mark.parametrize("owner", ["/", "train"])
def test_class_names_of_an_attribute_of_the_file(tmp_path: Path, names: Any, owner: str) -> None:
    """A list, or one text that lists them, by the file or a group around what is read."""
    path = write(tmp_path / "named.h5", {"train/images": X, "train/labels": Y, "z/more": Y})
    with h5py.File(path, "a") as file:
        file[owner].attrs["class_names"] = names
        file["z"].attrs["class_names"] = [*"dcba"]
    check(prepared(path), (X, Y), None, NAMES)


def test_an_attribute_that_lists_nothing_names_no_class(tmp_path: Path) -> None:
    """One word under a usual name of class names is told of as not used."""
    path = write(tmp_path / "named.h5", {"images": X, "labels": Y})
    with h5py.File(path, "a") as file:
        file.attrs["classes"] = "animals"
    with pytest.warns(pixelprep.PixelprepWarning, match="arrays not used: @classes"):
        check(prepared(path), (X, Y), None)


def test_class_names_that_differ_are_refused(tmp_path: Path, cache: Path) -> None:
    """Two lists of names in a dataset: neither is taken in silence."""
    held = {"x_train": X, "y_train": Y, "class_names": np.array([*"abcd"])}
    path = write(tmp_path / "two.npz", held | {"label_names": np.array([*"dcba"])})
    refused(cache, path, path, "class names differ: two.npz:class_names, two.npz:label_names")


# Shapes, pickles


def flat(images: np.ndarray) -> np.ndarray:
    """Return the images as rows of numbers."""
    return images.reshape(len(images), -1)


@pytest.mark.parametrize(
    ("shape", "hint", "given"),
    [
        ((6, 6), "`shape=6x6`", {"shape": "6x6"}),
        ((6, 6, 3), "`shape=6x6x3`", {"shape": (6, 6, 3)}),
        ((6, 6, 3), "`layout=nchw`", {"shape": "3x6x6", "layout": "nchw"}),
        ((5, 4), "`shape=HxW`", {"shape": "5x4"}),
    ],
)
def test_flat_rows_take_a_shape(
    tmp_path: Path, cache: Path, shape: tuple[int, ...], hint: str, given: dict[str, Any]
) -> None:
    """Rows of numbers are refused with a shape that they may have, and are images with it."""
    pairs = random_pairs(shape=shape)
    first = "layout" in given
    (x, y), (x2, y2) = (
        (flat(x.transpose(0, 3, 1, 2) if first else x), labels) for x, labels in pairs
    )
    path = write(tmp_path / "flat.npz", {"x_train": x, "y_train": y, "x_test": x2, "y_test": y2})
    assert hint in str(refused(cache, path, path, "flat rows").hint)
    refused(cache, path, path, "flat rows", shape="7x7")
    check(prepared(path, **given), *pairs, decode={"layout": "nchw"} if first else {})


@pytest.mark.parametrize("shape", ["28", "0x3", "1x2x3x4", "axb", (3,), 5])
def test_what_is_no_shape_is_refused(tmp_path: Path, cache: Path, shape: object) -> None:
    """Two or three sides, each 1 or more."""
    path = write(tmp_path / "flat.npz", {"x_train": flat(X), "y_train": Y})
    refused(cache, path, "`shape=", "expected HxW or HxWxC", shape=shape)


def test_a_shape_of_what_has_one_is_refused(tmp_path: Path, cache: Path) -> None:
    """Images that are no rows are not reshaped."""
    path = write(tmp_path / "images.npz", {"x_train": X, "y_train": Y})
    refused(cache, path, path, "expected flat rows (N, 20), got (40, 5, 4)", shape="4x5")


@pytest.mark.parametrize(
    ("name", "content", "way"),
    [
        ("a.pkl", b"", "pixelprep.Arrays("),
        ("a.pt", b"PK", "pixelprep.Arrays("),
        ("a.bin", b"\x80\x04", "pixelprep.Arrays("),
        ("mnist.pkl.gz", gzip.compress(b"\x80\x03", mtime=0), "pixelprep.Arrays("),
        ("cifar/data_batch_1", b"\x80\x02", "binary version"),
    ],
)
def test_a_pickle_is_refused_with_the_way_on(
    tmp_path: Path, cache: Path, name: str, content: bytes, way: str
) -> None:
    """Pickles are known by ending or first bytes, also in a folder; nothing loads them."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    dataset = path.parent if "/" in name else path
    assert way in str(refused(cache, dataset, path, "never loaded").hint)


def test_arrays_that_numpy_numbered_are_to_be_named(tmp_path: Path, cache: Path) -> None:
    """No key with {split} reaches arr_0 to arr_3, so the hint is to save them by name."""
    np.savez(path := tmp_path / "own.npz", X, Y, X2, Y2)
    error = refused(cache, path, path, "it holds arr_0 (40, 5, 4) uint8, arr_1 (40,)")
    assert "numpy.savez(FILE, x_train=…" in str(error.hint)


def test_an_array_of_objects_is_refused_by_what_it_is(tmp_path: Path, cache: Path) -> None:
    """NumPy pickles objects in its own files: that is said, and what to save in their place."""
    path = tmp_path / "odd.npy"
    np.save(path, np.array([X, "text"], object), allow_pickle=True)
    error = refused(cache, path, path, "holds pickled Python objects")
    assert "array of numbers" in str(error.hint)


@pytest.mark.parametrize("keys", [{}, {"images_key": "x_{split}", "labels_key": "y_{split}"}])
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_images_without_labels_are_told_and_left_out(
    tmp_path: Path, suffix: str, keys: dict[str, str]
) -> None:
    """A contest's x_test has no y_test: train is read, and a test split can be taken from it."""
    path = write(tmp_path / f"own{suffix}", {"x_train": X, "y_train": Y, "x_test": X2})
    with pytest.warns(pixelprep.PixelprepWarning, match="own: no labels for x_test: test is left"):
        check(prepared(path, test_fraction=0.25, **keys), (X, Y), None)


# The maker's validation split as the test split


def test_val_may_be_meant_as_test(tmp_path: Path) -> None:
    """`test_from` makes the data that it would be if the maker had called its val test: the same
    digest and rows; another option is another identity, also of what is cached.
    """
    held = {"x_train": X, "y_train": Y, "x_val": X2, "y_val": Y2}
    path = write(tmp_path / "own.npz", held)
    assert prepared(path).splits.keys() == {"train", "val"}
    with pytest.warns(pixelprep.PixelprepWarning, match="own: its val split is taken as test"):
        entry = prepared(path, test_from="val")
    check(entry, *PAIRS)
    assert prepared(path, test_from="val").cached
    assert prepared(path).splits.keys() == {"train", "val"}


@pytest.mark.parametrize(
    ("held", "reason"),
    [({}, "the data has no val split"), ({"val": 0, "test": 0}, "has a test split of its own")],
)
def test_what_cannot_be_the_test_split_is_refused(
    tmp_path: Path, cache: Path, held: dict[str, int], reason: str
) -> None:
    """Without a val split, or with a test split, there is nothing that `test_from` could mean."""
    own = {f"{role}_{split}": one for split in held for role, one in (("x", X2), ("y", Y2))}
    path = write(tmp_path / "own.npz", {"x_train": X, "y_train": Y, **own})
    error = refused(cache, path, "`test_from=val`", reason, test_from="val")
    assert isinstance(error, UsageError)
    with pytest.raises(UsageError, match="`test_from`: does not apply to a source object"):
        prepared(Arrays("data", *PAIRS), test_from="val")
