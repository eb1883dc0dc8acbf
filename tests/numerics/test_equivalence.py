"""Statistics and stored images beside those of Keras and scikit-learn."""

import warnings
from decimal import Decimal, localcontext
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep import Arrays
from pixelprep.numerics.scaling import Scaling

Array = np.ndarray[Any, Any]
KINDS = {"grey": ("uint8", 1), "rgb": ("uint8", 3), "deep": ("uint16", 1), "floats": ("float32", 3)}
# Floats are not divided by a type's maximum.
RESCALED = [("rgb", False), ("rgb", True), ("deep", True), ("floats", False)]
HALF = 2.0**-24  # by which float32 rounds, of the number
SUMMED = 32  # such roundings may be in a float32 sum of 900 numbers, about a random walk's √900
EPSILON = 1e-6  # what ImageDataGenerator adds to a deviation


def drawn(kind: str, rows: int, side: int = 5, seed: int = 0) -> Array:
    """Return images whose brightness and contrast differ, by image and by channel."""
    dtype, channels = KINDS[kind]
    random = np.random.default_rng(seed)
    light = random.normal(120, 40, (rows, 1, 1, 1)) + random.normal(0, 30, (1, 1, 1, channels))
    x = light + random.normal(0, 25, (rows, side, side, channels))
    if dtype == "float32":
        return x.astype(dtype)
    return (x.clip(0, 255) * (np.iinfo(dtype).max / 255)).astype(dtype)


def source(kind: str) -> Arrays:
    """Return a few images of a kind."""
    train, test = drawn(kind, 36), drawn(kind, 9, seed=1)
    return Arrays(kind, (train, np.arange(36) % 3), (test, np.arange(9) % 3))


def prepared(of: Arrays, mode: str, per: str, rescale: bool = False) -> pixelprep.Entry:
    """Return the entry, quietly."""
    return pixelprep.prepare(of, mode=mode, per=per, rescale=rescale, quiet=True)


def splits(of: Arrays, entry: pixelprep.Entry) -> list[tuple[Array, Array]]:
    """Return raw and stored images of train and of test."""
    return [(raw, entry.splits[name].to_numpy()[0]) for name, (raw, _) in of.splits.items()]


def unit(x: Array, rescale: bool) -> int:
    """Return what integers are divided by."""
    return int(np.iinfo(x.dtype).max) if rescale and x.dtype.kind == "u" else 1


def near(found: Array, wanted: Array, x: Array, divisor: Array | float, added: float) -> None:
    """Check equality but for so many roundings to float32 of a raw number, over the divisor."""
    largest = float(np.abs(x.astype(np.float64)).max())
    bound = HALF * added * largest / np.where(divisor == 0, 1, divisor)
    missed = np.abs(found.astype(np.float64) - wanted)
    assert (missed <= bound).all(), float((missed / bound).max())


# Keras


@pytest.fixture(scope="module")
def generators() -> ModuleType:
    """Return the module of ImageDataGenerator."""
    module: ModuleType = pytest.importorskip(
        "keras.src.legacy.preprocessing.image", reason="this Keras has no ImageDataGenerator"
    )
    return module


@pytest.fixture(scope="module")
def layers() -> ModuleType:
    """Keras's layers."""
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    module: ModuleType = keras.layers
    return module


ALL, OWN = ("featurewise_center", "featurewise_std_normalization"), "samplewise_center"
# A generator that divides by the deviation subtracts the mean too, asked or not.
FLAGS = [
    (ALL[:1], "center", "channel"),
    (ALL[1:], "standardize", "channel"),
    (ALL, "standardize", "channel"),
    ((OWN,), "center", "image"),
    (("samplewise_std_normalization",), "standardize", "image"),
    ((OWN, "samplewise_std_normalization"), "standardize", "image"),
]
CASES: list[tuple[str, bool, tuple[str, ...], str, str]] = [
    *((kind, True, (), "normalize", "dataset") for kind in ("rgb", "deep")),
    *((*of, *flags) for of in RESCALED for flags in FLAGS),
]


def generator(generators: ModuleType, x: Array, rescale: bool, flags: tuple[str, ...]) -> Any:
    """Return a fitted generator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will subtract the mean too
        made = generators.ImageDataGenerator(
            rescale=1 / np.iinfo(x.dtype).max if rescale else None, **dict.fromkeys(flags, True)
        )
    if set(flags) & set(ALL):
        made.fit(x)
    return made


@pytest.mark.parametrize(("kind", "rescale", "flags", "mode", "per"), CASES, ids=str)
def test_stored_images_are_a_generators(
    generators: ModuleType, kind: str, rescale: bool, flags: tuple[str, ...], mode: str, per: str
) -> None:
    """Each combination gives the stored images within float32 rounding, but for its added 1e-6."""
    of = source(kind)
    entry = prepared(of, mode, per, rescale)
    made = generator(generators, of.train[0], rescale, flags)
    for raw, stored in splits(of, entry):
        with np.errstate(all="raise"):
            theirs = next(made.flow(raw, batch_size=len(raw), shuffle=False))
        x = raw / unit(raw, rescale)
        std = x.std(axis=(1, 2, 3), keepdims=True) if per == "image" else entry.scaling.std
        divisor = std if mode == "standardize" else np.ones(1)
        if mode == "standardize":
            theirs = theirs.astype(np.float64) * ((std + EPSILON) / std)
        near(theirs, stored, x, divisor, SUMMED)


LAYERS = {"dataset": None, "channel": -1, "pixel": (1, 2, 3)}


@pytest.mark.parametrize(("kind", "rescale"), RESCALED)
@pytest.mark.parametrize("per", LAYERS)
def test_stored_images_are_a_normalization_layers(
    layers: ModuleType, kind: str, per: str, rescale: bool
) -> None:
    """Keras's layer, adapted to train, gives the stored images within float32 rounding."""
    of = source(kind)
    entry = prepared(of, "standardize", per, rescale)
    layer = layers.Normalization(axis=LAYERS[per])
    rescaling = layers.Rescaling(1 / unit(of.train[0], rescale))
    fit = of.train[0] / unit(of.train[0], rescale)
    layer.adapt(fit)
    adapted = (layer.adapt_mean, layer.adapt_variance)
    mean, variance = (np.asarray(a).reshape(entry.scaling.mean.shape) for a in adapted)
    near(mean, entry.scaling.mean, fit, 1.0, SUMMED)
    near(np.sqrt(variance), entry.scaling.std, fit, 1.0, SUMMED)
    for raw, stored in splits(of, entry):
        theirs = np.asarray(layer(rescaling(raw.astype(np.float32))))
        near(theirs, stored, raw / unit(raw, rescale), entry.scaling.std, SUMMED)


# scikit-learn


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["center", "standardize"])
def test_stored_images_are_a_standard_scalers(kind: str, mode: str) -> None:
    """StandardScaler over pixels as features gives statistics, stored images and raw ones."""
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="no scikit-learn")
    of = source(kind)
    of.train[0][:, 2, 3] = 9  # a constant pixel, divided by 1 by both
    entry = prepared(of, mode, "pixel")
    peer = preprocessing.StandardScaler(with_std=mode == "standardize").fit(flat(of.train[0]))
    assert np.allclose(peer.mean_, entry.scaling.mean.ravel(), rtol=1e-13, atol=0)
    if mode == "standardize":
        assert np.allclose(np.sqrt(peer.var_), entry.scaling.std.ravel(), rtol=1e-13, atol=0)
    for raw, stored in splits(of, entry):
        theirs = peer.transform(flat(raw)).reshape(raw.shape)
        # Rounded once to float32, but for the last bits of float64.
        assert np.allclose(stored, theirs, rtol=HALF * 1.001, atol=1e-11 * np.abs(theirs).max())
        back = peer.inverse_transform(flat(stored)).reshape(raw.shape)
        assert np.allclose(entry.scaling.invert(stored), back, rtol=1e-6, atol=0.5)


def flat(x: Array) -> Array:
    """Return images as rows of float64 features."""
    return x.reshape(len(x), -1).astype(np.float64)


# Where they are off


def truth(x: Array) -> list[tuple[Fraction, Decimal]]:
    """Exact mean, and deviation to 40 digits, of each channel of integers or small floats."""
    found = []
    for channel in np.moveaxis(x, -1, 0).reshape(x.shape[-1], -1).astype(np.int64):
        n, total, squares = channel.size, int(channel.sum()), int((channel * channel).sum())
        with localcontext(prec=40):
            variance = Decimal(n * squares - total**2) / (n * n)
            found.append((Fraction(total, n), variance.sqrt()))
    return found


def off(mean: Array, std: Array, x: Array) -> tuple[float, float]:
    """Return the largest relative errors of mean and deviation of the channels."""
    wanted = list(zip(mean.ravel().tolist(), std.ravel().tolist(), truth(x), strict=True))
    with localcontext(prec=40):
        return (
            max(float(abs(Fraction(m) / true - 1)) for m, _, (true, _) in wanted),
            max(float(abs(Decimal(s) / true - 1)) for _, s, (_, true) in wanted),
        )


def test_a_generators_sums_of_rgb_are_off(generators: ModuleType) -> None:
    """Of 4,000 RGB images its float32 sums miss std by 0.1% or more; ours are right to an ulp."""
    x = drawn("rgb", 4000, side=32)
    scaling = Scaling.fit(x, "standardize")
    made = generator(generators, x, False, ALL)
    ours, theirs = off(scaling.mean, scaling.std, x), off(made.mean, made.std, x)
    print(f"ImageDataGenerator: mean and std off by {theirs}; pixelprep: {ours}")
    assert max(ours) <= 2.0**-52  # the largest that an ulp is of a number
    assert theirs[0] >= 1e-5
    assert theirs[1] >= 1e-3


def test_a_float32_sum_of_rgb_stands_still_where_ours_goes_on() -> None:
    """NumPy adds up each channel pixel by pixel: from 2**24 on a 1 changes nothing, and it is not
    told. Ours, of the same floats, is the fraction rounded once.
    """
    x = np.ones((4, 32, 32, 3), np.float32)
    x[0, 0, 0] = 2**24
    n = 4 * 32 * 32
    assert (x.mean(axis=(0, 1, 2)) * n == 2**24).all()
    mean = Scaling.fit(x, "standardize").mean
    assert mean.tolist() == 3 * [float(Fraction(2**24 + n - 1, n))]


@pytest.mark.long
@pytest.mark.parametrize("way", ["numpy", "keras layer", "keras generator"])
def test_at_cifars_size_a_mean_of_float32_is_a_third_too_small(way: str) -> None:
    """NumPy, `Normalization.adapt` and `ImageDataGenerator.fit` find less than 3/4 of the mean of
    50,000 float32 images of 32×32×3; ours is right to an ulp. docs/statistics.md has the figures.
    """
    x = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    pixels, true = x.astype(np.float32), np.array([float(mean) for mean, _ in truth(x)])
    if way == "numpy":
        found = pixels.mean(axis=(0, 1, 2))
    elif way == "keras layer":
        layer = pytest.importorskip("keras", reason="Keras is not installed").layers.Normalization()
        layer.adapt(pixels)
        found = np.ravel(layer.adapt_mean)
    else:
        image = "keras.src.legacy.preprocessing.image"
        module = pytest.importorskip(image, reason="this Keras has no ImageDataGenerator")
        found = np.ravel(generator(module, pixels, False, ALL).mean)
    assert (found < 0.75 * true).all(), found / true
    scaling = Scaling.fit(pixels, "standardize")
    assert max(off(scaling.mean, scaling.std, x)) <= 2.0**-51
