"""Datasets known by name: files of their published shape, from a server, become the right rows.

No host of these datasets can be reached from where tests run, so each file is made after its
published description, and is downloaded, checked and read by the very code that reads the real one.
"""

import gzip
import hashlib
import logging
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pixelprep
from pixelprep import DownloadError, SourceError, UsageError
from pixelprep.numerics.permutation import Stream, permutation
from pixelprep.sources import REGISTRY, resolve
from pixelprep.sources.known.picture_sets import PictureArchive
from tests.helpers.known_sets import Twin, pictures_twin, twin
from tests.helpers.server import Server
from tests.helpers.sources import prepared

EVERY = [
    name
    for name, known in REGISTRY.items()
    if name not in ("mnist", "fashion-mnist", "kmnist", "cifar10", "sample")
    and not isinstance(known, PictureArchive)
]
# Those of one kind are alike but for names and counts.
SOME: tuple[str, ...] = (
    "emnist-letters",
    "qmnist",
    "k49",
    "cifar100",
    "cifar100-coarse",
    "svhn",
)
SOME += ("stl10", "pcam", "medmnist-pathmnist", "medmnist-chestmnist")
NAMES = [pytest.param(n, marks=() if n in SOME else pytest.mark.long) for n in EVERY]
DECODE = {
    "emnist": {"layout": "nwhc"},
    "emnist-letters": {"layout": "nwhc", "labels": "from 1"},
    "qmnist": {"labels": "column 0"},
    "cifar100": {"labels": "fine"},
    "cifar100-coarse": {"labels": "coarse"},
    "svhn": {"layout": "ncwh", "labels": "10 is 0"},
    "stl10": {"layout": "ncwh", "labels": "from 1"},
}


@pytest.fixture(autouse=True)
def only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the server of the test itself, through no proxy."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve what is put into the folder ``web``."""
    (tmp_path / "web").mkdir()
    with Server(tmp_path / "web") as server:
        yield server


def known_as(monkeypatch: pytest.MonkeyPatch, made: Twin, url: str) -> None:
    """Let the twin be the dataset of its name, downloaded from this server."""
    dataset = replace(made.dataset, mirrors=(url,))
    finder = sys.modules["pixelprep.sources.resolve"]
    monkeypatch.setattr(finder, "REGISTRY", {**finder.REGISTRY, dataset.name: dataset})


@pytest.mark.parametrize("name", NAMES)
def test_a_known_set_is_downloaded_and_read(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path, name: str
) -> None:
    """Every image is upright, every label that of its class, each split the maker's own; the entry
    says what was done, and is found again without a connection.
    """
    made = twin(name, tmp_path / "web")
    known_as(monkeypatch, made, server.url)
    spelled = REGISTRY[name].spelled
    entry = prepared(spelled, mode="normalize")
    assert list(entry.splits) == list(made.splits)
    for split, (images, labels) in made.splits.items():
        stored, numbers = entry.splits[split].to_numpy()
        assert (entry.scaling.invert(stored) == images).all()
        assert numbers.tolist() == labels.tolist()
    assert entry.class_names == made.class_names
    assert entry.path.parent == cache / name
    source = entry.manifest.source
    assert source.task == made.dataset.task
    assert source.decode == DECODE.get(name, DECODE["emnist"] if "emnist-" in name else {})
    asked = len(server.requests)
    assert prepared(spelled, mode="normalize", offline=True).cached
    assert len(server.requests) == asked
    assert pixelprep.cache.describe(entry).options == {"mode": "normalize"}


PICTURES: dict[str, dict[str, Any]] = {
    "imagenette": {"size": (12, 12)},
    "eurosat": {},
    "tiny-imagenet": {},
    "flowers102": {"size": (12, 12)},
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "imagenette" else pytest.mark.long) for n in PICTURES],
)
def test_a_known_set_of_pictures_is_read_as_an_archive(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path, name: str
) -> None:
    """Every picture has its class, by the words that the maker has for it; splits are the maker's;
    what is chosen of options is an entry of its own, found again without a connection.
    """
    made = pictures_twin(name, tmp_path / "web")
    known_as(monkeypatch, made, server.url)
    options = {"mode": "normalize", **PICTURES[name]}
    entry = prepared(name, **options)
    assert list(entry.splits) == list(made.splits)
    for split, (colors, labels) in made.splits.items():
        stored, numbers = entry.splits[split].to_numpy()
        pixels = entry.scaling.invert(stored)
        assert (pixels == pixels[:, :1, :1]).all()  # each picture is of one color
        expected = sorted(zip(colors.tolist(), labels.tolist(), strict=True))
        assert sorted(zip(pixels[:, 0, 0].tolist(), numbers.tolist(), strict=True)) == expected
    assert entry.class_names == made.class_names
    assert entry.path.parent == cache / name
    asked = len(server.requests)
    assert prepared(name, offline=True, **options).cached
    assert not prepared(name, offline=True, **{**options, "size": (6, 6)}).cached
    assert prepared(name, source=tmp_path / "web", **options).path == entry.path
    assert (
        prepared(name, source=tmp_path / "web", **{**options, "size": (6, 6)}).train.shape[1] == 6
    )
    assert len(server.requests) == asked


def test_flowers_are_those_that_matlab_files_list(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Each split has its pictures, each picture its class, whose numbers begin at 1 in the file;
    rows lie in the format's seeded order, and an archive that lacks a picture is refused.
    """
    made = pictures_twin("flowers102", tmp_path / "web")
    known_as(monkeypatch, made, server.url)
    entry = prepared("oxford_flowers102", mode="normalize", size=4)
    assert list(entry.splits) == ["train", "val", "test"]
    for index, (split, (colors, labels)) in enumerate(made.splits.items()):
        order = permutation(6, seed=0, stream=Stream.SOURCE, index=index)
        stored, numbers = entry.splits[split].to_numpy()
        assert (entry.scaling.invert(stored) == colors[order][:, None, None]).all()
        assert numbers.tolist() == labels[order].tolist()
    assert entry.class_names == ("pink primrose", "hard-leaved pocket orchid", "canterbury bells")
    assert entry.manifest.source.decode["labels"] == "from 1"
    more = replace(made.dataset, counts={**made.dataset.rows, "test": 7})
    known_as(monkeypatch, replace(made, dataset=more), server.url)
    with pytest.raises(SourceError, match="flowers102: test: expected 7 pictures of 18, got 6"):
        prepared("flowers102", mode="center", size=4, source=tmp_path / "web")


def test_pictures_of_several_sizes_need_one(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Imagenette has pictures of many sizes: the option that makes them equal is named."""
    known_as(monkeypatch, pictures_twin("imagenette", tmp_path / "web"), server.url)
    with pytest.raises(
        SourceError, match=r"imagenette2-160\.tgz/imagenette2-160/train/n0"
    ) as caught:
        prepared("imagenette")
    assert "`size=" in str(caught.value.hint)


def test_the_names_of_classes_are_those_of_the_numbers() -> None:
    """EMNIST's letters go from A to Z; where small and capital are one class, 15 of the small
    letters have none of their own.
    """
    letters = REGISTRY["emnist-letters"].class_names
    assert (letters[0], letters[18], letters[25], len(letters)) == ("A", "S", "Z", 26)
    every = REGISTRY["emnist-byclass"].class_names
    assert (every[10], every[35], every[36], every[61], len(every)) == ("A", "Z", "a", "z", 62)
    merged = REGISTRY["emnist-balanced"].class_names
    assert len(merged) == 47 == len(set(merged))
    assert set(every) - set(merged) == set("cijklmopsuvwxyz")
    assert [merged[i] for i in (36, 38, 46)] == ["a", "d", "t"]
    assert merged == REGISTRY["emnist-bymerge"].class_names
    assert len(set(REGISTRY["k49"].class_names)) == 49


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("emnist-letters", {"train": 124_800, "test": 20_800}),
        ("qmnist", {"train": 60_000, "test": 60_000}),
        ("k49", {"train": 232_365, "test": 38_547}),
        ("cifar100", {"train": 50_000, "test": 10_000}),
        ("svhn", {"train": 73_257, "test": 26_032}),
        ("stl10", {"train": 5_000, "test": 8_000}),
        ("flowers102", {"train": 1_020, "val": 1_020, "test": 6_149}),
        ("eurosat", {"train": 27_000}),
        ("tiny-imagenet", {"train": 100_000, "val": 10_000}),
        ("pcam", {"train": 262_144, "val": 32_768, "test": 32_768}),
        ("medmnist-chestmnist", {"train": 78_468, "val": 11_219, "test": 22_433}),
    ],
)
def test_known_sets_have_the_published_rows(name: str, rows: dict[str, int]) -> None:
    """As many images as published are declared, and files of other counts are refused."""
    assert REGISTRY[name].rows == rows


# The SHA-256 of what `published` returns for each kind, checked against the notes of what the
# packages torchvision, tensorflow-datasets, medmnist and mnists say.
PUBLISHED = {
    "emnist": "b28de4748ecd58eb7c83127d0c80ddeb63750b1c444d5e53b32f7f16760eaaba",
    "qmnist": "ac45929938eefd63761f1b902f21997d6eca2e85a11efbd6d7c4396cee4a985d",
    "k49": "ec2113fb68ab1549bb66782a96002dbe6685755b8488bf067b2231dc072ef894",
    "cifar100": "0077abae647e0287e45c1c6d82d2d642ccc52a94b2a9e7320fbdf64671620d94",
    "svhn": "cf970f1c7afd1b00d0163a8cdc1a52188d78f24a44f2efcad05ab731ca740b8c",
    "stl10": "5107c41683765c9de79b27c146024fe5c0c7dc3701bc3060b6007adea9f76617",
    "pcam": "be1af4bd6a6f9d4aac1075ef2fa5bdfa09e0c2931c35a5854eeee1677e42c7f4",
    "flowers102": "68ba6cde3681d2c337dc063426de8536097c65c5ab82b9eb7fc8bfc8f510f6f0",
    "imagenette": "dbd1937dc9e1223452e1322a07d4ec16affeb8d2b41f8b35109605cdbcbe69e9",
    "eurosat": "0b4ac8d7499689d1034d1f79c7f0ddb2e4af3d80c70c2f1128adba83eb4d8e96",
    "tiny-imagenet": "8b9bc5c06c02ede946854ea54d12bd9c1d090a8830955b029c167d0891e23f0c",
    "medmnist": "26264fa8c1416337efe25717faeafdd99d70dbc5575542780e9137445315936c",
}


def published(group: str) -> str:
    """Return the files of datasets with their sizes and digests, and where they are, one a line."""
    lines = []
    for known in REGISTRY.values():
        if group == (known.group or known.name):
            lines += [f"{pin.name} {pin.size} {pin.pin}" for pin in known.files]
            lines += [*known.mirrors, *map(str, known.rows.items())]
    return "\n".join(lines)


@pytest.mark.parametrize("group", PUBLISHED)
def test_known_sets_are_pinned(group: str) -> None:
    """The datasets are the published files, to the byte, or to the digest where that is all."""
    found = hashlib.sha256(published(group).encode()).hexdigest()
    assert found == PUBLISHED[group], published(group)


def test_all_known_names_can_be_folders() -> None:
    """A name with a slash has a folder of its own without one, which also stands for it."""
    for name, known in REGISTRY.items():
        assert known.name == name
        assert known.spelled.replace("/", "-") == name
        assert all(known.provenance.to_dict()[key] for key in ("title", "licence"))
        assert len(set(known.class_names)) == len(known.class_names)


def test_a_name_with_a_slash_is_a_name_everywhere(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """What is prepared as ``emnist/letters`` is found, described and removed as that; a path of
    that name goes first, which is said.
    """
    known_as(monkeypatch, twin("emnist-letters", tmp_path / "web"), server.url)
    entry = prepared("emnist/letters", mode="normalize")
    assert pixelprep.cache.describe("emnist/letters").origin == "emnist-letters"
    assert pixelprep.verify("emnist/letters")[0].ok
    (entry.path / "train.h5").unlink()
    assert pixelprep.verify("emnist/letters", repair=True)[0].ok
    removed = pixelprep.cache.remove("emnist/letters")
    assert {item.kind for item in removed} == {"entry", "raw"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "emnist" / "letters").mkdir(parents=True)
    with (
        pytest.warns(pixelprep.PixelprepWarning, match="emnist/letters: taken as the path here"),
        pytest.raises(SourceError, match="emnist/letters"),
    ):
        prepared("emnist/letters", mode="normalize")


@pytest.mark.parametrize("given", ["emnist", "emnist/leters", "medmnist/"])
def test_a_wrong_part_of_a_name_is_told_the_right_ones(given: str) -> None:
    """Of a name with parts, a wrong part or none is answered with those that there are."""
    with pytest.raises(UsageError) as caught:
        prepared(given, mode="normalize")
    assert f"expected one of {given.split('/')[0]}/" in caught.value.message


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("PathMNIST", "medmnist-pathmnist"),
        ("organ_a_mnist", "medmnist-organamnist"),
        ("patch_camelyon", "pcam"),
        ("Oxford Flowers 102", "flowers102"),
        ("cifar100/fine", "cifar100"),
        ("digits", "digits"),  # could be anything
    ],
)
def test_a_part_that_is_called_by_its_own_name_is_meant(given: str, meant: str) -> None:
    """MedMNIST's sets are known without its name, and CIFAR-100's fine labels are itself."""
    assert resolve.meant(given) == meant


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("MedMNIST", "choose one: medmnist/pathmnist"),
        ("emnist", "choose one: emnist/balanced"),
        ("emnist/leters", "did you mean 'emnist/letters'?"),
        ("keras:mnist", "did you mean 'mnist'?"),
        ("keras:CIFAR-10", "did you mean 'cifar10'?"),
    ],
)
def test_a_name_of_others_is_answered_with_ours(given: str, hint: str) -> None:
    """A set of several parts is answered with these, one of another library with ours."""
    with pytest.raises(UsageError, match=f"unknown `dataset` '{given}'") as caught:
        prepared(given)
    assert caught.value.hint == hint


def test_unpacked_files_of_emnist_are_images_of_ones_own(tmp_path: Path, cache: Path) -> None:
    """Where the archive is expected and its files lie there unpacked, the hint names the folder and
    the options by which these are read, and they give the very images.
    """
    made = twin("emnist-letters", tmp_path / "web")
    (own := tmp_path / "own").mkdir()
    with zipfile.ZipFile(tmp_path / "web" / "gzip.zip") as archive:
        for name in archive.namelist()[1:]:
            (own / Path(name).stem).write_bytes(gzip.decompress(archive.read(name)))
    with pytest.raises(SourceError, match=r"own: expected gzip\.zip, found no such") as caught:
        prepared("emnist/letters", source=own)
    assert str(caught.value.hint).endswith(f": {own}, with `layout=nwh` `labels_from=1`")
    entry = prepared(own, layout="nwh", labels_from=1, mode="normalize")
    images, labels = entry.train.to_numpy()
    assert (entry.scaling.invert(images) == made.splits["train"][0]).all()
    assert labels.tolist() == made.splits["train"][1].tolist()


def test_one_archive_is_downloaded_once_for_all_its_parts(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """What was downloaded for one dataset is linked to for another that has the same file."""
    made = twin("cifar100", tmp_path / "web")
    known_as(monkeypatch, made, server.url)
    prepared("cifar100", mode="normalize")
    other = replace(made.dataset, name="cifar100-coarse", group="cifar100")
    known_as(monkeypatch, replace(made, dataset=other), "http://127.0.0.1:9/")
    prepared("cifar100/coarse", mode="normalize")
    files = [
        cache / ".raw" / name / "cifar-100-binary.tar.gz" for name in REGISTRY if "r100" in name
    ]
    assert len({file.stat().st_ino for file in files}) == 1
    assert len(server.asked(files[0].name)) == 1


def test_an_md5_alone_is_made_good_by_the_first_download(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where only an MD5 is published, the SHA-256 of the first download that has it is told and
    written down, and another file of that MD5 is refused from then on.
    """
    made = twin("medmnist-breastmnist", tmp_path / "web")
    known_as(monkeypatch, made, server.url)
    with caplog.at_level(logging.INFO, "pixelprep"):
        prepared("medmnist/breastmnist", mode="normalize")
    sha256 = hashlib.sha256((tmp_path / "web" / "breastmnist.npz").read_bytes()).hexdigest()
    assert f"only its MD5 is published; its SHA-256 is {sha256}" in caplog.text
    downloaded = cache / ".raw" / "medmnist-breastmnist" / "breastmnist.npz"
    record = downloaded.with_name("breastmnist.npz.json")
    assert sha256 in record.read_text()
    downloaded.unlink()
    record.write_text(record.read_text().replace(sha256, "0" * 64))
    with pytest.raises(DownloadError, match=f"expected SHA-256 0{{12}}…, got {sha256[:12]}"):
        prepared("medmnist/breastmnist", mode="center")


def test_wrong_bytes_are_told_by_the_digest_that_is_published(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of another MD5 is refused, downloaded or the user's own, and the MD5 is named."""
    made = twin("qmnist", tmp_path / "web")
    known_as(monkeypatch, made, server.url)
    labels = tmp_path / "web" / "qmnist-test-labels-idx2-int.gz"
    labels.write_bytes(labels.read_bytes() + b"\0")
    with pytest.raises(DownloadError, match="wrong bytes: expected MD5"):
        prepared("qmnist", mode="normalize")
    with pytest.raises(SourceError, match=r"not the official .*: its MD5 differs"):
        prepared("qmnist", mode="normalize", source=tmp_path / "web")


def test_files_of_another_shape_are_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were our description of a dataset wrong, no entry would be made of what it is not."""
    made = twin("stl10", tmp_path / "web")
    wrong = replace(made.dataset, counts={**made.dataset.rows, "train": 14})
    known_as(monkeypatch, replace(made, dataset=wrong), server.url)
    with pytest.raises(SourceError, match=r"train_X.bin: expected 387,072 bytes, got 414,720"):
        prepared("stl10", mode="normalize")
    made = twin("k49", tmp_path / "web")
    wrong = replace(made.dataset, counts={**made.dataset.rows, "train": 50})
    known_as(monkeypatch, replace(made, dataset=wrong), server.url)
    with pytest.raises(SourceError, match=r"k49: train: expected images \(50, 28, 28, 1\), got"):
        prepared("k49", mode="normalize")
