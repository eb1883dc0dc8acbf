"""Folders of pictures: photos prepared, and PNG images decoded and prepared by several workers."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import made
from benchmarks.clock import Measure, once
from benchmarks.contest import Contest
from benchmarks.made import picture
from benchmarks.place import LeftOut, Place
from benchmarks.process import console, seconds

IMAGES, FEW, SIDE, CLASSES = 20_000, 2_000, 64, 10
SHARDS = 8  # files that the training images are written to
MEMORY = Path("/dev/shm")  # a file system in memory

PHOTOS = 1_000

PREPARING = Contest("photos", "a folder of JPEG photos of 1600×1200 to 224×224", "s", 5)
DECODING = Contest("decoding", "reading a folder of 20,000 PNG images of 64×64×3 once", "s", 5)
WORKERS = Contest(
    "workers",
    "`pixelprep prepare --workers N` of 20,000 images of 64×64×3 in 9 files, the whole process",
    "s",
    5,
)


def _write_pngs(path: Path, images: int) -> None:
    from PIL import Image

    for number in range(images):
        split = "train" if number < images * 9 // 10 else "test"
        name = path / split / f"class{number % CLASSES}" / f"{number:06d}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number, SIDE)).save(name)


def _png_folder(place: Place) -> Path:
    images = FEW if place.quick else IMAGES
    return made.once(place, "pngs", partial(_write_pngs, images=images))


def _write_archive(path: Path, rows: int) -> None:
    import numpy as np

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (rows, SIDE, SIDE, 3), np.uint8)
    x_train, x_test = np.split(images, [rows * 9 // 10])
    y_train, y_test = np.split(np.arange(rows) % CLASSES, [rows * 9 // 10])
    with path.open("wb") as file:
        np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def _archive(place: Place) -> Path:
    """Return as many pixels in an ``.npz`` file: what is left is writing floats."""
    rows = FEW if place.quick else IMAGES
    return made.once(place, "pictures.npz", partial(_write_archive, rows=rows))


def _decoded(place: Place, workers: int | None) -> Measure:
    """Do what `prepare` does before it knows its key: list, decode, keep the pixels in files."""
    folder = _png_folder(place)
    from pixelprep import sources
    from pixelprep.system import parallel

    source = sources.find_source(f"{folder}/", sources.Options(quiet=True))
    pool = parallel.WorkerPool(workers) if workers else parallel.WorkerPool()
    list(pool.map(abs, range(64)))  # Keras has been imported before the clock, too

    def decode() -> None:
        with place.folder() as cache, sources.SourceContext(cache, pool, quiet=True) as here:
            source.load(here)

    return once(decode)


def _keras(place: Place, dataset: Callable[[Place], Path], size: tuple[int, int]) -> Measure:
    folder = dataset(place)
    import keras

    def read() -> None:
        for split in ("train", "test"):
            data = keras.utils.image_dataset_from_directory(
                folder / split, image_size=size, batch_size=64, shuffle=False, verbose=False
            )
            for _ in data:
                pass

    return once(read)


for _name, _workers, _target in (
    ("pixelprep, default", None, "≤ 0.6"),
    ("pixelprep, one process", 1, ""),
    ("pixelprep, two workers", 2, ""),
):
    DECODING.contestant(_name, _name, fresh=True)(partial(_decoded, workers=_workers))
    DECODING.duel(
        _name,
        "Keras",
        _target,
        "image_dataset_from_directory, batches of 64 into an empty loop, as many threads as it"
        " likes; ours also stores and digests the pixels; without imports",
    )
    DECODING.before(_name)
DECODING.contestant("Keras", "keras", fresh=True)(
    partial(_keras, dataset=_png_folder, size=(SIDE, SIDE))
)


def _photos(place: Place, count: int = PHOTOS) -> Path:
    count //= 10 if place.quick else 1
    return made.once(place, f"photos{count}", partial(made.write_photos, count=count))


def photos_prepared(place: Place, count: int) -> Measure:
    """Prepare photos by the command, with its default options but for the size."""
    command = [*console(place), "prepare", f"{_photos(place, count)}", "--size", "224"]

    def measure() -> float:
        with place.folder() as folder:
            os.sync()
            return seconds([*command, "--quiet"], PIXELPREP_CACHE_DIR=str(folder))

    return measure


for _count, _target in ((PHOTOS, "≤ 0.25"), (300, "< 1")):
    _name = f"pixelprep prepare, default, {_count:,} photos"
    PREPARING.contestant(_name)(partial(photos_prepared, count=_count))
    PREPARING.before(_name, _target)
PREPARING.duel(
    f"pixelprep prepare, default, {PHOTOS:,} photos",
    "Keras",
    "≤ 0.7",
    "image_dataset_from_directory, batches of 64 into an empty loop, its import left out; ours is"
    " the whole process and keeps float32; Keras takes 2×2 pixels of each place, ours all of them",
)
PREPARING.contestant("Keras", "keras", fresh=True)(
    partial(_keras, dataset=_photos, size=(224, 224))
)


def _in_memory(place: Place) -> AbstractContextManager[str]:
    if not MEMORY.is_dir():
        raise LeftOut("no file system in memory")
    return tempfile.TemporaryDirectory(dir=MEMORY, prefix="pixelprep-bench-")


def _prepared(
    place: Place,
    dataset: Callable[[Place], Path],
    cache: Callable[[Place], AbstractContextManager[Any]],
    options: Sequence[str],
) -> Measure:
    path = dataset(place)
    rows = (FEW if place.quick else IMAGES) * 9 // 10 // SHARDS
    command = [
        *console(place),
        "prepare",
        f"{path}",
        "--shard-rows",
        str(rows),
        "--quiet",
        "--json",
    ]

    def measure() -> float:
        with cache(place) as folder:
            os.sync()
            return seconds([*command, *options], PIXELPREP_CACHE_DIR=str(folder))

    return measure


def _one_and_two(
    name: str,
    dataset: Callable[[Place], Path],
    *options: str,
    cache: Callable[[Place], AbstractContextManager[Any]] = Place.folder,
    target: str = "",
    note: str,
) -> None:
    """Compare two workers with one."""
    for workers in (*"12", "default"):
        arguments = () if workers == "default" else ("--workers", workers)
        make = partial(_prepared, dataset=dataset, cache=cache, options=(*arguments, *options))
        WORKERS.contestant(f"{name}, {workers} workers")(make)
    WORKERS.duel(f"{name}, default workers", f"{name}, 1 workers", "≤ 1", note)
    WORKERS.before(f"{name}, default workers", "< 1", note)
    WORKERS.duel(f"{name}, 2 workers", f"{name}, 1 workers", target, note)


_one_and_two(
    "PNG folder, gzip",
    _png_folder,
    *("--compression", "gzip"),
    target="≤ 0.6",
    note="bound by the processor: decoding and compressing",
)
_one_and_two(
    "PNG folder",
    _png_folder,
    target="≤ 0.6",
    note="0.98 GB of float32 are written; one worker hashes in a second thread already",
)
_one_and_two(
    "PNG folder, cache in memory",
    _png_folder,
    cache=_in_memory,
    note="the same without the disk",
)
_one_and_two(
    ".npz of the same size",
    _archive,
    note="writing floats: the disk, and a second thread that one worker has too",
)
