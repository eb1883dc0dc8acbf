"""Shuffled batches as NumPy arrays (or a peer's own kind) into an empty loop."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from benchmarks.clock import BATCH, Epochs
from benchmarks.contest import Contest
from benchmarks.made import LARGE, SMALL, entry
from benchmarks.place import Place

BATCHES = Contest(
    "batches",
    "shuffled batches of 64 of MNIST into an empty loop, files in the page cache",
    "images/s",
    7,
)


LARGE_BATCHES = Contest(
    "batches-160", "the same of 3,000 images of 160×160×3 (0.9 GB of float32)", "images/s", 7
)
OURS = "pixelprep, from files"


def ours(place: Place, size: str, raw: bool = False, **options: Any) -> Epochs:
    """Feed our batches of this size, prepared with these options."""
    train = entry(place, size, **options).train
    settings: dict[str, Any] = {"raw": True} if raw else {}  # a build may not know it
    return Epochs(
        lambda k: train.batches(BATCH, shuffle=True, seed=0, epoch=k, **settings), len(train)
    )


def in_memory(x: Any, y: Any, rows: Callable[[Any, Any], Any]) -> Callable[[int], Iterator[Any]]:
    """Return epochs of batches from memory, mixed whole; `rows` takes rows out of an array."""
    import numpy as np

    def epoch(k: int) -> Iterator[Any]:
        p = np.random.default_rng(k).permutation(len(x))
        for i in range(0, len(x), BATCH):
            yield rows(x, p[i : i + BATCH]), rows(y, p[i : i + BATCH])

    return epoch


def indexed(array: Any, rows: Any) -> Any:
    """Take rows by indexing."""
    return array[rows]


def taken(array: Any, rows: Any) -> Any:
    """Take rows by NumPy's `take`."""
    return array.take(rows, axis=0)


def _memory(place: Place, size: str, rows: Callable[[Any, Any], Any]) -> Epochs:
    x, y = entry(place, size).train.to_numpy()
    return Epochs(in_memory(x, y, rows), len(x))


for _row, _size, _target in ((BATCHES, SMALL, "≥ 0.85"), (LARGE_BATCHES, LARGE, "≥ 0.6")):
    _row.contestant(OURS, "arrays")(partial(ours, size=_size))
    _row.before(OURS, "> 1")
    _row.peer(
        "NumPy in memory, x[p[i:i+64]]",
        "arrays",
        _target,
        "ours reads the files too; both copy row by row",
    )(partial(_memory, size=_size, rows=indexed))
    _row.peer(
        "NumPy in memory, x.take(p[i:i+64])",
        "arrays",
        note="for honesty: take copies rows faster than indexing does",
    )(partial(_memory, size=_size, rows=taken))


@BATCHES.peer(
    "ImageDataGenerator.flow", "keras", "> 1", "it standardizes each image anew in Python"
)
def _keras(place: Place) -> Epochs:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    images, labels = place.raw()
    generator = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    generator.fit(images)
    flow = generator.flow(images, labels, batch_size=BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: islice(flow, len(flow)), len(images))  # it goes on for ever


def _tensors(place: Place, workers: int) -> Epochs:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y = map(torch.from_numpy, place.entry().train.to_numpy())
    loader = DataLoader(TensorDataset(x, y), BATCH, shuffle=True, num_workers=workers)
    return Epochs(lambda k: loader, len(x))


for _workers, _note in ((0, "it collates samples"), (2, "it hands over between processes")):
    _name = f"PyTorch TensorDataset, {_workers} workers"
    BATCHES.peer(_name, "torch", "> 1", _note)(partial(_tensors, workers=_workers))


class _Rows:
    """Rows in memory, one at a time: what Grain calls a source."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index]


@BATCHES.peer("Grain, to_iter_dataset, batch", "grain", "> 1", "it hands rows over between threads")
def _grain_rows(place: Place) -> Epochs:
    import grain

    source = grain.MapDataset.source(_Rows(*place.entry().train.to_numpy()))
    return Epochs(lambda k: source.shuffle(seed=k).to_iter_dataset().batch(BATCH), len(source))


@BATCHES.peer("Grain, batch, to_iter_dataset", "grain", "> 1", "likewise, but in batches")
def _grain_batches(place: Place) -> Epochs:
    import grain

    source = grain.MapDataset.source(_Rows(*place.entry().train.to_numpy()))
    return Epochs(lambda k: source.shuffle(seed=k).batch(BATCH).to_iter_dataset(), len(source))


@BATCHES.peer("HF datasets, NumPy format", "datasets", "> 1", "in memory; it decodes Arrow lists")
def _huggingface(place: Place) -> Epochs:
    import datasets

    x, y = place.entry().train.to_numpy()
    columns = {"image": datasets.Array3D((28, 28, 1), "float32"), "label": datasets.Value("int64")}
    data = datasets.Dataset.from_dict({"image": x, "label": y}, datasets.Features(columns))
    data = data.with_format("numpy")
    return Epochs(lambda k: data.shuffle(seed=k).iter(batch_size=BATCH), len(x))


class _Stored:
    """A PyTorch map-style dataset over our file, as is commonly written: opened when first used."""

    def __init__(self, path: str, rows: int) -> None:
        self.path, self.rows = path, rows
        self.file: Any = None

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Any:
        if self.file is None:
            import h5py

            self.file = h5py.File(self.path, "r")
        return self.file["images"][index], self.file["labels"][index]


@BATCHES.peer(
    "PyTorch DataLoader, h5py a sample",
    "torch",
    "> 1",
    "every sample reads and checks a chunk, unless it is cached",
)
def _per_sample(place: Place) -> Epochs:
    from torch.utils.data import DataLoader

    entry = place.entry()
    stored = _Stored(str(entry.path / "train.h5"), len(entry.train))
    loader = DataLoader(stored, BATCH, shuffle=True)
    return Epochs(lambda k: loader, len(stored))
