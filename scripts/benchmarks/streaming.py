"""Shuffled batches as NumPy arrays (or a peer's own kind) into an empty loop."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from benchmarks.clock import BATCH, Epochs
from benchmarks.contest import Contest, Contestant, Duel, Measure, Target
from benchmarks.place import Place


def _ours(place: Place) -> Measure:
    train = place.entry().train
    return Epochs(lambda k: train.batches(BATCH, shuffle=True, seed=0, epoch=k), len(train))


def _indexed(place: Place) -> Measure:
    import numpy as np

    x, y = place.entry().train.to_numpy()

    def epoch(k: int) -> Iterator[Any]:
        p = np.random.default_rng(k).permutation(len(x))
        for i in range(0, len(x), BATCH):
            yield x[p[i : i + BATCH]], y[p[i : i + BATCH]]

    return Epochs(epoch, len(x))


def _taken(place: Place) -> Measure:
    import numpy as np

    x, y = place.entry().train.to_numpy()

    def epoch(k: int) -> Iterator[Any]:
        p = np.random.default_rng(k).permutation(len(x))
        for i in range(0, len(x), BATCH):
            yield x.take(p[i : i + BATCH], axis=0), y.take(p[i : i + BATCH])

    return Epochs(epoch, len(x))


def _keras(place: Place) -> Measure:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    images, labels = place.raw()
    generator = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    generator.fit(images)
    flow = generator.flow(images, labels, batch_size=BATCH, shuffle=True, seed=0)
    return Epochs(lambda k: islice(flow, len(flow)), len(images))  # it goes on for ever


def _tensors(workers: int) -> Contestant:
    def make(place: Place) -> Measure:
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        x, y = map(torch.from_numpy, place.entry().train.to_numpy())
        loader = DataLoader(TensorDataset(x, y), BATCH, shuffle=True, num_workers=workers)
        return Epochs(lambda k: loader, len(x))

    return Contestant(f"PyTorch TensorDataset, {workers} workers", make, "torch")


class _Rows:
    """In memory, a row at a time: what Grain calls a source."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index]


def _grain_rows(place: Place) -> Measure:
    import grain

    source = _Rows(*place.entry().train.to_numpy())

    def epoch(k: int) -> Any:
        return grain.MapDataset.source(source).shuffle(seed=k).to_iter_dataset().batch(BATCH)

    return Epochs(epoch, len(source))


def _grain_batches(place: Place) -> Measure:
    import grain

    source = _Rows(*place.entry().train.to_numpy())

    def epoch(k: int) -> Any:
        return grain.MapDataset.source(source).shuffle(seed=k).batch(BATCH).to_iter_dataset()

    return Epochs(epoch, len(source))


def _huggingface(place: Place) -> Measure:
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


def _per_sample(place: Place) -> Measure:
    from torch.utils.data import DataLoader

    entry = place.entry()
    stored = _Stored(str(entry.path / "train.h5"), len(entry.train))
    loader = DataLoader(stored, BATCH, shuffle=True)
    return Epochs(lambda k: loader, len(stored))


OURS = "pixelprep, from files"
INDEXED, TAKEN = "NumPy in memory, x[p[i:i+64]]", "NumPy in memory, x.take(p[i:i+64])"
KERAS, HF = "ImageDataGenerator.flow", "HF datasets, NumPy format"
GRAIN, GRAIN_BATCHES = "Grain, to_iter_dataset, batch", "Grain, batch, to_iter_dataset"
H5PY = "PyTorch DataLoader, h5py a sample"
AHEAD = Target(">", 1)

BATCHES = Contest(
    "batches",
    "shuffled batches of 64 of MNIST into an empty loop, files in the page cache",
    "images/s",
    7,
    (
        Contestant(OURS, _ours, "arrays"),
        Contestant(INDEXED, _indexed, "arrays"),
        Contestant(TAKEN, _taken, "arrays"),
        Contestant(KERAS, _keras, "keras"),
        _tensors(0),
        _tensors(2),
        Contestant(GRAIN, _grain_rows, "grain"),
        Contestant(GRAIN_BATCHES, _grain_batches, "grain"),
        Contestant(HF, _huggingface, "datasets"),
        Contestant(H5PY, _per_sample, "torch"),
    ),
    (
        Duel(
            OURS,
            INDEXED,
            Target("≥", 0.8),
            "ours reads the files too; both copy row by row",
        ),
        Duel(OURS, TAKEN, None, "for honesty: take copies rows faster than indexing does"),
        Duel(OURS, KERAS, AHEAD, "it standardizes each image anew in Python"),
        Duel(OURS, "PyTorch TensorDataset, 0 workers", AHEAD, "it collates samples"),
        Duel(OURS, "PyTorch TensorDataset, 2 workers", AHEAD, "it hands over between processes"),
        Duel(OURS, GRAIN, AHEAD, "it hands rows over between threads"),
        Duel(OURS, GRAIN_BATCHES, AHEAD, "likewise, but in batches"),
        Duel(OURS, HF, AHEAD, "in memory; it decodes Arrow lists"),
        Duel(OURS, H5PY, AHEAD, "every sample reads and checks a chunk, unless it is cached"),
    ),
)
