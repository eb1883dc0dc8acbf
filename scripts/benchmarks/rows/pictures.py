"""A folder of PNG images: decoding it, and preparing it with one worker and with two."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clock import Measure, once
from benchmarks.contest import Contest
from benchmarks.place import LeftOut, Place
from benchmarks.process import console, seconds

IMAGES, FEW, SIDE, CLASSES = 20_000, 2_000, 64, 10
SHARDS = 8  # files that the training images are written to
MEMORY = Path("/dev/shm")  # a file system in memory

DECODING = Contest("decoding", "reading a folder of 20,000 PNG images of 64×64×3 once", "s", 5)
WORKERS = Contest(
    "workers",
    "`pixelprep prepare --workers N` of 20,000 images of 64×64×3 in 9 files, the whole process",
    "s",
    5,
)


def _png_folder(place: Place) -> Path:
    """Return waves with a little noise, 64×64×3: one tenth test; made by whoever asks first."""
    folder = place.work / "pngs"
    if not folder.exists():
        made = folder.with_name("pngs.part")
        images = FEW if place.quick else IMAGES
        for number in range(images):
            split = "train" if number < images * 9 // 10 else "test"
            name = made / split / f"class{number % CLASSES}" / f"{number:06d}.png"
            name.parent.mkdir(parents=True, exist_ok=True)
            _picture(number).save(name)
        made.rename(folder)
    return folder


def _picture(number: int) -> Any:
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(number)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    f = random.random(6)
    waves = [np.sin(x * (0.05 + 0.1 * f[c]) + y * 0.1 * f[c + 3] + number) for c in range(3)]
    pixels = 127 + 90 * np.stack(waves, -1) + random.normal(0, 6, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _archive(place: Place) -> Path:
    """Return as many pixels in an ``.npz`` file: what is left is writing floats."""
    import numpy as np

    path = place.work / "pictures.npz"
    if not path.exists():
        rows = FEW if place.quick else IMAGES
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (rows, SIDE, SIDE, 3), np.uint8)
        x_train, x_test = np.split(images, [rows * 9 // 10])
        y_train, y_test = np.split(np.arange(rows) % CLASSES, [rows * 9 // 10])
        part = path.with_name("part.npz")
        np.savez(part, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
        part.rename(path)
    return path


def _decoded(place: Place, workers: int) -> Measure:
    """Do what `prepare` does before it knows its key: list, decode, keep the pixels in files."""
    folder = _png_folder(place)
    from pixelprep import sources
    from pixelprep.system import parallel

    source = sources.find_source(f"{folder}/", sources.Options(quiet=True))
    pool = parallel.WorkerPool(workers)
    list(pool.map(abs, range(64)))  # Keras has been imported before the clock, too

    def decode() -> None:
        with place.folder() as cache, sources.SourceContext(cache, pool, quiet=True) as here:
            source.load(here)

    return once(decode)


def _keras(place: Place) -> Measure:
    folder = _png_folder(place)
    import keras

    def read() -> None:
        for split in ("train", "test"):
            size = (SIDE, SIDE)
            data = keras.utils.image_dataset_from_directory(
                folder / split, image_size=size, batch_size=64, shuffle=False, verbose=False
            )
            for _ in data:
                pass

    return once(read)


for _name, _workers in (("pixelprep, one process", 1), ("pixelprep, two workers", 2)):
    DECODING.contestant(_name, _name, fresh=True)(partial(_decoded, workers=_workers))
    DECODING.duel(
        _name,
        "Keras",
        "≤ 1",
        "image_dataset_from_directory, batches of 64 into an empty loop, as many threads as it"
        " likes; ours also stores and digests the pixels; without imports",
    )
DECODING.contestant("Keras", "keras", fresh=True)(_keras)


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
    for workers in "12":
        arguments = ("--workers", workers, *options)
        make = partial(_prepared, dataset=dataset, cache=cache, options=arguments)
        WORKERS.contestant(f"{name}, {workers} workers")(make)
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
