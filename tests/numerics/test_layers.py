"""`Scaling.layer`: the stored values from raw pixels, in each framework's own arithmetic."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pixelprep
from pixelprep import MissingExtraError, Scaling, UsageError
from pixelprep.installation import install_command
from pixelprep.numerics.modes import plain_modes
from pixelprep.numerics.scaling import PER, fixed_scaling

KINDS = ["uint8", "int16", "float32"]
LONG = pytest.mark.long
Array = NDArray[Any]


def raw_pixels(dtype: str) -> Array:
    """Return random images of this type, one of them constant."""
    random = np.random.default_rng(3)
    if dtype == "float32":
        images = random.normal(3, 2, (20, 6, 5, 3)).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        images = random.integers(limits.min, limits.max, (20, 6, 5, 3), dtype, endpoint=True)
    images[3] = images[3, 0, 0, 0]
    return images


def by_keras(scaling: Scaling, dtype: str) -> Callable[[Array], Array]:
    """Return Keras's layer as a function of arrays."""
    pytest.importorskip("keras", reason="the extra `train` is not installed")
    layer = scaling.layer("keras", dtype)
    return lambda raw: np.asarray(layer(raw))


def by_torch(scaling: Scaling, dtype: str) -> Callable[[Array], Array]:
    """Return PyTorch's."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    layer = torch.nn.Sequential(scaling.layer("torch", dtype)).half()
    return lambda raw: np.asarray(layer(torch.from_numpy(raw)))


def by_jax(scaling: Scaling, dtype: str) -> Callable[[Array], Array]:
    """Return JAX's, compiled, in double precision."""
    jax = pytest.importorskip("jax", reason="the extra `jax` is not installed")
    layer = jax.jit(scaling.layer("jax", dtype))

    def scale(raw: Array) -> Array:
        with jax.enable_x64(True):
            return np.asarray(layer(raw))

    return scale


MADE = [by_keras, pytest.param(by_torch, marks=LONG), pytest.param(by_jax, marks=LONG)]


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("dtype", KINDS)
def test_a_layer_gives_the_stored_values(made: Any, dtype: str) -> None:
    """Bit for bit, of every mode and `per` and both stored types; per image up to the last bit of
    float64 before it is rounded, which few values of float32 show.
    """
    raw = raw_pixels(dtype)
    for mode, per, stored in product(plain_modes(), PER, ("float32", "float16")):
        if stored == "float16" and dtype == "int16" and mode == "center":
            continue  # too large for it
        scaling = Scaling.fit(raw, mode, per=per)
        found, expected = made(scaling, stored)(raw), scaling.apply(raw, stored)
        assert found.dtype == expected.dtype
        if per == "image":
            ulp = np.spacing(np.abs(expected))
            assert (np.abs(found.astype(float) - expected) <= ulp).all()
            assert (found != expected).mean() < 0.01
        else:
            assert found.tobytes() == expected.tobytes(), (mode, per, stored)


@pytest.mark.parametrize("made", MADE)
def test_a_layer_turns_clips_and_maps(made: Any) -> None:
    """Channels turned round, pixels clipped between quantiles, and ranges: bit for bit, too."""
    raw = raw_pixels("uint8")
    caffe = [103.939, 116.779, 123.68], [1.0] * 3
    for scaling in (
        fixed_scaling("fixed", "channel", 1, "uint8", *caffe, channel_order="bgr"),
        Scaling.fit(raw, "normalize", range=(-1, 1)),
        Scaling.fit(raw, "normalize", limits="data", range=(-0.1, 3)),
        Scaling.fit(raw, "robust", quantiles=(0.1, 0.8)),
        Scaling.fit(raw, "robust", quantiles=(0.1, 0.8), clip=True, per="dataset"),
    ):
        for pixels in (raw, raw.astype(np.float32)):
            found = made(scaling, "float32")(pixels)
            assert found.tobytes() == scaling.apply(raw).tobytes()


@pytest.mark.parametrize("per", ["pixel", "image"])
@pytest.mark.parametrize("made", MADE)
def test_a_range_that_cancels_gives_zero(made: Any, per: str) -> None:
    """Both products are rounded before they are added: fused, what is left of one would be seen.

    A fifth, which is 51 of 0 to 255, becomes 0 between -0.1 and 0.4.
    """
    raw = np.full((3, 8, 8, 3), 51, np.uint8)
    raw[0], raw[:, 0], raw[1], raw[:, 1] = 0, 0, 255, 255
    scaling = Scaling.fit(raw, "normalize", per=per, limits="data", range=(-0.1, 0.4))
    expected = scaling.apply(raw)
    assert (expected == 0).sum() > 100
    assert made(scaling, "float32")(raw).tobytes() == expected.tobytes()


@pytest.mark.parametrize("made", MADE)
def test_what_is_between_raw_values_is_scaled_too(made: Any) -> None:
    """Augmented pixels are floats: they are scaled by the same formula, in float64."""
    scaling = Scaling.fit(raw_pixels("uint8"), "standardize")
    pixels = np.array([[[[0.25, 100.5, 254.75]]]], np.float32)
    expected = ((pixels.astype(float) - scaling.mean) / scaling.std).astype(np.float32)
    assert made(scaling, "float32")(pixels).tobytes() == expected.tobytes()


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("per", ["dataset", "channel"])
def test_jax_in_single_precision_is_exact_for_raw_integers(dtype: str, per: str) -> None:
    """Of integers per channel or dataset there is a table; all else is right up to float32."""
    pytest.importorskip("jax", reason="the extra `jax` is not installed")
    raw = raw_pixels(dtype)
    raw[0, 0, 0] = np.iinfo(dtype).min, 0, np.iinfo(dtype).max
    scaling = Scaling.fit(raw, "standardize", per=per)
    layer = scaling.layer("jax")
    assert np.asarray(layer(raw)).tobytes() == scaling.apply(raw).tobytes()
    np.testing.assert_allclose(layer(raw.astype(np.float32)), scaling.apply(raw), atol=1e-6)


def test_a_keras_layer_is_saved_with_its_model(tmp_path: Path) -> None:
    """Plain Keras reads it in its safe mode, for images of any size."""
    keras = pytest.importorskip("keras", reason="the extra `train` is not installed")
    raw = raw_pixels("uint8")
    scaling = Scaling.fit(raw, "standardize")
    model = keras.Sequential([keras.layers.RandomFlip(), scaling.layer("keras")])
    assert model(raw).shape == raw.shape
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    other = raw[:, :3, :4]
    assert np.asarray(loaded(other, training=False)).tobytes() == scaling.apply(other).tobytes()


def test_frameworks_that_there_are_not_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown one with those that there are, a missing one with its extra."""
    scaling = Scaling.fit(raw_pixels("uint8"), "center")
    with pytest.raises(UsageError, match="expected one of keras, torch, jax"):
        scaling.layer("mxnet")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    monkeypatch.delitem(
        __import__("sys").modules, "pixelprep.numerics.layers.torch_layer", raising=False
    )
    with pytest.raises(MissingExtraError, match="PyTorch") as caught:
        scaling.layer("torch")
    assert caught.value.hint == install_command("torch")
    assert pixelprep.Scaling is Scaling
