"""WebDataset tars: rows are files of one key that follow each other."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from tests.helpers.sources import prepared, refused
from tests.sources.test_rows import X, Y, encoded, raw

Files = Sequence[tuple[str, bytes]]


def tar(path: Path, files: Files, mode: Any = "w") -> Path:
    """Write a tar with these files in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(rows: range, label: str = "cls", kind: str = "png") -> Files:
    """Return pictures and classes as the library's writer puts them into a tar."""
    files = []
    for row in rows:
        text = str(Y[row])
        if label == "json":
            text = json.dumps({"label": f"class {Y[row]}", "width": 4})
        files += [(f"{row:06d}.{kind}", encoded(X[row])), (f"{row:06d}.{label}", text.encode())]
    return files


def test_a_tar_of_keys_is_a_dataset(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Pixels, labels and names are those in the tar, in its order; one line says what was read."""
    extra = [("000000.txt", b"a caption")]
    path = tar(tmp_path / "digits.tar", [*extra, *samples(range(12))])
    entry = prepared(path)
    assert (raw(entry) == X).all()
    assert entry.train.labels.tolist() == Y.tolist()
    assert (entry.train.name_of(3), entry.dataset) == ("000003.png", "digits")
    assert [str(one.message) for one in recwarn] == [
        f"{path}: a WebDataset of 1 tar: pictures .png, labels .cls, not used: .txt"
    ]
    assert prepared(path).cached


def test_keys_that_do_not_follow_each_other_are_said(tmp_path: Path, cache: Path) -> None:
    """A tar sorted by endings has all classes before all pictures: no row is whole, which is said
    with the way on; its files in the order of keys are the dataset.
    """
    files = [*samples(range(12))]
    path = tar(tmp_path / "digits.tar", sorted(files, key=lambda one: one[0][::-1]))
    error = refused(cache, path, path, "000000: expected one picture, and its class")
    assert "must follow each other" in (error.hint or "")
    assert (raw(prepared(tar(path, sorted(files)))) == X).all()


def test_endings_of_several_parts_may_be_pictures(tmp_path: Path, cache: Path) -> None:
    """KEY.img.png is the picture of a key that has no KEY.png; two such leave a choice."""
    files = [(name.replace(".png", ".img.png"), content) for name, content in samples(range(12))]
    path = tar(tmp_path / "digits.tar", files)
    assert (raw(prepared(path)) == X).all()
    masks = [(f"{row:06d}.mask.png", encoded(X[0])) for row in range(12)]
    both = tar(tmp_path / "both.tar", sorted([*files, *masks]))
    error = refused(cache / "other", both, both, "got 2 pictures: .cls, .img.png, .mask.png")
    assert error.hint == "keep one in each key"
    assert (raw(prepared(tar(both, sorted([*samples(range(12)), *masks])))) == X).all()


def test_classes_are_taken_from_json(tmp_path: Path) -> None:
    """A class in JSON may be text, which is the name of the class then."""
    entry = prepared(tar(tmp_path / "digits.tgz", samples(range(12), "json"), "w:gz"))
    assert (raw(entry) == X).all()
    assert entry.class_names == ("class 0", "class 1", "class 2")
    assert entry.train.labels.tolist() == Y.tolist()
    assert entry.dataset == "digits"


@pytest.mark.parametrize("how", [{"group_column": "cow"}, {"group_pattern": r"\d(?=\.)"}])
def test_rows_of_a_group_stay_together(tmp_path: Path, cache: Path, how: dict[str, str]) -> None:
    """A value in the JSON of rows, or their keys, keeps rows in one split; one that is not there is
    named.
    """
    files = list(samples(range(12)))
    files += [(f"{row:06d}.json", json.dumps({"cow": row % 10}).encode()) for row in range(12)]
    path = tar(tmp_path / "cows.tar", sorted(files))
    entry = prepared(path, test_fraction=0.4, **how)
    held = [[str(s.name_of(row))[5] for row in range(len(s))] for s in entry.splits.values()]
    assert sorted(map(len, held)) == [5, 7]
    assert not set(held[0]) & set(held[1])
    if "group_column" in how:
        refused(cache / "other", path, "cows.tar: 000000", "`group_column=eye`", group_column="eye")


def test_shards_follow_each_other_and_names_tell_splits(tmp_path: Path) -> None:
    """A folder of tars is one dataset, its splits by names of files or folders; numbers in braces
    stand for each of them.
    """
    for shard in range(3):
        part = range(4 * shard, 4 * shard + 4)
        tar(tmp_path / "own" / f"digits-train-{shard:06d}.tar", samples(part))
        tar(tmp_path / "test" / "train" / f"{shard}.tar", samples(part))
    for folder in ("own/validation", "test/val"):
        tar(tmp_path / folder / "0.tar", samples(range(6)))
    entry = prepared(tmp_path / "own")
    assert (raw(entry) == X).all()
    assert (raw(entry, "val") == X[:6]).all()
    assert entry.manifest.source.digest == prepared(tmp_path / "test").manifest.source.digest
    some = prepared(tmp_path / "own" / "digits-train-{000001..000002}.tar")
    assert (raw(some) == X[4:]).all()
    assert some.dataset == "digits-train"


@pytest.mark.parametrize("around", ["", "digits/"])
def test_folders_in_a_tar_are_splits(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, around: str
) -> None:
    """Where the key of each picture lies in the folder of a split, these are the splits, in one tar
    as in several; names are the keys.
    """
    rows = {"validation": range(2, 8), "train": range(12)}
    files = [(f"{around}{word}/{n}", one) for word in rows for n, one in samples(rows[word])]
    entry = prepared(tar(tmp_path / "digits.tar", [("README.md", b"text"), *files]))
    assert {name: len(split) for name, split in entry.splits.items()} == {"train": 12, "val": 6}
    assert (raw(entry) == X).all()
    assert (raw(entry, "val") == X[2:8]).all()
    assert entry.splits["val"].labels.tolist() == Y[2:8].tolist()
    assert entry.train.name_of(3) == f"{around}train/000003.png"
    assert any("splits are folders in it: train, val" in str(one.message) for one in recwarn)
    for number, some in enumerate((files[:12], files[12:])):
        tar(tmp_path / f"two-{number}.tar", some)
    assert prepared(tmp_path / "two-{0..1}.tar").manifest.source == entry.manifest.source


def test_pictures_in_no_split_leave_all_in_train(tmp_path: Path) -> None:
    """Where some picture lies in no split's folder, folders are no splits, which a line says."""
    first = [(f"val/{name}", one) for name, one in samples(range(6))]
    for order in ((first, samples(range(6, 12))), (samples(range(6, 12)), first)):
        path = tar(tmp_path / "digits.tar", [*order[0], *order[1]])
        with pytest.warns(pixelprep.PixelprepWarning, match="all taken as train: not all lie in a"):
            entry = prepared(path)
        assert entry.splits.keys() == {"train"}
        assert len(entry.train) == 12


def test_split_for_a_folder_of_tars_is_told_the_way(tmp_path: Path, cache: Path) -> None:
    """Where {split} is a folder's name, the hint names the folder around all, which is read."""
    for word in ("train", "val"):
        tar(tmp_path / "own" / word / "0.tar", samples(range(6)))
    path = tmp_path / "own" / "{split}" / "0.tar"
    assert refused(cache, path, path, "a WebDataset").hint == f"give its folder: {tmp_path / 'own'}"
    assert list(prepared(tmp_path / "own").splits) == ["train", "val"]


def test_split_in_the_name_of_a_tar_stands_for_each(tmp_path: Path, cache: Path) -> None:
    """A tar for each split, or with * several, is one dataset, by any word for the splits."""
    for shard in range(2):
        part = samples(range(6 * shard, 6 * shard + 6))
        tar(tmp_path / f"digits-Train-{shard:04d}.tar", part)
    tar(tmp_path / "digits-valid-0000.tar", samples(range(6)))
    tar(tmp_path / "one-train.tar", samples(range(12)))
    tar(tmp_path / "one-valid.tar", samples(range(6)))
    refused(cache, tmp_path / "three-{split}.tar", tmp_path / "three-", "no such files: {split}")
    entry = prepared(tmp_path / "digits-{split}-*.tar")
    assert (raw(entry) == X).all()
    assert (raw(entry, "val") == X[:6]).all()
    assert entry.dataset == "digits"
    assert prepared(tmp_path / "one-{split}.tar").manifest.source == entry.manifest.source
    tar(tmp_path / "one-val.tar", samples(range(6)))
    with pytest.raises(pixelprep.SourceError, match="two words mean val: val and valid"):
        prepared(tmp_path / "one-{split}.tar")


def test_a_shard_that_is_not_there_is_named(tmp_path: Path, cache: Path) -> None:
    """None of those that are asked for is left out."""
    tar(tmp_path / "d-0.tar", samples(range(6)))
    error = refused(cache, tmp_path / "d-{0..1}.tar", tmp_path / "d-1.tar", "no such file")
    assert "d-{0..1}.tar means 2 files" in str(error.hint)
    refused(cache, tmp_path / "d-{1..0}.tar", tmp_path, "expected tars of pictures")


def test_what_is_no_row_is_named(tmp_path: Path, cache: Path) -> None:
    """A key without its class, with two pictures, or twice is refused, never left out."""
    every = list(samples(range(6)))
    bad = {
        "000007: expected one picture, and its class in a .cls or .json file, got no class": [
            ("000007.png", encoded(X[0]))
        ],
        "000008: expected one picture, and its class in a .cls or .json file, got 2 pictures": [
            ("000008.png", b""),
            ("000008.jpg", b""),
            ("000008.cls", b"1"),
        ],
        "contains 000009.png twice": [("000009.png", b""), ("000009.png", b"")],
        "a .json file: cannot read": [("000010.png", b""), ("000010.json", b"{")],
    }
    for reason, files in bad.items():
        path = tar(tmp_path / "bad.tar", [*every, *files])
        refused(cache, path, path, reason)


@pytest.mark.parametrize("size", [20_480, 24_064])  # between two rows; within the last label
def test_a_tar_that_is_cut_is_damaged(tmp_path: Path, cache: Path, size: int) -> None:
    """Where a tar ends too soon, its rows before that are not taken for all."""
    path = tar(tmp_path / "cut.tar", samples(range(12)))
    path.write_bytes(path.read_bytes()[:size])
    refused(cache, path, path, "cannot read: ")


def test_a_tar_of_class_folders_is_an_archive_of_pictures(tmp_path: Path) -> None:
    """Pictures without classes beside them have their folders as classes, as ever, whatever else
    lies beside them.
    """
    files = [(f"{'ab'[row % 2]}/{row}.png", encoded(X[row])) for row in range(8)]
    path = tar(tmp_path / "pets.tar", [*files, ("a/0.json", b'{"width": 4}')])
    assert prepared(path).class_names == ("a", "b")


@pytest.mark.long
def test_rows_are_those_of_the_library(tmp_path: Path) -> None:
    """What the library webdataset writes and reads is read alike."""
    wds = pytest.importorskip("webdataset")
    (tmp_path / "own").mkdir()
    with wds.ShardWriter(str(tmp_path / "own" / "d-%06d.tar"), maxcount=5, verbose=0) as writer:
        for row in range(12):
            writer.write({"__key__": f"a/{row:04d}", "png": X[row], "cls": int(Y[row])})
    shards = str(tmp_path / "own" / "d-{000000..000002}.tar")
    peer = wds.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgb8")
    images, labels = zip(*peer.to_tuple("png", "cls"), strict=True)
    for path in (tmp_path / "own", shards):
        entry = prepared(path)
        assert (raw(entry) == np.stack(images)).all()
        assert entry.train.labels.tolist() == list(labels)
