"""What other libraries know by name, and tables in Hugging Face's form."""

import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep import DownloadError, SourceError, UsageError
from pixelprep.installation import install_command
from tests.helpers.cli import run
from tests.helpers.data import idx
from tests.helpers.hub import Hub
from tests.helpers.sources import nothing_is_left, prepared
from tests.sources.test_rows import NAMES, X, Y, encoded, raw

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(NAMES)}}


def table(rows: Any = slice(None), features: Any = FEATURES, **columns: Any) -> bytes:
    """Return a Parquet file of pictures and labels as `datasets` writes it."""
    images = [{"bytes": encoded(X[at]), "path": f"{at}.png"} for at in np.arange(12)[rows]]
    data = {"img": pa.array(images, IMAGE), "label": Y[rows].tolist(), **columns}
    about = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(data).replace_schema_metadata(about), sink, row_group_size=5)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


# Parquet


def write(folder: Path, **files: bytes) -> Path:
    """Write Parquet files to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.parquet").write_bytes(content)
    return folder


def test_a_parquet_file_is_what_datasets_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels, labels, class names and paths of a file in Hugging Face's form are those that its own
    library gives.
    """
    datasets = pytest.importorskip("datasets")
    path = write(tmp_path, digits=table()) / "digits.parquet"
    entry = prepared(path)
    peer = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "peer"))
    assert (raw(entry) == np.stack([np.asarray(row["img"]) for row in peer])).all()
    assert entry.train.labels.tolist() == peer["label"][:]
    assert entry.class_names == tuple(peer.features["label"].names)
    assert (entry.train.name_of(3), entry.dataset) == ("3.png", "digits")
    assert prepared(path).cached


@pytest.mark.parametrize("top", ["own", "own/data"])
def test_a_folder_of_parquet_files_has_splits_by_their_names(tmp_path: Path, top: str) -> None:
    """Shards of a split follow each other, and words in names tell the splits."""
    files = {"train-00000-of-00002": slice(7), "train-00001-of-00002": slice(7, None)}
    files |= {"validation-00000-of-00001": slice(6), "test": slice(3, 9)}
    write(tmp_path / top, **{name: table(rows) for name, rows in files.items()})
    entry = prepared(tmp_path / "own")
    assert (raw(entry) == X).all()
    assert (raw(entry, "val") == X[:6]).all()
    assert (raw(entry, "test") == X[3:9]).all()


@pytest.mark.parametrize(
    ("there", "lacks"),
    [
        (("0-of-3", "2-of-3"), "lacks 1 of 3 shards: .*train-1-of-3"),
        (("00000-of-00003",), "lacks 2 of 3 shards: .*train-00001-of-00003"),
        (("00002-of-00002-ab3f",), "lacks 1 of 2 shards: .*train-00001-of-00002"),
    ],
)
def test_missing_shards_are_refused(
    tmp_path: Path, cache: Path, there: tuple[str, ...], lacks: str
) -> None:
    """A name that counts all shards of a split tells which is not there: in a folder, of a file
    given alone, and of tars.
    """
    own = write(tmp_path / "own", **{f"train-{one}": table(slice(6)) for one in there})
    alone = own / f"train-{there[0]}.parquet"
    (tmp_path / "tars").mkdir()
    for one in there:
        with tarfile.open(tmp_path / f"tars/train-{one}.tar", "w") as tar:
            for name, content in {"a.png": encoded(X[0]), "a.cls": b"1"}.items():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
    for path in (own, tmp_path / "tars", alone):
        with pytest.raises(SourceError, match="lacks" if path == alone else lacks) as caught:
            prepared(path)
        assert "get what is missing" in (caught.value.hint or "")
    assert nothing_is_left(cache)


def test_shards_may_be_counted_from_1(tmp_path: Path) -> None:
    """Hashes in names that differ, as the hub's older files have them, are no matter."""
    files = {"train-1-of-2-a": table(slice(7)), "train-2-of-2-b": table(slice(7, None))}
    assert (raw(prepared(write(tmp_path / "own", **files))) == X).all()


def named(order: str, rows: slice = slice(None)) -> bytes:
    """Return a Parquet file of these rows, whose class names are the letters in this order."""
    kind = {"_type": "ClassLabel", "names": list(order)}
    numbers = [order.index(NAMES[label]) for label in Y[rows]]
    columns: Any = {"label": numbers}
    return table(rows, FEATURES | {"label": kind}, **columns)


@pytest.mark.parametrize("files", [("train", "test"), ("train-0", "train-1", "test-0")])
def test_classes_are_matched_by_name(tmp_path: Path, files: tuple[str, ...]) -> None:
    """Splits and shards that count the same class names in another order have train's numbers,
    which is said; names without an image are no fault.
    """
    orders = ("abc", "cab", "dbca")
    parts = dict(zip(files, map(named, orders), strict=False))
    with pytest.warns(pixelprep.PixelprepWarning, match="class names differ from those of train"):
        entry = prepared(write(tmp_path / "own", **parts), on_leak="warn")
    assert entry.class_names == NAMES
    assert entry.train.labels.tolist() == Y.tolist() * (len(files) - 1)
    assert entry.test.labels.tolist() == Y.tolist()


def test_a_class_that_train_has_not_is_refused(tmp_path: Path, cache: Path) -> None:
    """An image whose class name train does not know is refused by that name, never renamed."""
    parts = {"train": named("abz", slice(0, 2)), "test": named("abc")}
    with pytest.raises(SourceError, match=r"test\.parquet: an image of class c, which train has"):
        prepared(write(tmp_path / "own", **parts))
    assert nothing_is_left(cache)


def test_columns_of_plain_parquet_are_guessed(tmp_path: Path, cache: Path) -> None:
    """Without the library's own words, a column of bytes is the image, one called label the label;
    where that leaves a choice the columns are named.
    """
    path = write(tmp_path, plain=table(features=None)) / "plain.parquet"
    assert prepared(path).class_names == ("0", "1", "2")
    two = write(tmp_path, two=table(features=None, target=Y.tolist())) / "two.parquet"
    with pytest.raises(SourceError, match="2 columns may be the label: label, target"):
        prepared(two)
    assert prepared(two, labels_key="target").train.labels.tolist() == Y.tolist()


def plain(path: Path, **columns: Any) -> Path:
    """Write a Parquet file of these columns as other programs do."""
    parquet.write_table(pa.table(columns), path)
    return path


def hinted(hint: str | None) -> dict[str, Any]:
    """Return the option that a hint names: ``name it: `labels_key=fine` ``."""
    assert hint is not None
    name, value = hint.split("`")[1].split("=")
    return {name: value}


def test_the_column_that_a_hint_names_can_be_it(tmp_path: Path) -> None:
    """Where no column is the label, the hint is of one that can be: never of pictures or lists."""
    path = tmp_path / "cifar.parquet"
    images, boxes = [encoded(one) for one in X], pa.array([[1.5]] * 12)
    plain(path, img=pa.array(images), boxes=boxes, id=range(12), fine_label=Y.tolist())
    with pytest.raises(SourceError, match="no column is the label: img, boxes, id, fine") as caught:
        prepared(path)
    entry = prepared(path, **hinted(caught.value.hint))
    assert entry.train.labels.tolist() == Y.tolist()


GREY = X[..., 0].reshape(12, 20)


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint8(), pa.float32()])
def test_pixels_of_parquet_may_be_lists(tmp_path: Path, cache: Path, kind: Any) -> None:
    """Lists of numbers are flat rows, which need their shape, or images where lists are in lists;
    whole numbers without a width of their own become bytes.
    """
    flat = plain(tmp_path / "flat.parquet", pixels=pa.array(GREY.tolist(), pa.list_(kind)), label=Y)
    with pytest.raises(SourceError, match=r"expected images of .* got \(12, 20\)") as caught:
        prepared(flat)
    assert "`shape=HxW`" in (caught.value.hint or "")
    entry = prepared(flat, shape="5x4")
    assert np.allclose(raw(entry)[..., 0], X[..., 0], atol=1e-4)
    assert raw(entry).dtype == ("float32" if kind == pa.float32() else "uint8")
    nested = pa.array(X[..., 0].tolist(), pa.list_(pa.list_(kind)))
    assert prepared(plain(tmp_path / "nested.parquet", image=nested, label=Y)).key == entry.key


def test_lists_of_other_numbers_are_refused(tmp_path: Path, cache: Path) -> None:
    """Whole numbers that are no bytes, and lists of several lengths, are named with their row; of
    a table without pictures the hint says what is expected.
    """
    for row, reason in (([300] * 20, "whole numbers 300 to 300"), ([1], "is 1 uint8, but row 0")):
        path = plain(tmp_path / "t.parquet", image=[*GREY.tolist()[:3], row], label=Y[:4])
        with pytest.raises(SourceError, match=rf"row 3 \(counted from 0\): .*{reason}"):
            prepared(path, shape="5x4")
    with pytest.raises(SourceError, match="no column is the image: text, label") as caught:
        prepared(plain(tmp_path / "t.parquet", text=["a"] * 12, label=Y))
    assert caught.value.hint == "expected a column of the bytes of pictures, or of lists of numbers"


def test_a_path_in_a_parquet_file_is_never_followed(tmp_path: Path, cache: Path) -> None:
    """A table may name any file of the machine: only the bytes that it holds are read."""
    (tmp_path / "secret.png").write_bytes(encoded(X[0]))
    rows = [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 2
    about = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    made = pa.table({"img": pa.array(rows, IMAGE), "label": [0, 1]})
    parquet.write_table(made.replace_schema_metadata(about), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="img: expected the bytes of an image"):
        prepared(tmp_path / "t.parquet")
    assert nothing_is_left(cache)


def test_damaged_parquet_is_refused_in_one_line(tmp_path: Path, cache: Path) -> None:
    """What is no Parquet, or is cut, is named in one line."""
    for content in (b"PAR1", table()[:-100], b"x" * 500):
        path = write(tmp_path, bad=content) / "bad.parquet"
        with pytest.raises(SourceError, match="not a readable Parquet file") as caught:
            prepared(path)
        assert "\n" not in str(caught.value)
    assert nothing_is_left(cache)


@pytest.mark.parametrize("how", [{"group_column": "eye"}, {"group_pattern": r"^[0-5]\.|^\d+"}])
def test_rows_of_a_group_stay_together(tmp_path: Path, how: dict[str, str]) -> None:
    """A column of Parquet, or the names of its pictures, keeps rows in one split; other fractions
    are another entry.
    """
    eyes = [row // 4 for row in range(12)]
    columns: Any = {"eye": eyes}
    path = write(tmp_path, eyes=table(**columns)) / "eyes.parquet"
    entry = prepared(path, test_fraction=0.3, **how)
    held = {
        name: {int(str(split.name_of(row))[:-4]) for row in range(len(split))}
        for name, split in entry.splits.items()
    }
    if "group_column" in how:
        assert not {eyes[row] for row in held["train"]} & {eyes[row] for row in held["test"]}
    assert held["train"] | held["test"] == set(range(12))
    (kind, value), groups = *how.items(), entry.manifest.source.decode["groups"]
    assert isinstance(groups, dict)
    assert groups[kind.removeprefix("group_")] == value
    assert prepared(path, test_fraction=0.3, **how).cached
    assert prepared(path, test_fraction=0.5, **how).key != entry.key


WORDS = ["training"] * 7 + ["Valid"] * 2 + ["test"] * 3


@pytest.mark.parametrize("how", [{}, {"columns": "split=SPLIT"}])
def test_a_column_of_parquet_tells_splits(tmp_path: Path, how: dict[str, str]) -> None:
    """Each row is in the split that its column names, whatever the word and however rows are
    mixed; what is used for what, and what is not, is said.
    """
    order = np.random.default_rng(3).permutation(12)
    columns: Any = {"Split": [WORDS[row] for row in order], "eye": [0] * 12}
    path = write(tmp_path, own=table(order, **columns)) / "own.parquet"
    with pytest.warns(pixelprep.PixelprepWarning, match="label; splits by Split; not used: eye"):
        entry = prepared(path, **how)
    rows = {"train": order[order < 7], "val": order[(order > 6) & (order < 9)]}
    for split, of in {**rows, "test": order[order > 8]}.items():
        assert (raw(entry, split) == X[of]).all()
        assert entry.splits[split].labels.tolist() == Y[of].tolist()


def test_a_column_of_no_splits_is_not_used(tmp_path: Path, cache: Path) -> None:
    """A column of other words is named as not used, and so is one beside splits of files; some
    words that are no split, a cell without one and an option that cannot be followed are refused.
    """
    columns: Any = {"subset": ["easy", "hard"] * 6}
    path = write(tmp_path, own=table(**columns)) / "own.parquet"
    with pytest.warns(pixelprep.PixelprepWarning, match="not used: subset"):
        assert prepared(path).splits.keys() == {"train"}
    for word, said in (("holdout", "split holdout"), (None, "a row without a split")):
        columns = {"split": ["train"] * 11 + [word]}
        path = write(tmp_path, odd=table(**columns)) / "odd.parquet"
        with pytest.raises(SourceError, match=f"{said}: expected train, val or test") as caught:
            prepared(path)
        assert "rename the column" in (caught.value.hint or "")
    with pytest.raises(SourceError, match="no column part; it has split"):
        prepared(path, columns="split=part")
    columns = {"split": WORDS}
    both = write(tmp_path / "both", train=table(**columns), test=table(slice(3), split=WORDS[:3]))
    with pytest.warns(pixelprep.PixelprepWarning, match="not used: split"):
        assert prepared(both, on_leak="warn").rows == 15
    with pytest.raises(SourceError, match="has a column of splits, and is one file of several"):
        prepared(both, columns="split=split")


def test_rows_without_a_label_take_their_names_and_groups_along(tmp_path: Path) -> None:
    """Of labels -1, Hugging Face's none, with names of classes: what is left stays together."""
    lost = {1, 6}
    labels: Any = [-1 if row in lost else int(label) for row, label in enumerate(Y)]
    columns: Any = {"eye": [row // 4 for row in range(12)], "label": labels}
    path = write(tmp_path, eyes=table(**columns)) / "eyes.parquet"
    with pytest.raises(SourceError, match="-1 where there is no label") as caught:
        prepared(path)
    assert "`on_error=skip`" in str(caught.value.hint)
    options: dict[str, Any] = {"on_error": "skip", "group_column": "eye", "test_fraction": 0.3}
    with pytest.warns(pixelprep.PixelprepWarning, match=r"without a label \(-1\): 2 of 12 images"):
        entry = prepared(path, **options)
    held = {}
    for name, split in entry.splits.items():
        rows = [int(str(split.name_of(row))[:-4]) for row in range(len(split))]
        assert split.labels.tolist() == Y[rows].tolist()
        held[name] = {*rows}
    assert held["train"] | held["test"] == {*range(12)} - lost
    assert not {row // 4 for row in held["train"]} & {row // 4 for row in held["test"]}


def test_groups_of_parquet_that_cannot_be_are_told(tmp_path: Path, cache: Path) -> None:
    """A column that is not there is named beside those that are; a pattern needs names."""
    path = write(tmp_path, eyes=table()) / "eyes.parquet"
    with pytest.raises(SourceError, match="no column eye; it has img, label"):
        prepared(path, group_column="eye")
    bare = plain(tmp_path / "bare.parquet", image=[encoded(one) for one in X], label=Y)
    with pytest.raises(SourceError, match="`group_pattern`: the rows have no names") as caught:
        prepared(bare, group_pattern="x", test_fraction=0.3)
    assert "`group_column=NAME`" in str(caught.value.hint)
    assert nothing_is_left(cache)


# Hugging Face's hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return a hub of one's own, which `huggingface_hub` asks in place of the real one."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = Hub()
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)  # read from HF_ENDPOINT
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.stop()


FILES = {"data/train-00000-of-00001.parquet": table(), "data/test-0.parquet": table(slice(6))}


def asked_for_files(server: Hub) -> int:
    """Return how many times a file of a dataset was asked for."""
    return sum("/resolve/" in path for path in server.asked)


def test_a_dataset_of_the_hub_is_read_by_its_commit(hub: Hub) -> None:
    """`hf:OWNER/NAME` gives the very rows of its Parquet files; a hit asks only for the commit; a
    new commit of the same revision is other data.
    """
    hub.publish("zoo/digits", {**FILES, ".gitattributes": b"more", "README.md": b"---\n---\n"})
    entry = prepared("hf:zoo/digits")
    assert (raw(entry) == X).all()
    assert (raw(entry, "test") == X[:6]).all()
    assert (entry.class_names, entry.dataset) == (NAMES, "hf-zoo-digits")
    assert pixelprep.cache.describe(entry).origin == "hf:zoo/digits"
    files = asked_for_files(hub)
    assert prepared("hf:zoo/digits").cached
    assert asked_for_files(hub) == files
    assert prepared("hf:zoo/digits", mode="center", offline=True).key != entry.key  # no connection
    first = hub.heads["zoo/digits", "main"]
    hub.publish("zoo/digits", {"train.parquet": table(slice(9))})
    assert prepared("hf:zoo/digits").rows == 9
    assert prepared(f"hf:zoo/digits@{first}").key == entry.key
    hub.stop()
    assert prepared(f"hf:zoo/digits@{first}").key == entry.key


def test_shards_that_the_hub_has_not_are_refused(hub: Hub) -> None:
    """A commit without one of a split's shards is refused before anything is downloaded; files
    that its card leaves out are no fault.
    """
    part = {"train-00000-of-00002.parquet": table()}
    hub.publish("zoo/part", part)
    with pytest.raises(SourceError, match=r"hf:zoo/part: lacks 1 of 2 shards: train-00001-of-00"):
        prepared("hf:zoo/part")
    assert asked_for_files(hub) == 0
    card = b"---\nconfigs:\n- config_name: a\n  data_files: train-00000-*\n---\n"
    whole = {**part, "train-00001-of-00002.parquet": table(), "README.md": card}
    hub.publish("zoo/part", whole)
    assert prepared("hf:zoo/part").rows == 12


@pytest.mark.long  # seconds, to start the command and import the library
def test_the_command_line_reads_the_hub(hub: Hub, tmp_path: Path) -> None:
    """A command reads from the hub that HF_ENDPOINT names, says which commit it took, and knows
    the entry by the same name afterwards.
    """
    commit = hub.publish("zoo/digits", FILES)
    places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    done = run("prepare", "hf:zoo/digits", "--json", env=os.environ | places)
    assert done.returncode == 0, done.stderr
    assert f"hf-zoo-digits: commit {commit}" in done.stderr
    assert json.loads(done.stdout)["splits"]["train"]["rows"] == 12
    assert run("info", "hf:zoo/digits").stdout.count("hf:zoo/digits") == 1


def test_the_hub_may_be_away(hub: Hub) -> None:
    """Without a connection what was downloaded is taken, which is said; else the error says so."""
    hub.publish("zoo/digits", FILES)
    key = prepared("hf:zoo/digits").key
    hub.stop()
    assert prepared("hf:zoo/digits").key == key
    for options in ({}, {"offline": True}):
        with pytest.raises(DownloadError, match=r"^hf:zoo/more: is not downloaded, and "):
            prepared("hf:zoo/more", **options)


def test_configurations_are_chosen_by_name(hub: Hub) -> None:
    """A dataset with several configurations is refused with their names before anything is
    downloaded, and each is read by its own.
    """
    many = {"fine/train-0.parquet": table(), "coarse/train/0000.parquet": table(slice(6))}
    hub.publish("zoo/many", many)
    with pytest.raises(SourceError, match="expected one of its configurations, coarse, fine") as no:
        prepared("hf:zoo/many")
    assert no.value.hint == "choose one: hf:zoo/many/coarse"
    assert asked_for_files(hub) == 0
    assert prepared("hf:zoo/many/fine").rows == 12
    assert prepared("hf:zoo/many/coarse").dataset == "hf-zoo-many-coarse"


def test_only_what_is_used_is_downloaded(hub: Hub) -> None:
    """Files of no split of ours, such as SVHN's extra images, are named and stay at the hub."""
    hub.publish("zoo/svhn", {"d/train-0.parquet": table(), "d/extra-0.parquet": b"many"})
    with pytest.warns(pixelprep.PixelprepWarning, match=r"not used: extra-0\.parquet"):
        assert prepared("hf:zoo/svhn").rows == 12
    assert not any("extra" in path for path in hub.asked)


CONFIGS = """---
configs:
- config_name: {}
  data_files:
  - split: train
    path: ["a-*.parquet", "more/**/a.parquet"]
  - split: validation
    path: held/out.parquet
  - split: extra
    path: a-?.parquet
- config_name: small
  data_dir: more
  data_files: "*.parquet"
---
"""


def test_a_card_tells_the_files_of_splits(hub: Hub) -> None:
    """The patterns of the card's configurations choose the files, whatever these are called: a
    star ends at a folder, two do not; a pattern of no split is of train.
    """
    files = {"a-0.parquet": table(slice(4)), "more/x/y/a.parquet": table(slice(4, 12))}
    files |= {"held/out.parquet": table(slice(6)), "more/b.parquet": table(slice(5))}
    files |= {"a-0/not.parquet": b"not used"}
    hub.publish("zoo/own", {**files, "README.md": CONFIGS.format("default").encode()})
    with pytest.warns(pixelprep.PixelprepWarning, match="hf:zoo/own: splits that .*: extra"):
        entry = prepared("hf:zoo/own")
    assert (raw(entry) == X).all()
    assert (raw(entry, "val") == X[:6]).all()
    assert (raw(prepared("hf:zoo/own/small")) == X[:5]).all()
    hub.publish("zoo/two", {**files, "README.md": CONFIGS.format("large").encode()})
    with pytest.raises(SourceError, match="expected one of its configurations, large, small"):
        prepared("hf:zoo/two")


def test_groups_of_the_hub_stay_together(hub: Hub, tmp_path: Path) -> None:
    """A column of a hub's Parquet divides as that of a file here, names of its pictures as those of
    a folder here; another seed is another entry.
    """
    columns: Any = {"eye": [row // 3 for row in range(12)]}
    content = table(**columns)
    hub.publish("zoo/eyes", {"train-0.parquet": content})
    options: dict[str, Any] = {"test_fraction": 0.3, "group_column": "eye"}
    entry = prepared("hf:zoo/eyes", **options)
    own = prepared(write(tmp_path, eyes=content) / "eyes.parquet", **options)
    assert entry.key == own.key
    assert prepared("hf:zoo/eyes", **options).cached
    assert prepared("hf:zoo/eyes", **options, split_seed=1).key != entry.key
    photos = {name: content for name, content in PHOTOS.items() if "/train/" in name}
    hub.publish("zoo/photos", photos)
    for name, content in photos.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    options = {"test_fraction": 0.5, "group_pattern": r"[0-3] |[4-7] "}
    named = [prepared(one, **options) for one in ("hf:zoo/photos", tmp_path / "data")]
    assert (raw(named[0], "test") == raw(named[1], "test")).all()
    assert prepared("hf:zoo/photos", **options | {"test_fraction": 0.3}).key != named[0].key


def test_a_broken_card_is_told(hub: Hub) -> None:
    """Where the card is no YAML, the names of files tell the splits, and a line says so."""
    hub.publish("zoo/broken", {**FILES, "README.md": b"---\na: [\n---\n"})
    with pytest.warns(pixelprep.PixelprepWarning, match="hf-zoo-broken: its card cannot be read"):
        assert len(prepared("hf:zoo/broken").train) == 12


PHOTOS = {
    f"data/{split}/{'ab'[row % 2]}/{row} [x].png": encoded(X[row])
    for split, rows in {"train": range(8), "test": range(8, 12)}.items()
    for row in rows
}


def test_pictures_of_the_hub_are_read_as_a_folder(hub: Hub, tmp_path: Path) -> None:
    """Without Parquet, folders of pictures give what they give on the disk; what is used no more is
    downloaded, and the entry is found again without a connection.
    """
    hub.publish("zoo/photos", {**PHOTOS, "README.md": b"---\n---\n", "model.bin": b"large"})
    entry = prepared("hf:zoo/photos", color="grey")
    for name, content in PHOTOS.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(content)
    own = prepared(tmp_path / "own" / "data", color="grey")
    assert (raw(entry) == raw(own)).all()
    assert entry.test.labels.tolist() == own.test.labels.tolist()
    assert (entry.class_names, entry.dataset) == (("a", "b"), "hf-zoo-photos")
    assert not any("model.bin" in path for path in hub.asked)
    assert prepared("hf:zoo/photos", color="grey").cached
    hub.stop()
    turned = prepared("hf:zoo/photos", color="grey", classes="b,a", offline=True)
    assert turned.class_names == ("b", "a")


def zipped(prefix: str, around: str = "") -> bytes:
    """Return a zip of those photos whose names begin so."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, picture in PHOTOS.items():
            if name.startswith(prefix):
                file.writestr(around + name.removeprefix(prefix), picture)
    return content.getvalue()


@pytest.mark.parametrize(
    "files",
    [
        {"data/train.zip": zipped("data/train/"), "data/test.zip": zipped("data/test/")},
        {"train.zip": zipped("data/train/", "train/"), "test.zip": zipped("data/test/", "test/")},
        {"photos.zip": zipped("data/"), "LICENSE": b"free"},
    ],
    ids=["a zip a split", "with their folders", "one zip"],
)
def test_zips_of_the_hub_are_read_as_on_the_disk(
    hub: Hub, tmp_path: Path, files: dict[str, bytes]
) -> None:
    """Zips of pictures, in whichever form, give the folder that is in them, pinned by commit."""
    commit = hub.publish("zoo/zips", {**files, "README.md": b"---\n---\n"})
    entry = prepared("hf:zoo/zips", color="grey")
    for name, content in PHOTOS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert entry.manifest.source == prepared(tmp_path / "data", color="grey").manifest.source
    assert entry.dataset == "hf-zoo-zips"
    assert prepared("hf:zoo/zips", color="grey").cached
    hub.publish("zoo/zips", {"a.zip": b"", "b.zip": b""})
    with pytest.raises(SourceError, match="hf:zoo/zips: expected one zip for train, found"):
        prepared("hf:zoo/zips")
    hub.stop()
    again = prepared(f"hf:zoo/zips@{commit}", color="grey", classes="b,a", offline=True)
    assert again.class_names == ("b", "a")


def test_a_table_of_labels_lies_beside_pictures_of_the_hub(hub: Hub, cache: Path) -> None:
    """metadata.csv names the labels, as `datasets` has it; options of rows are refused."""
    files = {f"{row}.png": encoded(X[row]) for row in range(12)}
    lines = ["file_name,label", *(f"{row}.png,{NAMES[Y[row]]}" for row in range(12))]
    hub.publish("zoo/table", {**files, "metadata.csv": "\n".join(lines).encode()})
    entry = prepared("hf:zoo/table")
    assert (entry.class_names, entry.rows) == (NAMES, 12)
    with pytest.raises(UsageError, match=r"`images_key`: does not apply to hf:zoo/table"):
        prepared("hf:zoo/table", images_key="image")
    hub.publish("zoo/digits", FILES)
    with pytest.raises(UsageError, match=r"`fit`: does not apply to hf:zoo/digits"):
        prepared("hf:zoo/digits", size=4, fit="crop")


def test_a_card_describes_columns_of_plain_files(hub: Hub) -> None:
    """Where the files tell nothing of their columns, the dataset's page gives the class names."""
    card = """---
dataset_info:
  features:
  - name: img
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': a
          '1': b
          '2': c
---
"""
    hub.publish("zoo/plain", {"train.parquet": table(features=None), "README.md": card.encode()})
    assert prepared("hf:zoo/plain").class_names == NAMES


@pytest.mark.parametrize(
    ("name", "kind", "reason", "hint"),
    [
        ("hf:zoo", UsageError, "hf:zoo: expected hf:OWNER/NAME", ""),
        ("hf:zoo/none", DownloadError, "no such dataset on the hub, or a private", "hf auth login"),
        ("hf:zoo/code@v2", DownloadError, "hf:zoo/code: has no revision v2", ""),
        ("hf:zoo/code", SourceError, "no Parquet files", "hf:zoo/code@refs/convert/parquet"),
    ],
)
def test_what_the_hub_has_not_is_said(
    hub: Hub, cache: Path, name: str, kind: type[pixelprep.PixelprepError], reason: str, hint: str
) -> None:
    """A name, revision or kind of file that is not there is one line that says which."""
    hub.publish("zoo/code", {"code.py": b"run me"})
    with pytest.raises(kind) as caught:
        prepared(name)
    assert reason in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "\n" not in str(caught.value)
    assert nothing_is_left(cache)


# Options


@pytest.mark.parametrize("name", ["hf:a/b", "sklearn:digits"])
def test_names_of_libraries_take_no_folder(tmp_path: Path, cache: Path, name: str) -> None:
    """A folder, and options of arrays, are refused for data that comes through a library."""
    for options, reason in (({"source": tmp_path}, "`source`: "), ({"layout": "nchw"}, "`layout`")):
        with pytest.raises(UsageError, match=f"^{reason}.*does not apply to {name} "):
            prepared(name, **options)
    assert nothing_is_left(cache)


# scikit-learn


def test_sklearn_digits_are_those_of_scikit_learn() -> None:
    """`sklearn:digits` has the images, the labels and the type that scikit-learn gives."""
    datasets = pytest.importorskip("sklearn.datasets")
    entry, digits = prepared("sklearn:digits", mode="normalize"), datasets.load_digits()
    images, labels = entry.train.to_numpy()
    assert np.array_equal(images[..., 0], (digits.images / 16).astype(np.float32))
    assert labels.tolist() == digits.target.tolist()
    assert entry.class_names == tuple("0123456789")
    assert entry.dataset == "sklearn-digits"
    assert prepared("sklearn:digits", mode="normalize").cached
    assert pixelprep.open("sklearn:digits").key == entry.key


@pytest.mark.parametrize(
    ("name", "reason"),
    [("sklearn:iris", "has no images"), ("sklearn:digit", "unknown `dataset` 'sklearn:digit'")],
)
def test_sklearn_without_images_is_refused(cache: Path, name: str, reason: str) -> None:
    """A table of numbers is no set of images, and a name that is not there is named."""
    pytest.importorskip("sklearn.datasets")
    with pytest.raises((SourceError, UsageError)) as caught:
        prepared(name)
    assert reason in caught.value.message
    assert nothing_is_left(cache)


def test_sklearn_offline_downloads_nothing(cache: Path) -> None:
    """A set that scikit-learn would download is refused where no connection may be opened."""
    pytest.importorskip("sklearn.datasets")
    with pytest.raises(DownloadError, match=r"^sklearn:olivetti_faces: "):
        prepared("sklearn:olivetti_faces", offline=True)


# torchvision and TensorFlow Datasets, which are large: only where they are installed


def write_idx(folder: Path) -> None:
    """Write MNIST's four files, tiny, where torchvision looks for them."""
    folder.mkdir(parents=True)
    images, labels = X[..., 0], Y.astype(np.uint8)
    for name, rows in (("train", slice(None)), ("t10k", slice(6))):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images[rows]))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels[rows]))


class OnDisk:
    """A dataset as torchvision has them: it keeps a file in its root, and reads it."""

    opened = 0

    def __init__(self, root: str, download: bool = False) -> None:
        self.path = Path(root, "x.npy")
        type(self).opened += 1
        if not self.path.exists() and not download:
            raise RuntimeError("Dataset not found")
        if not self.path.exists():
            np.save(self.path, X)

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, at: int) -> tuple[np.ndarray, int]:
        return np.load(self.path)[at], int(Y[at])


def test_files_that_a_library_keeps_are_part_of_the_identity(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was downloaded is not opened again for a hit; a file that is replaced is read anew; of
    files that are gone the last entry is a hit without a download.
    """
    datasets = SimpleNamespace(__all__=["OnDisk"], OnDisk=OnDisk)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    for name, value in {"datasets": datasets, "__version__": "1"}.items():
        monkeypatch.setattr(sys.modules["torchvision"], name, value, raising=False)
    monkeypatch.setattr(OnDisk, "opened", 0)
    entry = prepared("torchvision:OnDisk")
    assert (raw(entry) == X).all()
    assert OnDisk.opened == 1
    assert prepared("torchvision:OnDisk").cached
    assert OnDisk.opened == 1
    np.save(cache / ".raw" / "torchvision-OnDisk" / "x.npy", 255 - X)
    other = prepared("torchvision:OnDisk")
    assert (raw(other) == 255 - X).all()
    assert other.key != entry.key
    opened = OnDisk.opened
    (cache / ".raw" / "torchvision-OnDisk" / "x.npy").unlink()
    assert prepared("torchvision:OnDisk").key == other.key
    assert OnDisk.opened == opened


@pytest.mark.long
def test_torchvision_is_read_by_name(cache: Path) -> None:
    """`torchvision:NAME` gives the items, splits and class names of its class, from files that are
    in the cache already; data without a split is all train.
    """
    datasets = pytest.importorskip("torchvision.datasets", reason="no torchvision")
    root = cache / ".raw" / "torchvision-MNIST"
    write_idx(root / "MNIST" / "raw")
    entry = prepared("torchvision:mnist", offline=True)
    for split, train in (("train", True), ("test", False)):
        peer = datasets.MNIST(root, train=train)
        assert (raw(entry, split)[..., 0] == peer.data.numpy()).all()
        assert entry.splits[split].labels.tolist() == peer.targets.tolist()
    assert (entry.class_names, entry.dataset) == (tuple(peer.classes), "torchvision-MNIST")
    assert prepared("torchvision:MNIST", offline=True).cached
    (root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(idx(255 - X[..., 0]))
    assert (raw(prepared("torchvision:MNIST", offline=True))[..., 0] == 255 - X[..., 0]).all()
    with pytest.raises(UsageError, match="unknown `dataset` 'torchvision:MMNIST'"):
        prepared("torchvision:MMNIST")
    with pytest.raises(DownloadError, match=r"^torchvision:KMNIST: Dataset not found"):
        prepared("torchvision:KMNIST", offline=True)
    with pytest.raises(SourceError, match=r"^torchvision:DatasetFolder: needs loader, which"):
        prepared("torchvision:DatasetFolder")
    with pytest.raises(SourceError, match=r"^torchvision:EMNIST: has no split train"):
        prepared("torchvision:EMNIST")


@pytest.mark.long
def test_a_folder_through_torchvision_is_our_own_folder(tmp_path: Path) -> None:
    """Torchvision's `ImageFolder` has the very rows and classes that we read of the folder."""
    datasets = pytest.importorskip("torchvision.datasets", reason="no torchvision")
    for row, pixels in enumerate(X):
        (tmp_path / "pets" / NAMES[Y[row]]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / NAMES[Y[row]] / f"{row}.png").write_bytes(encoded(pixels))
    theirs = prepared(pixelprep.from_dataset(datasets.ImageFolder(tmp_path / "pets")))
    ours = prepared(tmp_path / "pets")
    assert (raw(theirs) == raw(ours)).all()  # both are sorted by class, and so mixed
    assert theirs.train.labels.tolist() == ours.train.labels.tolist()
    assert theirs.class_names == ours.class_names


@pytest.mark.long
def test_tensorflow_datasets_are_read_by_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tfds:NAME` gives the images, labels, class names and splits of its builder, `validation`
    as val.
    """
    tfds = pytest.importorskip("tensorflow_datasets", reason="no tensorflow-datasets")

    class PixelprepDigits(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc, name-defined]
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            label = tfds.features.ClassLabel(names=list(NAMES))
            features = {"image": tfds.features.Image(shape=(5, 4, 3)), "label": label}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _: Any) -> Any:
            return {"train": self._generate_examples(12), "validation": self._generate_examples(6)}

        def _generate_examples(self, count: int) -> Any:
            yield from ((row, {"image": X[row], "label": int(Y[row])}) for row in range(count))

    name = "tfds:pixelprep_digits"
    with pytest.raises(DownloadError, match="is not downloaded, and `offline`"):
        prepared(name, offline=True)
    entry = prepared(name)
    peer = tfds.builder("pixelprep_digits", data_dir=cache / ".raw" / "tfds")
    for split, word in (("train", "train"), ("val", "validation")):
        rows = list(peer.as_data_source(split=word))
        assert (raw(entry, split) == np.stack([row["image"] for row in rows])).all()
        assert entry.splits[split].labels.tolist() == [int(row["label"]) for row in rows]
    assert (entry.class_names, entry.dataset) == (NAMES, "tfds-pixelprep_digits")
    with monkeypatch.context() as later:
        later.setattr(tfds, "builder", None)
        assert prepared(name).cached  # without a look at the library's own files
        (file, *_) = (cache / ".raw" / "tfds" / "pixelprep_digits").rglob("*train*")
        file.write_bytes(file.read_bytes() + b"x")
        with pytest.raises(DownloadError, match=r"^tfds:pixelprep_digits: TypeError"):
            prepared(name)


LACKING = {
    "hf:a/b": ("huggingface_hub", "hub"),
    "sklearn:digits": ("sklearn", "sklearn"),
    "torchvision:MNIST": ("torchvision", "torchvision"),
    "tfds:mnist": ("tensorflow_datasets", "tfds"),
    "./t.parquet": ("pyarrow", "hub"),
}


@pytest.mark.parametrize("name", LACKING)
def test_an_extra_that_is_missing_is_named(
    here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without the library the error names the data, and the extra that brings it."""
    library, extra = LACKING[name]
    write(here, t=b"PAR1")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        pixelprep.MissingExtraError, match=r"needs .*, which is not installed"
    ) as no:
        prepared(name)
    assert no.value.hint == install_command(extra)
    assert nothing_is_left(cache)
