"""Entries without a test split: trained, scored on what there is, compared."""

import json
from pathlib import Path

import numpy as np
import pytest

import pixelprep
from pixelprep import Arrays
from tests.helpers.cli import run
from tests.helpers.data import arrays
from tests.helpers.training import TINY

IMAGES = arrays(120, 40, (12, 12, 1))


def entry_of(**splits: object) -> pixelprep.Entry:
    """Return the entry of a train split and these others."""
    return pixelprep.prepare(Arrays("part", IMAGES.train, **splits), quiet=True)  # type: ignore[arg-type]


def test_without_a_test_split_a_run_is_scored_on_validation() -> None:
    """Nothing is called a test that was none: metrics have None, the command and the score say
    validation, and so does `evaluate`, unless told another split.
    """
    entry = entry_of(val=IMAGES.splits["test"])
    done = run("train", str(entry.path), "--model", TINY, "--epochs", "1", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(Path("run", "metrics.json").read_text())
    assert (metrics["test_accuracy"], metrics["test_loss"], metrics["test_steps"]) == (None,) * 3
    accuracy = metrics["history"]["val_accuracy"][-1]
    assert done.stdout.startswith(f"validation accuracy {accuracy:.2%}, loss ")
    scores = pixelprep.evaluate("run", quiet=True)
    assert (scores.split, scores.images) == ("val", 40)
    assert scores.accuracy == pytest.approx(accuracy)


def test_with_train_alone_a_run_has_no_score() -> None:
    """It is trained all the same, and `evaluate` says what it needs."""
    result = pixelprep.train(entry_of(), model=TINY, epochs=1, run_dir="run", quiet=True)
    assert (result.score, result.test_accuracy) == (None, None)
    with pytest.raises(pixelprep.UsageError, match="neither a test nor a validation split"):
        pixelprep.evaluate("run", quiet=True)
    assert pixelprep.evaluate("run", split="train", quiet=True).images == 120


def test_without_a_train_split_nothing_is_trained() -> None:
    """An entry of test alone, scaled as another, is refused before there is a run."""
    images, labels = IMAGES.splits["test"]
    np.savez("new.npz", x_test=images, y_test=labels)
    entry = pixelprep.prepare("./new.npz", scaling_of=entry_of(), quiet=True)
    with pytest.raises(pixelprep.UsageError, match="has no train split, only test"):
        pixelprep.train(entry, model=TINY, run_dir="run", quiet=True)
    assert not Path("run.unfinished").exists()


@pytest.mark.long
def test_modes_are_compared_without_a_test_split() -> None:
    """Validation ranks them, of the data's own; of test there is nothing."""
    source = Arrays("part", IMAGES.train, val=IMAGES.splits["test"])
    result = pixelprep.compare(
        source, modes=["center", "normalize"], repeats=1, epochs=1, model=TINY, quiet=True
    )
    assert [(one.test_accuracy, one.test_mean) for one in result.modes] == [((), None)] * 2
    assert set(result.images) == {"train", "val"}
    assert result.page.exists()


def test_images_of_one_class_are_not_trained_on() -> None:
    """There is nothing to tell apart, so nothing is fitted."""
    images, labels = IMAGES.train
    source = Arrays("alike", (images, np.zeros_like(labels)), val=(images[:4] // 2, labels[:4] * 0))
    with pytest.raises(pixelprep.TrainError, match="all of one class, 0: expected two"):
        pixelprep.train(source, quiet=True)


def test_rows_of_several_classes_are_not_trained_on() -> None:
    """`train` needs one class a row; the feed takes several."""
    labels = np.eye(4, dtype=np.uint8)[IMAGES.train[1]]
    source = Arrays("several", (IMAGES.train[0], labels), task="multilabel")
    entry = pixelprep.prepare(source, quiet=True)
    with pytest.raises(pixelprep.TrainError, match="several classes, `train` needs one"):
        pixelprep.train(entry, quiet=True)
    shapes = {tuple(y.shape) for _, y in entry.train.to_tf(40).as_numpy_iterator()}
    assert shapes == {(40, 4)}
