"""Entries of given constants, ranges and quantiles: made, named, verified, exported, undone."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import Arrays, Entry, UsageError
from pixelprep.cache.requests import options_of, request_of
from pixelprep.numerics.presets import PRESETS
from pixelprep.system import formatting
from tests.helpers import second_reader
from tests.helpers.cli import failure, run
from tests.helpers.data import arrays
from tests.helpers.sampling import some

CAFFE = {"mean": "103.939,116.779,123.68", "std": 1, "units": "pixel", "channel_order": "bgr"}
WIDE = {"quantiles": (0.01, 0.99), "clip": True}
RECIPES: list[dict[str, Any]] = [
    *({"mode": "fixed", "preset": name} for name in PRESETS),
    {"mode": "fixed", **CAFFE, "storage": "raw", "compression": "gzip"},
    {"mode": "fixed", "mean": 0.5, "std": (0.5, 0.25, 0.125), "dtype": "float16"},
    {"mode": "normalize", "range": "-1,1"},
    {"mode": "normalize", "range": (0, 255), "limits": "data", "per": "pixel"},
    {"mode": "normalize", "limits": "data", "per": "image", "storage": "raw"},
    {"mode": "normalize", "limits": "data", "per": "image", "range": (-1, 1)},
    {"mode": "robust", "rescale": True},
    {"mode": "robust", "per": "dataset", "quantiles": (0.1, 0.9), "dtype": "float16"},
    {"mode": "robust", **WIDE},
    {"mode": "robust", **WIDE, "storage": "raw"},
]


def made(source: Any = None, **options: Any) -> Entry:
    """Return the entry, quietly."""
    return pixelprep.prepare(source or arrays(), quiet=True, **options)


def sound(entry: Entry) -> Entry:
    """Return an entry that ours and the second reader find right."""
    [result] = pixelprep.verify(entry.path, quiet=True)
    assert result.problems == ()
    assert second_reader.main(entry.path) == 0
    return entry


@pytest.mark.parametrize("options", RECIPES, ids=lambda one: "-".join(map(str, one.values())))
@pytest.mark.parametrize("dtype", ["uint8", pytest.param("int16", marks=pytest.mark.long)])
def test_what_is_stored_is_what_the_scaling_makes(options: dict[str, Any], dtype: str) -> None:
    """Stored values are `Scaling.apply`'s, and give the raw pixels back; both readers agree."""
    if options.get("dtype") == "float16" and dtype == "int16":
        options = options | {"dtype": "float32"}
    source = arrays(dtype=dtype)
    entry = sound(made(source, **options))
    for name, split in entry.splits.items():
        raw, stored = source.splits[name][0], split.to_numpy()[0]
        assert np.array_equal(entry.scaling.apply(raw, entry.manifest.recipe.dtype), stored)
        own = (split.mean, split.std) if entry.per == "image" else ()
        if not entry.scaling.clip:
            assert np.array_equal(entry.scaling.invert(stored, *own), raw)
        assert entry.is_exact == (not entry.scaling.clip or options.get("storage") == "raw")
    again = pixelprep.open(entry.path)
    assert again.manifest == entry.manifest
    assert made(source, **options).cached


@pytest.mark.parametrize("options", RECIPES, ids=lambda one: "-".join(map(str, one.values())))
def test_the_lines_are_near_what_is_stored(options: dict[str, Any]) -> None:
    """The manifest's scale and offset, and the files' shift and divisor, are lines through it."""
    source, entry = arrays(), made(**options)
    if entry.per == "image":
        return
    x = source.splits["train"][0].astype(np.float64)
    x = x[..., ::-1] if entry.scaling.channel_order else x
    if entry.scaling.clip:
        low, _, high = np.quantile(x.reshape(-1, 3), (0.01, 0.5, 0.99), axis=0)
        quantiles = entry.manifest.to_dict()["scaling"]["quantiles"]
        np.testing.assert_allclose(quantiles["high"], high, rtol=1e-14)
        x = x.clip(low, high)
    y = entry.train.to_numpy()[0]
    near = 2e-3 if y.dtype == np.float16 else 1e-6
    scaling = entry.scaling
    np.testing.assert_allclose(x * scaling.scale + scaling.offset, y, rtol=near, atol=near)
    with h5py.File(entry.path / "train.h5") as file:
        unit, shift, divisor = (file.attrs[name] for name in ("unit", "shift", "divisor"))
    np.testing.assert_allclose((x / unit - shift) / divisor, y, rtol=near, atol=near)


def test_a_preset_and_its_numbers_are_one_entry() -> None:
    """The recipe has the constants alone; equal numbers for all channels are one number."""
    caffe = made(mode="fixed", preset="keras-caffe")
    assert made(mode="fixed", **CAFFE).key == caffe.key
    assert made(mode="fixed", preset="imagenet").key == made(mode="fixed", preset="keras-torch").key
    one = made(mode="fixed", mean=0.5, std=0.5)
    assert made(mode="fixed", mean="0.5,0.5,0.5", std=[0.5] * 3).key == one.key
    assert (one.per, one.manifest.recipe.rescale) == ("dataset", True)
    recipe = caffe.manifest.recipe.to_dict()
    assert recipe["constants"] == {"shift": [103.939, 116.779, 123.68], "divisor": [1.0] * 3}
    assert (recipe["channel_order"], recipe["rescale"]) == ("bgr", False)
    assert "keras" not in json.dumps(recipe)


def test_constants_are_taken_of_any_sequence() -> None:
    """An array of NumPy, a list, a tuple and text of the same numbers are one entry."""
    numbers = np.array([0.5, 0.25, 0.125])
    shapes = [numbers, numbers.tolist(), tuple(numbers), "0.5,0.25,0.125", numbers.astype("f4")]
    assert len({made(mode="fixed", mean=one, std=one).key for one in shapes}) == 1
    assert made(mode="fixed", mean=np.float64(0.5), std=np.array(2)).scaling.mean.tolist() == [0.5]
    with pytest.raises(UsageError, match=r"`mean=\[\[1.0\], \[1.0\]\]`: expected finite numbers$"):
        made(mode="fixed", mean=np.ones((2, 1)), std=1)


def test_a_per_without_effect_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Given constants and the maximum of a type are of no pixels; with limits `per` counts."""
    caplog.set_level(logging.INFO, logger="pixelprep")
    begin = "little: per dataset has no effect on"
    for options, told in (
        ({"mode": "fixed", "preset": "imagenet"}, f"{begin} fixed: the constants are given"),
        ({"mode": "normalize"}, None),
        ({"mode": "normalize", "limits": "data"}, None),
        ({"mode": "center"}, None),
    ):
        caplog.clear()
        made(per="dataset", **options)
        found = [one.getMessage() for one in caplog.records if "no effect" in one.getMessage()]
        assert found == ([told] if told else [])
    made(mode="normalize", per="pixel")
    assert any("per pixel has no effect on normalize: integers" in one for one in caplog.messages)


def test_bgr_is_stored_and_turned_back(tmp_path: Path) -> None:
    """Stored channels are blue, green, red; pictures of them are the raw RGB again."""
    source = arrays()
    entry = made(source, mode="fixed", preset="keras-caffe")
    raw = source.splits["train"][0]
    wanted = (raw[..., ::-1] - np.array([103.939, 116.779, 123.68])).astype(np.float32)
    assert np.array_equal(entry.train.to_numpy()[0], wanted)
    pixelprep.export(entry, tmp_path / "png", "png", quiet=True)
    first = tmp_path / "png" / "train" / str(entry.train.labels[0]) / "0000000.png"
    assert np.array_equal(np.asarray(Image.open(first)), raw[0])
    pixelprep.export(entry, tmp_path / "npz", "npz", quiet=True)
    back = made(tmp_path / "npz", mode="center")
    assert np.array_equal(back.scaling.invert(back.train.to_numpy()[0]), raw)


def test_constants_need_no_train_split(tmp_path: Path) -> None:
    """Nothing is fitted, so data that is a test split alone is scaled, too."""
    np.savez(tmp_path / "late.npz", x_test=arrays().splits["test"][0], y_test=np.arange(20) % 4)
    entry = sound(made(tmp_path / "late.npz", mode="fixed", preset="clip"))
    assert list(entry.splits) == ["test"]


@pytest.mark.parametrize("options", some([RECIPES[9], RECIPES[3], RECIPES[-2]], every=3))
def test_a_damaged_entry_is_made_again(options: dict[str, Any], tmp_path: Path) -> None:
    """What was asked for is recorded; without the record, the recipe tells the same options."""
    [images], [labels] = zip(arrays().splits["train"], strict=True)
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels)
    entry = made(tmp_path / "own.npz", **options)
    file = entry.path / "train.h5"
    file.write_bytes(file.read_bytes()[:-1])
    [result] = pixelprep.verify(entry.path, repair=True, quiet=True)
    assert result.repaired
    told = {name: value for name, value in request_of(entry.manifest).items() if name != "dataset"}
    assert made(tmp_path / "own.npz", **told).key == entry.key
    shown = formatting.options(options_of(entry.manifest, None))
    done = run("prepare", str(tmp_path / "own.npz"), *shown, "--json")
    assert json.loads(done.stdout)["key"] == entry.key


@pytest.mark.parametrize("options", some([*RECIPES[-1:], *RECIPES[-2:-1], *RECIPES[:-2]], every=3))
def test_a_scaling_is_taken_over_with_all_it_does(options: dict[str, Any]) -> None:
    """Other data is scaled by the very values, clips, ranges and order of channels."""
    known = made(**options)
    other = arrays(seed=9, name="other")
    if known.per == "pixel":
        with pytest.raises(UsageError, match="is per pixel, of images of one size and place"):
            made(other, scaling_of=known.path)
        return
    entry = sound(made(other, scaling_of=known.path, dtype=known.manifest.recipe.dtype))
    for name, split in entry.splits.items():
        wanted = known.scaling.apply(other.splits[name][0], known.manifest.recipe.dtype)
        assert np.array_equal(split.to_numpy()[0], wanted)


def test_a_clip_is_said_recorded_and_not_undone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every way back is refused in one line, but where raw pixels are stored."""
    caplog.set_level(logging.INFO, "pixelprep")
    entry = made(mode="robust", **WIDE)
    said = "little: pixels are clipped between the quantiles, and cannot be had back"
    assert any(record.getMessage().startswith(said) for record in caplog.records)
    assert entry.manifest.recipe.clip is True
    lost = "pixels were clipped, and what was cut off cannot be had back"
    with pytest.raises(UsageError, match=lost):
        entry.scaling.invert(entry.train.to_numpy()[0])
    with pytest.raises(UsageError, match=f"`to=png`: {lost}"):
        pixelprep.export(entry, tmp_path / "png", "png", quiet=True)
    pixelprep.export(entry, tmp_path / "npz", "npz", quiet=True)
    with pytest.raises(pixelprep.SourceError, match=lost):
        made(tmp_path / "npz", mode="center")
    kept = made(mode="robust", **WIDE, storage="raw")
    assert np.array_equal(kept.train.to_numpy()[0], entry.train.to_numpy()[0])
    pixelprep.export(kept, tmp_path / "raw", "png", quiet=True)


def test_a_clip_between_equal_quantiles_is_refused() -> None:
    """It would leave one value; without a clip it is divided by 1, and told."""
    x = np.zeros((40, 4, 4, 1), np.uint8)
    x[0] = 255
    source = Arrays("dark", (x, np.arange(40) % 2))
    with pytest.raises(UsageError, match=r"quantiles 0\.25 and 0\.75 are equal") as caught:
        made(source, mode="robust", clip=True)
    assert "`quantiles=0.01,0.99`" in (caught.value.hint or "")
    with pytest.warns(pixelprep.PixelprepWarning, match=r"are equal: divided by 1"):
        entry = made(source, mode="robust")
    assert entry.train.to_numpy()[0].max() == 255


def test_twelve_bits_in_sixteen_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """The largest value is said, and what helps: the data's limits, beyond which test may lie."""
    caplog.set_level(logging.INFO, "pixelprep")
    random = np.random.default_rng(0)
    x = random.integers(10, 4096, (40, 4, 4, 1)).astype(np.uint16)
    x[0, 0, 0] = 4095
    late = np.full((4, 4, 4, 1), 5000, np.uint16)
    source = Arrays("scan", (x, np.arange(40) % 2), (late, np.arange(4) % 2))
    line = "scan: pixels up to 4,095 of uint16, of 12 bits, become at most 0.06249 of the range"
    with pytest.warns(pixelprep.PixelprepWarning, match=line):
        assert made(source, mode="normalize").train.to_numpy()[0].max() < 0.0625
    entry = made(source, mode="normalize", limits="data")
    assert (entry.train.to_numpy()[0].max(), entry.test.to_numpy()[0].min() > 1) == (1, True)
    beyond = "scan: test has pixels of 5000 to 5000, beyond train's"
    assert any(record.getMessage().startswith(beyond) for record in caplog.records)


LINES = [
    (("--mode", "fixed"), "--mode fixed: expected --mean and --std, or a --preset"),
    (("--preset", "clip"), "--preset: --mode standardize does not take it"),
    (
        ("--mode", "fixed", "--preset", "imagenet"),
        "--preset imagenet: expected images of 3 channel",
    ),
    (("--mode", "fixed", "--mean", "1", "--std", "0"), "--std 0: expected numbers above 0"),
    (
        ("--mode", "fixed", "--mean", "1", "--std", "1e-320,1,1"),
        "--std 1e-320,1,1: expected numbers above 0, 1e-300 or more, which are divided by",
    ),
    (("--mode", "fixed", "--mean", "nan", "--std", "1"), "--mean nan: expected finite numbers"),
    (("--mode", "fixed", "--preset", "raw", "--mean", "1"), "--preset raw: has a mean, std and"),
    (("--mode", "fixed", "--preset", "raw", "--rescale"), "--mode fixed: takes no --rescale"),
    (
        ("--mode", "fixed", "--preset", "clip", "--units", "pixel"),
        "--preset clip: its units are max",
    ),
    (("--mode", "normalize", "--range", "1,1"), "--range 1,1: expected two numbers, the smaller"),
    (("--mode", "robust", "--quantiles", "0.5"), "--quantiles 0.5: expected two numbers"),
    (("--mode", "robust", "--quantiles", "-1,2"), "--quantiles -1,2: expected two numbers"),
    (("--mode", "robust", "--per", "pixel"), "--per pixel: --mode robust is per channel or per"),
    (("--clip",), "--clip: --mode standardize does not take it"),
]


@pytest.mark.parametrize(("options", "line"), LINES, ids=lambda one: str(one))
def test_what_is_no_scaling_is_one_line(options: tuple[str, ...], line: str) -> None:
    """The option is named as it was given, and what is expected."""
    error, _ = failure(run("prepare", "sample", *options, bare=True), 2)
    assert error.startswith(line)


def test_info_says_what_the_scaling_is() -> None:
    """Preset, order of channels, range, quantiles and clip are shown where the scaling is."""
    clipped = "quantiles 0.01 and 0.99, pixels clipped between the quantiles first"
    told = {
        "scaling   the constants of keras-caffe, channels turned round to BGR": RECIPES[3],
        "scaling   by the extremes of train, to 0 to 255": RECIPES[9],
        "scaling   by the extremes of each image": RECIPES[10],
        "scaling   by the extremes of each image, to -1 to 1": RECIPES[11],
        f"scaling   {clipped}": RECIPES[-2],
        "raw       pixels were clipped": RECIPES[-2],
    }
    for line, options in told.items():
        assert line in run("info", str(made(**options).path)).stdout.splitlines()


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("uint8", {"mean": 123.7, "std": 58.4}, "pixels of 0 to 255 become -2.118 to -2.101"),
        ("uint16", {"preset": "keras-tf"}, "pixels of 0 to 4095 become -1 to 31.12"),
        ("uint16", {"mean": 0.485, "std": 0.229}, "pixels of 0 to 4095 become -2.118 to -1.845"),
        ("uint8", {"mean": 0.485, "std": 0.229}, None),
        ("uint8", {"preset": "keras-tf"}, None),
        ("uint16", {"preset": "raw"}, None),
    ],
)
def test_constants_of_other_units_are_told(
    kind: str, options: dict[str, Any], told: str | None
) -> None:
    """What given constants make of pixels is told where it is a narrow range, or far from 0; what
    divides by 1 is meant so.
    """
    x = np.zeros((20, 4, 4, 1), kind)
    x[::2] = 255 if kind == "uint8" else 4095
    source = pixelprep.Arrays("shades", (x, np.arange(20) % 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixelprep.prepare(source, mode="fixed", quiet=True, **options)
    said = [str(one.message) for one in caught if "become" in str(one.message)]
    assert len(said) == (told is not None)
    assert not told or told in said[0]
