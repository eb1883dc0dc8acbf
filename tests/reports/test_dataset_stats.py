"""What `stats` measures, beside NumPy's figures and those that `prepare` scales by."""

import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep import Arrays, DatasetStats, SourceError, UsageError
from pixelprep.reports.dataset_stats import QUANTILES, PixelStats
from pixelprep.sources import Provenance, Raw, RawSplit, SourceContext
from tests.helpers.cli import failure, parse, run
from tests.helpers.data import arrays
from tests.helpers.pages import blocks
from tests.helpers.sources import nothing_is_left, prepared

Array = np.ndarray[Any, Any]


def measured(dataset: Any = "sample", **options: Any) -> DatasetStats:
    """Return the statistics, quietly."""
    return pixelprep.stats(dataset, quiet=True, **options)


def check(found: PixelStats, columns: Array) -> None:
    """Check the statistics of the columns of a table of integers."""
    unit = int(np.iinfo(columns.dtype).max)
    for at, column in enumerate(columns.T):
        values = column.tolist()
        mean = Fraction(sum(values), len(values))
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        assert found.mean_over_max is not None
        assert found.std_over_max is not None
        assert (found.mean[at], found.mean_over_max[at]) == (float(mean), float(mean / unit))
        assert found.std[at] == float(variance) ** 0.5
        assert found.std_over_max[at] == float(variance / unit**2) ** 0.5
        assert (found.minimum[at], found.maximum[at]) == (min(values), max(values))
        assert found.quantiles is not None
        wanted = np.quantile(column.astype(float), QUANTILES)
        quantiles = [found.quantiles[str(share)][at] for share in QUANTILES]
        assert quantiles == pytest.approx(wanted, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_statistics_of_integers_are_the_exact_ones_rounded_once(dtype: str) -> None:
    """Those of each channel and of all, of every split, in pixel units and over the maximum."""
    source = arrays(dtype=dtype)
    found = measured(source)
    assert found.split == "train"
    for name, (images, labels) in source.splits.items():
        split = found.splits[name]
        check(split.channels, images.reshape(-1, 3))
        check(split.overall, images.reshape(-1, 1))
        assert split.images == len(images)
        assert split.class_counts == tuple(np.bincount(labels).tolist())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("per", ["channel", "dataset"])
def test_they_are_those_that_prepare_scales_by(dtype: str, per: str) -> None:
    """Mean and deviation are an entry's own to the last bit, also with `rescale` and of floats."""
    given = arrays(dtype="uint16")
    source = Arrays("little", (given.train[0].astype(dtype), given.train[1]))
    pixels = getattr(measured(source).splits["train"], {"dataset": "overall"}.get(per, "channels"))
    scaling = prepared(source, per=per).scaling
    assert (pixels.mean, pixels.std) == (tuple(scaling.mean), tuple(scaling.std))
    if dtype.startswith("u"):
        scaling = prepared(source, per=per, rescale=True).scaling
        over_max = pixels.mean_over_max, pixels.std_over_max
        assert over_max == (tuple(scaling.mean), tuple(scaling.std))
    else:  # nothing is approximated
        assert {pixels.quantiles, pixels.mean_over_max, pixels.std_over_max} == {None}


def test_nothing_is_stored(cache: Path) -> None:
    """There is no entry, no record and no file of raw data afterwards."""
    measured(arrays())
    assert nothing_is_left(cache)
    assert {item.kind for item in pixelprep.cache.list()} <= {"metadata"}  # locks


class Counted:
    """Images that count the rows that are read."""

    def __init__(self, images: Array) -> None:
        self.images, self.read = images, 0
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> Array:
        self.read += len(self.images[rows])
        return self.images[rows]

    def slice_rows(self, rows: range) -> "Counted":
        return self


class CountedSource:
    """A source of images that count."""

    name, provenance = "counted", Provenance("counted", "CC0 1.0")

    def __init__(self, images: Array) -> None:
        self.images = Counted(images)

    def fingerprints(self) -> list[dict[str, object]]:
        return []

    def load(self, context: SourceContext) -> Raw:
        return Raw({"train": RawSplit(self.images, np.arange(len(self.images)) % 2)}, ("a", "b"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_pixels_are_read_twice_at_most(dtype: str) -> None:
    """One pass finds duplicates, another one counts; whatever the type."""
    source = CountedSource(arrays().train[0].astype(dtype))
    measured(source)
    assert source.images.read <= 2 * len(source.images)


def test_workers_change_nothing() -> None:
    """Pieces that others count, in whichever order, give the same figures."""
    with ThreadPoolExecutor(3) as workers:
        for dtype in ("uint8", "float32"):
            images = arrays(dtype="uint8").train[0].astype(dtype)
            source = Arrays("little", (images, np.arange(len(images)) % 2))
            assert measured(source, workers=workers) == measured(source)


def test_equal_images_are_counted_within_and_between_splits() -> None:
    """Copies of an image are told by where they are, and by whether their labels differ."""
    (x, y), (x2, y2) = arrays().splits.values()
    x[[5, 9]], y[[5, 9]] = x[1], y[1]
    y[9] = (y[1] + 1) % 4
    x2[3], y2[3] = x[0], y[0]
    with pytest.warns(pixelprep.PixelprepWarning):
        found = measured(Arrays("twice", (x, y), (x2, y2))).duplicates
    counted = {one.kind: (one.images, one.equal) for one in found}
    assert counted == {
        "test in train": (1, (("test 3", "train 0"),)),
        "label conflicts": (1, (("train 1", "train 5", "train 9"),)),
        "train in train": (2, (("train 5", "train 1"), ("train 9", "train 1"))),
    }


def test_sizes_and_formats_are_those_of_the_files(tmp_path: Path) -> None:
    """Of pictures, how many there are of which size, format and type, before they are resized."""
    for name, size, mode in (("a/1.png", (8, 6), "RGB"), ("b/2.jpg", (4, 5), "RGB")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        Image.new(mode, size, "red").save(tmp_path / "photos" / name)
    with pytest.warns(pixelprep.PixelprepWarning, match="stretched"):
        found = measured(tmp_path / "photos", size=4)
    assert found.sizes == {"6×8": 1, "5×4": 1}
    assert found.files["format"] == {"PNG": 1, "JPEG": 1}
    assert found.files["type"] == {"RGB": 2}
    assert (found.shape, found.dtype, found.class_names) == ((4, 4, 3), "uint8", ("a", "b"))


@pytest.mark.parametrize("options", [{}, {"storage": "raw", "per": "image"}])
def test_an_entry_has_the_statistics_of_its_raw_data(options: dict[str, Any]) -> None:
    """Given an entry, its folder or its key, the raw pixels are recovered and measured."""
    source = arrays()
    wanted, entry = measured(source), prepared(source, **options)
    for name in (entry, entry.path, entry.key):
        assert measured(name) == wanted


def test_an_entry_takes_no_options_of_reading_and_must_be_exact() -> None:
    """Options of files are refused, and so is an entry that has its floats only approximately."""
    for option in ({"layout": "nchw"}, {"source": "somewhere"}):
        with pytest.raises(UsageError, match=f"`{next(iter(option))}`: does not apply to an entry"):
            measured(prepared(arrays()), **option)
    floats = Arrays("floats", (arrays().train[0].astype("float32"), arrays().train[1]))
    with pytest.raises(SourceError, match="recovered approximately"):
        measured(prepared(floats))


def test_the_command_reads_data_as_it_was_prepared(here: Path) -> None:
    """Other options than those of reading are left out; what is typed counts before; it is said."""
    for name in ("photos/a", "photos/b"):
        Path(name).mkdir(parents=True)
        Image.fromarray(np.full((8, 6, 3), ord(name[-1]), np.uint8)).save(f"{name}/0.png")
    pixelprep.prepare("./photos", size=(9, 7), color="grey", compression="gzip", quiet=True)
    told = run("stats", "./photos", "--json")
    assert json.loads(told.stdout)["shape"] == [9, 7, 1]
    assert "./photos: as it was prepared before: --color grey --size 9x7\n" in told.stderr
    typed = run("stats", "./photos", "--size", "5", "--color", "rgb", "--json")
    assert json.loads(typed.stdout)["shape"] == [5, 5, 3]
    assert "as it was" not in typed.stderr


def test_the_command_prints_what_the_library_found(digits: str) -> None:
    """`--json` has the first split's figures by channel at the top; the table has the same."""
    found = json.loads(run("stats", digits, "--json").stdout)
    wanted = measured(digits)
    train = wanted.splits["train"].channels
    for name in ("mean", "std", "minimum", "maximum", "mean_over_max", "std_over_max"):
        assert found[name] == list(getattr(train, name))
    assert found["class_counts"] == {"train": [10, 10, 10, 10], "test": [5, 5, 5, 5]}
    assert (found["split"], found["sizes"], found["duplicates"]) == ("train", {"6×6": 60}, [])
    lines = run("stats", digits).stdout.splitlines()
    assert lines[0] == "digits, 6×6×1 uint8, in pixel units"
    figures = [*train.mean, *train.std, *(train.mean_over_max or ()), *(train.std_over_max or ())]
    assert lines[2].split()[:6] == ["train", "40", *(f"{one:.6g}" for one in figures)]
    assert lines[2].split()[6::8] == ["0", "255"]
    assert "equal     no two images" in lines


def test_many_channels_and_classes_are_not_listed(tmp_path: Path) -> None:
    """Where a table would be long, there are a row of all channels and the range of classes."""
    images = np.random.default_rng(0).integers(0, 9, (60, 30, 30, 21), np.uint8)
    np.savez(tmp_path / "bands.npz", x_train=images, y_train=np.arange(60) % 25)
    lines = run("stats", str(tmp_path / "bands.npz")).stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["bands,", "images", "train"]
    assert lines[3] == "(of all 21 channels together: --json has each)"
    assert lines[4] == "classes   25, of 2 to 3 images in train"


def test_the_command_prints_code_alone(digits: str) -> None:
    """`--paste` prints lines of Python and nothing else; of all libraries with `all`."""
    found = measured(digits)
    assert run("stats", digits, "--paste", "numpy").stdout == found.paste("numpy")
    assert run("stats", digits, "--paste", "all").stdout == "\n".join(found.pasted().values())
    error, _ = failure(run("stats", digits, "--paste", "mxnet"), status=2)
    assert error.startswith("unknown --paste 'mxnet': expected one of torchvision, keras,")


def test_options_of_the_recipe_are_not_taken(digits: str) -> None:
    """Nothing is scaled, so `stats` takes no mode, and says what it does take."""
    error, hint = failure(run("stats", digits, "--mode", "center"), status=2)
    assert "no such option: --mode" in error
    assert hint == "pixelprep stats --help"


def test_the_page_on_statistics_shows_what_is_printed(mnist: Path) -> None:
    """Its table of MNIST is what the command prints, and its commands are understood."""
    commands, printed, *_ = (block.text for block in blocks("statistics.md"))
    for line in commands.splitlines():
        parse(shlex.split(line, comments=True)[1:])
    command, _, table = printed.partition("\n")
    assert command == "$ pixelprep stats mnist"
    assert run("stats", "mnist", "--source", str(mnist)).stdout.strip() == table.strip()
