"""Evaluate a finished run's model on an entry, or predict the classes of images: of raw pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.entry import Entry
from pixelprep.dataset.raw import StoredView, raw_view
from pixelprep.errors import SourceError, UsageError, check_int, unknown_choice
from pixelprep.format.manifest import Manifest, RawLimits
from pixelprep.numerics.evaluation import Evaluation, cross_entropy
from pixelprep.pipeline.given_scaling import check_range
from pixelprep.reports import facts
from pixelprep.sources import LazyArray, Source
from pixelprep.sources.pictures import image_file, image_problems
from pixelprep.sources.split_names import split_of
from pixelprep.system import formatting, fs, notices, progress, tf_runtime
from pixelprep.system.json_record import Record
from pixelprep.training.evaluation_data import (
    GIVE_ALIKE,
    LIKE_TRAINING,
    check_reading,
    decoding,
    entry_of,
    labels_of_run,
)
from pixelprep.training.models import check_probabilities
from pixelprep.training.pictures import Picture, list_pictures
from pixelprep.training.run_folder import MODEL, FinishedRun, load_finished
from pixelprep.views import shown

LOG = logging.getLogger("pixelprep")

EVALUATE_BYTES = 16 << 20  # of raw images in memory at once
PREDICT_BYTES = 4 << 20  # likewise of decoded ones
DECODED = ("size", "color", "orientation", "alpha", "page", "fit", "filter", "jpeg")
HINTS = dict.fromkeys(image_problems.HELP, GIVE_ALIKE)
HINTS |= {
    "transparency": LIKE_TRAINING["alpha"],
    "pages": LIKE_TRAINING["page"],
}


@dataclass(frozen=True, slots=True)
class ClassRecall(Record):
    """The share of the images of one class that is predicted correctly; None of no images."""

    json_names: ClassVar[Mapping[str, str]] = {"class_name": "class"}

    class_name: str
    images: int
    recall: float | None


@dataclass(frozen=True, slots=True)
class EvaluationResult(Record):
    """How well a run's model does on one split of an entry.

    Parameters
    ----------
    run, entry : Path
        Their folders.
    key, split : str
        Which entry, and which split of it.
    exact : bool
        Whether the raw pixels are recovered exactly.
    images : int
        How many there are.
    loss : float, optional
        Categorical cross-entropy; None where it is not finite.
    accuracy : float
        0 to 1.
    classes : tuple of ClassRecall
        Each class, by label.
    """

    run: Path
    entry: Path
    key: str
    split: str
    exact: bool
    images: int
    loss: float | None
    accuracy: float
    classes: tuple[ClassRecall, ...]

    def _repr_html_(self) -> str | None:
        return shown(self, _card)


def recalls(scores: EvaluationResult) -> facts.Rows:
    """Return a row of each class."""
    rows: facts.Rows = [("class", "images", "recall")]
    for one in scores.classes:
        recall = "" if one.recall is None else f"{one.recall:.2%}"
        rows.append((one.class_name, f"{one.images:,}", recall))
    return rows


def scored(scores: EvaluationResult) -> str:
    """Say how good a model is on a split."""
    what = f"{scores.split} accuracy {scores.accuracy:.2%}, loss {facts.decimal(scores.loss)}"
    about = "" if scores.exact else "; raw pixels recovered approximately from the stored ones"
    return f"{what} ({formatting.pluralize(scores.images, 'image')}{about})"


def _card(scores: EvaluationResult) -> str:
    from pixelprep.reports import cards

    return cards.card(scored(scores), cards.table(recalls(scores)))


@dataclass(frozen=True, slots=True)
class ClassProbability(Record):
    """How likely one class is, 0 to 1."""

    json_names: ClassVar[Mapping[str, str]] = {"class_name": "class"}

    class_name: str
    label: int
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction(Record):
    """The likeliest classes of one image, most likely first."""

    path: str
    top: tuple[ClassProbability, ...]


@dataclass(frozen=True, slots=True)
class UnreadImage(Record):
    """An image that could not be predicted, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class PredictResult(Record):
    """What a run's model sees in images.

    Parameters
    ----------
    run : Path
        The run's folder.
    images : tuple of Prediction
        One an image; those of a folder in the order of their names.
    unread : tuple of UnreadImage
        Those that are damaged, or cannot be decoded as the training images were.
    """

    run: Path
    images: tuple[Prediction, ...]
    unread: tuple[UnreadImage, ...] = ()


def evaluate(
    run: str | os.PathLike[str],
    entry: Entry | str | os.PathLike[str] | Source | None = None,
    *,
    split: str | None = None,
    batch_size: int = 64,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **options: Any,
) -> EvaluationResult:
    """Evaluate a finished run's model on the raw pixels of an entry, or of new data.

    Parameters
    ----------
    run : path
        The run's folder.
    entry : Entry, str, path or Source, optional
        An entry, or what `open` takes; default: the entry that the run was trained on. Its scaling
        may be another: the raw pixels are recovered first (`Scaling.is_exact`). Or new data, as
        `prepare` takes it: it is prepared with the run's scaling, its images decoded as the run's
        were; without splits all of it is test. Classes are matched by name.
    split : {"test", "val", "train"}, optional
        Of the entry; default: test or, where there is none, val.
    batch_size : int
        Images at a time, at least 1. In equal batches each image comes out alike, to the last bit.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's folder for caches.
    quiet : bool
        Draw no progress bar.
    **options
        How new data is read, as for `prepare`: ``on_error``, ``labels_from`` and so on; not what
        the run decides, as the size of images.

    Returns
    -------
    EvaluationResult
        Loss, accuracy and each class's recall.

    Raises
    ------
    TrainError
        When there is no such run, or its model cannot be loaded.
    EntryError
        When there is no such entry, or it is damaged.
    UsageError
        When the images are other than those that the model was trained on, or of a class that it
        lacks; or there is no such split.
    SourceError
        When new data cannot be read.
    MissingExtraError
        When TensorFlow is not installed.

    Examples
    --------
    >>> import pixelprep
    >>> pixelprep.evaluate("runs/mine", split="val").accuracy  # doctest: +SKIP
    0.98
    """
    check_int("batch_size", batch_size, 1)
    check_reading(options)
    finished = load_finished(fs.expand_user(run))
    tf_runtime.require("evaluate")
    entry = entry_of(finished, entry, cache_dir, quiet, options)
    _check_same_images(finished, entry)
    split = _choose_split(entry, split)
    labels = labels_of_run(finished, entry, split, fs.cache_dir(cache_dir))
    tf_runtime.start_keras("evaluate")
    model, images = _Model(finished), _images_to_scale(finished, entry, split)
    with progress.bar(f"evaluating on {split}", len(labels), " images", quiet) as bar:
        evaluation, loss = _evaluate(model, images, labels, batch_size, bar.update)
    names = finished.manifest.source.class_names
    counts, correct = evaluation.counts.tolist(), evaluation.correct.tolist()
    classes = tuple(
        ClassRecall(name, count, right / count if count else None)
        for name, count, right in zip(names, counts, correct, strict=True)
    )
    return EvaluationResult(
        run=finished.folder,
        entry=entry.path,
        key=entry.key,
        split=split,
        exact=entry.is_exact or isinstance(images, StoredView),
        images=len(labels),
        loss=loss,
        accuracy=evaluation.accuracy,
        classes=classes,
    )


def _images_to_scale(run: FinishedRun, entry: Entry, split: str) -> LazyArray:
    """Return the raw images of a split; clipped ones, which cannot be had back, as stored."""
    images = raw_view(entry.splits[split], entry.scaling)
    is_lost = entry.scaling.clip and entry.manifest.recipe.storage == "scaled"
    if is_lost and entry.manifest.is_scaled_as(run.manifest):
        return StoredView(images.split, images.scaling, 0, len(images))
    return images


def _choose_split(entry: Entry, split: str | None) -> str:
    """Return the name of a split that there is: this one, or the one that models are scored on."""
    if split is None:
        if entry.held_out is None:
            message = f"{entry.path}: has neither a test nor a validation split"
            raise UsageError(message, "evaluate it on `split=train`")
        return entry.held_out.name
    found = split_of(str(split)) or split  # as data has its names
    if found not in entry.splits:
        there = f"it has {', '.join(entry.splits)}"
        raise unknown_choice("split", split, entry.splits, f"leave it out: {entry.path}: {there}")
    return found


def _check_same_images(run: FinishedRun, entry: Entry) -> None:
    if entry.manifest.source.task != run.manifest.source.task:
        raise UsageError(
            f"{entry.path}: its rows have several classes, {run.folder} knows one a row"
        )
    known, given = _images_of(run.manifest), _images_of(entry.manifest)
    if known != given:
        expected = f"expected images {known}, as {run.folder} was trained on"
        hint = _hint_of_scaled(run.manifest, entry.manifest)
        raise UsageError(f"{entry.path}: {expected}, found {given}", hint)
    if not entry.manifest.recipe.constants:  # else `prepare` has looked at them
        limits = (split.raw for split in entry.manifest.splits.values())
        check_range(os.fspath(entry.path), run.manifest, limits)


def _hint_of_scaled(known: Manifest, given: Manifest) -> str | None:
    """Say what to do where a model of integers is given floats that look scaled already."""
    kinds = [np.dtype(one.scaling.raw_dtype).kind for one in (known, given)]
    raw = given.splits[given.first_split].raw
    if kinds[0] not in "ui" or kinds[1] != "f" or (raw.minimum >= 0 and raw.maximum > 1):
        return None
    limits = f"{raw.minimum:.4g} to {raw.maximum:.4g}"
    return f"its pixels, {limits}, look scaled already: prepare the raw ones"


def _images_of(manifest: Manifest) -> str:
    """Describe the images that a model knows."""
    shape = formatting.format_shape(manifest.splits[manifest.first_split].shape[1:])
    return f"{shape} {manifest.scaling.raw_dtype}"


class _Model:
    """A run's model of raw pixels.

    They are scaled by the very arithmetic that made the entry. Keras's `predict` of `SERVING` would
    round float64 to float32 before, which takes all that is in images with a large offset.
    """

    def __init__(self, run: FinishedRun) -> None:
        self._model, self._path, manifest = run.model(MODEL), run.folder / MODEL, run.manifest
        self._scaling = manifest.scaling.scaling(manifest.recipe)
        self._dtype = manifest.splits["train"].dtype

    def probabilities(self, raw: NDArray[Any], batch_size: int | None = None) -> NDArray[Any]:
        """Return the probabilities (N, classes) of raw images (N, H, W, C).

        Clipped ones, of which only integers are made, may come scaled.
        """
        is_scaled = self._scaling.clip and raw.dtype == self._dtype
        scaled = raw if is_scaled else self._scaling.apply(raw, self._dtype)
        found: NDArray[Any] = self._model.predict(scaled, batch_size=batch_size, verbose=0)
        check_probabilities(found, self._path)
        return found


def _evaluate(
    model: _Model,
    images: LazyArray,
    labels: NDArray[np.int64],
    batch_size: int,
    on_progress: Callable[[int], object],
) -> tuple[Evaluation, float | None]:
    """Return what a model predicts of raw images (N, H, W, C), N ≥ 1, and its loss."""
    predicted = np.empty(len(labels), np.int64)
    probability = np.empty(len(labels), np.float32)  # of the true class
    step = max(1, EVALUATE_BYTES // (images[0:1].nbytes * batch_size)) * batch_size
    for start in range(0, len(labels), step):
        rows = slice(start, min(start + step, len(labels)))
        found = model.probabilities(images[rows], batch_size)
        predicted[rows] = found.argmax(axis=1)
        probability[rows] = found[np.arange(len(found)), labels[rows]]
        on_progress(len(found))
    return Evaluation(labels, predicted, found.shape[-1]), cross_entropy(probability)


def predict(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    top: int = 3,
    quiet: bool = False,
) -> PredictResult:
    """Predict the classes of images with a finished run's model.

    Parameters
    ----------
    run : path
        The run's folder.
    images : path or iterable of path
        Image files of the formats that `prepare` reads, or folders and archives (zip, tar), of
        which all images in them or deeper are taken, but for what is hidden. Each is resized and
        turned grey or RGB; fit, filter, orientation, transparency and pages are those of the images
        that the model was trained on.
    top : int
        How many classes to return of each image, at least 1.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    PredictResult
        The likeliest classes of each image.

    Raises
    ------
    TrainError
        When there is no such run, or its model cannot be loaded.
    SourceError
        When a file cannot be read, or no image can be decoded as the training images were.
    UsageError
        When no image is given.
    MissingExtraError
        When TensorFlow or Pillow is not installed.

    Examples
    --------
    >>> import pixelprep
    >>> result = pixelprep.predict("runs/mine", ["photo.png"], top=1)  # doctest: +SKIP
    >>> result.images[0].top[0].class_name  # doctest: +SKIP
    '7'
    """
    check_int("top", top, 1)
    finished = load_finished(fs.expand_user(run))
    tf_runtime.require("predict")
    image_file.require("predict")
    given = [images] if isinstance(images, str | os.PathLike) else images
    decoder = _decoder(finished)
    with ExitStack() as work:
        return _predict(finished, decoder, list(list_pictures(given, work)), top, quiet)


def _predict(
    run: FinishedRun,
    decoder: image_file.ImageDecoder,
    pictures: Sequence[Picture],
    top: int,
    quiet: bool,
) -> PredictResult:
    unread: list[UnreadImage] = []
    blocks = _decoded(pictures, decoder, unread)
    first = paths, pixels = next(blocks)  # a wrong file is reported at once
    limits = RawLimits(float(pixels.min()), float(pixels.max()))
    check_range(paths[0], run.manifest, [limits])
    LOG.info("images are read as %s", decoder.format)
    tf_runtime.start_keras("predict")
    model, names = _Model(run), run.manifest.source.class_names
    found: list[Prediction] = []
    with progress.bar("predicting", len(pictures), " images", quiet) as bar:
        for block, pixels in chain([first], blocks):
            every = model.probabilities(pixels)
            for path, each in zip(block, every, strict=True):
                labels = np.argsort(-each, kind="stable")[:top].tolist()
                likeliest = (ClassProbability(names[i], i, float(each[i])) for i in labels)
                found.append(Prediction(path, tuple(likeliest)))
            bar.update(len(found) + len(unread) - bar.n)
    if unread:
        told = (len(unread), len(pictures), unread[0].path, unread[0].reason)
        notices.tell("not predicted: %d of %d images, such as %s: %s", *told)
    return PredictResult(run.folder, tuple(found), tuple(unread))


def _decoder(run: FinishedRun) -> image_file.ImageDecoder:
    """Return what decodes image files as the run's model takes them."""
    height, width, channels = run.manifest.splits["train"].shape[1:]
    dtype, told = run.manifest.scaling.raw_dtype, decoding(run.manifest)
    return image_file.ImageDecoder(
        **{name: told[name] for name in DECODED if name in told},
        format=image_file.ImageFormat((height, width, channels), dtype),
        reference=f"what {run.folder} was trained on",
    )


def _decoded(
    pictures: Sequence[Picture], decoder: image_file.ImageDecoder, unread: list[UnreadImage]
) -> Iterator[tuple[list[str], NDArray[Any]]]:
    """Yield files, and their pixels (n, H, W, C); add those that cannot be decoded to `unread`.

    Where none can, the error of the first is raised.
    """
    assert decoder.format is not None
    step = max(1, PREDICT_BYTES // decoder.format.bytes)
    first: image_problems.ImageError | None = None
    for start in range(0, len(pictures), step):
        decoded: list[tuple[str, NDArray[Any]]] = []
        with image_file.strict_pillow():
            for one in pictures[start : start + step]:
                try:
                    pixels = replace(decoder, archive=one.archive).read(one.path)
                except image_problems.ImageError as error:
                    first = first or error
                    reason = error.message.removeprefix(f"{one.path}: ")
                    unread.append(UnreadImage(one.path, reason))
                else:
                    decoded.append((one.path, pixels))
        if decoded:
            yield [path for path, _ in decoded], np.stack([pixels for _, pixels in decoded])
    if first is not None and len(unread) == len(pictures):  # whose hint is for whole datasets
        problem = first.problems[0]
        raise SourceError(first.message, HINTS.get(problem.kind, problem.help))
