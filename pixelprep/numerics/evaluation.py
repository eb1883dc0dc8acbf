"""Evaluate a classifier: predictions, accuracy, loss, confusions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: images of whichever type the entry stores

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

BLOCK_BYTES = 16 << 20  # images in memory at once
MIN_PROBABILITY = 1e-7  # probabilities are clipped to this before taking the logarithm, as in Keras
MAX_CONFUSIONS = 10  # pairs of classes that are listed

OnProgress = Callable[[int], object]  # called with the number of images just evaluated


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's predictions for labelled images.

    Parameters
    ----------
    labels, predicted : ndarray of int64, shape (N,)
        The true and the predicted classes.
    probability, true_probability : ndarray of float32, shape (N,)
        The probabilities of the predicted and of the true class, 0 to 1.
    classes : int
        The number of classes.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    true_probability: NDArray[np.float32]
    classes: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of images of each class, shape (classes,)."""
        return np.bincount(self.labels, minlength=self.classes)

    @property
    def hits(self) -> NDArray[np.int64]:
        """The number of correctly predicted images of each class, shape (classes,)."""
        return np.bincount(self.labels[~self.wrong], minlength=self.classes)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """True where an image is misclassified, shape (N,)."""
        return np.asarray(self.labels != self.predicted)

    @property
    def accuracy(self) -> float:
        """The share of correctly predicted images, 0 to 1."""
        return int(self.hits.sum()) / len(self.labels)

    @property
    def loss(self) -> float | None:
        """The categorical cross-entropy; None where it is not finite."""
        probability = self.true_probability.astype(np.float64)
        clipped = np.clip(probability, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        loss = float(-np.log(clipped).mean())
        return loss if np.isfinite(loss) else None

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The number of images by true and predicted class, shape (classes, classes)."""
        pairs = self.labels * self.classes + self.predicted
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, -1)

    @property
    def top_confusions(self) -> list[tuple[int, int, int]]:
        """The most frequent confusions: true class, predicted class and number of images."""
        codes = self.labels[self.wrong] * self.classes + self.predicted[self.wrong]
        pairs, counts = np.unique(codes, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:MAX_CONFUSIONS]
        return [(*divmod(int(pairs[i]), self.classes), int(counts[i])) for i in most]

    def worst(self, count: int) -> NDArray[np.int64]:
        """Return the rows of the most confidently misclassified images, at most `count`."""
        wrong = np.flatnonzero(self.wrong)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")[:count]]


def score_predictions(
    model: keras.Model,
    read: Callable[[int, int], NDArray[Any]],
    labels: NDArray[np.int64],
    batch_size: int,
    on_progress: OnProgress = lambda _: None,
) -> Evaluation:
    """Predict the classes of labelled images, one block in memory at a time.

    Parameters
    ----------
    model : keras.Model
        Maps images (n, H, W, C) to probabilities (n, classes).
    read : callable
        ``read(start, stop)`` returns these rows of the N ≥ 1 images, as the model takes them.
    labels : ndarray of int64, shape (N,)
        The true classes.
    batch_size : int
        Images per batch. An image's probabilities are equal to the last bit only in batches of
        equal size.
    on_progress : callable
        Called with the number of images after each block.
    """
    predicted = np.empty(len(labels), np.int64)
    probability, true_probability = (np.empty(len(labels), np.float32) for _ in range(2))
    step = max(1, BLOCK_BYTES // (read(0, 1).nbytes * batch_size)) * batch_size
    for start in range(0, len(labels), step):
        rows = slice(start, min(start + step, len(labels)))
        block = read(rows.start, rows.stop)
        scores = model.predict(block, batch_size=batch_size, verbose=0)
        predicted[rows], probability[rows] = scores.argmax(axis=1), scores.max(axis=1)
        true_probability[rows] = scores[np.arange(len(scores)), labels[rows]]
        on_progress(len(scores))
    return Evaluation(labels, predicted, probability, true_probability, model.output_shape[-1])
