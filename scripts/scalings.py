#!/usr/bin/env python3
"""Scale the same images by pixelprep and by other libraries, and print how far they are apart.

    scripts/scalings.py

Prints the rows of docs/statistics.md whose library is installed: Keras and scikit-learn, or
torchvision and timm. The images are RGB of 8 bits that have every value in each channel.
"""

import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Row = tuple[str, str, Array, Array]  # what, the options of `prepare`, theirs, ours


def images() -> Array:
    """Return 64 images of 32×32, whose channels have different distributions."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (64, 32, 32, 3), np.uint8)
    x[..., 1] //= 2
    x[..., 2] = np.minimum(x[..., 2], 200)
    x[0, :8, :, :] = np.arange(256, dtype=np.uint8).reshape(8, 32, 1)
    return x


def given(x: Array, preset: str) -> Array:
    """Return what `prepare --mode fixed --preset` stores."""
    import pixelprep

    source = pixelprep.Arrays("images", (x, np.arange(len(x)) % 2))
    with tempfile.TemporaryDirectory() as cache:
        entry = pixelprep.prepare(source, mode="fixed", preset=preset, cache_dir=cache, quiet=True)
        return entry.train.to_numpy()[0]


def fitted(x: Array, mode: str, **options: Any) -> Array:
    """Return what a fitted mode stores."""
    from pixelprep import Scaling

    return Scaling.fit(x, mode, **options).apply(x)


def of_keras(x: Array) -> Iterator[Row]:
    """Yield the three modes of `preprocess_input`."""
    from keras.applications.imagenet_utils import preprocess_input

    for mode in ("tf", "torch", "caffe"):
        theirs = preprocess_input(x.astype(np.float32), "channels_last", mode)
        preset = f"keras-{mode}"
        name = f'Keras `preprocess_input(mode="{mode}")`'
        yield name, f"--mode fixed --preset {preset}", theirs, given(x, preset)


def of_sklearn(x: Array) -> Iterator[Row]:
    """Yield the scalers, each channel a column."""
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

    columns = x.reshape(-1, 3).astype(np.float64)
    of_data = "--mode normalize --limits data --range -1,1"
    for name, scaler, options, own in (
        ("StandardScaler()", StandardScaler(), "--mode standardize", fitted(x, "standardize")),
        ("RobustScaler()", RobustScaler(), "--mode robust", fitted(x, "robust")),
        (
            "MinMaxScaler((-1, 1))",
            MinMaxScaler((-1, 1)),
            of_data,
            fitted(x, "normalize", limits="data", range=(-1, 1)),
        ),
    ):
        theirs = scaler.fit_transform(columns).reshape(x.shape).astype(np.float32)
        yield f"scikit-learn `{name}`, rounded", options, theirs, own


def of_torchvision(x: Array) -> Iterator[Row]:
    """Yield what its weights of ImageNet are used with."""
    import torch
    from torchvision.transforms import v2

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    both = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    theirs = both(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    options = "--mode fixed --preset imagenet"
    yield (
        "torchvision `v2.ToDtype(scale=True)`, `v2.Normalize`",
        options,
        theirs,
        given(x, "imagenet"),
    )


def of_timm(x: Array) -> Iterator[Row]:
    """Yield what `create_transform` makes of pictures of the model's size."""
    import timm.data
    from PIL import Image

    config = {"mean": timm.data.IMAGENET_DEFAULT_MEAN, "std": timm.data.IMAGENET_DEFAULT_STD}
    transform = timm.data.create_transform((3, 32, 32), crop_pct=1.0, **config)
    theirs = np.stack([transform(Image.fromarray(one)).numpy() for one in x]).transpose(0, 2, 3, 1)
    options = "--mode fixed --preset imagenet"
    yield "timm `create_transform`", options, theirs, given(x, "imagenet")


ROWS: dict[str, Callable[[Array], Iterator[Row]]] = {
    "keras": of_keras,
    "scikit-learn": of_sklearn,
    "torchvision": of_torchvision,
    "timm": of_timm,
}


def main() -> None:
    """Print a row for each scaling of each library that is installed."""
    x, met = images(), []
    print("| theirs | `prepare` | equal values | largest difference |")
    print("|---|---|---|---|")
    for package, rows in ROWS.items():
        try:
            met.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
        for name, options, theirs, own in rows(x):
            apart = np.abs(theirs.astype(np.float64) - own)
            print(f"| {name} | `{options}` | {(apart == 0).mean():.1%} | {apart.max():.1e} |")
    print(f"\n({', '.join(met)})")


if __name__ == "__main__":
    main()
