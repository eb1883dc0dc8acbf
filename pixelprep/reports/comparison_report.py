"""Draw a comparison of scalings: a page, and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pixelprep.numerics import significance
from pixelprep.reports import html
from pixelprep.reports.results import CompareResult

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

CURVES = {
    "val_accuracy": "validation accuracy",
    "accuracy": "training accuracy",
    "val_loss": "validation loss",
    "loss": "training loss",
}
WIDTH, HEIGHT = 4.8, 3.0  # inches: still legible when as wide as a telephone


def render(result: CompareResult) -> str:
    """Make the page: the verdict, the ranking, what it rests on, and how to do it again."""
    import matplotlib

    with matplotlib.rc_context(html.DRAWN):
        pictures = {
            "dots": _svg(result, _dots, "Accuracy of each run"),
            "intervals": _svg(result, _intervals, "Differences from the best mode"),
            "curves": [_curve(result, name) for name in CURVES],
        }
    return html.render(
        "compare.html",
        result=result,
        ranked=result.ranked(),
        settings=_settings(result),
        seeds=", ".join(map(str, result.seeds)),
        format_accuracy=significance.format_accuracy,
        format_difference=significance.format_difference,
        **pictures,
    )


def picture(result: CompareResult) -> bytes:
    """Draw every run's accuracy and the differences, as a PNG on white."""
    import matplotlib

    with matplotlib.rc_context(html.DRAWN):
        drawn = html.figure(9, _height(result))
        left, right = drawn.subplots(1, 2, width_ratios=(3, 2))
        _dots(left, result)
        _intervals(right, result)
        return html.png(drawn, 100)


def _height(result: CompareResult) -> float:
    """Return the inches that a row a mode needs."""
    return 1.2 + 0.5 * len(result.modes)


def _svg(result: CompareResult, draw: Callable[[Axes, CompareResult], None], label: str) -> Markup:
    drawn = html.figure(WIDTH, _height(result))
    draw(drawn.subplots(), result)
    return html.svg(drawn, label)


def _colors(result: CompareResult) -> dict[str, str]:
    """Return each mode's own colour, the same in every picture."""
    return {one.mode: html.COLORS[i % len(html.COLORS)] for i, one in enumerate(result.modes)}


def _dots(axes: Axes, result: CompareResult) -> None:
    """Draw each run's validation (full) and test accuracy (hollow); a line of dots a mode."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    colors = _colors(result)
    rows = result.ranked()[::-1]
    for row, one in enumerate(rows):
        color = colors[one.mode]
        for values, y, face in (
            (one.val_accuracy, row + 0.14, color),
            (one.test_accuracy, row - 0.14, "none"),
        ):
            heights = [y] * len(values)
            axes.scatter(values, heights, s=44, facecolors=face, edgecolors=color, zorder=2)
            mean = math.fsum(values) / len(values)
            axes.plot([mean, mean], (y - 0.12, y + 0.12), color=color, linewidth=2)
    names = [one.mode for one in rows]
    axes.set(yticks=range(len(rows)), yticklabels=names, ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Draw the legend, above the accuracies."""
    from matplotlib.lines import Line2D

    dot = partial(Line2D, [], [], color=html.INK, linestyle="none")
    handles = [
        dot(label="validation", marker="o"),
        dot(label="test", marker="o", markerfacecolor="none"),
        dot(label="mean", marker="|", markersize=11),
    ]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1)


def _intervals(axes: Axes, result: CompareResult) -> None:
    """Draw each difference of the best mode from another, in points, with its interval."""
    colors = _colors(result)
    rows = result.differences[::-1]
    axes.axvline(0, color=html.INK, linewidth=1, linestyle=":")
    for row, one in enumerate(rows):
        color = colors[one.pair[1]]
        if one.low is not None and one.high is not None:
            ends = [100 * one.low, 100 * one.high]
            axes.plot(ends, [row, row], color=color, linewidth=3, alpha=0.5)
        axes.scatter([100 * each for each in one.each], [row] * len(one.each), s=12, c=color)
        axes.scatter([100 * one.mean], [row], s=60, marker="D", c=color, zorder=3)
    names = ["\n− ".join(one.pair) for one in rows]
    axes.set(yticks=range(len(rows)), yticklabels=names, ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("difference, points")


def _curve(result: CompareResult, name: str) -> Markup:
    """Draw a curve over the epochs: a colour a mode, a thin line a seed, a thick one the mean."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

    drawn = html.figure(WIDTH, HEIGHT)
    axes = drawn.subplots()
    for mode, color, runs in _histories(result, name):
        epochs = range(1, runs.shape[1] + 1)
        marker = "o" if runs.shape[1] == 1 else None
        axes.plot(epochs, runs.T, color=color, linewidth=0.8, alpha=0.5, marker=marker)
        axes.plot(epochs, runs.mean(0), color=color, linewidth=2.4, label=mode, marker=marker)
    axes.set(xlabel="epoch", title=CURVES[name])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if "loss" in name:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()
    return html.svg(drawn, CURVES[name])


def _histories(result: CompareResult, name: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Return of each mode its name, colour and values (seeds, epochs); NaN where one diverged."""
    colors = _colors(result)
    for one in result.modes:
        runs = np.array([history[name] for history in one.history], dtype=np.float64)
        yield one.mode, colors[one.mode], runs


def _settings(result: CompareResult) -> list[tuple[str, object]]:
    """Return names and values as a page shows them."""
    model = result.settings.get("model") or "the reference CNN"
    shown = {**result.settings, "model": model}.items()
    entries = [(f"entry of {one.mode}", f"per {one.per}, key {one.key}") for one in result.modes]
    return [*((name.replace("_", " "), value) for name, value in shown), *entries]
