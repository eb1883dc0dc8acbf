"""A report's facts are those that NumPy finds in memory; its page is whole, and harms nothing."""

import dataclasses
import json
import os
import shlex
import shutil
from collections.abc import Callable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixelprep
from pixelprep.cache import describe
from pixelprep.installation import install_command
from pixelprep.numerics.modes import plain_modes
from pixelprep.numerics.scaling import PER
from pixelprep.reports import colormap
from pixelprep.reports import profile as facts_of
from pixelprep.reports.entry_report import FORMATS, commands, report
from pixelprep.reports.profile import EntryProfile, PixelProfile
from pixelprep.sources import Arrays
from tests.helpers.browser import CHROMIUM, chromium, seen
from tests.helpers.cli import failure, parse, prepared, run
from tests.helpers.data import arrays

DRAWN = find_spec("jinja2") is not None and find_spec("matplotlib") is not None
drawn = pytest.mark.skipif(not DRAWN, reason="the extra `plot` is not installed")


def source(shape: tuple[int, ...], dtype: str, **options: Any) -> Arrays:
    """Return random images in memory, of integers or of floats."""
    if np.dtype(dtype).kind in "ui":
        return arrays(shape=shape, dtype=dtype, **options)
    like = arrays(shape=shape, dtype="uint16", **options)
    train, test = ((pair[0].astype(dtype) / 7 - 900, pair[1]) for pair in like.splits.values())
    return Arrays(like.name, train, test)


def entry_of(given: Arrays, **options: Any) -> pixelprep.Entry:
    """Return its entry."""
    return pixelprep.prepare(given, quiet=True, **options)


def facts_in(entry: pixelprep.Entry) -> EntryProfile:
    """Return all facts of an entry."""
    return facts_of.profile(entry, lambda rows: None, describe(entry))


def in_memory(split: pixelprep.Split, entry: pixelprep.Entry) -> tuple[np.ndarray, np.ndarray]:
    """Return all of a split, raw and stored."""
    stored, _ = split.to_numpy()
    own = (split.mean, split.std) if entry.per == "image" else ()
    return entry.scaling.invert(stored, *own), stored


# The facts


@pytest.mark.parametrize("mode", plain_modes())
@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize(
    "dtype", ["uint8", pytest.param("uint16", marks=pytest.mark.long), "float32"]
)
@pytest.mark.parametrize("shape", [(6, 5, 3), pytest.param((7, 4, 1), marks=pytest.mark.long)])
def test_facts_are_those_of_numpy(
    mode: str, per: str, dtype: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts, histograms, figures, mean and deviation image, samples: as of arrays in memory."""
    monkeypatch.setattr(facts_of, "BLOCK_BYTES", 1500)  # several blocks a split
    options = {"mode": mode, "per": per, "val_fraction": 0.25, "shard_rows": 16}
    entry = entry_of(source(shape, dtype), **options)
    facts = facts_in(entry)
    assert list(facts.splits) == ["train", "val", "test"]
    for name, found in facts.splits.items():
        split = entry.splits[name]
        raw, stored = in_memory(split, entry)
        assert (found.rows, found.files) == (len(raw), tuple(p.path.name for p in split._files))
        assert found.classes.tolist() == np.bincount(split.labels, minlength=4).tolist()
        check_values(found.raw, raw)
        check_values(found.stored, stored)
    raw, stored = in_memory(entry.train, entry)
    exact = raw.astype(np.float64)
    np.testing.assert_allclose(facts.mean_image, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(facts.deviation_image, exact.std(0), rtol=1e-9)
    wanted = [
        (row, label)
        for label in range(4)
        for row in np.flatnonzero(entry.train.labels == label)[: facts_of.SAMPLE_ROWS].tolist()
    ]
    assert [(one.row, one.label) for one in facts.samples] == wanted
    for one in facts.samples:
        np.testing.assert_array_equal(one.raw, raw[one.row])
        np.testing.assert_array_equal(one.stored, stored[one.row])


def check_values(found: PixelProfile, values: np.ndarray) -> None:
    """Check that figures and histograms of pixels (N, H, W, C) are those of NumPy."""
    exact = values.astype(np.float64)
    check_figures(found.overall, exact)
    assert len(found.channels) == len(found.histograms) == values.shape[-1]
    for channel, figures in enumerate(found.channels):
        check_figures(figures, exact[..., channel])
        one = found.histograms[channel]
        # What rounding leaves outside is in the first or last bin.
        counts, _ = np.histogram(exact[..., channel].clip(*one.edges[[0, -1]]), one.edges)
        assert one.counts.tolist() == counts.tolist()
        assert counts.sum() == figures.count
        assert len(counts) <= 256


def check_figures(found: facts_of.Summary, values: np.ndarray) -> None:
    assert (found.count, found.minimum, found.maximum) == (values.size, values.min(), values.max())
    off = 1e-12 * np.abs(values).max()
    assert found.mean == pytest.approx(values.mean(), rel=1e-12, abs=off)
    assert found.std == pytest.approx(values.std(), rel=1e-9)


def test_each_value_of_8_bits_has_its_bin() -> None:
    """The histogram of uint8 counts each value; of 16 bits, so many neighbours a bin."""
    for dtype, step in (("uint8", 1), ("uint16", 256)):
        entry = entry_of(source((6, 5, 1), dtype, train=400))
        raw, _ = in_memory(entry.train, entry)
        (one,) = facts_in(entry).splits["train"].raw.histograms
        first = int(raw.min())
        expected = np.bincount((raw.reshape(-1) - first) // step)
        assert one.counts.tolist() == expected.tolist()
        assert np.diff(one.edges).tolist() == [step] * len(expected)
        assert one.edges[0] == first - 0.5


@pytest.mark.parametrize("other", [0.5, np.nextafter(0.5, 1), 0.75])
def test_floats_that_hardly_vary_have_a_histogram(other: float) -> None:
    """Of one value, or of two with no float between them, there is one bin; all are counted."""
    images = np.where(np.arange(8) % 2, other, 0.5).reshape(8, 1, 1, 1) * np.ones((1, 4, 4, 1))
    pair = images, np.arange(8) % 4
    entry = entry_of(Arrays("still", pair, pair), mode="center")
    found = facts_in(entry).splits["train"]
    raw, stored = in_memory(entry.train, entry)
    check_values(found.raw, raw)
    check_values(found.stored, stored)


def test_statistics_of_train_are_the_scaling_s() -> None:
    """Mean and deviation of the raw pixels are, bit for bit, what the scaling was fitted on."""
    entry = entry_of(arrays())
    facts = facts_in(entry)
    channels = facts.splits["train"].raw.channels
    assert [one.mean for one in channels] == entry.scaling.mean.tolist()
    assert [one.std for one in channels] == entry.scaling.std.tolist()
    per_pixel = entry_of(arrays(), per="pixel").scaling
    assert facts.mean_image.tolist() == per_pixel.mean.tolist()
    assert facts.deviation_image.tolist() == per_pixel.std.tolist()


def test_samples_are_of_the_first_classes_that_there_are() -> None:
    """Of many classes the first 24 with images are shown, though their rows come last."""
    labels = np.concatenate([np.full(3, label) for label in range(99, 10, -1)])
    images = np.zeros((len(labels), 2, 2), np.uint8)
    given = Arrays("late", (images, labels), (images, labels), tuple(map(str, range(100))))
    shown = [one.label for one in facts_in(entry_of(given, mode="center")).samples]
    assert shown == [label for label in range(11, 35) for _ in range(3)]


def test_larger_images_are_scaled_down() -> None:
    """A sample has 64 pixels a side at most, each the mean of those that it stands for."""
    image = np.random.default_rng(0).random((130, 65, 3))
    small = colormap.downsample(image, 64)
    assert small.shape == (44, 22, 3)
    np.testing.assert_allclose(small[1, 2], image[3:6, 6:9].mean((0, 1)))
    np.testing.assert_allclose(small[-1, -1], image[129:, 63:].mean((0, 1)))
    assert colormap.downsample(image[:64, :64], 64).tolist() == image[:64, :64].tolist()


def test_a_label_without_a_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry whose labels have no class is damaged, and said to be."""
    entry = entry_of(arrays())
    source = dataclasses.replace(entry.manifest.source, class_names=("a", "b"))
    manifest = dataclasses.replace(entry.manifest, source=source)
    with pytest.raises(pixelprep.EntryError, match="labels 0 to 3, but 2 classes"):
        facts_in(dataclasses.replace(entry, manifest=manifest))


def test_json_has_every_digit(tmp_path: Path) -> None:
    """The JSON report reads back to the very numbers, and names every row that is shown."""
    entry = entry_of(arrays(), mode="center", per="pixel")
    facts = facts_in(entry)
    told = json.loads(report(entry, tmp_path, format="json", quiet=True).path.read_text())
    assert told["mean_image"] == facts.mean_image.tolist()
    assert told["scaling"] == entry.manifest.to_dict()["scaling"]
    for name, split in facts.splits.items():
        found = told["splits"][name]
        assert found["classes"] == split.classes.tolist()
        for kind, values in (("raw", split.raw), ("stored", split.stored)):
            assert found[kind]["overall"] == dataclasses.asdict(values.overall)
            (one, *_), (other, *_) = found[kind]["histograms"], values.histograms
            assert one == {"edges": other.edges.tolist(), "counts": other.counts.tolist()}
    assert told["samples"] == [{"row": one.row, "label": one.label} for one in facts.samples]
    assert told["commands"] == commands(facts)


# The commands


RECIPES = [
    "",
    "--mode center --per pixel --dtype float16",
    "--val-fraction 0.1 --split-seed 18446744073709551615",
    pytest.param("--mode normalize --compression gzip", marks=pytest.mark.long),
    pytest.param("--per image --rescale", marks=pytest.mark.long),
    pytest.param("--shard-rows 7", marks=pytest.mark.long),
]


@pytest.mark.parametrize("options", RECIPES)
def test_the_commands_are_those_of_the_entry(options: str, digits: str, tmp_path: Path) -> None:
    """The command of the page makes the very entry again; all others are understood."""
    made = prepared(digits, *options.split())
    told = commands(facts_in(pixelprep.open(made["path"])))
    words = {name: shlex.split(line) for name, line in told.items() if "\n" not in line}
    for arguments in words.values():
        assert arguments[0] == "pixelprep"
        parse(arguments[1:])
    again = prepared(*words["prepare"][2:], "--cache-dir", str(tmp_path / "other"))
    assert (again["key"], again["hit"]) == (made["key"], False)


@pytest.mark.parametrize("options", ["--size 5x4 --color grey", "--test-fraction 0.2"])
def test_what_decoded_images_is_in_the_command(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder of images, size, colour, test fraction, its seed and skipped ones are too."""
    image = pytest.importorskip("PIL.Image", reason="the extra `images` is not installed")
    monkeypatch.chdir(tmp_path)
    splits = ("train", "test") if "size" in options else ("",)
    names = [f"c{c}/{i}.png" for c in (0, 1) for i in range(6)]
    for place in [tmp_path / "photos" / split / name for split in splits for name in names]:
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(list(place.parent.iterdir()))).integers(
            0, 256, (6, 6, 3)
        )
        image.fromarray(pixels.astype(np.uint8)).save(place)
    next((tmp_path / "photos").rglob("3.png")).write_bytes(b"no image")
    asked = [*options.split(), "--on-error", "skip", "--split-seed", "5", "--mode", "center"]
    made = prepared("./photos", *asked)
    told = commands(facts_in(pixelprep.open(made["path"])))["prepare"]
    again = prepared(*shlex.split(told)[2:], "--cache-dir", str(tmp_path / "other"))
    assert again["key"] == made["key"]


def test_only_known_data_is_named() -> None:
    """A dataset known by name is prepared by it; for data of one's own a path stands."""
    known = pixelprep.prepare("sample", mode="center", quiet=True)
    assert commands(facts_in(known))["prepare"].startswith("pixelprep prepare sample ")
    own = facts_in(entry_of(arrays()))
    assert commands(own)["prepare"].startswith("pixelprep prepare ./little ")
    assert not own.is_named


@pytest.mark.parametrize("per", ["channel", "image"])
def test_the_programs_of_a_page_read_the_entry(
    per: str, digits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page says to type into Python gives the train split, with pixelprep and without."""
    entry = pixelprep.prepare(digits, per=per, shard_rows=7, quiet=True)
    told, (stored, labels) = commands(facts_in(entry)), entry.train.to_numpy()
    for name, place, rows in (("python", Path.cwd(), 40), ("h5py", entry.path, 7)):
        monkeypatch.chdir(place)
        found: dict[str, Any] = {}
        exec(told[name], found)
        np.testing.assert_array_equal(found["images"], stored[:rows])
        assert found["labels"].tolist() == labels[:rows].tolist()


# Where it is written


def state_of(*folders: Path) -> dict[str, str]:
    """Return every file below these, with its digest."""
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in found}


@drawn
@pytest.mark.parametrize("form", FORMATS)
def test_the_command_says_where_and_how_much(form: str, digits: str, cache: Path) -> None:
    """By default the report is in the current folder, another time the same, byte for byte; entry
    and cache stay as they are.
    """
    entry = pixelprep.prepare(digits, quiet=True)
    before = state_of(cache)
    done = run("report", entry.key, "--format", form, "--json")
    assert done.returncode == 0, done.stderr
    path = Path(f"digits-standardize-{entry.key}.{form}").absolute()
    size = path.stat().st_size
    expected = {"path": str(path), "entry": str(entry.path), "format": form, "bytes": size}
    assert json.loads(done.stdout) == expected
    assert done.stderr == ""
    assert state_of(cache) == before
    said = run("report", entry.key, "--format", form, "--out", "here").stdout.splitlines()
    assert said[0] == str(Path("here").absolute())
    assert Path("here").read_bytes() == path.read_bytes()


def test_a_folder_is_filled_and_a_file_replaced(tmp_path: Path) -> None:
    """`out` may be a folder, there or with a slash, or a file, which is replaced whole."""
    entry = entry_of(arrays())
    name = f"little-standardize-{entry.key}.json"
    assert report(entry, tmp_path, format="json", quiet=True).path == tmp_path / name
    new = tmp_path / "new"
    assert report(entry, f"{new}/", format="json", quiet=True).path == new / name
    place = tmp_path / "some" / "facts"
    for _ in range(2):
        assert report(entry, place, format="json", quiet=True).path == place
        assert place.read_bytes() == (tmp_path / name).read_bytes()
        place.write_text("another")
    assert [path.name for path in place.parent.iterdir()] == ["facts"]


PLACES: dict[str, Callable[[Path, Path], Path]] = {
    "the entry": lambda entry, cache: entry,
    "a file of the entry": lambda entry, cache: entry / "train.h5",
    "a new file of the entry": lambda entry, cache: entry / "report.html",
    "the cache": lambda entry, cache: cache,
    "a folder of the cache": lambda entry, cache: cache / "little" / "report.html",
}


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_written_into_entry_or_cache(
    place: str, linked: bool, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place in the entry, though copied, or in the cache is refused, also behind a link, and
    where the entry is the current folder.
    """
    copied = tmp_path / "copied"
    shutil.copytree(entry_of(arrays()).path, copied)
    given = PLACES[place](copied, cache)
    if linked:
        (tmp_path / "link").symlink_to(given)
        given = tmp_path / "link"
    before = state_of(cache, copied)
    monkeypatch.chdir(copied)
    for out in (given, None):
        with pytest.raises(pixelprep.UsageError, match="no report is written into an entry") as e:
            report(copied, out, format="json", quiet=True)
        assert "`out`" in (e.value.hint or "")
    assert state_of(cache, copied) == before


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """What is no plain file, such as a pipe or a link to itself, is not replaced."""
    os.mkfifo(pipe := tmp_path / "pipe")
    (circle := tmp_path / "circle").symlink_to(circle)
    for place in (pipe, circle):
        with pytest.raises(pixelprep.UsageError):
            report(entry_of(arrays()), place, format="json", quiet=True)
    assert pipe.is_fifo()
    assert circle.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--format", "htm"], 2, "unknown --format 'htm'"),
        (["--out", "/proc/none/report.json", "--format", "json"], 1, "cannot write the page"),
        (["--out", "~nobody-here/x", "--format", "json"], 2, "home"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], status: int, said: str, digits: str) -> None:
    """A format that is not known and a place that cannot be written are told in one line."""
    entry = pixelprep.prepare(digits, quiet=True)
    assert said in failure(run("report", entry.key, *arguments), status)[0]


def test_no_entry_is_one_line() -> None:
    """A report on what is not there says so."""
    assert "no entry" in failure(run("report", "digits/center-000000000000"))[0]


def test_open_shows_it_in_the_browser(
    digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--open` gives the browser the address of the file."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/shown"\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    entry = pixelprep.prepare(digits, quiet=True)
    done = run("report", entry.key, "--format", "json", "--open", "--json")
    path = json.loads(done.stdout)["path"]
    assert (tmp_path / "shown").read_text().strip() == Path(path).as_uri()


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Jinja or Matplotlib the error names the extra, and nothing is read or written."""
    entry = entry_of(arrays())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else 1)
    with pytest.raises(pixelprep.MissingExtraError) as caught:
        report(entry, tmp_path / "page", quiet=True)
    assert caught.value.hint == install_command("plot")
    assert not (tmp_path / "page").exists()
    assert report(entry, tmp_path / "page", format="json", quiet=True).path.exists()


# The page


browsed = pytest.mark.skipif(not (DRAWN and CHROMIUM), reason="Chromium is not installed")

EVIL = ("<script>alert(1)</script>", "a$b$c_{\\x", "\u540d\u524d \n\u202e&amp;", "x" * 300)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of an entry whose classes have the names of an attacker."""
    folder = tmp_path_factory.mktemp("page")
    like = arrays(name="evil")
    evil = Arrays("evil", like.train, like.test, EVIL)
    entry = pixelprep.prepare(evil, val_fraction=0.2, cache_dir=folder / "cache", quiet=True)
    return report(entry, folder / "page.html", cache_dir=folder / "cache", quiet=True).path


@browsed
def test_the_console_is_silent(page: Path, tmp_path: Path) -> None:
    """The browser has nothing to say of the page; of one with a script that is refused, it has."""
    assert chromium(page)[1] == []
    worse = tmp_path / "worse.html"
    worse.write_text(page.read_text().replace("</body>", "<script>alert(1)</script></body>"))
    assert chromium(worse)[1] != []


@browsed
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1100])
def test_all_pictures_are_drawn(page: Path, width: int, dark: bool) -> None:
    """In light and dark, wide and narrow: every picture is there, and nothing is wider. Class names
    that are a script, a formula, an entity or very long are text.
    """
    found = seen(page, width, dark)
    assert found["ink"] == ("rgb(255, 255, 255)" if dark else "rgb(0, 0, 0)")
    assert len(found["images"]) == 4 * 2 * facts_of.SAMPLE_ROWS + 2 + 2 + 2
    assert min(found["images"]) > 0
    assert len(found["drawings"]) == 1 + 3 * 2
    assert min(found["drawings"]) > 0
    assert found["wide"] <= width
    assert found["headings"] == list(EVIL)
    assert found["scripts"] == 0


@drawn
def test_pages_of_many_classes_are_bounded(tmp_path: Path) -> None:
    """Of hundreds of classes some are shown, and the page says how many are left out."""
    entry = entry_of(source((100, 70, 2), "uint16", classes=300, train=600, test=300))
    page = report(entry, tmp_path / "page.html", quiet=True).path
    text = " ".join(page.read_text().split())
    assert "Of 300 classes 24 are shown; 276 are left out." in text
    assert "Of 2 channels the first is shown." in text
    assert "scaled down to 64 pixels a side at most" in text
    assert text.count("<img") == 24 * 2 * 2 + 2 + 2 + 2
    assert page.stat().st_size < 2_000_000


@drawn
def test_the_page_says_where_raw_pixels_are_not_exact(tmp_path: Path) -> None:
    """16 bits in float16 are recovered approximately, and the page says so."""
    entry = entry_of(source((6, 5, 1), "uint16"), dtype="float16", rescale=True)
    text = report(entry, tmp_path / "page.html", quiet=True).path.read_text()
    assert "recovered approximately" in text
    assert "recovered exactly" not in text


@drawn
@pytest.mark.parametrize("value", [0, 255])
def test_images_of_one_value_have_a_report(value: int, tmp_path: Path) -> None:
    """Where nothing varies, there is nothing to divide by, and still a page and a picture; what is
    recovered exactly is said to be.
    """
    pair = np.full((5, 1, 1), value, np.uint8), np.arange(5) % 2
    entry = entry_of(Arrays("flat", pair, pair))
    text = report(entry, tmp_path / "page.html", quiet=True).path.read_text()
    assert "recovered exactly" in text
    assert "recovered approximately" not in text
    assert report(entry, tmp_path / "facts", format="json", quiet=True).bytes > 0


@drawn
def test_the_page_of_a_test_split_alone_says_whose_its_scaling_is(tmp_path: Path) -> None:
    """It shows test where others show train, and does not say that anything was fitted."""
    given = arrays()
    images, labels = given.splits["test"]
    np.savez(tmp_path / "new.npz", x_test=images, y_test=labels)
    entry = pixelprep.prepare(tmp_path / "new.npz", scaling_of=entry_of(given), quiet=True)
    text = report(entry, tmp_path / "page.html", quiet=True).path.read_text()
    assert "The first images of each class in test;" in text
    assert "Taken over from another entry: mean is the shift, std the divisor;" in text
    assert "train" not in text.replace("entry.train", "")
