"""Lines that `stats` gives to paste, executed with the libraries that they are for."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import Arrays, UsageError
from tests.helpers.data import arrays

Array = np.ndarray[Any, Any]

ROUNDINGS = 4  # to float32, of the largest pixel: as many as these libraries make on the way
TYPES = ("uint8", "uint16", "int16", "float32")


def source(dtype: str = "uint8", channels: int = 3) -> Arrays:
    """Return images of a type, the last channel of which never changes."""
    kind = dtype if dtype in ("uint8", "int16") else "uint16"
    images, labels = arrays(shape=(6, 5, channels), dtype=kind).train
    images[..., -1] = 7
    images[..., 0] //= 3  # whose mean and deviation are not those of the others
    return Arrays("little", (images.astype(dtype), labels))


def executed(library: str, of: Arrays) -> dict[str, Any]:
    """Return what the names of the pasted lines are."""
    names: dict[str, Any] = {}
    exec(pixelprep.stats(of, quiet=True).paste(library), names)
    return names


def stored(of: Arrays) -> tuple[Array, Array]:
    """Return the values that `prepare` stores, and how far off float32 may be from them."""
    entry = pixelprep.prepare(of, mode="standardize", quiet=True)
    images = of.train[0]
    largest = np.abs(images.astype(float)).max() / np.where(entry.scaling.std, entry.scaling.std, 1)
    return entry.train.to_numpy()[0], ROUNDINGS * 2.0**-24 * largest


def check(found: Any, of: Arrays) -> None:
    """Check that a library's values are the stored ones, but for its roundings to float32."""
    values, bound = stored(of)
    assert np.asarray(found).dtype == np.float32
    assert (np.abs(np.asarray(found) - values) <= bound).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_numpy_gives_the_very_values(dtype: str) -> None:
    """Not a bit is different, whatever the type."""
    of = source(dtype)
    assert np.array_equal(executed("numpy", of)["scale"](of.train[0]), stored(of)[0])


@pytest.mark.parametrize("dtype", TYPES)
def test_jax_gives_them_but_for_float32(dtype: str) -> None:
    """It subtracts and divides in float32."""
    pytest.importorskip("jax", reason="the extra `jax` is not installed")
    of = source(dtype)
    check(executed("jax", of)["scale"](of.train[0]), of)


@pytest.mark.parametrize("dtype", TYPES)
def test_keras_gives_them_but_for_float32(dtype: str) -> None:
    """Both layers do, of raw pixels as they are."""
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    of = source(dtype)
    names = executed("keras", of)
    for layer in ("normalize", "rescale"):
        check(names[layer](of.train[0]), of)


@pytest.mark.long
@pytest.mark.parametrize("dtype", TYPES)
def test_torchvision_gives_them_but_for_float32(dtype: str) -> None:
    """Of arrays (H, W, C), with the channels first afterwards."""
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    of = source(dtype)
    normalize = executed("torchvision", of)["normalize"]
    check(np.stack([normalize(one).numpy().transpose(1, 2, 0) for one in of.train[0]]), of)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_albumentations_gives_them_but_for_float32(dtype: str) -> None:
    """Of arrays (H, W, C)."""
    pytest.importorskip("albumentations", reason="albumentations is not installed")
    of = source(dtype)
    normalize = executed("albumentations", of)["normalize"]
    check(np.stack([normalize(image=one)["image"] for one in of.train[0]]), of)


@pytest.mark.long
@pytest.mark.parametrize("channels", [1, 3])
def test_timm_gives_them_but_for_float32(channels: int) -> None:
    """Of pictures of that size, which its transform leaves as they are."""
    pytest.importorskip("timm", reason="timm is not installed")
    of = source(channels=channels)
    transform = executed("timm", of)["transform"]
    pictures = [Image.fromarray(one[..., 0] if channels == 1 else one) for one in of.train[0]]
    check(np.stack([transform(one).numpy().transpose(1, 2, 0) for one in pictures]), of)


def test_timm_takes_pictures_only() -> None:
    """Lines for it are refused of other pixels, and are not among those of all libraries."""
    found = pixelprep.stats(source("uint16"), quiet=True)
    with pytest.raises(UsageError, match=r"`paste=timm`: expected pictures of 8 bits, grey or RGB"):
        found.paste("timm")
    assert found.pasted().keys() == {"torchvision", "keras", "albumentations", "jax", "numpy"}
