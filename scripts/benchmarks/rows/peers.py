"""What a user would pick instead: shuffled, scaled batches of 64 from files, and their room.

Warm: the page cache holds the files. Cold: it is emptied of them before every first epoch. The sets
are MNIST and 3,000 generated images of 160×160×3; peers that take long are measured for some
seconds of an epoch. With --quick, peers have a tenth of MNIST, where ours has it whole: what an
epoch costs at its start weighs more then.
"""

import itertools
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clock import BATCH, MOST, Measure
from benchmarks.contest import Contest
from benchmarks.made import LARGE, SMALL, entry
from benchmarks.page_cache import evict
from benchmarks.peers import Opened, opened, peer, stored
from benchmarks.place import Place
from benchmarks.rows.streaming import ours

PEERS = {
    "tf_records": ("TFRecord, tf.data", "uint8; shuffled whole, map, batch, prefetch"),
    "tf_records_batched": ("TFRecord, tf.data, batch first", "likewise, but batch, then map"),
    "lit_data": ("LitData", "uint8 arrays; StreamingDataLoader"),
    "mosaic_streaming": ("MosaicML Streaming", "uint8 arrays; DataLoader"),
    "web_dataset": ("WebDataset", "encoded pictures; shuffled in a buffer of 1,000; WebLoader"),
    "grain_array_record": ("Grain, ArrayRecord", "uint8; batch, to_iter_dataset"),
    "tfds_builder": ("TFDS", "encoded pictures; shuffled in a buffer of 10,000"),
    "hf_image_folder": ("HF datasets, imagefolder", "encoded pictures; DataLoader"),
    "keras_directory": ("image_dataset_from_directory", "encoded pictures"),
    "torchvision_folder": ("torchvision ImageFolder", "encoded pictures; DataLoader"),
}
# What is mapped into memory stays in the page cache: only a new process has a cold first epoch.
MAPPED = ("lit_data",)
OURS: dict[str, dict[str, Any]] = {
    "pixelprep": {},
    "pixelprep, --storage raw": {"storage": "raw"},
    "pixelprep, --storage raw --compression lz4": {"storage": "raw", "compression": "lz4"},
}
SHORT = {SMALL: "28", LARGE: "160"}


def _first(epochs: Opened, images: int, files: list[Path]) -> Measure:
    """Measure images a second of a first epoch, or of what it makes in some seconds."""
    numbers = itertools.count()

    def measure() -> float:
        evict(files)
        begun, steps = time.perf_counter(), 0
        for steps, _ in enumerate(epochs(next(numbers)), 1):
            if time.perf_counter() - begun > MOST:
                return steps * BATCH / (time.perf_counter() - begun)
        return images / (time.perf_counter() - begun)

    return measure


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _our_first(place: Place, size: str, options: dict[str, Any]) -> Measure:
    found, feed = entry(place, size, **options), ours(place, size, **options)
    return _first(feed.epoch, feed.rows, sorted(found.path.glob("train*.h5")))


def _peers_first(place: Place, module: str, size: str) -> Measure:
    return _first(*opened(module, size, place), _files(stored(module, size, place)))


def _our_bytes(place: Place, size: str, options: dict[str, Any]) -> Measure:
    train = entry(place, size, **options)
    taken = sum(path.stat().st_size for path in train.path.glob("train*.h5"))
    return lambda: taken / len(train.train)


def _peers_bytes(place: Place, module: str, size: str) -> Measure:
    taken = sum(path.stat().st_size for path in _files(stored(module, size, place)))
    images = opened(module, size, place)[1]
    return lambda: taken / images


for _size, _short in SHORT.items():
    _what = f"{_size}, shuffled and scaled batches of 64 from files"
    _warm = Contest(f"peers-{_short}", f"{_what}, held by the page cache", "images/s", 5)
    _cold = Contest(f"peers-{_short}-cold", f"{_what}, first epoch, not held", "images/s", 3)
    _room = Contest(f"peers-{_short}-disk", f"{_size}, bytes on disk an image", "bytes", 1)
    for _name, _options in OURS.items():
        _warm.contestant(_name, _name)(partial(ours, size=_size, **_options))
        _cold.contestant(_name, _name)(partial(_our_first, size=_size, options=_options))
        _room.contestant(_name, "arrays")(partial(_our_bytes, size=_size, options=_options))
        for _row in (_warm, _cold, _room):
            if _options:
                _row.duel(_name, "pixelprep")
    for _module, (_name, _note) in PEERS.items():
        _warm.peer(_name, _module, "> 1", _note)(partial(peer, _module, _size))
        _cold.contestant(_name, _module, fresh=_module in MAPPED)(
            partial(_peers_first, module=_module, size=_size)
        )
        _cold.duel("pixelprep", _name, "> 1", _note)
        _room.peer(_name, _module)(partial(_peers_bytes, module=_module, size=_size))
