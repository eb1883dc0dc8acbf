"""The embedded dataset: made by us, the same every time, and worth learning."""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

import pixelprep
from pixelprep.sources import REGISTRY
from pixelprep.sources.known.registered import embedded
from pixelprep.training.train import train
from tests.helpers.packages import ROOT
from tests.helpers.process import execute

GENERATOR = ROOT / "scripts" / "make_sample.py"


@pytest.mark.long
def test_sample_is_made_by_its_script(tmp_path: Path) -> None:
    """Running the generator again gives the shipped images and labels, to the last bit."""
    execute([sys.executable, GENERATOR, "--out", tmp_path], check=True)
    for pin in REGISTRY["sample"].files:
        made = gzip.decompress((tmp_path / pin.name).read_bytes())
        assert hashlib.sha256(made).hexdigest() == pin.content_sha256
        assert len(made) == pin.content_size


def test_sample_is_shaped_like_mnist() -> None:
    """6,000 and 1,000 grey images of 28×28, ten balanced classes, about 1 MB; its files are those
    that are pinned.
    """
    for pin in REGISTRY["sample"].files:
        shipped = (embedded("sample") / pin.name).read_bytes()
        assert (hashlib.sha256(shipped).hexdigest(), len(shipped)) == (pin.sha256, pin.size)
        content = gzip.decompress(shipped)
        assert hashlib.sha256(content).hexdigest() == pin.content_sha256
    entry = pixelprep.prepare("sample", mode="normalize")
    assert entry.train.shape == (6_000, 28, 28, 1)
    assert entry.test.shape == (1_000, 28, 28, 1)
    assert np.bincount(entry.train.labels).tolist() == [600] * 10
    assert np.bincount(entry.test.labels).tolist() == [100] * 10
    assert sum(pin.size or 0 for pin in REGISTRY["sample"].files) < 1_400_000


@pytest.mark.long
def test_a_linear_classifier_does_not_solve_it() -> None:
    """Logistic regression on the raw pixels stays below 93%."""
    linear = pytest.importorskip("sklearn.linear_model")
    entry = pixelprep.prepare("sample", mode="normalize")
    (x, y), (x_test, y_test) = entry.train.to_numpy(), entry.test.to_numpy()
    classifier = linear.LogisticRegression(C=0.1, max_iter=1000)
    classifier.fit(x.reshape(len(x), -1), y)
    assert classifier.score(x_test.reshape(len(x_test), -1), y_test) < 0.93


@pytest.mark.long
def test_the_reference_cnn_learns_it(tmp_path: Path) -> None:
    """The reference CNN reaches 97% or more within five epochs."""
    pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    metrics = train(pixelprep.prepare("sample"), run_dir=tmp_path / "run", quiet=True)
    assert (metrics.test_accuracy or 0) >= 0.97
