"""Evaluate a finished run's model on an entry, or predict the classes of images: of raw pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar  # Any: pixels of whichever type

import numpy as np
from numpy.typing import NDArray

from pixelprep.cache.entries import open_named
from pixelprep.dataset.entry import Entry
from pixelprep.dataset.raw import raw_view
from pixelprep.errors import SourceError, UsageError, check_int, unknown_choice
from pixelprep.format.manifest import Manifest
from pixelprep.numerics.evaluation import Evaluation, cross_entropy
from pixelprep.sources import LazyArray, image_file, image_folder
from pixelprep.system import formatting, fs, progress, tf_runtime
from pixelprep.system.json_record import Record
from pixelprep.training.run_folder import SERVING, FinishedRun, load_finished

if TYPE_CHECKING:
    import keras

LOG = logging.getLogger("pixelprep")

EVALUATE_BYTES = 16 << 20  # of raw images in memory at once
PREDICT_BYTES = 4 << 20  # likewise of decoded ones


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
class PredictResult(Record):
    """What a run's model sees in images.

    Parameters
    ----------
    run : Path
        The run's folder.
    images : tuple of Prediction
        One an image; those of a folder in the order of their names.
    """

    run: Path
    images: tuple[Prediction, ...]


def evaluate(
    run: str | os.PathLike[str],
    entry: Entry | str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    batch_size: int = 64,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> EvaluationResult:
    """Evaluate a finished run's model on the raw pixels of an entry.

    Parameters
    ----------
    run : path
        The run's folder.
    entry : Entry, str or path, optional
        An entry, or what `open` takes; default: the entry that the run was trained on. Its scaling
        may be another: the raw pixels are recovered first (`Scaling.is_exact`).
    split : {"test", "val", "train"}, optional
        Of the entry; default: test or, where there is none, val.
    batch_size : int
        Images at a time, at least 1. In equal batches each image comes out alike, to the last bit.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's folder for caches.
    quiet : bool
        Draw no progress bar.

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
        When the entry's images or classes are other than those that the model was trained on, or
        it has no such split.
    MissingExtraError
        When TensorFlow is not installed.

    Examples
    --------
    >>> import pixelprep
    >>> pixelprep.evaluate("runs/mine", split="val").accuracy  # doctest: +SKIP
    0.98
    """
    check_int("batch_size", batch_size, 1)
    finished = load_finished(fs.expand_user(run))
    if not isinstance(entry, Entry):
        if entry is None:  # wherever the cache is now
            path = finished.result.entry
            entry = os.fspath(path) if path.exists() else finished.result.key
        entry = open_named(entry, fs.cache_dir(cache_dir), quiet)
    _check_same_data(finished, entry)
    split = _choose_split(entry, split)
    tf_runtime.start("evaluate")
    model, raw = finished.model(SERVING), raw_view(entry.splits[split], entry.scaling)
    labels = entry.splits[split].labels
    with progress.bar(f"evaluating on {split}", len(labels), " images", quiet) as bar:
        evaluation, loss = _evaluate(model, raw, labels, batch_size, bar.update)
    counts, correct = evaluation.counts.tolist(), evaluation.correct.tolist()
    classes = tuple(
        ClassRecall(name, count, right / count if count else None)
        for name, count, right in zip(entry.class_names, counts, correct, strict=True)
    )
    return EvaluationResult(
        run=finished.folder,
        entry=entry.path,
        key=entry.key,
        split=split,
        exact=entry.is_exact,
        images=len(labels),
        loss=loss,
        accuracy=evaluation.accuracy,
        classes=classes,
    )


def _choose_split(entry: Entry, split: str | None) -> str:
    """Return the name of a split that there is: this one, or the one that models are scored on."""
    if split is None:
        if entry.held_out is None:
            message = f"{entry.path}: has neither a test nor a validation split"
            raise UsageError(message, "evaluate it on `split=train`")
        return entry.held_out.name
    if split not in entry.splits:
        raise unknown_choice("split", split, entry.splits)
    return split


def _check_same_data(run: FinishedRun, entry: Entry) -> None:
    known, given = _data_of(run.manifest), _data_of(entry.manifest)
    for what, then in known.items():
        if then != given[what]:
            expected = f"expected {what} {then}, as {run.folder} was trained on"
            raise UsageError(f"{entry.path}: {expected}, found {given[what]}")


def _data_of(manifest: Manifest) -> dict[str, str]:
    """Describe the images and classes that a model knows."""
    shape = formatting.format_shape(manifest.splits["train"].shape[1:])
    classes = ", ".join(manifest.source.class_names)
    return {"images": f"{shape} {manifest.scaling.raw_dtype}", "classes": classes}


def _evaluate(
    model: keras.Model,
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
        found = model.predict(images[rows], batch_size=batch_size, verbose=0)
        predicted[rows] = found.argmax(axis=1)
        probability[rows] = found[np.arange(len(found)), labels[rows]]
        on_progress(len(found))
    return Evaluation(labels, predicted, model.output_shape[-1]), cross_entropy(probability)


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
        Files of PNG, JPEG, BMP, TIFF or WebP, or folders, of which all that is in them or deeper
        is taken. Each is resized (Pillow's bilinear filter) and turned grey or RGB, as the images
        were that the model was trained on.
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
        When a file is no image, is damaged, or has other bits a colour than the training images.
    UsageError
        When no image is given, or the model takes what no image file holds.
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
    decoder, paths = _decoder(finished), list(_files(given))
    first = _pixels(paths[:1], decoder)  # a wrong file is reported at once
    LOG.info("images are read as %s", decoder.format)
    tf_runtime.start("predict")
    model, names = finished.model(SERVING), finished.manifest.source.class_names
    found: list[Prediction] = []
    step = max(1, PREDICT_BYTES // first.nbytes)
    with progress.bar("predicting", len(paths), " images", quiet) as bar:
        for start in range(0, len(paths), step):
            block = paths[start : start + step]
            every = model.predict(_pixels(block, decoder), verbose=0)
            for path, each in zip(block, every, strict=True):
                labels = np.argsort(-each, kind="stable")[:top].tolist()
                likeliest = (ClassProbability(names[i], i, float(each[i])) for i in labels)
                found.append(Prediction(path, tuple(likeliest)))
            bar.update(len(block))
    return PredictResult(finished.folder, tuple(found))


def _decoder(run: FinishedRun) -> image_file.ImageDecoder:
    """Return what decodes image files as the run's model takes them."""
    height, width, channels = run.manifest.splits["train"].shape[1:]
    dtype = run.manifest.scaling.raw_dtype
    colors = {count: name for name, count in image_file.COLORS.items()}
    if channels not in colors or dtype not in ("uint8", "uint16"):
        image = _data_of(run.manifest)["images"]
        message = f"{run.folder}: its model takes {image}, which no image file holds"
        raise UsageError(message, f"load {SERVING} and give it arrays")
    format = image_file.ImageFormat((height, width, channels), dtype)
    reference = f"what {run.folder} was trained on"
    return image_file.ImageDecoder((height, width), colors[channels], False, format, reference)


def _files(images: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """List the files that are meant, those of folders by name."""
    found = False
    for path in map(Path, images):
        if not path.exists():
            raise SourceError(f"{path}: no such file")
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            if file == path or (file.suffix.lower() in image_folder.SUFFIXES and file.is_file()):
                found = True
                yield os.fspath(file)
    if not found:
        raise UsageError("no image was given: expected image files, or folders with some in them")


def _pixels(paths: Sequence[str], decoder: image_file.ImageDecoder) -> NDArray[Any]:
    """Decode these files, (n, H, W, C)."""
    try:
        with image_file.strict_pillow():
            return np.stack([decoder.read(path) for path in paths])
    except image_file.ImageDecodeError as error:  # whose hint is for whole datasets
        raise SourceError(error.message, "give PNG, JPEG, BMP, TIFF or WebP") from error
