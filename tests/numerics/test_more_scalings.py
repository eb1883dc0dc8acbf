"""Given constants, ranges, limits of the data and quantiles, beside exact fractions and others."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import pixelprep
from pixelprep import Scaling, UsageError
from pixelprep.numerics.presets import PRESETS
from pixelprep.numerics.scaling import apply_with_statistics, fixed_scaling, restored
from pixelprep.numerics.statistics import moments_of, pairwise_sum

Array = NDArray[Any]
DTYPES = ("uint8", "uint16", "int8", "int16")
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.sampled_from((1, 3)))
images = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))
shares = st.sampled_from([(0.25, 0.75), (0.01, 0.99), (0.0, 1.0), (0.1, 0.9), (0.3, 0.31)])


def exact(value: Any) -> Fraction:
    """Return a number as it is."""
    return Fraction(value.item() if isinstance(value, np.generic) else value)


def rounded(value: Fraction) -> Fraction:
    """Round to the nearest float64, ties to even, as `float` of a fraction does."""
    return Fraction(float(value))


def quantile(values: Array, share: float) -> Fraction:
    """Hyndman and Fan's definition 7, in fractions, of values in any order."""
    ordered = sorted(map(int, values.ravel()))
    at = (len(ordered) - 1) * Fraction(repr(share))
    low = ordered[int(at)]
    high = ordered[min(int(at) + 1, len(ordered) - 1)]
    return low + (at - int(at)) * (high - low)


def by_channel(x: Array, per: str) -> list[Array]:
    """Return the pixels of each group."""
    return [x] if per == "dataset" else [x[..., c] for c in range(x.shape[-1])]


def formula(x: Any, shift: Any, divisor: Any, unit: int = 1) -> Fraction:
    """((x / unit) − shift) / divisor, each step rounded to float64."""
    step = rounded(exact(x) / unit)
    return rounded(rounded(step - exact(shift)) / exact(divisor))


def in_range(t: Fraction, low: float, high: float) -> Fraction:
    """A·(1 − t) + B·t, each step rounded to float64."""
    below = rounded(exact(low) * rounded(1 - t))
    return rounded(below + rounded(exact(high) * t))


def as_float32(values: list[Fraction]) -> Array:
    """Round float64 values once to float32."""
    return np.array([float(value) for value in values]).astype(np.float32)


@given(images, shares, st.sampled_from(("dataset", "channel")), st.booleans(), st.booleans())
def test_robust_is_the_formula_of_exact_quantiles(
    x: Array, quantiles: tuple[float, float], per: str, rescale: bool, clip: bool
) -> None:
    """Quantiles are the float64 nearest to the exact ones; each value is the page's formula."""
    found = Scaling.fit(x, "robust", per=per, rescale=rescale, quantiles=quantiles, clip=clip)
    unit, own = found.unit, found.statistics
    assert own is not None
    assert unit == (np.iinfo(x.dtype).max if rescale else 1)
    scaled = found.apply(x)
    for i, group in enumerate(by_channel(x, per)):
        wanted = [rounded(quantile(group, p) / unit) for p in (quantiles[0], 0.5, quantiles[1])]
        assert [exact(one[i]) for one in (own.low, own.median, own.high)] == wanted
        low, median, high = wanted
        divisor = rounded(high - low) or Fraction(1)
        values = [rounded(exact(one) / unit) for one in group.ravel()]
        if clip:
            values = [min(max(one, low), high) for one in values]
        y = as_float32([rounded(rounded(one - median) / divisor) for one in values])
        assert (by_channel(scaled, per)[i].ravel() == y).all()


@given(images, st.integers(1, 6))
def test_quantiles_do_not_depend_on_the_blocks(x: Array, pieces: int) -> None:
    """Histograms merge: however images are cut, they are counted alike."""
    whole = moments_of(x, "channel", counted=True).statistics(1, (0.01, 0.99))
    parts = [part for part in np.array_split(x, pieces) if len(part)]
    merged = pairwise_sum(moments_of(part, "channel", counted=True) for part in parts)
    found = merged.statistics(1, (0.01, 0.99))
    for name in ("low", "median", "high", "mean", "std"):
        assert getattr(found, name).tolist() == getattr(whole, name).tolist()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_robust_equals_scikit_learn(dtype: str) -> None:
    """Centre and scale are RobustScaler's by default, and within float64's last bits of others."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = np.random.default_rng(0).integers(0, 200, (50, 7, 5, 3)).astype(dtype)
    flat = x.reshape(-1, 3).astype(np.float64)
    for quantiles in ((0.25, 0.75), (0.01, 0.99)):
        percent = tuple(100 * share for share in quantiles)
        theirs = preprocessing.RobustScaler(quantile_range=percent).fit(flat)
        ours = Scaling.fit(x, "robust", quantiles=quantiles)
        assert ours.statistics is not None
        divisor = ours.statistics.high - ours.statistics.low
        np.testing.assert_allclose(divisor, theirs.scale_, rtol=4 * np.finfo(float).eps)
        assert ours.statistics.median.tolist() == theirs.center_.tolist()
        assert np.abs(ours.apply(x).reshape(-1, 3) - theirs.transform(flat)).max() < 2**-22
        if quantiles == (0.25, 0.75):
            assert Scaling.fit(x, "robust").apply(x).tolist() == ours.apply(x).tolist()


@given(
    images,
    st.sampled_from([(-1.0, 1.0), (0.0, 255.0), (0.1, 0.7), (-3.0, 1e-3), (5.0, 6.0)]),
    st.sampled_from(("type", "data")),
    st.sampled_from(("dataset", "channel")),
)
def test_a_range_is_the_formula_and_exact_at_both_ends(
    x: Array, target: tuple[float, float], by: str, per: str
) -> None:
    """A·(1 − t) + B·t, each step rounded; what is 0 or 1 becomes A or B themselves."""
    limits = "data" if by == "data" else None
    found = Scaling.fit(x, "normalize", per=per, limits=limits, range=target)
    scaled, top = found.apply(x), int(np.iinfo(x.dtype).max)
    for i, group in enumerate(by_channel(x, per)):
        shift, divisor = (0, 1) if limits is None else (group.min(), int(np.ptp(group.astype(int))))
        unit = top if limits is None else 1
        t = [formula(one, shift, divisor or 1, unit) for one in group.ravel()]
        mine = by_channel(scaled, per)[i].ravel()
        assert (mine == as_float32([in_range(one, *target) for one in t])).all()
        ends = np.float32(target[0]), np.float32(target[1])
        assert all(y == ends[int(one)] for y, one in zip(mine, t, strict=True) if one in (0, 1))
    assert (found.invert(scaled) == x).all() or not found.is_exact("float32")


def test_limits_of_the_data_are_min_max_scaler() -> None:
    """By train's extremes, to any range, it is scikit-learn's MinMaxScaler; test may go beyond."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = np.random.default_rng(1).integers(100, 4096, (30, 4, 4, 3)).astype(np.uint16)
    flat = x.reshape(-1, 3).astype(np.float64)
    for target in ((0.0, 1.0), (-1.0, 1.0)):
        theirs = preprocessing.MinMaxScaler(target).fit(flat)
        ours = Scaling.fit(x, "normalize", per="channel", limits="data", range=target)
        assert np.abs(ours.apply(x).reshape(-1, 3) - theirs.transform(flat)).max() < 2**-23
        assert (ours.apply(x).min(), ours.apply(x).max()) == target
        assert ours.apply(np.full((1, 1, 1, 3), 65535, np.uint16)).min() > target[1]
    assert Scaling.fit(x, "normalize").apply(x).max() < 4096 / 65535


@given(
    images.filter(lambda x: x.shape[-1] == 3),
    st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_given_constants_are_the_formula(
    x: Array, numbers: list[float], bgr: bool, by_max: bool
) -> None:
    """(x / unit − mean) / std, each step rounded, in the order of the stored channels."""
    mean, std = numbers[:3], [abs(one) + 0.01 for one in numbers[3:]]
    unit, order = int(np.iinfo(x.dtype).max) if by_max else 1, "bgr" if bgr else None
    about = ("fixed", "channel", unit, x.dtype.name)
    scaling = fixed_scaling(*about, mean, std, channel_order=order)
    scaled = scaling.apply(x)
    for stored, (shift, divisor) in enumerate(zip(mean, std, strict=True)):
        pixels = x[..., 2 - stored if bgr else stored].ravel()
        y = as_float32([formula(one, shift, divisor, unit) for one in pixels])
        assert (scaled[..., stored].ravel() == y).all()
    if scaling.is_exact("float32"):
        assert (scaling.invert(scaled) == x).all()


def test_what_is_called_exact_is() -> None:
    """Every value comes back where that is promised; constants that lose bits promise nothing."""
    every = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    for mean, std, dtype, wanted in (
        (0.5, 0.25, "float32", True),
        (0.5, 0.25, "float16", True),
        (1e9, 1.0, "float32", False),  # float32 has steps of 64 there
        (0.0, 1e30, "float16", False),  # all become 0
        (0.0, 1e-9, "float16", False),  # too large
    ):
        scaling = fixed_scaling("fixed", "dataset", 255, "uint8", [mean], [std])
        assert scaling.is_exact(dtype) == wanted
        if wanted:
            assert (scaling.invert(scaling.apply(every, dtype)) == every).all()
    for target, wanted in (((-1.0, 1.0), True), ((1e6, 1e6 + 1), False), ((0.0, 1e-7), False)):
        scaling = Scaling.fit(every, "normalize", range=target)
        assert scaling.is_exact("float16" if target[1] < 1e3 else "float32") == wanted
        back = scaling.invert(scaling.apply(every))
        assert (back == every).all() == (target[0] < 1e6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["normalize", "center", "standardize", "robust"])
def test_tables_know_negative_pixels_and_byte_orders(mode: str, dtype: str) -> None:
    """A look-up gives what the formula does, however pixels are held in memory."""
    limits = np.iinfo(dtype)
    raw = np.random.default_rng(5).integers(limits.min, limits.max, (6, 4, 4, 3), dtype)
    raw[0, 0, 0] = limits.min, 0, limits.max
    scaling = Scaling.fit(raw, mode)
    one = scaling.statistics
    for held in (raw, raw.astype(raw.dtype.newbyteorder(">")), np.asfortranarray(raw), raw[:, ::2]):
        expected = scaling._exact(held, one).astype(np.float32)
        assert np.array_equal(apply_with_statistics(scaling, held, "float32")[0], expected)
        assert np.array_equal(scaling.invert(expected), held)
    other = Scaling.fit(raw.astype(raw.dtype.newbyteorder(">")), mode).statistics
    for name in ("mean", "std", "minimum", "maximum", "low", "median", "high"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_what_is_inverted_lies_in_order() -> None:
    """Also where channels are turned round: PyTorch and others refuse steps backwards."""
    raw = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    scaling = fixed_scaling("fixed", "channel", 1, "uint8", [1, 2, 3], [1] * 3, channel_order="bgr")
    stored = scaling.apply(raw)
    for scaled, expected in ((stored, raw), (stored[0], raw[0]), (stored[:, ::-1], raw[:, ::-1])):
        found = scaling.invert(scaled)
        assert found.flags.c_contiguous
        assert np.array_equal(found, expected)


def test_a_clip_is_for_good() -> None:
    """It is refused in one line to undo it; what is left of the pixels lies between quantiles."""
    x = np.arange(200, dtype=np.uint8).reshape(-1, 1, 1, 1)
    scaling = Scaling.fit(x, "robust", quantiles=(0.01, 0.99), clip=True)
    stored = scaling.apply(x)
    assert not scaling.is_exact("float32")
    with pytest.raises(UsageError, match="pixels were clipped, and what was cut off") as caught:
        scaling.invert(stored)
    assert "`storage=raw`" in (caught.value.hint or "")
    assert scaling.statistics is not None
    low, high = 1.99, 197.01
    assert (scaling.statistics.low[0], scaling.statistics.high[0]) == (low, high)
    assert (restored(scaling, stored).ravel() == np.rint(x.clip(low, high)).ravel()).all()


@pytest.mark.parametrize(
    ("mode", "options", "line"),
    [
        ("robust", {"per": "pixel"}, "`per=pixel`: `mode=robust` is per channel or per dataset"),
        ("robust", {"per": "image"}, "`per=image`"),
        ("standardize", {"quantiles": (0.1, 0.9)}, "`quantiles`: `mode=standardize` does not take"),
        ("robust", {"range": (0, 1)}, "`range`: `mode=robust` does not take it"),
        ("center", {"limits": "data"}, "`limits`"),
        ("center", {"clip": True}, "`clip`"),
        ("fixed", {}, "`mode=fixed`: is given, not fitted"),
    ],
)
def test_what_a_mode_does_not_take_is_refused(mode: str, options: Any, line: str) -> None:
    """One line, and which mode takes it."""
    with pytest.raises(UsageError, match=line):
        Scaling.fit(np.zeros((2, 2, 2, 1), np.uint8), mode, **options)


@pytest.mark.parametrize(
    ("mode", "options", "line"),
    [
        ("normalize", {"limits": "foo"}, "limits"),
        ("normalize", {"range": (1, 0)}, "range"),
        ("normalize", {"range": np.ones(2)}, "range"),
        ("normalize", {"range": (0, 1e31)}, "range"),
        ("robust", {"quantiles": (0.1, 2)}, "quantiles"),
        ("robust", {"quantiles": (0.9, 0.1)}, "quantiles"),
        ("robust", {"quantiles": "a"}, "quantiles"),
    ],
)
def test_arrays_are_scaled_by_what_prepare_takes_alone(
    mode: str, options: dict[str, Any], line: str
) -> None:
    """`Scaling.fit` and `prepare` refuse the same values, with the same words."""
    images = np.zeros((4, 2, 2, 3), np.uint8)
    with pytest.raises(UsageError, match=f"`{line}`|`{line}=|^{line}") as one:
        Scaling.fit(images, mode, **options)
    with pytest.raises(UsageError) as other:
        pixelprep.prepare("sample", mode=mode, offline=True, **options)
    assert (one.value.message, one.value.hint) == (other.value.message, other.value.hint)


def test_quantiles_of_floats_are_refused() -> None:
    """They are exact or not at all."""
    with pytest.raises(UsageError, match="`mode=robust`: exact quantiles are taken of integers"):
        Scaling.fit(np.zeros((2, 2, 2, 1), np.float32), "robust")


def as_torchvision(x: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """ToDtype(scale=True) and Normalize of torchvision.transforms.v2, in float32: it multiplies by
    1 / 255, rounded, then subtracts and divides (`v2/functional/_misc.py` of 0.29.1).
    """
    scaled = x.astype(np.float32) * np.float32(1 / 255)
    return np.asarray((scaled - np.array(mean, np.float32)) / np.array(std, np.float32))


@pytest.mark.parametrize("name", ["imagenet", "clip"])
def test_presets_equal_torchvision_but_for_float32(name: str) -> None:
    """Its float32 shows: of values below 2.7, at most 2**-20, three or four of their last bits."""
    x = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=-1)
    mean, std = PRESETS[name].mean, PRESETS[name].std
    scaling = fixed_scaling("fixed", "channel", 255, "uint8", mean, std)
    off = np.abs(scaling.apply(x).astype(np.float64) - as_torchvision(x, mean, std))
    assert 0 < off.max() < 2**-20


@pytest.mark.long
def test_torchvision_is_as_it_is_written_here() -> None:
    """Every value is, bit for bit."""
    v2 = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
    import torch

    x = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=-1)
    mean, std = PRESETS["imagenet"].mean, PRESETS["imagenet"].std
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    found = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert np.array_equal(found.transpose(0, 2, 3, 1), as_torchvision(x, mean, std))
