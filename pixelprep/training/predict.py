"""What a finished run's model says of an entry, and of pictures that it has never seen.

Both use ``serving.keras``, which takes raw pixels: there is no scaling to choose, so none to get
wrong.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.cache.checks import raw_split
from pixelprep.cache.entries import open_named
from pixelprep.dataset.entry import Entry
from pixelprep.errors import SourceError, UsageError, check_int, unknown_choice
from pixelprep.format.manifest import Manifest
from pixelprep.numerics.evaluation import Evaluation, score_predictions
from pixelprep.sources import image_file, image_folder
from pixelprep.system import formatting, fs, progress, tf_runtime
from pixelprep.training.run_folder import SERVING, FinishedRun, load_finished

LOG = logging.getLogger("pixelprep")

BLOCK = 4 << 20  # bytes of raw images that are looked at at once


def evaluate(
    run: str | os.PathLike[str],
    entry: str | os.PathLike[str] | None = None,
    *,
    split: str = "test",
    batch_size: int = 64,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate a finished run's model on the raw pixels of an entry.

    Parameters
    ----------
    run : path
        The run's folder.
    entry : str or path, optional
        As for `pixelprep.open`; default: the entry that the run was trained on. Its scaling may
        be another: the raw pixels are had back first (`Scaling.is_exact`).
    split : {"test", "val", "train"}
        Of the entry.
    batch_size : int
        Images at a time, at least 1.
    cache_dir : path, optional
        As for `pixelprep.prepare`.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    dict
        ``run``, ``entry``, ``key``, ``split``, ``exact`` (whether the raw pixels are the very
        ones), ``images``, ``loss`` (categorical cross-entropy), ``accuracy`` (0 to 1), and
        ``classes``: of each ``class``, ``images`` and ``recall``.

    Raises
    ------
    TrainError
        When there is no such run, or its model cannot be loaded.
    EntryError
        When there is no such entry, or it is damaged.
    UsageError
        When the entry's images or classes are other than those that the model was trained on, or
        it has no such split.
    """
    check_int("batch_size", batch_size, 1)
    its, cache = load_finished(Path(run)), fs.cache_dir(cache_dir)
    found = open_named(_name(its) if entry is None else entry, cache, quiet)
    _check_same(its, found)
    if split not in found.splits:
        raise unknown_choice(f"split of {found.path}", split, found.splits)
    tf_runtime.start("evaluate")
    model, raw = its.model(SERVING), raw_split(found, split)
    labels = np.asarray(raw.labels[:])

    def read(start: int, stop: int) -> NDArray[Any]:
        return raw.images[start:stop]

    with progress.bar(f"evaluating on {split}", len(labels), " images", quiet) as bar:
        judged = score_predictions(model, read, labels, batch_size, bar.update)
    about: dict[str, Any] = {"run": str(its.folder), "entry": str(found.path), "key": found.key}
    about |= {"split": split, "exact": found.scaling.is_exact(found.train.dtype)}
    return about | _scores(judged, found.class_names)


def _name(run: FinishedRun) -> str:
    """Of the entry that a run was trained on, wherever the cache is now."""
    path = str(run.metrics["entry"])
    return path if Path(path).exists() else str(run.metrics["key"])


def _check_same(run: FinishedRun, entry: Entry) -> None:
    """Refuse images or classes that the model does not know."""
    for what, then, now in (
        ("images", _image_of(run.manifest), _image_of(entry.manifest)),
        ("classes", _classes(run.manifest), _classes(entry.manifest)),
    ):
        if then != now:
            raise UsageError(
                f"{entry.path}: expected {what} {then}, as {run.folder} was trained on, found {now}"
            )


def _image_of(manifest: Manifest) -> str:
    shape = manifest["splits"]["train"]["shape"][1:]
    return f"{formatting.format_shape(shape)} {manifest['scaling']['raw_dtype']}"


def _classes(manifest: Manifest) -> str:
    return ", ".join(manifest["source"]["class_names"])


def _scores(judged: Evaluation, names: Sequence[str]) -> dict[str, Any]:
    """Loss, accuracy and each class's recall."""
    classes = [
        {"class": name, "images": int(count), "recall": int(hit) / int(count) if count else None}
        for name, count, hit in zip(names, judged.counts, judged.hits, strict=True)
    ]
    scores = {"images": len(judged.labels), "loss": judged.loss, "accuracy": judged.accuracy}
    return {**scores, "classes": classes}


def predict(
    run: str | os.PathLike[str],
    images: Iterable[str | os.PathLike[str]],
    *,
    top: int = 3,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """What a finished run's model sees in pictures.

    Parameters
    ----------
    run : path
        The run's folder.
    images : iterable of path
        Files of PNG, JPEG, BMP, TIFF or WebP, or folders, of which all that is in them or deeper
        is taken. Each is resized (Pillow's bilinear filter) and turned grey or RGB, as the images
        were that the model was trained on.
    top : int
        How many classes are told of each image, at least 1.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    list of dict
        Of each image: ``path``, and ``top``: the likeliest classes, each with ``class`` (its
        name), ``label`` (its number) and ``probability`` (0 to 1).

    Raises
    ------
    TrainError
        When there is no such run, or its model cannot be loaded.
    SourceError
        When a file is no picture, is damaged, or has other bits a colour than the training images.
    MissingExtraError
        When Pillow is not installed.
    """
    check_int("top", top, 1)
    its = load_finished(Path(run))
    tf_runtime.require("predict")
    image_file.require("predict")
    wanted, paths = _wanted(its), list(_files(images))
    names = its.manifest["source"]["class_names"]
    first = _pixels(paths[:1], wanted)  # a wrong file is told at once
    LOG.info("pictures are taken as %s", wanted.format)
    tf_runtime.start("predict")
    model, found = its.model(SERVING), list[dict[str, Any]]()
    step = max(1, BLOCK // first.nbytes)
    with progress.bar("predicting", len(paths), " images", quiet) as bar:
        for start in range(0, len(paths), step):
            block = paths[start : start + step]
            said = model.predict(_pixels(block, wanted), verbose=0)
            found += [_told(*one, names, top) for one in zip(block, said, strict=True)]
            bar.update(len(block))
    return found


def _wanted(run: FinishedRun) -> image_file.ImageDecoder:
    """What the run's model takes."""
    height, width, channels = run.manifest["splits"]["train"]["shape"][1:]
    dtype = run.manifest["scaling"]["raw_dtype"]
    colors = {count: name for name, count in image_file.COLORS.items()}
    if channels not in colors or dtype not in ("uint8", "uint16"):
        image = _image_of(run.manifest)
        raise UsageError(
            f"{run.folder}: its model takes {image}, which no picture is",
            f"load {SERVING} and give it arrays",
        )
    looks = image_file.ImageFormat((height, width, channels), dtype)
    first = f"what {run.folder} was trained on"
    return image_file.ImageDecoder((height, width), colors[channels], False, looks, first)


def _files(images: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """The files that are meant, those of folders by name."""
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


def _pixels(paths: Sequence[str], wanted: image_file.ImageDecoder) -> NDArray[Any]:
    try:
        with image_file.strict_pillow():
            return np.stack([wanted.read(path) for path in paths])
    except image_file.ImageDecodeError as error:  # whose hint is for whole datasets
        raise SourceError(error.message, "give PNG, JPEG, BMP, TIFF or WebP") from error


def _told(path: str, said: NDArray[Any], names: Sequence[str], top: int) -> dict[str, Any]:
    likely = np.argsort(-said, kind="stable")[:top]
    told = [
        {"class": names[label], "label": int(label), "probability": float(said[label])}
        for label in likely
    ]
    return {"path": path, "top": told}
