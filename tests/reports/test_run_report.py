"""A finished run's page: what it shows is what the model says, whatever the images and names."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.sources import Arrays
from pixelprep.training.run_folder import load_finished
from pixelprep.training.train import train
from tests.helpers.data import arrays
from tests.helpers.process import execute

pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
pytest.importorskip("jinja2", reason="the extra `train` is not installed")

NAMES = ("<script>alert(1)</script>", "$\\frac{$ & 'x'\"", "long " * 30, "plain")
MODELS = """
import keras

def flat(input_shape, classes):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(),
        keras.layers.Dense(classes, activation="softmax"),
    ])

def diverged(input_shape, classes):
    start = keras.initializers.Constant(float("nan"))
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(),
        keras.layers.Dense(classes, kernel_initializer=start),
    ])
"""


@pytest.fixture(autouse=True)
def folder(here: Path) -> Path:
    """Return the current folder, with small models in it."""
    (here / "flat_models.py").write_text(MODELS)
    return here


def page_of(entry: Entry, model: str = "flat_models:flat", **options: Any) -> str:
    """Return the page of a run of one epoch, in the folder ``run``."""
    train(entry, epochs=1, model=model, run_dir=Path("run"), quiet=True, **options)
    return Path("run", "run.html").read_text()


class Tables(HTMLParser):
    """The tables of a page: a list of rows of cells' texts for each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[list[list[str]]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Begin a table, a row or a cell."""
        if tag == "table":
            self.found.append([])
        elif tag == "tr":
            self.found[-1].append([])
        elif tag in ("td", "th"):
            self.found[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        """Text of a cell."""
        if self.inside:
            self.found[-1][-1][-1] += data


def said_by(run: str, entry: Entry) -> np.ndarray[Any, Any]:
    """Probabilities of the test split, from the stored model and all stored images at once."""
    images, _ = entry.test.to_numpy()
    model = load_finished(Path(run)).model("model.keras")
    return np.asarray(model.predict(images, verbose=0))


def pictures(page: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the page's images by their labels, as bytes (H, W, channels)."""
    found = re.findall(r'<img class="pixels" alt="([^"]*)".*?base64,([^"]*)"', page)
    decoded = {
        html.unescape(label): imread(io.BytesIO(base64.b64decode(data))) for label, data in found
    }
    return {label: np.rint(255 * pixels).astype(np.uint8) for label, pixels in decoded.items()}


def named(source: Arrays, names: tuple[str, ...]) -> Arrays:
    """Return the same images, their classes called so."""
    return Arrays(source.name, source.train, source.test, names)


def test_the_page_shows_what_the_model_says() -> None:
    """Confusion matrix, recalls, most frequent mistakes and accuracy are those that NumPy counts
    from the stored model's predictions.
    """
    entry = pixelprep.prepare(arrays(200, 90, (7, 6, 3)))
    page = page_of(entry)
    labels, said = entry.test.labels, said_by("run", entry).argmax(axis=1)
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (labels, said), 1)
    tables = Tables(page).found
    matrix = [[int(cell or 0) for cell in row[1:]] for row in tables[0][1:]]
    assert matrix == confusion.tolist()
    recalls = next(table for table in tables if table[0][-1] == "recall")[1:]
    counts, hits = confusion.sum(axis=1), confusion.diagonal()
    shown = zip(entry.class_names, counts, hits, strict=True)
    assert recalls == [[name, f"{n}", f"{k}", f"{k / n:.2%}"] for name, n, k in shown]
    mistakes = next(table for table in tables if table[0][1] == "taken for")[1:]
    wrong = confusion - np.diag(hits)
    assert [int(row[2]) for row in mistakes] == sorted(wrong[wrong > 0].tolist())[::-1][:10]
    assert all(wrong[int(row[0]), int(row[1])] == int(row[2]) for row in mistakes)
    metrics = json.loads(Path("run", "metrics.json").read_text())
    assert f"{wrong.sum()} of 90 test images are wrong" in " ".join(page.split())
    assert metrics["test_accuracy"] == pytest.approx(hits.sum() / 90, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"per": "image", "mode": "normalize"}, {"per": "pixel"}])
def test_the_worst_images_are_the_raw_ones(options: dict[str, Any]) -> None:
    """The wrong images of the greatest probability, in this order, as they were before scaling."""
    source = arrays(200, 90, (7, 6, 3))
    entry = pixelprep.prepare(source, **options)
    page = page_of(entry)
    labels, said = entry.test.labels, said_by("run", entry)
    wrong = np.flatnonzero(said.argmax(axis=1) != labels)
    rows = wrong[np.argsort(-said.max(axis=1)[wrong], kind="stable")][:12]
    shown = pictures(page)
    expected = [f"row {i}: {labels[i]}, taken for {said[i].argmax()}" for i in rows]
    assert list(shown) == expected
    for row, label in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(shown[label][..., :3], source.test[0][row])
        assert f"<br>{said[row].max():.2%}<" in page


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("uint16", (7, 6, 1)), ("int8", (7, 6, 2)), ("uint8", (600, 300, 1)), ("uint8", (7, 6, 4))],
)
def test_images_of_any_kind_are_shown(dtype: str, shape: tuple[int, int, int]) -> None:
    """16 bits, signs and odd channels become grey; of large images, means of few pixels."""
    source = arrays(20, 12, shape, dtype)
    for label, pixels in pictures(page_of(pixelprep.prepare(source))).items():
        raw = source.test[0][int(label.split()[1].rstrip(":"))].astype(float)
        side = 3 if shape[0] == 600 else 1
        mean = raw[..., 0].reshape(shape[0] // side, side, shape[1] // side, side).mean((1, 3))
        test = source.test[0]
        low, high = (0, 255) if dtype == "uint8" else (int(test.min()), int(test.max()))
        grey = 255 * (mean - low) / (high - low)
        np.testing.assert_allclose(pixels[..., 0], grey, rtol=0, atol=0.5 + 1e-9)


def test_the_page_tells_of_the_run() -> None:
    """Entry, key, scaling, settings, machine, and the ways to go on are on it."""
    entry = pixelprep.prepare(arrays(60, 20, (7, 6, 1)), rescale=True, val_fraction=0.2)
    page = page_of(entry, seed=0, batch_size=16)
    facts = {row[0]: row[1] for table in Tables(page).found for row in table if len(row) == 2}
    assert facts["key"] == entry.key
    assert facts["entry"] == str(entry.path)
    assert facts["images"] == "48 train, 12 val, 20 test"
    assert facts["mode"] == "standardize: (x - mean) / std, of pixels divided by 255 first"
    assert facts["per"].startswith("channel")
    assert float(facts["mean"]) == pytest.approx(entry.scaling.mean[0], rel=1e-5)
    assert (facts["seed"], facts["batch size"], facts["epochs"]) == ("0", "16", "1")
    assert facts["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"platform", "processor", "TensorFlow", "Keras", "time an epoch"} <= facts.keys()
    for way in (f"pixelprep evaluate {Path('run').absolute()}", "predict", "serving.keras"):
        assert way in page
    assert page.count("<svg ") == 2
    assert page.count(">validation</text>") == 2
    assert page.count(">test, at the end</text>") == 2


def test_names_are_escaped() -> None:
    """A class name is text on the page, whatever it looks like."""
    entry = pixelprep.prepare(named(arrays(60, 40, (7, 6, 1)), NAMES))
    page = page_of(entry)
    assert "<script" not in page
    rows = Tables(page).found[0][1:]
    assert [row[0] for row in rows] == list(NAMES)


def test_many_classes_are_a_picture() -> None:
    """Of more than 20 classes, the matrix is one pixel a pair; the lowest recalls come first."""
    entry = pixelprep.prepare(arrays(200, 120, (7, 6, 1), classes=40))
    page = page_of(entry)
    labels, said = entry.test.labels, said_by("run", entry).argmax(axis=1)
    confusion = np.zeros((40, 40), int)
    np.add.at(confusion, (labels, said), 1)
    heat = pictures(page)["confusion matrix of 40 classes"]
    assert heat.shape == (40, 40, 4)
    np.testing.assert_array_equal(heat[..., 3] > 0, confusion > 0)
    share = confusion / confusion.sum(axis=1, keepdims=True)
    assert np.all(np.diff(heat[..., 3].ravel()[np.argsort(share.ravel())].astype(int)) >= 0)
    first, rest = [table[1:] for table in Tables(page).found if table[0][-1] == "recall"]
    assert (len(first), len(rest)) == (20, 20)
    recall = [float(row[3].rstrip("%")) for row in first + rest]
    assert recall == sorted(recall)


def test_a_diverged_model_has_a_page() -> None:
    """Probabilities and a loss that are no numbers are said to be that."""
    page = page_of(pixelprep.prepare(arrays(40, 20, (7, 6, 1))), "flat_models:diverged")
    assert "loss not finite" in " ".join(page.split())
    assert "nan%" in page


BROKEN = """
from pixelprep.reports import html
from pixelprep.cli.app import main

def render(*_, **__):
    raise OSError("no fonts are there")

html.render = render
main()
"""
WITHOUT = """
import sys
sys.modules["{module}"] = None  # as where it is not installed
from pathlib import Path
import pixelprep
from pixelprep.training.train import train
try:
    train(pixelprep.open(sys.argv[1]), epochs=1, run_dir=Path("run"), quiet=True)
except pixelprep.MissingExtraError as error:
    print(error)
"""


def test_a_page_that_fails_loses_no_model(folder: Path) -> None:
    """Where the page cannot be drawn the run is published, with one line that says why."""
    entry = pixelprep.prepare(arrays(40, 20, (7, 6, 1)))
    asked = ("train", entry.key, "--model", "flat_models:flat", "--epochs", "1", "--quiet")
    command = [sys.executable, "-c", BROKEN, *asked, "--run-dir", "run", "--json"]
    done = execute(command)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("the run's page cannot be made, all else is there: ")
    assert line.endswith("OSError: no fonts are there")
    assert not (folder / "run" / "run.html").exists()
    assert not (folder / "run.unfinished").exists()
    assert load_finished(Path("run")).result.to_dict() == json.loads(done.stdout)
    load_finished(Path("run")).model("model.keras")


@pytest.mark.parametrize(
    ("module", "name"),
    [("jinja2", "Jinja"), ("matplotlib", "Matplotlib"), ("tensorflow", "TensorFlow")],
)
def test_without_a_package_nothing_is_trained(module: str, name: str, folder: Path) -> None:
    """It is said before any work what is missing of that which the end needs."""
    entry = pixelprep.prepare(arrays(40, 20, (7, 6, 1)))
    command = [sys.executable, "-c", WITHOUT.format(module=module), str(entry.path)]
    done = execute(command)
    assert done.stderr == ""
    missing = f"training needs {name}, which is not installed"
    assert done.stdout == f'{missing} (pip install "pixelprep[train]")\n'
    assert not (folder / "run.unfinished").exists()


CHROMIUM = shutil.which("chromium")
MEASURE = """<!doctype html><script>
function measure() {
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const images = [...page.images].filter(i => i.naturalWidth > 0 && i.clientWidth > 0);
  const drawn = [...page.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().width > 99);
  const beyond = root.scrollWidth - root.clientWidth;
  document.title = [beyond, images.length, page.images.length, drawn.length].join(" ");
}
</script><iframe onload="measure()" width="400" height="5000" style="border: 0" srcdoc="%s">
</iframe>"""


def browsed(path: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    """Return the page's DOM on standard output and its console on standard error, as Chromium has
    them.
    """
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--enable-logging=stderr", "--v=0"]
    command = [str(CHROMIUM), *flags, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    return execute(command)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("classes", [4, 40])
def test_a_browser_shows_the_page(folder: Path, classes: int) -> None:
    """Chromium has nothing to complain of, draws every picture, and at 400 pixels nothing
    overflows the screen.
    """
    source = arrays(80, 80, (7, 6, 1), classes=classes)
    names = NAMES if classes == 4 else tuple(f"class {i} {'x' * 2 * i}" for i in range(classes))
    page = page_of(pixelprep.prepare(named(source, names)))
    assert "CONSOLE" not in browsed(folder / "run" / "run.html", folder / "profile").stderr
    outer = folder / "outer.html"
    outer.write_text(MEASURE % html.escape(page))
    seen = re.search("<title>(.*)</title>", browsed(outer, folder / "profile").stdout)
    assert seen
    beyond, shown, images, drawn = map(int, seen[1].split())
    assert (beyond, drawn) == (0, 2)
    assert shown == images > 0
