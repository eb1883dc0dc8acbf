"""What a model says of images whose classes are known, and how far it is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras


BLOCK_ROWS = 16 << 20  # bytes of images that are looked at at once
SMALLEST = 1e-7  # probability whose logarithm is taken, as Keras has it
MAX_PAIRS = 10  # of classes that are told as mistaken for each other

Note = Callable[[int], object]  # is told how many more images were looked at


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model says of images.

    Parameters
    ----------
    labels, predicted : ndarray of int64, shape (N,)
        The true classes, and the likeliest ones.
    probability, of_label : ndarray of float32, shape (N,)
        Of the likeliest class and of the true one, 0 to 1.
    classes : int
        How many there are.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    true_probability: NDArray[np.float32]
    classes: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Images of each class, (classes,)."""
        return np.bincount(self.labels, minlength=self.classes)

    @property
    def hits(self) -> NDArray[np.int64]:
        """Those that are predicted rightly, (classes,)."""
        return np.bincount(self.labels[~self.wrong], minlength=self.classes)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which images are not predicted rightly, (N,)."""
        return np.asarray(self.labels != self.predicted)

    @property
    def accuracy(self) -> float:
        """The share of those that are, 0 to 1."""
        return int(self.hits.sum()) / len(self.labels)

    @property
    def loss(self) -> float | None:
        """Categorical cross-entropy; None where it is not finite."""
        likely = np.clip(self.true_probability.astype(np.float64), SMALLEST, 1 - SMALLEST)
        loss = float(-np.log(likely).mean())
        return loss if np.isfinite(loss) else None

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Images by true class and predicted class, (classes, classes)."""
        pairs = self.labels * self.classes + self.predicted
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, -1)

    @property
    def top_confusions(self) -> list[tuple[int, int, int]]:
        """True class, predicted class and images of the most frequent mistakes, few of them."""
        pairs = self.labels[self.wrong] * self.classes + self.predicted[self.wrong]
        found, images = np.unique(pairs, return_counts=True)
        most = np.argsort(-images, kind="stable")[:MAX_PAIRS]
        return [(*divmod(int(found[i]), self.classes), int(images[i])) for i in most]

    def worst(self, count: int) -> NDArray[np.int64]:
        """The images that are wrong with the greatest probability, at most so many."""
        wrong = np.flatnonzero(self.wrong)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")[:count]]


def score_predictions(
    model: keras.Model,
    read: Callable[[int, int], NDArray[Any]],
    labels: NDArray[np.int64],
    batch_size: int,
    note: Note = lambda _: None,
) -> Evaluation:
    """Ask a model for the classes of images, some MB at a time; in memory stays what is kept.

    Parameters
    ----------
    model : keras.Model
        Gives probabilities (n, classes).
    read : callable
        Given a first row and the one after the last, returns these images (n, H, W, C), N ≥ 1 of
        which there are, of what the model takes.
    labels : ndarray of int64, shape (N,)
        Their classes.
    batch_size : int
        Images at a time. In equal batches each image comes out alike, to the last bit.
    note : callable
        Is told of every image once.
    """
    predicted = np.empty(len(labels), np.int64)
    probability, of_label = (np.empty(len(labels), np.float32) for _ in range(2))
    step = max(1, BLOCK_ROWS // (read(0, 1).nbytes * batch_size)) * batch_size
    for start in range(0, len(labels), step):
        rows = slice(start, min(start + step, len(labels)))
        block = read(rows.start, rows.stop)
        said = model.predict(block, batch_size=batch_size, verbose=0)
        predicted[rows], probability[rows] = said.argmax(axis=1), said.max(axis=1)
        of_label[rows] = said[np.arange(len(said)), labels[rows]]
        note(len(said))
    return Evaluation(labels, predicted, probability, of_label, model.output_shape[-1])
