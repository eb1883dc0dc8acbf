"""One tree of real digits in everybody's layouts, as everybody's readers read it, and as we do.

Run it with ``-s`` to see the table. What differs is said in docs/data.md.
"""

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: the peers' own types

import numpy as np
import pytest
from PIL import Image

import pixelprep
from tests.helpers.sources import prepared

pytestmark = pytest.mark.long

Pictures = dict[str, tuple[str, np.ndarray]]  # by path below the split: class and pixels
COUNTS = {"train": 30, "val": 10, "test": 10}  # of each class


@dataclass(frozen=True)
class Reading:
    """What a reader makes of a tree."""

    class_names: Sequence[str]
    splits: Mapping[str, Pictures]


Digits = dict[str, list[tuple[int, np.ndarray]]]


@pytest.fixture(scope="module")
def digits(mnist: Path) -> Digits:
    """Return digits of MNIST for each split, the same number of each class."""

    def content(name: str, skip: int) -> np.ndarray:
        held = gzip.decompress((mnist / f"train-{name}-ubyte.gz").read_bytes())
        return np.frombuffer(held, np.uint8, offset=skip)

    images, labels = content("images-idx3", 16).reshape(-1, 28, 28), content("labels-idx1", 8)
    found: Digits = {split: [] for split in COUNTS}
    for digit in range(10):
        rows = iter(np.flatnonzero(labels == digit).tolist())
        for split, count in COUNTS.items():
            found[split] += [(digit, images[next(rows)]) for _ in range(count)]
    return found


def write(
    top: Path, digits: Digits, words: Mapping[str, str], name: Callable[[int, int], str]
) -> None:
    """Write each split's digits under its word; `name` gives their names by class and number."""
    for split, word in words.items():
        for row, (digit, image) in enumerate(digits[split]):
            path = top / word / name(digit, row)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=95)


def hugging_face(top: Path, digits: Digits) -> None:
    words = {"train": "train", "val": "validation", "test": "test"}
    write(top, digits, words, lambda digit, row: f"{digit}/{row}.png")


def hugging_face_table(top: Path, digits: Digits) -> None:
    words = {"train": "train", "test": "test"}
    write(top, digits, words, lambda _, row: f"{row}.png")
    for split, word in words.items():
        rows = (f"{row}.png,{digit}\n" for row, (digit, _) in enumerate(digits[split]))
        (top / word / "metadata.csv").write_text("file_name,label\n" + "".join(rows))


def fastai(top: Path, digits: Digits) -> None:
    words = {"train": "train", "val": "valid", "test": "test"}
    write(top, digits, words, lambda digit, row: f"{digit}/{row}.png")
    (top / "labels.csv").write_text("name,label\ntrain/0/0.png,0\n")


def roboflow(top: Path, digits: Digits) -> None:
    words = {"train": "train", "val": "valid", "test": "test"}
    write(top, digits, words, lambda d, row: f"{d}/{row}_png.rf.{row * 7919:032x}.jpg")
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (top / name).write_text("exported\n")


def tfds(top: Path, digits: Digits) -> None:
    words = {"train": "train", "test": "test"}
    write(top, digits, words, lambda digit, row: f"label_{digit}/image{row}.jpg")


def keras(top: Path, digits: Digits) -> None:
    write(top, digits, {"train": "."}, lambda digit, row: f"class_{digit}/{row}.png")


def torchvision(top: Path, digits: Digits) -> None:
    write(top, digits, {"train": "."}, lambda d, row: f"{d}/{'x/y/' * (row % 2)}{row}.png")


LAYOUTS = (hugging_face, hugging_face_table, fastai, roboflow, tfds, keras, torchvision)


def ours(entry: pixelprep.Entry) -> Reading:
    """Return an entry's raw pixels by file."""
    splits = {}
    for split, one in entry.splits.items():
        images, labels = one.to_numpy()
        assert one.names is not None
        rows = zip(one.names, entry.scaling.invert(images)[..., 0], labels, strict=True)
        splits[split] = {
            Path(n).name: (entry.class_names[label], image) for n, image, label in rows
        }
    return Reading(entry.class_names, splits)


def folders(top: Path) -> Iterator[tuple[str, Path]]:
    """Yield the folders of splits, for readers that take one at a time."""
    if not (top / "train").is_dir():
        yield "train", top
    for word, split in {
        "valid": "val",
        "validation": "val",
        "train": "train",
        "test": "test",
    }.items():
        if (top / word).is_dir():
            yield split, top / word


def by_datasets(top: Path, cache: Path) -> Reading:
    """Read as `datasets.load_dataset("imagefolder")`."""
    library = pytest.importorskip("datasets")
    found = library.load_dataset("imagefolder", data_dir=str(top), cache_dir=str(cache))
    splits, names = {}, list[str]()
    for word, rows in found.items():
        if "label" not in rows.features:  # pictures lie at several depths
            pytest.skip("datasets drops all labels where pictures lie at several depths")
        feature = rows.features["label"]
        names = list(getattr(feature, "names", None) or sorted(map(str, set(rows["label"]))))
        paths = [
            one["path"] for one in rows.cast_column("image", library.Image(decode=False))["image"]
        ]
        splits["val" if word == "validation" else word] = {
            Path(path).name: (names[row["label"]], np.asarray(row["image"]))
            for path, row in zip(paths, rows, strict=True)
        }
    return Reading(names, splits)


def by_keras(top: Path, cache: Path) -> Reading:
    """Read as `keras.utils.image_dataset_from_directory`, a split at a time."""
    read = pytest.importorskip("keras").utils.image_dataset_from_directory
    splits, names = {}, list[str]()
    for split, folder in folders(top):
        how: Any = {"shuffle": False, "batch_size": None, "color_mode": "grayscale"}
        found = read(folder, image_size=(28, 28), verbose=False, **how)
        names = found.class_names
        splits[split] = {
            Path(path).name: (names[int(label)], image.numpy()[..., 0].astype(np.uint8))
            for path, (image, label) in zip(found.file_paths, found, strict=True)
        }
    return Reading(names, splits)


def by_torchvision(top: Path, cache: Path) -> Reading:
    """Read as `torchvision.datasets.ImageFolder`, a split at a time."""
    library = pytest.importorskip("torchvision.datasets")
    splits, names = {}, list[str]()
    for split, folder in folders(top):
        found = library.ImageFolder(folder)
        names = found.classes
        splits[split] = {
            Path(path).name: (names[label], np.asarray(image)[..., 0])
            for (path, _), (image, label) in zip(found.samples, found, strict=True)
        }
    return Reading(names, splits)


PEERS = (by_datasets, by_keras, by_torchvision)
OF_JPEG = (roboflow, tfds)
NEEDS_CLASSES = (by_keras, by_torchvision)  # folders of them: these know no table


def farthest(one: Reading, other: Reading) -> int:
    """Return by how much the pixels of the same pictures differ at most."""
    return max(
        int(np.abs(image.astype(int) - other.splits[split][name][1]).max())
        for split, pictures in one.splits.items()
        for name, (_, image) in pictures.items()
    )


def accurately(tree: Path, reading: Reading) -> Reading:
    """Decode JPEG by TensorFlow as Keras does, but by libjpeg's accurate method."""
    tf = pytest.importorskip("tensorflow")
    how = {"channels": 1, "dct_method": "INTEGER_ACCURATE"}
    splits = dict[str, Pictures]()
    for split, folder in folders(tree):
        for path in folder.rglob("*.jpg"):
            image = np.asarray(tf.io.decode_jpeg(path.read_bytes(), **how))[..., 0]
            class_name, _ = reading.splits[split][path.name]
            splits.setdefault(split, {})[path.name] = class_name, image
    return Reading(reading.class_names, splits)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_classes_and_pixels_are_those_of_others(
    layout: Callable[[Path, Digits], None],
    peer: Callable[[Path, Path], Reading],
    digits: Digits,
    tmp_path: Path,
) -> None:
    """Both find the same pictures in each split, of the same classes in the same order; and the
    same pixels: of JPEG, Keras's once TensorFlow decodes by libjpeg's accurate method, as all
    others do.
    """
    if layout is hugging_face_table and peer in NEEDS_CLASSES:
        pytest.skip("reads no metadata.csv")
    tree = tmp_path / "tree"
    layout(tree, digits)
    mine, theirs = ours(prepared(tree)), peer(tree, tmp_path / "peer")
    sizes = {split: len(pictures) for split, pictures in sorted(mine.splits.items())}
    differ = farthest(mine, theirs)
    row = (layout.__name__, peer.__name__, sizes, " ".join(mine.class_names), differ)
    print("| {} | {} | {} | {} | {} |".format(*row))
    assert list(mine.class_names) == list(theirs.class_names)
    assert mine.splits.keys() == theirs.splits.keys()
    for split, pictures in mine.splits.items():
        classes = {name: class_name for name, (class_name, _) in pictures.items()}
        assert classes == {name: one for name, (one, _) in theirs.splits[split].items()}
    if differ and peer is by_keras and layout in OF_JPEG:
        differ = farthest(mine, accurately(tree, theirs))
    assert differ == 0
