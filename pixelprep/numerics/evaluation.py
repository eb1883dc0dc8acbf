"""Evaluate a classifier: predictions, accuracy, loss, confusions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_PROBABILITY = 1e-7  # probabilities are clipped to this before taking the logarithm, as in Keras


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's predictions for labelled images."""

    labels: NDArray[np.int64]  # the true class of each image, shape (N,)
    predicted: NDArray[np.int64]  # likewise the predicted class
    classes: int  # how many there are

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of images of each class, shape (classes,)."""
        return np.bincount(self.labels, minlength=self.classes)

    @property
    def correct(self) -> NDArray[np.int64]:
        """The number of correctly predicted images of each class, shape (classes,)."""
        return np.bincount(self.labels[~self.wrong], minlength=self.classes)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """True where an image is misclassified, shape (N,)."""
        return np.asarray(self.labels != self.predicted)

    @property
    def accuracy(self) -> float:
        """The share of correctly predicted images, 0 to 1."""
        return int(self.correct.sum()) / len(self.labels)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The number of images by true and predicted class, shape (classes, classes)."""
        pairs = self.labels * self.classes + self.predicted
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, -1)

    @property
    def top_confusions(self) -> list[tuple[int, int, int]]:
        """The ten most frequent confusions: true class, predicted class, number of images."""
        codes = self.labels[self.wrong] * self.classes + self.predicted[self.wrong]
        pairs, counts = np.unique(codes, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:10]
        return [(*divmod(int(pairs[i]), self.classes), int(counts[i])) for i in most]

    def worst(self, probability: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the `count` images most confidently misclassified; `probability` is (N,)."""
        wrong = np.flatnonzero(self.wrong)
        return wrong[np.argsort(-probability[wrong], kind="stable")[:count]]


def cross_entropy(true_probability: NDArray[np.float32]) -> float | None:
    """Return the categorical cross-entropy of probabilities (N,), or None if not finite."""
    probability = true_probability.astype(np.float64)
    clipped = np.clip(probability, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    loss = float(-np.log(clipped).mean())
    return loss if np.isfinite(loss) else None
