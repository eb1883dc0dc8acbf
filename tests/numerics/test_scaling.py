"""Statistics are exact, scalings equal float64 NumPy to the last bit, and can be undone."""

import gzip
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pixelprep
from pixelprep.errors import SourceError, UsageError
from pixelprep.numerics import statistics
from pixelprep.numerics.modes import Mode, plain_modes
from pixelprep.numerics.scaling import MODES, PER, Scaling, per_image_columns
from pixelprep.numerics.statistics import FloatMoments, Moments, pairwise_sum
from tests.helpers.data import arrays

AXES = {"dataset": (0, 1, 2, 3), "channel": (0, 1, 2), "pixel": (0,), "image": (1, 2, 3)}

images = st.sampled_from(["uint8", "uint16"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5))
)

LARGEST = {"float16": 2.0**13, "float32": 2.0**20, "float64": 2.0**20}


def numbers(dtype: str) -> st.SearchStrategy[float]:
    """Finite floats of a type, none so small that its square vanishes."""
    most, width = LARGEST[dtype], {"float16": 16, "float32": 32, "float64": 64}[dtype]
    found = st.floats(-most, most, allow_subnormal=False, width=width)  # type: ignore[arg-type]
    return found.map(lambda value: value if abs(value) > 1e-100 else 0.0)


float_types = st.sampled_from(list(LARGEST))
float_images = float_types.flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5), elements=numbers(dtype)
    )
)
EPS = float(np.finfo(np.float64).eps)
X = arrays().train[0]


def grouped(x: np.ndarray, per: str) -> np.ndarray:
    """Pixels that share a statistic, down each column."""
    first = np.moveaxis(x, AXES[per], range(len(AXES[per])))
    return first.reshape(int(np.prod(first.shape[: len(AXES[per])])), -1)


def by_numpy(x: np.ndarray, mode: str, per: str, rescale: bool) -> np.ndarray:
    """Return the formula written down in NumPy's float64, rounded once to float32."""
    exact, whole = x.astype(np.float64), x.dtype.kind == "u"
    if whole and mode == "normalize":
        return (exact / np.iinfo(x.dtype).max).astype(np.float32)
    unit = np.iinfo(x.dtype).max if whole and rescale else 1
    found = Moments.of(x, per).statistics(unit) if whole else FloatMoments.of(x, per).statistics()
    shift, divisor = found.mean, np.ones_like(found.mean)
    if mode == "normalize":
        shift, divisor = found.minimum, found.maximum - found.minimum
    elif mode == "standardize":
        divisor = found.std
    return ((exact / unit - shift) / np.where(divisor == 0, 1, divisor)).astype(np.float32)


@given(images, st.sampled_from(PER))
def test_statistics_are_exact(x: np.ndarray, per: str) -> None:
    """Mean is the float64 nearest to the true mean, std the root of the nearest to the variance."""
    fitted = Moments.of(x, per).statistics()
    groups = grouped(x, per)
    for i, mean in enumerate(fitted.mean.reshape(-1)):
        values = [int(v) for v in groups[:, i]]
        true = Fraction(sum(values), len(values))
        variance = Fraction(sum(v * v for v in values), len(values)) - true**2
        assert mean == float(true)
        assert fitted.std.reshape(-1)[i] == np.sqrt(float(variance))
        assert fitted.minimum.reshape(-1)[i] == min(values)
        assert fitted.maximum.reshape(-1)[i] == max(values)


@given(images, st.sampled_from(["dataset", "channel", "pixel"]), st.data())
def test_moments_merge_exactly(x: np.ndarray, per: str, data: st.DataObject) -> None:
    """Cutting the images anywhere and adding the parts' moments changes nothing."""
    whole = Moments.of(x, per)
    cut = data.draw(st.integers(0, len(x)))
    parts = [Moments.of(part, per) for part in (x[:cut], x[cut:]) if len(part)]
    merged = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    assert merged.count == whole.count
    for name in ("total", "squares", "minimum", "maximum"):
        assert (getattr(merged, name) == getattr(whole, name)).all()


def test_sums_do_not_overflow() -> None:
    """Sums of squares beyond 64 bits stay exact: they are Python ints."""
    white = Moments.of(np.full((4, 64, 64, 1), 65535, np.uint16), "dataset")
    huge = white
    for _ in range(20):  # 2**34 pixels: Σx² is about 2**66
        huge = huge + huge
    assert huge.squares[0] == (4 * 64 * 64 << 20) * 65535**2 > 2**64
    assert huge.statistics().mean[0] == 65535
    assert huge.statistics().std[0] == 0


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summing in small blocks gives the sums of one large block, for every `per`."""
    x = arrays(30, shape=(7, 9, 3)).train[0]
    whole = {per: Moments.of(x, per) for per in PER}
    for name in ("TABLE_WIDTH", "TABLE_ROWS", "EXACT_TERMS", "MAX_PIXELS"):
        monkeypatch.setattr(statistics, name, 16)
    for per in PER:
        small = Moments.of(x, per)
        assert (small.total == whole[per].total).all()
        assert (small.squares == whole[per].squares).all()


@given(images, st.sampled_from(list(plain_modes())), st.sampled_from(PER), st.booleans())
def test_scaled_values_equal_numpy_bit_for_bit(
    x: np.ndarray, mode: str, per: str, rescale: bool
) -> None:
    """`apply` is the formula in float64, rounded once, for every mode, `per` and rescale."""
    fitted = Scaling.fit(x, mode, per=per, rescale=rescale)
    scaled = fitted.apply(x)
    assert scaled.dtype == np.float32
    assert scaled.tobytes() == by_numpy(x, mode, per, rescale).tobytes()


@given(images, st.sampled_from(list(plain_modes())), st.sampled_from(PER), st.booleans())
def test_scaling_can_be_undone(x: np.ndarray, mode: str, per: str, rescale: bool) -> None:
    """`invert` gives 8-bit pixels back exactly from float32."""
    if x.dtype != np.uint8:
        x = x.astype(np.uint8)
    fitted = Scaling.fit(x, mode, per=per, rescale=rescale)
    scaled = fitted.apply(x)
    own = Moments.of(x, "image").statistics(fitted.unit)
    mean, std = own.mean.reshape(-1), own.std.reshape(-1)
    back = fitted.invert(scaled, mean, std) if fitted.per == "image" else fitted.invert(scaled)
    assert back.dtype == x.dtype
    assert (back == x).all()


def test_unseen_values_are_scaled_too() -> None:
    """A raw value that train did not hold is scaled by the same formula (it may leave 0 to 1)."""
    x = np.full((2, 3, 3, 1), 100, np.uint8)
    fitted = Scaling.fit(x, "standardize")
    assert (fitted.apply(x) == 0).all()  # deviation 0 divides by 1
    assert (fitted.apply(x + 7) == 7).all()


@pytest.mark.parametrize(
    "mode",
    ["standardize", *(pytest.param(m, marks=pytest.mark.long) for m in ("normalize", "center"))],
)
def test_mnist_comes_out_exactly(mode: str, mnist: Path) -> None:
    """The published figures of MNIST's training pixels, and every stored value, to the last bit;
    `verify` regains the raw pixels, whose digests are those of MNIST's own.
    """
    entry = pixelprep.prepare("mnist", mode=mode, source=mnist, offline=True, quiet=True)
    assert entry.manifest.to_dict()["statistics"] == {
        "count": 47_040_000,
        "sum": 1_567_298_545,
        "sum_of_squares": 342_590_800_147,
    }
    unit = 255 if mode == "normalize" else 1
    assert entry.scaling.mean.tolist() == [1_567_298_545 / (47_040_000 * unit)]
    if mode != "normalize":
        assert entry.scaling.mean.tolist() == [33.318421449829934]
        assert entry.scaling.std.tolist() == [78.56748998339799]
    x, y = raw_mnist(mnist)
    stored, labels = entry.train.to_numpy()
    assert stored.tobytes() == by_numpy(x, mode, "dataset", False).tobytes()
    assert (labels == y).all()
    assert pixelprep.verify(entry.path, quiet=True)[0].ok


def raw_mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training images and labels, read without pixelprep."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        return x, np.frombuffer(file.read(), np.uint8, offset=8)


REFUSED: list[tuple[str, Any, str]] = [
    ("channel", X.astype(np.float32), "expected uint8"),
    ("channel", X[:2, ..., :1], "expected"),
    ("pixel", X[:2].transpose(0, 2, 1, 3), "expected"),
    ("channel", X[0, ..., 0], "expected"),
    ("image", X[0, 0, 0], "expected"),
]


@pytest.mark.parametrize(("per", "wrong", "says"), REFUSED)
def test_other_pixels_than_fitted_are_refused(per: str, wrong: np.ndarray, says: str) -> None:
    """Neither `apply` nor `invert` takes images that the statistics do not fit, nor `apply` those
    that are scaled already.
    """
    fitted = Scaling.fit(X, "standardize", per=per)
    with pytest.raises(UsageError, match=says):
        fitted.apply(wrong)
    if wrong.dtype == X.dtype:
        with pytest.raises(UsageError, match=says):
            fitted.invert(wrong.astype(np.float32), np.zeros(2), np.ones(2))


def test_a_mode_of_the_range_is_not_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it needs an image's minimum, which an entry does not keep, it is refused before."""
    floor = Mode("x - minimum", "minimum 0", shift=lambda s: s.minimum)
    monkeypatch.setitem(MODES, "floor", floor)
    assert Scaling.fit(X, "floor").apply(X).min() == 0
    with pytest.raises(UsageError, match="floor needs its minimum"):
        Scaling.fit(X, "floor", per="image")


def test_what_cannot_be_scaled_is_said_so() -> None:
    """Per image `invert` takes each image's own statistics, not one mean for all; NaN is not called
    too large.
    """
    fitted = Scaling.fit(X, "standardize", per="image")
    with pytest.raises(UsageError, match="own mean and std"):
        fitted.invert(fitted.apply(X))
    n = len(X)
    for mean, std in ((1, n), (n, 1), (n + 1, n)):
        with pytest.raises(UsageError, match=f"{mean} of mean and {std} of std for {n} images"):
            fitted.invert(fitted.apply(X), np.zeros(mean), np.ones(std))
    floats = X.astype(np.float32)
    with pytest.raises(UsageError, match="non-finite"):
        Scaling.fit(floats, "center").apply(floats * np.nan)


def test_one_image_is_scaled_and_inverted_like_many() -> None:
    """`apply` and `invert` take (H, W, C) too and keep this shape, also per image."""
    x = X
    for per in PER:
        fitted = Scaling.fit(x, "standardize", per=per)
        assert (fitted.apply(x[3]) == fitted.apply(x)[3]).all()
        own = Moments.of(x[3:4], "image").statistics()
        back = fitted.invert(fitted.apply(x[3]), own.mean, own.std)
        assert back.shape == x[3].shape
        assert (back == x[3]).all()


# Floats


def misses(found: FloatMoments, groups: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """Yield how far mean and variance of each column are from the truth, in ulps of what may be
    lost.

    An ulp of the mean is that of the largest number; one of the variance is that of the true
    variance and of the square of an ulp of the largest number. The third is the error of std in
    ulps of the largest number.
    """
    one = found.statistics()
    for i, (mean, std) in enumerate(zip(one.mean.ravel(), one.std.ravel(), strict=True)):
        values = [Fraction(float(v)) for v in groups[:, i]]
        true = sum(values, Fraction(0)) / len(values)
        variance = sum(((v - true) ** 2 for v in values), Fraction(0)) / len(values)
        ulp = EPS * float(max(map(abs, values))) or 1.0
        lost = EPS * float(variance) + ulp * ulp
        yield (
            abs(float(Fraction(float(mean)) - true)) / ulp,
            abs(float(Fraction(float(std)) ** 2 - variance)) / lost,
            abs(float(std) - math.sqrt(variance)) / ulp,
        )


@given(float_images, st.sampled_from(PER))
def test_statistics_of_floats_are_near_the_truth(x: np.ndarray, per: str) -> None:
    """Mean is an ulp of the largest number from the true mean, the variance a few of its own."""
    found = FloatMoments.of(x, per)
    groups = grouped(x, per)
    for mean, variance, _ in misses(found, groups):
        assert mean <= 1
        assert variance <= 16
    assert (found.minimum.ravel() == groups.min(axis=0)).all()
    assert (found.maximum.ravel() == groups.max(axis=0)).all()


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e9])
@pytest.mark.parametrize("per", ["dataset", "channel", "pixel"])
@pytest.mark.parametrize("order", ["mixed", "sorted"])
def test_a_large_offset_costs_floats_nothing(offset: float, per: str, order: str) -> None:
    """Of blocks of numbers far from 0, mean and std are right to few ulps of the numbers."""
    x = offset + np.random.default_rng(0).normal(size=(70, 4, 3, 2))
    if order == "sorted":
        x = np.sort(x, axis=0)  # the blocks' means differ most
    single = FloatMoments.of(x, per)
    blocks = pairwise_sum(FloatMoments.of(x[i : i + 8], per) for i in range(0, 70, 8))
    for mean, variance, _ in misses(single, grouped(x, per)):
        assert mean <= 1
        assert variance <= 16
    assert isinstance(blocks, FloatMoments)
    for mean, _, std in misses(blocks, grouped(x, per)):
        assert mean <= 4
        assert std <= 4


@given(float_images, st.sampled_from(["dataset", "channel", "pixel"]), st.data())
def test_tasks_do_not_show_in_statistics_of_floats(
    x: np.ndarray, per: str, data: st.DataObject
) -> None:
    """Blocks summed up by tasks of 2**k of them give bitwise what they give one by one."""
    count = data.draw(st.integers(1, 40))
    scale = np.linspace(1, 2, count)
    blocks = [FloatMoments.of(x.astype(np.float64) * factor, per) for factor in scale]
    whole = pairwise_sum(blocks)
    size = 1 << data.draw(st.integers(0, 6))
    tasks = (pairwise_sum(blocks[i : i + size]) for i in range(0, count, size))
    same_bits(pairwise_sum(tasks), whole)


def same_bits(one: object, other: object) -> None:
    """Check equality to the last bit."""
    for name in ("count", "mean", "m2", "minimum", "maximum"):
        first, second = (np.asarray(getattr(moments, name)) for moments in (one, other))
        assert first.tobytes() == second.tobytes(), name


@given(
    float_types.flatmap(lambda dtype: numbers(dtype).map(np.dtype(dtype).type)),
    st.lists(st.integers(1, 300), min_size=1, max_size=5),
    st.sampled_from(["dataset", "channel", "pixel"]),
)
def test_constant_floats_have_no_deviation(value: np.floating, rows: list[int], per: str) -> None:
    """However many equal numbers there are, their mean is the number and their std is 0."""
    found = pairwise_sum(
        FloatMoments.of(np.full((n, 1, 2, 3), value), per) for n in rows
    ).statistics()
    assert (found.mean == np.float64(value)).all()
    assert (found.std == 0).all()


@given(float_images, st.sampled_from(list(plain_modes())), st.sampled_from(PER), st.booleans())
def test_floats_are_scaled_by_the_formula_and_back(
    x: np.ndarray, mode: str, per: str, rescale: bool
) -> None:
    """`apply` is the formula bit for bit, whatever `rescale`; `invert` is as near as float32."""
    fitted = Scaling.fit(x, mode, per=per, rescale=rescale)
    scaled = fitted.apply(x)
    assert scaled.tobytes() == by_numpy(x, mode, per, rescale).tobytes()
    own = FloatMoments.of(x, "image").statistics()
    kept = per_image_columns(fitted, own) if per == "image" else {}
    back = fitted.invert(scaled, **kept)
    assert back.dtype == x.dtype
    used = own if per == "image" else fitted.statistics
    assert used is not None
    shift = used.minimum if mode == "normalize" else used.mean
    # Once rounded as y, once as a raw pixel, and by some float64 between; the last of numbers that
    # are subnormal as y or as a raw pixel.
    exact, kind = x.astype(np.float64), np.finfo(x.dtype)
    bound = 2.0**-24 * np.abs(exact - shift) + float(kind.eps) / 2 * np.abs(exact)
    bound = bound + 4 * EPS * (np.abs(exact) + np.abs(shift))
    bound = bound + 2.0**-149 * (used.maximum - used.minimum + 1) + float(kind.smallest_subnormal)
    assert (np.abs(back.astype(np.float64) - exact) <= bound * (1 + 1e-6)).all()


@pytest.mark.parametrize("per", PER)
def test_what_are_no_images_is_refused(per: str) -> None:
    """No rows, other shapes, other types and numbers that are not finite: an error of ours."""
    x = np.zeros((2, 3, 4, 1), np.uint8)
    for wrong in (x[:0], x[..., 0], x.astype(np.int32), np.full(x.shape, np.nan, np.float32)):
        with pytest.raises(SourceError):
            Scaling.fit(wrong, "standardize", per=per)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_no_images_are_scaled_to_none(per: str, dtype: str) -> None:
    """An empty batch comes back empty, whatever a statistic is shared over."""
    x = np.arange(24, dtype=dtype).reshape(2, 3, 4, 1)
    assert Scaling.fit(x, "standardize", per=per).apply(x[:0]).shape == (0, 3, 4, 1)
