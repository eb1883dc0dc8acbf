"""Data in every shape that docs/data.md names, small, in one folder."""

import csv
import gzip
import io
import shutil
import struct
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

RANDOM = np.random.default_rng(0)
SIZE = (12, 10)


def pixels(*shape: int) -> np.ndarray:
    """Return random pixels."""
    return RANDOM.integers(0, 256, shape, np.uint8)


def save(path: Path, shape: Sequence[int] = (*SIZE, 3), **options: Any) -> None:
    """Write a random picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(*shape)).save(path, **options)


def folder(top: Path, names: str = "{c}/{i}.png", classes: Iterable[str] = ("cat", "dog")) -> Path:
    """Write six pictures of each class."""
    for c in classes:
        for i in range(6):
            save(top / names.format(c=c, i=i))
    return top


def table(path: Path, *rows: Sequence[object]) -> None:
    """Write a table of a header and rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def arrays(*shape: int, first: int = 0, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return twelve images, and labels of two classes."""
    return pixels(12, *shape), np.arange(12) % 2 * step + first


def write_all(top: Path) -> None:
    """Write all of it."""
    for write in (_folders, _tables, _pictures, _numpy, _hdf5, _others):
        write(top)


def _folders(top: Path) -> None:
    folder(top / "photos")
    (top / "merge.csv").write_text("cat,animal\ndog,animal\nemu,bird\n")
    folder(top / "photos", classes=["emu"])
    shutil.make_archive(str(top / "photos"), "zip", top / "photos")
    for word in ("train", "valid", "test"):
        folder(top / "splits" / word)
        shutil.make_archive(str(top / f"pets-{word}"), "zip", top / "splits" / word)
        _shard(top / f"digits-{word}-0000.tar")
    _shard(top / "shard.tar", "train/", "val/")
    folder(top / "other-lab")
    folder(top / "wrapped" / "photos-main")
    folder(top / "contest" / "train")
    folder(top / "contest" / "test", "{i}.png", ["none"])
    for split in ("train", "val"):
        for c in ("n01440764", "n02102040"):
            for i in range(3):
                save(top / "imagenette2-160" / split / c / f"{i}.JPEG", (160, 213 - i, 3))
    tiny = top / "tiny-imagenet-200"
    folder(tiny / "train", "{c}/images/{c}_{i}.JPEG", ["n01", "n02"])
    folder(tiny / "val", "images/val_{i}.JPEG", ["none"])
    folder(tiny / "test", "images/test_{i}.JPEG", ["none"])
    lines = (f"val_{i}.JPEG\tn0{i % 2 + 1}\t0\t0\t9\t9\n" for i in range(6))
    (tiny / "val" / "val_annotations.txt").write_text("".join(lines))
    for name in ("cat", "dog"):
        (top / "links").mkdir(exist_ok=True)
        (top / "links" / name).symlink_to(top / "photos" / name)


def _tables(top: Path) -> None:
    for name in ("labelled", "scans", "films", "tags", "patients"):
        folder(top / name, "{i}.png", ["none"])
    rows = range(6)
    split = ["train", "test"]
    held = [(f"{i}.png", "ab"[i % 2], split[i > 3]) for i in rows]
    table(top / "labelled" / "metadata.csv", ("file_name", "label", "split"), *held)
    scans = [(i, "ab"[i % 2]) for i in rows]
    table(top / "scans" / "train.csv", ("id_code", "diagnosis"), *scans)
    films = [(f"{i}.png", ["drama", "drama|war", "war"][i % 3]) for i in rows]
    table(top / "films" / "findings.csv", ("image", "labels"), *films)
    tags = [(f"{i}.png", i % 2, 1 - i % 2) for i in rows]
    table(top / "tags" / "_classes.csv", ("filename", " cat", " dog"), *tags)
    patients = [(f"{i}.png", "ab"[i % 2], f"p{i // 2}") for i in rows]
    table(top / "patients" / "rows.csv", ("file", "label", "patient"), *patients)
    for i in range(6):
        for c in ("cat", "dog"):
            save(top / "bursts" / c / f"burst{i // 2}-{i}.png")
    digits = [(i % 2, *pixels(16)) for i in range(12)]
    table(top / "digits.csv", ("label", *(f"pixel{i}" for i in range(16))), *digits)
    wards = [(i // 2, i % 2, *pixels(16)) for i in range(12)]
    table(top / "wards.csv", ("patient", "label", *(f"pixel{i}" for i in range(16))), *wards)
    usage = ("Training", "PublicTest", "PrivateTest")
    faces = [(i % 2, " ".join(map(str, pixels(16))), usage[i // 4]) for i in range(12)]
    table(top / "fer2013.csv", ("emotion", "pixels", "Usage"), *faces)


def _pictures(top: Path) -> None:
    for i in range(4):
        for c in ("cat", "dog"):
            save(top / "mixed" / c / f"{i}.png", (20 + i, 30 - i, 3))
            save(top / "colours" / c / f"{i}.png", SIZE if i % 2 else (*SIZE, 3))
            save(top / "icons" / c / f"{i}.png", (*SIZE, 4))
            exif = Image.Exif()
            exif[274] = 6
            save(top / "turned" / c / f"{i}.jpg", exif=exif)
            more = [Image.fromarray(pixels(*SIZE))]
            save(top / "stacks" / c / f"{i}.tif", SIZE, save_all=True, append_images=more)
            save(top / "damaged" / c / f"{i}.png")
            for split in ("train", "test"):
                save(top / "twice" / split / c / f"{i}.png")
    path = top / "damaged" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:-20])
    shutil.copy(top / "twice/train/cat/0.png", top / "twice/test/cat/0.png")


def _numpy(top: Path) -> None:
    (x, y), (u, v) = arrays(5, 4, 3), arrays(5, 4, 3)
    np.savez(top / "digits.npz", x_train=x, y_train=y, x_test=u, y_test=v)
    np.savez(top / "from-one.npz", X=x, y=y + 1)
    np.savez(top / "gaps.npz", X=x, y=y * 7)
    np.savez(top / "torch.npz", X=np.moveaxis(x, -1, 1), y=y)
    (top / "npy").mkdir()
    for name, array in (("x_train", x), ("y_train", y), ("x_test", u), ("y_test", v)):
        np.save(top / "npy" / f"{name}.npy", array)


def _hdf5(top: Path) -> None:
    def write(name: str, **held: np.ndarray) -> None:
        with h5py.File(top / name, "w") as file:
            for key, array in held.items():
                file[key.replace("__", "/")] = array

    (x, y), (u, v) = arrays(5, 4, 3), arrays(5, 4, 3)
    write("digits.h5", train__images=x, train__labels=y, test__images=u, test__labels=v)
    write("train_thing.h5", train_set_x=x, train_set_y=y, list_classes=np.array([b"no", b"yes"]))
    write("test_thing.h5", test_set_x=u, test_set_y=v, list_classes=np.array([b"no", b"yes"]))
    for split, images, labels in (("train", x, y), ("test", u, v)):
        write(f"pcam_{split}_x.h5", x=images)
        write(f"pcam_{split}_y.h5", y=labels.reshape(-1, 1, 1, 1))
    write("odd.h5", train__cubes=x, train__kind=y, test__cubes=u, test__kind=v)
    write("flat.h5", train__data=pixels(12, 24).astype("f4"), train__target=y)
    with h5py.File(top / "newer.mat", "w", userblock_size=512) as file:
        file["X"], file["y"] = x.transpose(0, 3, 2, 1), y[None]
        for one in ("X", "y"):
            file[one].attrs["MATLAB_class"] = np.bytes_("uint8")


def _others(top: Path) -> None:
    import pyarrow
    from pyarrow import parquet
    from scipy import io as matlab

    x, y = arrays(5, 4, 3, first=1)
    matlab.savemat(top / "cropped.mat", {"X": x.transpose(1, 2, 3, 0), "y": y[:, None]})
    (top / "idx").mkdir()
    (top / "parquet").mkdir()
    for split, stem in (("train", "train"), ("test", "t10k")):
        head = struct.pack(">IIII", 2051, 12, 5, 4) + pixels(12, 5, 4).tobytes()
        (top / "idx" / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head))
        labels = struct.pack(">II", 2049, 12) + (y - 1).astype("u1").tobytes()
        (top / "idx" / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
        rows = [{"bytes": _png(), "path": None} for _ in range(12)]
        columns = {"image": rows, "label": (y - 1).tolist()}
        held = pyarrow.table(columns)
        parquet.write_table(held, top / "parquet" / f"{split}-00000-of-00001.parquet")


def _shard(path: Path, *folders: str) -> None:
    """Write a WebDataset tar of six pictures, in each of these folders."""
    with tarfile.open(path, "w") as tar:
        for key in (f"{one}{i}" for one in folders or [""] for i in range(6)):
            for name, content in (
                (f"{key}.png", _png()),
                (f"{key}.cls", b"%d" % (int(key[-1]) % 2)),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _png() -> bytes:
    Image.fromarray(pixels(*SIZE, 3)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()
