"""A folder of PNG images: decoding it, and preparing it with one worker and with two."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clock import once
from benchmarks.contest import Contest, Contestant, Duel, Measure, Reading, Target
from benchmarks.place import LeftOut, Place, console
from benchmarks.process import seconds

IMAGES, FEW, SIDE, CLASSES = 20_000, 2_000, 64, 10
SHARDS = 8  # files that the training images are written to
MEMORY = Path("/dev/shm")  # a file system in memory


def png_folder(place: Place) -> Path:
    """Waves with a little noise, 64×64×3: one tenth test; made by whoever asks first."""
    folder = Path(place.work) / "pngs"
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


def _decoded(workers: int) -> Callable[[Place], Measure]:
    """What `prepare` does before it knows its key: list, decode, keep the pixels in files."""

    def make(place: Place) -> Measure:
        folder = png_folder(place)
        from pixelprep import sources
        from pixelprep.system import parallel

        source = sources.find_source(f"{folder}/", sources.Options(quiet=True))
        pool = parallel.WorkerPool(workers)
        list(pool.map(abs, range(64)))  # Keras has been imported before the clock, too

        def decode() -> None:
            with place.folder() as cache, sources.SourceContext(cache, pool, quiet=True) as here:
                source.load(here)

        return once(decode)

    return make


def _keras(place: Place) -> Measure:
    folder = png_folder(place)
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


OURS, OURS_2, KERAS = "pixelprep, one process", "pixelprep, two workers", "Keras"
DECODING = Contest(
    "decoding",
    "reading a folder of 20,000 PNG images of 64×64×3 once",
    "s",
    5,
    (
        Contestant(OURS, _decoded(1), "decode", fresh=True),
        Contestant(OURS_2, _decoded(2), "decode2", fresh=True),
        Contestant(KERAS, _keras, "keras", fresh=True),
    ),
    tuple(
        Duel(
            ours,
            KERAS,
            Target("≤", 1),
            "image_dataset_from_directory, batches of 64 into an empty loop, as many threads as it"
            " likes; ours also stores and digests the pixels; without imports",
        )
        for ours in (OURS, OURS_2)
    ),
)


@contextmanager
def _cache(place: Place, in_memory: bool) -> Iterator[str]:
    if not in_memory:
        with place.folder() as cache:
            yield str(cache)
        return
    if not MEMORY.is_dir():
        raise LeftOut("no file system in memory")
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="pixelprep-bench-") as name:
        yield name


def _prepared(
    workers: int, dataset: Callable[[Place], Path], *options: str, in_memory: bool = False
) -> Callable[[Place], Measure]:
    def make(place: Place) -> Measure:
        path = dataset(place)
        rows = (FEW if place.quick else IMAGES) * 9 // 10 // SHARDS
        command = [*console(), "prepare", f"{path}", "--shard-rows", str(rows), "--quiet", "--json"]

        def measure(number: int) -> Reading:
            with _cache(place, in_memory) as cache:
                os.sync()
                environment = place.environment(PIXELPREP_CACHE_DIR=cache)
                told = ("--workers", str(workers), *options)
                return Reading(seconds([*command, *told], environment))

        return measure

    return make


def _archive(place: Place) -> Path:
    """The same pixels in an ``.npz`` file: what is left is writing floats."""
    import numpy as np

    path = Path(place.work) / "pictures.npz"
    if not path.exists():
        rows = FEW if place.quick else IMAGES
        random = np.random.default_rng(0)
        shape = (rows, SIDE, SIDE, 3)
        images, labels = random.integers(0, 256, shape, np.uint8), np.arange(rows) % CLASSES
        cut = rows * 9 // 10
        part = path.with_name("part.npz")
        np.savez(
            part,
            x_train=images[:cut],
            y_train=labels[:cut],
            x_test=images[cut:],
            y_test=labels[cut:],
        )
        part.rename(path)
    return path


WAYS: tuple[tuple[str, Callable[[Place], Path], tuple[str, ...], bool, Target | None, str], ...] = (
    (
        "PNG folder, gzip",
        png_folder,
        ("--compression", "gzip"),
        False,
        Target("≤", 0.6),
        "bound by the processor: decoding and compressing",
    ),
    (
        "PNG folder",
        png_folder,
        (),
        False,
        Target("≤", 0.6),
        "0.98 GB of float32 are written; one worker hashes in a second thread already",
    ),
    (
        "PNG folder, cache in memory",
        png_folder,
        (),
        True,
        None,
        "the same without the disk",
    ),
    (
        ".npz of the same size",
        _archive,
        (),
        False,
        None,
        "writing floats: the disk, and a second thread that one worker has too",
    ),
)

WORKERS = Contest(
    "workers",
    "`pixelprep prepare --workers N` of 20,000 images of 64×64×3 in 9 files, the whole process",
    "s",
    5,
    tuple(
        Contestant(f"{name}, {n} workers", _prepared(n, data, *options, in_memory=in_memory))
        for name, data, options, in_memory, _, _ in WAYS
        for n in (1, 2)
    ),
    tuple(
        Duel(f"{name}, 2 workers", f"{name}, 1 workers", target, note)
        for name, _, _, _, target, note in WAYS
    ),
)
