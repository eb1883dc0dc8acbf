"""Histograms of integer pixels, and the statistics that follow from them."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pixelprep.numerics.histogram import Histogram
from pixelprep.numerics.statistics import Moments, exact_sum, moments_of_histogram

Array = np.ndarray[Any, Any]

TYPES = ("uint8", "int8", "uint16", "int16")
SHARES = (Fraction(0), Fraction(1, 100), Fraction(1, 4), Fraction(1, 2), Fraction(99, 100))


def images() -> st.SearchStrategy[Array]:
    """Draw integer images of any type and of one to four channels."""
    shapes = st.tuples(*(st.integers(1, most) for most in (4, 3, 3, 4)))
    return st.sampled_from(TYPES).flatmap(lambda dtype: arrays.arrays(dtype, shapes))


@given(images(), st.sampled_from(SHARES))
def test_a_quantile_is_the_exact_one_rounded_once(x: Array, share: Fraction) -> None:
    """A channel's quantile is that of its sorted pixels in fractions, between two on the line."""
    found = Histogram.of(x).quantile(share).tolist()
    assert Histogram.of(x).quantile(float(share)).tolist() == found  # written in decimals
    for pixels, quantile in zip(x.reshape(-1, x.shape[-1]).T, found, strict=True):
        ordered = sorted(pixels.tolist())
        place = (len(ordered) - 1) * share
        low, high = ordered[int(place)], ordered[-int(-place // 1)]
        assert quantile == float(low + (high - low) * (place - int(place)))
        assert quantile == pytest.approx(np.quantile(pixels.astype(float), float(share)), abs=1e-9)


@given(images())
def test_moments_are_those_of_the_pixels(x: Array) -> None:
    """Sums, squares and extremes of a histogram are those that `prepare` finds; also of all."""
    for found, per in ((Histogram.of(x), "channel"), (Histogram.of(x).overall(), "dataset")):
        wanted, moments = Moments.of(x, per), moments_of_histogram(found)
        for name in ("total", "squares", "minimum", "maximum"):
            assert getattr(moments, name).tolist() == getattr(wanted, name).tolist()
        assert moments.count == wanted.count


@given(images(), st.integers(1, 3))
def test_two_histograms_merge(x: Array, cut: int) -> None:
    """Parts of the pixels, counted apart and added, give the counts of all."""
    whole = Histogram.of(np.concatenate([x, x[:cut]]))
    assert (Histogram.of(x) + Histogram.of(x[:cut])).counts.tolist() == whole.counts.tolist()


def test_many_pixels_are_counted_in_blocks() -> None:
    """More pixels than are counted at once, an odd number, are all counted."""
    x = np.random.default_rng(0).integers(0, 256, (1, 1029, 1021, 1), np.uint8)
    assert Histogram.of(x).counts.tolist() == [np.bincount(x.reshape(-1), minlength=256).tolist()]


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(arrays.arrays(np.float64, st.integers(0, 200), elements=FLOATS | st.floats(-9, 9, width=32)))
def test_an_exact_sum_is_that_of_the_standard_library(values: Array) -> None:
    """Whatever cancels, and however far apart values are, it is the sum rounded once."""
    try:
        expected = math.fsum(values)
    except OverflowError:
        with pytest.raises(OverflowError):
            exact_sum(values)
        return
    assert exact_sum(values) == expected


def test_an_exact_sum_of_many() -> None:
    """More values than are added at a time, of 60 powers of ten, are added exactly, too."""
    random = np.random.default_rng(0)
    values = random.normal(size=100_000) * 10.0 ** random.integers(-30, 30, 100_000)
    assert exact_sum(values) == math.fsum(values)
    assert math.isnan(exact_sum(np.append(values, np.nan)))


def test_squares_of_distances_are_summed_exactly() -> None:
    """Of float32 each is taken in float64, about any value, and the sum is rounded once."""
    values = np.random.default_rng(0).normal(3, 2, 40_000).astype(np.float32)
    squares = ((float(value) - 3.1) * (float(value) - 3.1) for value in values)
    assert exact_sum(values, about=3.1) == math.fsum(squares)
