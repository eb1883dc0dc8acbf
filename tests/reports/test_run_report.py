"""A finished run's page: what it shows is what the model says, whatever the images and names."""

import base64
import html
import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray
from PIL import Image

import pixelprep
from pixelprep.dataset.entry import Entry
from pixelprep.installation import install_command
from pixelprep.numerics.evaluation import Evaluation
from pixelprep.reports import run_report
from pixelprep.reports.results import TrainResult, TrainSettings
from pixelprep.sources import Arrays
from pixelprep.training.run_folder import load_finished
from pixelprep.training.train import train
from tests.helpers.browser import CHROMIUM, chromium, seen
from tests.helpers.data import arrays
from tests.helpers.training import TINY, listening


@pytest.fixture(scope="module", autouse=True)
def frameworks() -> None:
    """Import TensorFlow where these tests run, not wherever they are collected: it takes long."""
    for name in ("tensorflow", "jinja2"):
        pytest.importorskip(name, reason="the extra `train` is not installed")


NAMES = ("<script>alert(1)</script>", "$\\frac{$ & 'x'\"", "long " * 30, "plain")


class Run(NamedTuple):
    """A run of an entry that was never trained: what the page of such a run is drawn from."""

    result: TrainResult
    entry: Entry
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]

    @property
    def page(self) -> str:
        """The page of the run."""
        found = Evaluation(self.labels, self.predicted, len(self.entry.class_names))
        predictions = found, self.probability
        page = run_report.build(self.result, self.entry, predictions, 1234, {"cpus": 2})
        return page.decode()

    @property
    def confusion(self) -> NDArray[np.int64]:
        """How many images of each class are taken for each."""
        found = np.zeros((len(self.entry.class_names),) * 2, int)
        np.add.at(found, (self.labels, self.predicted), 1)
        return found


def run_of(entry: Entry, **changes: Any) -> Run:
    """Return a run of two epochs whose model says anything of the test images, with changes to its
    result.
    """
    random, classes = np.random.default_rng(5), len(entry.class_names)
    said = random.dirichlet(np.ones(classes), entry.test.shape[0]).astype(np.float32)
    labels, predicted = entry.test.labels, said.argmax(axis=1)
    history: dict[str, Any] = {"loss": (2.0, 1.0), "accuracy": (0.4, 0.5), "seconds": (1.0, 2.0)}
    if "val" in entry.splits:
        history |= {"val_loss": (2.5, 1.5), "val_accuracy": (0.3, 0.4)}
    facts: dict[str, Any] = {"run": Path("run").absolute(), "entry": entry.path}
    facts |= {"dataset": entry.dataset, "mode": entry.mode, "per": entry.per, "key": entry.key}
    facts |= {"settings": TrainSettings(2, 16, 7), "steps_per_epoch": 3, "test_steps": 2}
    facts |= {"test_loss": 1.5, "test_accuracy": float((labels == predicted).mean())}
    facts |= {"seconds_per_epoch": 1.5, "best_epoch": None, "stopped_epoch": None}
    facts["history"] = history
    return Run(TrainResult(**facts | changes), entry, labels, predicted, said.max(axis=1))


def tables_of(page: str) -> list[list[list[str]]]:
    """Return the tables of a page: a list of rows of cells' texts for each."""
    rows = (re.findall("(?s)<tr>.*?</tr>", table) for table in page.split("<table")[1:])
    cells = "(?s)<t[dh][^>]*>(.*?)</t[dh]>"
    return [[list(map(html.unescape, re.findall(cells, row))) for row in table] for table in rows]


def counts(table: list[list[str]]) -> list[list[int]]:
    """Return the numbers of a table that has names above and beside them."""
    return [[int(cell or 0) for cell in row[1:]] for row in table[1:]]


def pictures(page: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the page's images by their labels, as bytes (H, W, channels)."""
    found = re.findall(r'<img class="pixels" alt="([^"]*)".*?base64,([^"]*)"', page)
    decoded = {
        html.unescape(label): imread(io.BytesIO(base64.b64decode(data))) for label, data in found
    }
    return {label: np.rint(255 * pixels).astype(np.uint8) for label, pixels in decoded.items()}


def test_the_page_tells_of_the_run(here: Path) -> None:
    """Entry, key, scaling, settings, machine, and the ways to go on are on the page of a run; what
    it says of the test images are the predictions of the stored model.
    """
    entry = pixelprep.prepare(arrays(60, 90, (7, 6, 1)), rescale=True, val_fraction=0.2)
    train(entry, epochs=1, batch_size=16, model=TINY, run_dir="run", quiet=True)
    page = Path("run", "run.html").read_text()
    tables = tables_of(page)
    facts = {row[0]: row[1] for table in tables for row in table if len(row) == 2}
    assert facts["key"] == entry.key
    assert facts["entry"] == str(entry.path)
    assert facts["images"] == "48 train, 12 val, 90 test"
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
    finished = load_finished(Path("run"))
    probability = finished.model("model.keras").predict(entry.test.to_numpy()[0], verbose=0)
    predicted, worst = probability.argmax(axis=1), probability.max(axis=1)
    told = Run(finished.result, entry, entry.test.labels, predicted, worst)
    assert counts(tables[0]) == told.confusion.tolist()
    wrong = np.flatnonzero(predicted != entry.test.labels)
    first = wrong[worst[wrong].argmax()]
    assert f"<br>{worst[first]:.2%}<" in page
    assert finished.result.test_accuracy == pytest.approx(1 - len(wrong) / 90, abs=1e-6)


def test_tables_are_what_numpy_counts() -> None:
    """Confusion matrix, recalls, most frequent mistakes and accuracy are those that NumPy counts
    from the predictions; the epoch that was kept is marked.
    """
    run = run_of(pixelprep.prepare(arrays(40, 90, (7, 6, 3))), best_epoch=1, stopped_epoch=2)
    tables, confusion = tables_of(run.page), run.confusion
    assert counts(tables[0]) == confusion.tolist()
    recalls = next(table for table in tables if table[0][-1] == "recall")[1:]
    hits = confusion.diagonal()
    shown = zip(run.entry.class_names, confusion.sum(axis=1), hits, strict=True)
    assert recalls == [[name, f"{n}", f"{k}", f"{k / n:.2%}"] for name, n, k in shown]
    mistakes = next(table for table in tables if table[0][1] == "taken for")[1:]
    wrong = confusion - np.diag(hits)
    assert [int(row[2]) for row in mistakes] == sorted(wrong[wrong > 0].tolist())[::-1][:10]
    assert all(wrong[int(row[0]), int(row[1])] == int(row[2]) for row in mistakes)
    assert f"{wrong.sum()} of 90 test images are wrong" in " ".join(run.page.split())
    assert run.page.count(">best, kept</text>") == 2


@pytest.mark.parametrize("options", [{}, {"per": "image", "mode": "normalize"}, {"per": "pixel"}])
def test_the_worst_images_are_the_raw_ones(options: dict[str, Any]) -> None:
    """The wrong images of the greatest probability, in this order, as they were before scaling."""
    source = arrays(40, 90, (7, 6, 3))
    run = run_of(pixelprep.prepare(source, **options))
    wrong = np.flatnonzero(run.predicted != run.labels)
    rows = wrong[np.argsort(-run.probability[wrong], kind="stable")][:12]
    shown = pictures(page := run.page)
    expected = [f"row {i}: {run.labels[i]}, taken for {run.predicted[i]}" for i in rows]
    assert list(shown) == expected
    for row, label in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(shown[label][..., :3], source.splits["test"][0][row])
        assert f"<br>{run.probability[row]:.2%}<" in page


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("uint16", (7, 6, 1)), ("int8", (7, 6, 2)), ("uint8", (300, 6, 1)), ("uint8", (7, 6, 4))],
)
def test_images_of_any_kind_are_shown(dtype: str, shape: tuple[int, int, int]) -> None:
    """16 bits, signs and odd channels become grey; of large images, means of few pixels."""
    source = arrays(20, 12, shape, dtype)
    for label, pixels in pictures(run_of(pixelprep.prepare(source)).page).items():
        raw = source.splits["test"][0][int(label.split()[1].rstrip(":"))].astype(float)
        side = 2 if shape[0] == 300 else 1
        mean = raw[..., 0].reshape(shape[0] // side, side, shape[1] // side, side).mean((1, 3))
        test = source.splits["test"][0]
        low, high = (0, 255) if dtype == "uint8" else (int(test.min()), int(test.max()))
        grey = 255 * (mean - low) / (high - low)
        np.testing.assert_allclose(pixels[..., 0], grey, rtol=0, atol=0.5 + 1e-9)


def test_names_are_escaped() -> None:
    """A class name is text on the page, whatever it looks like; a loss that is no number is said
    to be that, and so are probabilities.
    """
    source = arrays(60, 40, (7, 6, 1))
    run = run_of(pixelprep.prepare(Arrays("little", source.train, source.test, NAMES)))
    history = {**run.result.history, "loss": (None, None)}
    diverged = replace(run.result, history=history, test_loss=None)
    nothing = np.full_like(run.probability, np.nan)
    page = run._replace(result=diverged, probability=nothing).page
    assert "<script" not in page
    rows = tables_of(page)[0][1:]
    assert [row[0] for row in rows] == list(NAMES)
    assert "loss not finite" in " ".join(page.split())
    assert "nan%" in page


def test_how_pictures_were_decoded_is_said(tmp_path: Path) -> None:
    """By the options of `prepare`, where they were files."""
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.full((9, 8, 3), 50 * i + ord(name), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    ways: dict[str, Any] = {"size": 7, "fit": "crop", "color": "grey", "test_fraction": 0.5}
    page = run_of(pixelprep.prepare(tmp_path / "photos", quiet=True, **ways)).page
    told = ["decoded with", "--size 7x7 --fit crop --color grey"]
    assert any(told in table for table in tables_of(page))


def test_many_classes_are_a_picture() -> None:
    """Of more than 20 classes, the matrix is one pixel a pair; the lowest recalls come first."""
    run = run_of(pixelprep.prepare(arrays(80, 120, (7, 6, 1), classes=40)))
    page, confusion = run.page, run.confusion
    heat = pictures(page)["confusion matrix of 40 classes"]
    assert heat.shape == (40, 40, 4)
    np.testing.assert_array_equal(heat[..., 3] > 0, confusion > 0)
    share = confusion / confusion.sum(axis=1, keepdims=True)
    assert np.all(np.diff(heat[..., 3].ravel()[np.argsort(share.ravel())].astype(int)) >= 0)
    first, rest = [table[1:] for table in tables_of(page) if table[0][-1] == "recall"]
    assert (len(first), len(rest)) == (20, 20)
    recall = [float(row[3].rstrip("%")) for row in first + rest]
    assert recall == sorted(recall)


def test_a_page_that_fails_loses_no_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the page cannot be drawn the run is published, with one line that says why."""

    def render(*_: object, **__: object) -> str:
        raise OSError("no fonts\nare there")

    monkeypatch.setattr("pixelprep.reports.html.render", render)
    entry = pixelprep.prepare(arrays(40, 20, (7, 6, 1)))
    with listening() as messages:
        result = train(entry, epochs=1, model=TINY, run_dir="run", quiet=True)
    (told,) = [one for one in messages if "cannot be made" in one]
    assert told.startswith("the run's page cannot be made, all else is there: ")
    assert told.endswith("OSError: no fonts are there")
    assert not Path("run/run.html").exists()
    assert not Path("run.unfinished").exists()
    finished = load_finished(Path("run"))
    assert finished.result == result
    finished.model("model.keras")


@pytest.mark.parametrize(
    ("module", "name"),
    [("jinja2", "Jinja"), ("matplotlib", "Matplotlib"), ("tensorflow", "TensorFlow")],
)
def test_without_a_package_nothing_is_trained(
    module: str, name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before any work what is missing of that which the end needs."""
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    with pytest.raises(pixelprep.MissingExtraError, match=f"^training needs {name}, which") as told:
        train(arrays(40, 20, (7, 6, 1)), epochs=1, run_dir="run", quiet=True)
    assert told.value.hint == install_command("train")
    assert list(here.iterdir()) == []


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("classes", [4, 40])
def test_a_browser_shows_the_page(tmp_path: Path, classes: int) -> None:
    """Chromium has nothing to complain of, draws every picture, and at 400 pixels nothing
    overflows the screen.
    """
    source = arrays(80, 80, (7, 6, 1), classes=classes)
    names = NAMES if classes == 4 else tuple(f"class {i} {'x' * 2 * i}" for i in range(classes))
    given = Arrays("little", source.train, source.test, names)
    page = tmp_path / "run.html"
    page.write_text(run_of(pixelprep.prepare(given)).page)
    assert chromium(page)[1] == []
    found = seen(page, 400)
    assert found["wide"] <= 400
    assert min(found["images"]) > 0
    assert len(found["drawings"]) == 2
    assert min(found["drawings"]) > 0
