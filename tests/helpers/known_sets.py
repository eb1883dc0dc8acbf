"""Files exactly as those of datasets known by name, but with few rows, and what they mean.

Each file is written after the published description of its format, not with the reader's code.
"""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any  # Any: each a dataset of its own type

import numpy as np
from PIL import Image

from pixelprep.sources import REGISTRY
from pixelprep.sources.known.cifar import Cifar
from pixelprep.sources.known.download import RegistryFile
from pixelprep.sources.known.idx_sets import Emnist, Qmnist
from pixelprep.sources.known.npz_sets import NpzSet
from pixelprep.sources.known.pcam import Pcam
from pixelprep.sources.known.registered import Pair, RegisteredDataset
from pixelprep.sources.known.stl10 import Stl10
from pixelprep.sources.known.svhn import MatSet

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Twin:
    """A dataset like a known one, the folder of its files, and its images upright, its labels."""

    dataset: RegisteredDataset
    folder: Path
    splits: Splits
    class_names: tuple[str, ...]


def twin(name: str, folder: Path) -> Twin:
    """Write the files of a small dataset like the known one of this registered name."""
    known = REGISTRY[name]
    folder.mkdir(parents=True, exist_ok=True)
    names = known.class_names or tuple(f"class_{i}" for i in range(known.classes))
    splits = _random_splits(known, len(names))
    make = next(make for kind, make in MAKERS.items() if isinstance(known, kind))
    return Twin(make(known, folder, splits, names), folder, splits, names)


def _random_splits(known: RegisteredDataset, classes: int) -> Splits:
    """Return images without any symmetry, and labels in which every split has every class."""
    random = np.random.default_rng(len(known.name))
    rows = {"train": classes + 5, "val": classes + 1, "test": classes + 2}
    found = {}
    for split in known.rows:
        count = rows[split]
        images = random.integers(0, 256, (count, *known.shape), np.uint8)
        labels = np.arange(count)[::-1] % classes
        if known.task == "multilabel":
            labels = (random.random((count, classes)) < 0.4).astype(np.int64)
            labels[0] = split == "train"
        found[split] = images, labels
    return found


def pin(folder: Path, known: RegistryFile, content: bytes) -> RegistryFile:
    """Write a file and return its pin, with the same kinds of digest and size as the known one."""
    (folder / known.name).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest() if known.sha256 else None
    md5 = hashlib.md5(content).hexdigest() if known.md5 else None
    size = len(content) if known.size else None
    return replace(known, size=size, sha256=sha256, md5=md5)


def idx_bytes(array: np.ndarray, kind: int = 8) -> bytes:
    """Return an IDX file: two zero bytes, type, number of axes, the axes, the values."""
    head = struct.pack(f">4B{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def _counts(splits: Splits) -> dict[str, int]:
    return {name: len(images) for name, (images, _) in splits.items()}


def _emnist(known: Any, folder: Path, splits: Splits, names: tuple[str, ...]) -> Any:
    held = io.BytesIO()
    part = known.name.removeprefix("emnist-")
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gzip/emnist-other-train-images-idx3-ubyte.gz", b"another part")
        for split, (images, labels) in splits.items():
            stem = f"gzip/emnist-{part}-{split}"
            columns = np.stack([image[..., 0].T for image in images])  # each on its side
            numbers = (labels + (1 if part == "letters" else 0)).astype(np.uint8)
            for kind, array in (("images-idx3", columns), ("labels-idx1", numbers)):
                archive.writestr(f"{stem}-{kind}-ubyte.gz", gzip.compress(idx_bytes(array)))
    archive_pin = pin(folder, known.archive, held.getvalue())
    return replace(known, archive=archive_pin, counts=_counts(splits), mirrors=())


def _qmnist(known: Any, folder: Path, splits: Splits, names: tuple[str, ...]) -> Any:
    pairs = {}
    for split, (images, labels) in splits.items():
        facts = np.full((len(labels), 8), 77, np.int32)  # writer, place and so on
        facts[:, 0] = labels
        contents = idx_bytes(images[..., 0]), idx_bytes(facts, 12)
        pair = known.splits[split]
        pins = [
            replace(pin(folder, one, gzip.compress(content)), content_size=len(content))
            for one, content in zip((pair.images, pair.labels), contents, strict=True)
        ]
        pairs[split] = Pair(len(labels), *pins)
    return replace(known, splits=pairs, mirrors=())


def _npz(known: Any, folder: Path, splits: Splits, names: tuple[str, ...]) -> Any:
    held: dict[RegistryFile, dict[str, np.ndarray]] = {}
    for split, (images, labels) in splits.items():
        pixels = images[..., 0] if images.shape[-1] == 1 else images
        numbers = labels.astype(np.uint8)
        if known.name.startswith("medmnist") and numbers.ndim == 1:
            numbers = numbers[:, None]
        for place, array in zip(known.places[split], (pixels, numbers), strict=True):
            held.setdefault(place.file, {})[place.key] = array
    pins = {}
    for file, arrays in held.items():
        archive = io.BytesIO()
        np.savez_compressed(archive, **arrays)  # type: ignore[arg-type] # a name and an array each
        pins[file] = pin(folder, file, archive.getvalue())
    places = {
        split: tuple(replace(place, file=pins[place.file]) for place in pair)
        for split, pair in known.places.items()
    }
    return replace(known, places=places, counts=_counts(splits), mirrors=())


def _tar(members: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return held.getvalue()


def _cifar(known: Any, folder: Path, splits: Splits, names: tuple[str, ...]) -> Any:
    other = 3  # the label that is not asked for
    members = {}
    for split, (images, labels) in splits.items():
        pairs = [(label, other) if "coarse" in known.name else (other, label) for label in labels]
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        records = np.concatenate([np.array(pairs, np.uint8), planes], axis=1)
        members[f"cifar-100-binary/{split}.bin"] = records.tobytes()
    kind = "coarse" if "coarse" in known.name else "fine"
    members[f"cifar-100-binary/{kind}_label_names.txt"] = "\n".join(names).encode() + b"\n"
    archive = pin(folder, known.archive, _tar(members))
    rows = _counts(splits)
    return replace(
        known, archive=archive, part_rows=rows["train"], test_rows=rows["test"], mirrors=()
    )


def _stl10(known: Any, folder: Path, splits: Splits, names: tuple[str, ...]) -> Any:
    members = {"stl10_binary/unlabeled_X.bin": bytes(96 * 96 * 3)}
    for split, (images, labels) in splits.items():
        # Channel by channel, each column by column.
        members[f"stl10_binary/{split}_X.bin"] = b"".join(
            image[:, :, channel].tobytes("F") for image in images for channel in range(3)
        )
        members[f"stl10_binary/{split}_y.bin"] = bytes((labels + 1).tolist())
    members["stl10_binary/class_names.txt"] = "\n".join(names).encode() + b"\n"
    archive = pin(folder, known.archive, _tar(members))
    return replace(known, archive=archive, counts=_counts(splits), mirrors=())


def _svhn(known: Any, folder: Path, splits: Splits, names: tuple[str, ...]) -> Any:
    parts = {}
    for split, (images, labels) in splits.items():
        content = mat_bytes(images, np.where(labels == 0, 10, labels))
        parts[split] = pin(folder, known.parts[split], content)
    return replace(known, parts=parts, counts=_counts(splits), mirrors=())


def _pcam(known: Any, folder: Path, splits: Splits, names: tuple[str, ...]) -> Any:
    import h5py

    parts: dict[str, dict[str, RegistryFile]] = {}
    for split, (images, labels) in splits.items():
        arrays = {"images": images, "labels": labels.astype(np.uint8).reshape(-1, 1, 1, 1)}
        parts[split] = {}
        for role, array in arrays.items():
            held, file = io.BytesIO(), known.parts[split][role]
            with h5py.File(held, "w") as out:
                out[{"images": "x", "labels": "y"}[role]] = array
            parts[split][role] = pin(folder, file, gzip.compress(held.getvalue()))
    return replace(known, parts=parts, counts=_counts(splits), mirrors=())


def mat_bytes(images: np.ndarray, labels: np.ndarray, **more: Any) -> bytes:
    """Return a MATLAB 5 file like SVHN's: X of H×W×C×N, y of N×1."""
    import scipy.io

    held = io.BytesIO()
    turned = np.moveaxis(images, 0, -1)
    arrays = {"X": turned, "y": labels.astype(np.uint8)[:, None], **more}
    scipy.io.savemat(held, arrays, do_compression=True)
    return held.getvalue()


def pictures_twin(name: str, folder: Path) -> Twin:
    """Write a small archive of pictures, each of one color, like the known one of this name.

    Of each split the colors are given in place of images.
    """
    known: Any = REGISTRY[name]
    if name == "flowers102":
        return _flowers(known, folder)
    words = known.class_names or tuple(f"n{i:08d}" for i in range(3))
    folders = known.folders or words
    top = {"imagenette": "imagenette2-160", "eurosat": "2750"}.get(name, "tiny-imagenet-200")
    members, splits, number = dict[str, bytes](), Splits(), 0
    for split in ("train",) if name == "eurosat" else ("train", "val"):
        colors, labels, table = [], [], ""
        for label, class_name in enumerate(folders * 2):
            size = known.shape[:2] or (12 + label, 15)
            colors.append((number := number + 1, 2 * number, 255 - number))
            labels.append(label % len(folders))
            file = io.BytesIO()
            Image.fromarray(np.full((*size, 3), colors[-1], np.uint8)).save(file, "PNG")
            path = f"{split}/{class_name}/{class_name}_{number}.JPEG"
            if name == "eurosat":
                path = f"{class_name}/{class_name}_{number}.png"
            elif name == "tiny-imagenet" and split == "val":
                path = f"val/images/val_{number}.JPEG"
                table += f"val_{number}.JPEG\t{class_name}\t0\t0\t9\t9\n"
            members[f"{top}/{path}"] = file.getvalue()
        if table:
            members[f"{top}/val/val_annotations.txt"] = table.encode()
        splits[split] = np.array(colors), np.array(labels)
    if name == "tiny-imagenet":
        members[f"{top}/test/images/test_0.JPEG"] = file.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    content = (_zip if known.archive.name.endswith(".zip") else _tar)(members)
    archive = pin(folder, known.archive, content)
    count = known.class_count and len(folders)
    made = replace(known, archive=archive, class_count=count, mirrors=())
    return Twin(made, folder, splits, words)


def _flowers(known: Any, folder: Path) -> Twin:
    """Write 18 pictures of three flowers, whose numbers go across the splits."""
    import scipy.io

    folder.mkdir(parents=True, exist_ok=True)
    members, classes = dict[str, bytes](), np.arange(18) // 3 % 3 + 1  # of the pictures from 1
    for number in range(1, 19):
        file = io.BytesIO()
        pixels = np.full((12 + number, 15, 3), (number, 2 * number, 255 - number), np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        members[f"jpg/image_{number:05d}.jpg"] = file.getvalue()
    numbers = {"trnid": range(18, 0, -3), "valid": range(2, 19, 3), "tstid": range(1, 19, 3)}
    contents: dict[str, dict[str, Any]] = {"labels": {"labels": classes.astype(np.uint8)[None]}}
    contents["splits"] = {key: np.array(ids, np.uint16)[None] for key, ids in numbers.items()}
    pins = {"archive": pin(folder, known.archive, _tar(members))}
    for part, arrays in contents.items():
        held = io.BytesIO()
        scipy.io.savemat(held, arrays, do_compression=True)
        pins[part] = pin(folder, getattr(known, part), held.getvalue())
    splits = {
        name: (np.array([(n, 2 * n, 255 - n) for n in ids]), classes[np.array(ids) - 1] - 1)
        for name, ids in zip(("train", "val", "test"), numbers.values(), strict=True)
    }
    names, counts = known.class_names[:3], dict.fromkeys(splits, 6)
    made = replace(known, **pins, class_names=names, counts=counts, mirrors=())
    return Twin(made, folder, splits, names)


def _zip(members: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return held.getvalue()


Make = Callable[[Any, Path, Splits, tuple[str, ...]], Any]
MAKERS: dict[type, Make] = {
    Emnist: _emnist,
    Qmnist: _qmnist,
    NpzSet: _npz,
    Cifar: _cifar,
    Stl10: _stl10,
    MatSet: _svhn,
    Pcam: _pcam,
}
