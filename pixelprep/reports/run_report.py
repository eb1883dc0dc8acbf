"""Draw a finished run: its learning curves, its errors, and how to use its model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.entry import Entry
from pixelprep.dataset.raw import raw_view
from pixelprep.format.options import decode_options
from pixelprep.numerics.evaluation import Evaluation
from pixelprep.numerics.scaling import describe
from pixelprep.reports import colormap, html
from pixelprep.reports.results import TrainResult
from pixelprep.system import formatting

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

CURVES = ("loss", "accuracy")
FEW = 20  # classes of which a table shows every pair
MANY = 1000  # classes of which a picture still does

PER = {
    "dataset": "one statistic for all pixels",
    "channel": "statistics of each channel",
    "pixel": "statistics of each place in the image",
    "image": "each image's own statistics",
}


def picture(result: TrainResult) -> bytes:
    """Draw loss and accuracy over the epochs, the test split's as a line, as a PNG."""
    drawn = html.figure(9, 3.6)
    for axes, name in zip(drawn.subplots(1, 2), CURVES, strict=True):
        _draw_curve(axes, name, result)
    title = f"{result.dataset}, {result.mode} per {result.per}, seed {result.settings.seed}"
    score = "{}: {} accuracy {:.2%}".format(title, *result.score[:2]) if result.score else title
    drawn.suptitle(score)
    return html.png(drawn, 120)


def _draw_curve(axes: Axes, name: str, result: TrainResult) -> None:
    """Draw loss or accuracy over the epochs, the test split's as a line."""
    test = result.test_loss if name == "loss" else result.test_accuracy
    epochs = range(1, len(result.history[name]) + 1)
    axes.plot(epochs, _values(result, name), marker="o", label="train")
    if f"val_{name}" in result.history:
        axes.plot(epochs, _values(result, f"val_{name}"), marker="s", label="validation")
    if test is not None:  # a loss may have diverged
        axes.axhline(test, linestyle="--", color="grey", label="test, at the end")
    if result.best_epoch is not None:
        axes.axvline(result.best_epoch, linestyle=":", color="grey", label="best, kept")
    axes.set(xlabel="epoch", ylabel=name)
    axes.locator_params(axis="x", integer=True)
    axes.legend()


def _values(result: TrainResult, name: str) -> NDArray[np.float64]:
    """Return one value an epoch, (epochs,); NaN where it is not finite."""
    return np.array(result.history[name], dtype=np.float64)


def build(
    result: TrainResult,
    entry: Entry,
    predictions: tuple[Evaluation, NDArray[np.float32]] | None,
    parameters: int,
    machine: Mapping[str, object],
) -> bytes:
    """Make the page of a run that is about to be published: one HTML file.

    `predictions` are those of `Entry.held_out`, and how sure the model is of each, (N,), 0 to 1.
    """
    text = html.render(
        "run.html",
        result=result,
        curves=[_curve(name, result) for name in CURVES],
        errors=_errors(entry, *predictions) if predictions else None,
        data=_about(entry),
        training=_training(result, parameters),
        machine=machine,
        run=shlex.quote(str(result.run)),
        # Keras's `predict` rounds float64 to float32.
        predict="predict_on_batch" if entry.scaling.raw_dtype == "float64" else "predict",
        sample=f'np.zeros({(1, *entry.train.shape[1:])}, "{entry.scaling.raw_dtype}")',
    )
    return text.encode()


def _errors(
    entry: Entry, evaluation: Evaluation, probability: NDArray[np.float32]
) -> dict[str, object]:
    """Return what the page says of wrong predictions."""
    names, classes, counts = entry.class_names, evaluation.classes, evaluation.counts
    worst = evaluation.worst(probability, 12).tolist()
    confusions = [
        (names[true], names[predicted], f"{rows:,}", f"{rows / counts[true]:.2%}")
        for true, predicted, rows in evaluation.top_confusions
    ]
    return {
        "matrix": _matrix(evaluation) if classes <= FEW else None,
        "heat": _heat(evaluation) if FEW < classes <= MANY else None,
        "sideways": max(map(len, names)) > 3,
        "correct": _rgb(html.COLORS[0]),
        "other": _rgb(html.COLORS[1]),
        "names": names,
        "confusions": confusions,
        "recalls": _recalls(evaluation, names),
        "few": FEW,
        "worst": [_image(entry, evaluation, row, float(probability[row])) for row in worst],
        "wrong": int(evaluation.wrong.sum()),
        "images": len(evaluation.labels),
    }


def _curve(name: str, result: TrainResult) -> Markup:
    import matplotlib

    with matplotlib.rc_context(html.DRAWN):
        figure = html.figure(5, 3.4)
        _draw_curve(figure.subplots(), name, result)
        return html.svg(figure, f"{name} of train, validation and test over the epochs")


def _strengths(evaluation: Evaluation) -> NDArray[np.float64]:
    """Return how strongly the confusion matrix is coloured, 0 to 0.85; (classes, classes).

    It is the root of the share of each row's class, so that a few errors show.
    """
    return 0.85 * np.cbrt(evaluation.confusion / np.maximum(evaluation.counts, 1)[:, None])


def _matrix(evaluation: Evaluation) -> list[list[tuple[int, float]]]:
    """Return, by true class, each predicted class's count and strength of colour."""
    rows = zip(evaluation.confusion.tolist(), _strengths(evaluation).round(3).tolist(), strict=True)
    return [list(zip(counts, strengths, strict=True)) for counts, strengths in rows]


def _heat(evaluation: Evaluation) -> Markup:
    """Draw the confusion matrix, a pixel a pair, in the colours of the table."""
    classes = evaluation.classes
    pixels = np.empty((classes, classes, 4), np.uint8)
    pixels[..., :3] = _rgb(html.COLORS[1])
    pixels[np.arange(classes), np.arange(classes), :3] = _rgb(html.COLORS[0])
    pixels[..., 3] = 255 * _strengths(evaluation)
    width = classes * max(1, 640 // classes)
    return html.image(pixels, f"confusion matrix of {classes} classes", width)


def _rgb(color: str) -> list[int]:
    return list(bytes.fromhex(color[1:]))


def _recalls(evaluation: Evaluation, names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Return class, images, correct ones, recall; the lowest recall first where there are many."""
    counts, correct = evaluation.counts, evaluation.correct
    recall = np.divide(correct, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    order = np.argsort(recall, kind="stable") if len(names) > FEW else np.arange(len(names))
    return [
        (names[i], f"{counts[i]:,}", f"{correct[i]:,}", f"{recall[i]:.2%}" if counts[i] else "–")
        for i in order
    ]


def _image(entry: Entry, evaluation: Evaluation, row: int, probability: float) -> dict[str, object]:
    """Draw a wrong image as it was before it was scaled, with what was predicted of it."""
    names, split = entry.class_names, entry.held_out
    assert split is not None  # its predictions were made
    (raw,) = raw_view(split, entry.scaling, clipped=True)[row : row + 1]
    true, predicted = names[evaluation.labels[row]], names[evaluation.predicted[row]]
    label = f"row {row}: {true}, taken for {predicted}"
    limits = entry.manifest.splits[split.name].raw
    scale = colormap.raw_scale(entry.scaling.raw_dtype, limits.minimum, limits.maximum)
    return {
        "image": html.pixels(raw, scale, label, 96),
        "row": row,
        "name": split.name_of(row),
        "true": true,
        "predicted": predicted,
        "probability": f"{probability:.2%}",
    }


def _about(entry: Entry) -> list[tuple[str, str]]:
    scaling = entry.scaling
    rows = [
        ("dataset", f"{entry.dataset}: {entry.manifest.provenance.title}"),
        ("entry", str(entry.path)),
        ("key", entry.key),
        ("images", ", ".join(f"{len(split):,} {name}" for name, split in entry.splits.items())),
        ("shape", f"{formatting.format_shape(entry.train.shape[1:])} {entry.train.dtype}"),
        ("mode", f"{entry.mode}: {describe(scaling)}"),
        ("per", f"{entry.per}: {PER[entry.per]}"),
    ]
    if decoded := formatting.options(decode_options(entry.manifest.source.decode)):
        rows.append(("decoded with", shlex.join(decoded)))
    for name, values in (("mean", scaling.mean), ("std", scaling.std)):
        if values.size:
            rows.append((name, formatting.format_numbers(values)))
    return rows


def _training(result: TrainResult, parameters: int) -> list[tuple[str, str]]:
    """Describe the settings of the run, the model, and the time that an epoch took."""
    settings, seconds = result.settings, _values(result, "seconds")
    names = ["epochs", "batch_size", "seed", "steps_per_execution", "model", "early_stopping"]
    names += ["class_weight", "balance", "augment"]
    shown = {name: getattr(settings, name) for name in names}
    shown["model"] = settings.model or "the reference CNN"
    shown |= {"best_epoch": result.best_epoch, "stopped_epoch": result.stopped_epoch}
    median, limits = result.seconds_per_epoch, f"{seconds.min():.2f} to {seconds.max():.2f} s"
    return [
        *(
            (name.replace("_", " "), str(value))
            for name, value in shown.items()
            if value is not None
        ),
        ("parameters", f"{parameters:,}"),
        ("steps an epoch", f"{result.steps_per_epoch:,}"),
        ("time an epoch", f"median {median:.2f} s, {limits}; {seconds.sum():.1f} s in all"),
    ]
