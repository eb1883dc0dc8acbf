"""The same files as the libraries that everybody uses read them: every pixel and every label.

Each test needs one of these libraries, which no extra installs, and is skipped without it.
"""

import gzip
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any  # Any: the peers' own types

import numpy as np
import pytest

import pixelprep
from pixelprep.sources import REGISTRY
from tests.helpers.known_sets import Twin, pictures_twin, twin
from tests.helpers.sources import prepared

pytestmark = pytest.mark.long

Rows = tuple[np.ndarray, np.ndarray]
MEDMNIST = [name for name in REGISTRY if name.startswith("medmnist-")]


@pytest.fixture
def made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[Twin, pixelprep.Entry]:
    """Write the files of a small dataset, and prepare it from them."""
    it = twin(request.param, tmp_path / "files")
    finder = sys.modules["pixelprep.sources.resolve"]
    monkeypatch.setattr(finder, "REGISTRY", {**REGISTRY, request.param: it.dataset})
    entry = prepared(REGISTRY[request.param].spelled, mode="normalize", source=it.folder)
    return it, entry


def raw(entry: pixelprep.Entry, split: str) -> Rows:
    """Return an entry's raw pixels, without the axis of a single channel, and its labels."""
    stored, labels = entry.splits[split].to_numpy()
    images = entry.scaling.invert(stored)
    return images[..., 0] if images.shape[-1] == 1 else images, labels


def same(ours: Rows, images: Any, labels: Any) -> None:
    """Check that all pixels and labels are the same."""
    assert np.array_equal(ours[0], np.asarray(images))
    assert np.array_equal(ours[1], np.asarray(labels))


def unzip_all(path: Path, target: Path) -> None:
    """Unpack the gzip files of a folder into another one."""
    target.mkdir(parents=True)
    for file in path.glob("*.gz"):
        (target / file.stem).write_bytes(gzip.decompress(file.read_bytes()))


@pytest.mark.parametrize("made", [n for n in REGISTRY if n.startswith("emnist-")], indirect=True)
def test_emnist_is_that_of_torchvision_upright(
    made: tuple[Twin, pixelprep.Entry], tmp_path: Path
) -> None:
    """Torchvision leaves EMNIST's images on their side, and the letters' labels count from 1."""
    peer = pytest.importorskip("torchvision").datasets
    it, entry = made
    part = it.dataset.name.removeprefix("emnist-")
    zipfile.ZipFile(it.folder / "gzip.zip").extractall(tmp_path)
    (tmp_path / "gzip" / "emnist-other-train-images-idx3-ubyte.gz").unlink()
    unzip_all(tmp_path / "gzip", tmp_path / "EMNIST" / "raw")
    for split in ("train", "test"):
        theirs = peer.EMNIST(tmp_path, part, train=split == "train")
        first = int(part == "letters")
        upright = theirs.data.numpy().transpose(0, 2, 1)
        same(raw(entry, split), upright, theirs.targets.numpy() - first)
        names = [name.upper() for name in theirs.classes[1:]] if first else theirs.classes
        assert entry.class_names == tuple(names)


@pytest.mark.parametrize("made", ["qmnist"], indirect=True)
def test_qmnist_is_that_of_torchvision(made: tuple[Twin, pixelprep.Entry], tmp_path: Path) -> None:
    """The class is the first of the eight numbers of a label."""
    peer = pytest.importorskip("torchvision").datasets
    it, entry = made
    unzip_all(it.folder, tmp_path / "QMNIST" / "raw")
    for split in ("train", "test"):
        theirs = peer.QMNIST(tmp_path, what=split, compat=True)
        same(raw(entry, split), theirs.data.numpy(), theirs.targets.numpy()[:, 0])


@pytest.mark.parametrize("made", ["svhn"], indirect=True)
def test_svhn_is_that_of_torchvision(
    made: tuple[Twin, pixelprep.Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchvision has the channels first; label 10 is 0 there, too."""
    peer = pytest.importorskip("torchvision").datasets
    monkeypatch.setattr(peer.SVHN, "_check_integrity", lambda _: True)
    it, entry = made
    for split in ("train", "test"):
        theirs = peer.SVHN(it.folder, split)
        same(raw(entry, split), theirs.data.transpose(0, 2, 3, 1), theirs.labels)


@pytest.mark.parametrize("made", ["stl10"], indirect=True)
def test_stl10_is_that_of_torchvision(
    made: tuple[Twin, pixelprep.Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchvision has the channels first; labels count from 0 there, too, names are the file's."""
    peer = pytest.importorskip("torchvision").datasets
    monkeypatch.setattr(peer.STL10, "_check_integrity", lambda _: True)
    it, entry = made
    with tarfile.open(it.folder / "stl10_binary.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    for split in ("train", "test"):
        theirs = peer.STL10(tmp_path, split)
        same(raw(entry, split), theirs.data.transpose(0, 2, 3, 1), theirs.labels)
        assert entry.class_names == tuple(theirs.classes)


@pytest.mark.parametrize("made", ["cifar100", "cifar100-coarse"], indirect=True)
def test_cifar100_is_that_of_tensorflow_datasets(
    made: tuple[Twin, pixelprep.Entry], tmp_path: Path
) -> None:
    """The first byte of a record is the coarse label, the second the fine one."""
    peer = pytest.importorskip("tensorflow_datasets.image_classification.cifar")
    it, entry = made
    with tarfile.open(it.folder / "cifar-100-binary.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    column = 0 if "coarse" in it.dataset.name else 1
    for split in ("train", "test"):
        theirs = list(peer._load_data(str(tmp_path / "cifar-100-binary" / f"{split}.bin"), 2))
        same(raw(entry, split), [image for _, image in theirs], [one[column] for one, _ in theirs])


@pytest.mark.parametrize("made", MEDMNIST, indirect=True)
def test_medmnist_is_that_of_its_own_package(made: tuple[Twin, pixelprep.Entry]) -> None:
    """Images, labels, each split, the names of the classes, rows and licence are the package's."""
    peer = pytest.importorskip("medmnist")
    it, entry = made
    flag = it.dataset.name.removeprefix("medmnist-")
    info = peer.INFO[flag]
    for split in ("train", "val", "test"):
        theirs = getattr(peer, info["python_class"])(split=split, root=str(it.folder))
        multilabel = it.dataset.task == "multilabel"
        same(raw(entry, split), theirs.imgs, theirs.labels if multilabel else theirs.labels[:, 0])
    assert entry.class_names == tuple(info["label"].values())
    known = REGISTRY[it.dataset.name]
    assert dict(known.rows) == info["n_samples"]
    assert known.provenance.licence == info["license"]
    assert known.files[0].md5 == info["MD5"]


@pytest.mark.parametrize("made", ["k49"], indirect=True)
def test_kuzushiji_49_is_what_numpy_loads(made: tuple[Twin, pixelprep.Entry]) -> None:
    """Each archive holds one array."""
    it, entry = made
    for split in ("train", "test"):
        arrays = [np.load(it.folder / f"k49-{split}-{kind}.npz") for kind in ("imgs", "labels")]
        same(raw(entry, split), arrays[0]["arr_0"], arrays[1]["arr_0"])


@pytest.mark.parametrize("made", ["pcam"], indirect=True)
def test_pcam_is_that_of_torchvision(made: tuple[Twin, pixelprep.Entry], tmp_path: Path) -> None:
    """Torchvision reads the unpacked files, and calls the splits as we do."""
    peer = pytest.importorskip("torchvision").datasets
    it, entry = made
    unzip_all(it.folder, tmp_path / "pcam")
    for split in ("train", "val", "test"):
        theirs = list(peer.PCAM(tmp_path, split))
        images = np.stack([np.asarray(image) for image, _ in theirs])
        same(raw(entry, split), images, [label for _, label in theirs])


def test_flowers_are_those_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture has torchvision's class and split; the rows lie in another order."""
    peer = pytest.importorskip("torchvision").datasets
    it = pictures_twin("flowers102", tmp_path / "flowers-102")
    with tarfile.open(it.folder / "102flowers.tgz") as archive:
        archive.extractall(it.folder, filter="data")
    finder = sys.modules["pixelprep.sources.resolve"]
    monkeypatch.setattr(finder, "REGISTRY", {**REGISTRY, "flowers102": it.dataset})
    monkeypatch.setattr(
        peer.Flowers102, "_check_integrity", lambda _: True
    )  # these are not the real
    entry = prepared("flowers102", mode="normalize", source=it.folder, size=8)
    for split in ("train", "val", "test"):
        theirs = list(peer.Flowers102(tmp_path, split))
        images, labels = raw(entry, split)
        ours = zip(map(tuple, images[:, 0, 0].tolist()), labels.tolist(), strict=True)
        assert sorted(ours) == sorted((image.getpixel((0, 0)), label) for image, label in theirs)
    assert entry.class_names == tuple(peer.Flowers102.classes[:3])
