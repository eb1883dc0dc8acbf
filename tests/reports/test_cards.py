"""What a notebook shows of an object: the figures of `info`, the first images, and no code."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pixelprep
from pixelprep.cli import output
from pixelprep.dataset.entry import Entry
from pixelprep.reports.entry_report import Report
from pixelprep.reports.results import TrainResult, TrainSettings
from pixelprep.training.predict import ClassRecall, EvaluationResult
from pixelprep.views import Page

HOSTILE = ("<script>alert(1)</script>\u202e", '"><img src=x onerror=alert(2)>')


class Seen(HTMLParser):
    """The text of a part of a page, its tags, and the pictures that it holds."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[np.ndarray] = []
        self.feed(part)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        source = dict(attrs).get("src")
        if tag == "img" and source:
            kind, _, data = source.partition(",")
            assert kind == "data:image/png;base64"
            self.pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def seen(value: object) -> Seen:
    """Return what a notebook shows of an object."""
    part = value._repr_html_()  # type: ignore[attr-defined] # what IPython calls
    assert isinstance(part, str)
    assert len(part) < 60_000
    assert not re.search('(black|white|#[0-9a-f]{3})[;"]', part)  # colours of a theme
    return Seen(part)


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """Return an entry of noise, 100×80 RGB, whose classes have names that would run."""
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 256, (20, 100, 80, 3), np.uint8)
    pair = images, np.arange(20) % 2
    source = pixelprep.Arrays(
        "noise", pair, (images[:4] ^ 1, np.arange(4) % 2), class_names=HOSTILE
    )
    return pixelprep.prepare(source, quiet=True, cache_dir=tmp_path)


def test_an_entry_is_shown_as_info_has_it(entry: Entry, capsys: pytest.CaptureFixture[str]) -> None:
    """Every fact that `info` prints is there, escaped, and as many images as there is room for."""
    shown = seen(entry)
    output.print_info(entry, pixelprep.cache.describe(entry, cache_dir=entry.path.parent.parent))
    text = " ".join(shown.texts)
    printed = re.split(r"\s{2,}|\n", capsys.readouterr().out)
    ends = {str(entry.path), *(cell for cell in printed if "every file as" in cell)}
    assert [cell for cell in printed if cell not in text and cell not in ends] == []
    assert not {"script"} & set(shown.tags)
    assert text.isprintable()  # no letter turns the line round
    assert shown.tags.count("img") == len(shown.pictures) >= 2


def test_images_are_raw_pixels() -> None:
    """The first images of a split are the first raw ones, with their classes, pixel by pixel."""
    entry = pixelprep.prepare("sample", quiet=True)
    images, labels = entry.train[:12]
    shown = seen(entry.train)
    raw = entry.scaling.invert(images)
    assert np.array_equal(np.stack(shown.pictures)[..., :1], raw)
    assert [text for text in shown.texts if text.isdigit()] == [str(one) for one in labels]
    assert str(entry.scaling.mean.item()) in " ".join(seen(entry.scaling).texts)


def test_an_entry_whose_files_are_gone_is_shown(entry: Entry) -> None:
    """Without its files an entry still has its facts, and says why there are no images."""
    shutil.rmtree(entry.path)
    shown = seen(entry)
    assert any("no images: " in text for text in shown.texts)
    assert entry.key in " ".join(shown.texts)


def test_what_cannot_be_drawn_has_its_text(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at an object never fails, whatever happens while it is drawn."""
    monkeypatch.setattr("pixelprep.reports.facts.splits", None)
    assert entry._repr_html_() is None


def test_results_are_tables(tmp_path: Path) -> None:
    """A run has a row an epoch, an evaluation a row a class, known datasets one each."""
    history = {"loss": (0.5, None), "accuracy": (0.75, 0.875), "seconds": (1.0, 2.0)}
    result = TrainResult(
        run=tmp_path / "<b>run", entry=tmp_path, dataset="d", mode="center", per="channel",
        key="k", settings=TrainSettings(epochs=2), steps_per_epoch=3, test_steps=1, history=history,
        test_loss=0.25, test_accuracy=0.5, seconds_per_epoch=1.5, best_epoch=None,
        stopped_epoch=None,
    )  # fmt: skip
    texts = seen(result).texts
    assert {"2/2", "not finite", "87.50%", "test accuracy 50.00%, loss 0.2500 (1 step)"} <= {*texts}
    recalls = (ClassRecall("<i>", 2, 0.5), ClassRecall("b", 0, None))
    scores = EvaluationResult(tmp_path, tmp_path, "k", "test", True, 2, 0.1, 0.5, recalls)
    assert {"<i>", "50.00%", "test accuracy 50.00%, loss 0.1000 (2 images)"} <= {
        *seen(scores).texts
    }
    assert "mnist" in seen(pixelprep.datasets()).texts


def test_a_page_is_shown_in_a_frame_of_its_own(entry: Entry, tmp_path: Path) -> None:
    """A page stands in a notebook as one frame, its code as text that nothing runs; it saves."""
    page = Page("<!doctype html><script>alert('1')</script>")
    part = Seen(page._repr_html_())
    assert (part.tags, "".join(part.texts).strip()) == (["iframe"], "")
    saved = page.save(tmp_path / "page.html")
    assert saved.read_text() == page.html
    assert Report(saved, entry.path, "html", 0)._repr_html_() == page._repr_html_()


@pytest.mark.long
def test_an_entry_makes_its_report(entry: Entry, tmp_path: Path) -> None:
    """The page of an entry is the one that `pixelprep.report` writes."""
    saved = entry.report().save(tmp_path / "page.html")
    written = pixelprep.report(entry, tmp_path / "other.html", quiet=True)
    assert saved.read_bytes() == written.path.read_bytes()
