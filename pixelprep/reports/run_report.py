"""A finished run's page: how it learnt, where it errs, and how to go on with it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.entry import Entry
from pixelprep.dataset.raw import raw_view
from pixelprep.numerics.evaluation import Evaluation, score_predictions
from pixelprep.numerics.scaling import MODES
from pixelprep.reports import colormap, html
from pixelprep.system import formatting, tf_runtime

if TYPE_CHECKING:
    import keras
    from markupsafe import Markup
    from matplotlib.axes import Axes


WORST = 12  # images shown
FEW = 20  # classes of which a table shows every pair
MANY = 1000  # classes of which a picture still does
SIDE = 256  # pixels of a shown image's larger side, at most

PER = {
    "dataset": "one statistic for all pixels",
    "channel": "statistics of each channel",
    "pixel": "statistics of each place in the image",
    "image": "each image's own statistics",
}
SETTINGS = (
    "epochs",
    "batch_size",
    "seed",
    "steps_per_execution",
    "model",
    "early_stopping",
    "best_epoch",
    "stopped_epoch",
)


def picture(history: Mapping[str, Sequence[float]], metrics: Mapping[str, Any]) -> bytes:
    """A PNG of loss and accuracy over the epochs, the test split's as a line."""
    drawn = html.figure(9, 3.6)
    for axes, name in zip(drawn.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _draw_curve(axes, name, history, metrics)
    title = f"{metrics['dataset']}, {metrics['mode']} per {metrics['per']}, seed {metrics['seed']}"
    drawn.suptitle(f"{title}: test accuracy {metrics['test_accuracy']:.2%}")
    return html.png(drawn, 120)


def _draw_curve(
    axes: Axes, name: str, history: Mapping[str, Sequence[float]], metrics: Mapping[str, Any]
) -> None:
    """Draw loss or accuracy over the epochs, the test split's as a line."""
    epochs = range(1, len(history[name]) + 1)
    axes.plot(epochs, history[name], marker="o", label="train")
    if f"val_{name}" in history:
        axes.plot(epochs, history[f"val_{name}"], marker="s", label="validation")
    if metrics[f"test_{name}"] is not None:  # a loss may have diverged
        line = metrics[f"test_{name}"]
        axes.axhline(line, linestyle="--", color="grey", label="test, at the end")
    if metrics["best_epoch"]:
        axes.axvline(metrics["best_epoch"], linestyle=":", color="grey", label="best, kept")
    axes.set(xlabel="epoch", ylabel=name)
    axes.locator_params(axis="x", integer=True)
    axes.legend()


def build(
    model: keras.Model,
    entry: Entry,
    metrics: Mapping[str, Any],
    history: Mapping[str, Sequence[float]],
) -> bytes:
    """The page of a run that is about to be published.

    Parameters
    ----------
    model : keras.Model
        As it is at the end; takes scaled images.
    entry : Entry
        That it was trained on.
    metrics, history : mapping
        What ``metrics.json`` holds, and one value an epoch by name.

    Returns
    -------
    bytes
        One HTML file.
    """
    # In the batches in which the split was evaluated.
    judged = score_predictions(model, entry.test.read, entry.test.labels, metrics["batch_size"])
    names = entry.class_names
    text = html.render(
        "run.html",
        metrics=metrics,
        curves=[_drawn(name, history, metrics) for name in ("loss", "accuracy")],
        matrix=_matrix(judged) if judged.classes <= FEW else None,
        heat=_heat(judged) if FEW < judged.classes <= MANY else None,
        sideways=max(map(len, names)) > 3,
        right=_rgb(html.COLORS[0]),
        other=_rgb(html.COLORS[1]),
        names=names,
        mistaken=_mistaken(judged, names),
        recalls=_recalls(judged, names),
        few=FEW,
        worst=[_image(entry, judged, int(row)) for row in judged.worst(WORST)],
        wrong=int(judged.wrong.sum()),
        images=len(judged.labels),
        data=_about(entry),
        training=_training(model, metrics, history["seconds"]),
        machine=tf_runtime.environment_info(),
        run=shlex.quote(metrics["run"]),
        key=entry.key,
        sample=_sample(entry),
    )
    return text.encode()


def _drawn(name: str, history: Mapping[str, Sequence[float]], metrics: Mapping[str, Any]) -> Markup:
    import matplotlib

    with matplotlib.rc_context(html.DRAWN):
        figure = html.figure(5, 3.4)
        _draw_curve(figure.subplots(), name, history, metrics)
        return html.svg(figure, f"{name} of train, validation and test over the epochs")


def _shares(judged: Evaluation) -> NDArray[np.float64]:
    """The confusion matrix, each row as shares of its class, 0 to 1; (classes, classes)."""
    return judged.confusion / np.maximum(judged.counts, 1)[:, None]


def _strength(share: Any) -> Any:
    """How strongly a share is coloured, 0 to 0.85: by its root, so that a few errors show."""
    return 0.85 * np.cbrt(share)


def _matrix(judged: Evaluation) -> list[list[tuple[int, float]]]:
    """Of each true class, each predicted class's count and strength of colour."""
    strengths = _strength(_shares(judged)).round(3)
    return [
        list(zip(counts, row, strict=True))
        for counts, row in zip(judged.confusion.tolist(), strengths.tolist(), strict=True)
    ]


def _heat(judged: Evaluation) -> Markup:
    """The confusion matrix as a picture of one pixel a pair, in the colours of the table."""
    classes = judged.classes
    pixels = np.empty((classes, classes, 4), np.uint8)
    pixels[..., :3] = _rgb(html.COLORS[1])
    pixels[np.arange(classes), np.arange(classes), :3] = _rgb(html.COLORS[0])
    pixels[..., 3] = 255 * _strength(_shares(judged))
    width = classes * max(1, 640 // classes)
    return html.image(pixels, f"confusion matrix of {classes} classes", width)


def _rgb(color: str) -> list[int]:
    return list(bytes.fromhex(color[1:]))


def _mistaken(judged: Evaluation, names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    counts = judged.counts
    return [
        (names[true], names[said], f"{rows:,}", f"{rows / counts[true]:.2%}")
        for true, said, rows in judged.top_confusions
    ]


def _recalls(judged: Evaluation, names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Class, images, right ones, recall; the lowest recall first where there are many."""
    counts, hits = judged.counts, judged.hits
    recall = np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    order = np.argsort(recall, kind="stable") if len(names) > FEW else np.arange(len(names))
    return [
        (names[i], f"{counts[i]:,}", f"{hits[i]:,}", f"{recall[i]:.2%}" if counts[i] else "–")
        for i in order
    ]


def _image(entry: Entry, judged: Evaluation, row: int) -> dict[str, Any]:
    """A wrong image as it was before it was scaled, and what was said of it."""
    names, split = entry.class_names, entry.test
    (raw,) = raw_view(split, entry.scaling)[row : row + 1]
    true, said = names[judged.labels[row]], names[judged.predicted[row]]
    label = f"row {row}: {true}, taken for {said}"
    limits = entry.manifest["splits"]["test"]["raw"]
    look = colormap.raw_scale(entry.scaling.raw_dtype, limits["minimum"], limits["maximum"])
    shown = html.image(look.colors(colormap.downsample(raw, SIDE)), label, 96)
    probability = f"{judged.probability[row]:.2%}"
    return {"shown": shown, "row": row, "true": true, "said": said, "probability": probability}


def _about(entry: Entry) -> list[tuple[str, str]]:
    """The entry, and its scaling in words."""
    scaling = entry.scaling
    units = f", of pixels divided by {scaling.unit} first" if scaling.unit != 1 else ""
    rows = [
        ("dataset", f"{entry.dataset}: {entry.manifest['provenance']['title']}"),
        ("entry", str(entry.path)),
        ("key", entry.key),
        ("images", ", ".join(f"{len(split):,} {name}" for name, split in entry.splits.items())),
        ("shape", f"{formatting.format_shape(entry.train.shape[1:])} {entry.train.dtype}"),
        ("mode", f"{entry.mode}: {MODES[entry.mode].formula}{units}"),
        ("per", f"{entry.per}: {PER[entry.per]}"),
    ]
    fitted = [("mean", scaling.mean), ("std", scaling.std)]
    return rows + [
        (name, formatting.format_numbers(values)) for name, values in fitted if values.size
    ]


def _training(
    model: keras.Model, metrics: Mapping[str, Any], seconds: Sequence[float]
) -> list[tuple[str, str]]:
    """The settings of the run, the model, and the time that an epoch took."""
    asked = {name: metrics[name] for name in SETTINGS}
    asked["model"] = asked["model"] or "the reference CNN"
    rows = [
        (name.replace("_", " "), str(value)) for name, value in asked.items() if value is not None
    ]
    took = f"median {metrics['seconds_per_epoch']:.2f} s, {min(seconds):.2f} to {max(seconds):.2f}"
    return [
        *rows,
        ("parameters", f"{model.count_params():,}"),
        ("steps an epoch", f"{metrics['steps_per_epoch']:,}"),
        ("time an epoch", f"{took} s; {sum(seconds):.1f} s in all"),
    ]


def _sample(entry: Entry) -> str:
    """NumPy's words for one raw image that is black."""
    shape = ", ".join(map(str, (1, *entry.train.shape[1:])))
    return f'np.zeros(({shape}), "{entry.scaling.raw_dtype}")'
