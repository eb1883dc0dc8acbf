"""Draw a comparison of scalings: a page, and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pixelprep.numerics import significance
from pixelprep.reports import html
from pixelprep.reports.results import CompareResult
from pixelprep.system import formatting

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
        dots = _svg(result, _dots, "Accuracy of each run")
        intervals = _svg(result, _intervals, "Differences from the best mode")
        curves = [_curve(result, name) for name in CURVES]
    model = result.settings.get("model") or "the reference CNN"
    own = {**result.settings, "model": model}
    settings = {k.replace("_", " "): formatting.format_value(v) for k, v in own.items()}
    settings |= {f"entry of {m.mode}": f"per {m.per}, key {m.key}" for m in result.modes}
    return html.render(
        "compare.html",
        result=result,
        ranked=result.ranked(),
        settings=list(settings.items()),
        seeds=", ".join(map(str, result.seeds)),
        format_accuracy=significance.format_accuracy,
        format_difference=significance.format_difference,
        dots=dots,
        intervals=intervals,
        curves=curves,
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
    return 1.2 + 0.5 * len(result.modes)  # inches


def _svg(result: CompareResult, draw: Callable[[Axes, CompareResult], None], label: str) -> Markup:
    drawn = html.figure(WIDTH, _height(result))
    draw(drawn.subplots(), result)
    return html.svg(drawn, label)


def _colors(result: CompareResult) -> dict[str, str]:
    return {one.mode: html.COLORS[i % len(html.COLORS)] for i, one in enumerate(result.modes)}


def _dots(axes: Axes, result: CompareResult) -> None:
    """Draw each run's validation (full) and test accuracy (hollow); a line of dots a mode."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    colors = _colors(result)
    rows = result.ranked()[::-1]
    for row, one in enumerate(rows):
        color = colors[one.mode]
        val, test = (one.val_accuracy, row + 0.14, color), (one.test_accuracy, row - 0.14, "none")
        for values, y, face in (val, test) if one.test_accuracy else (val,):
            heights = [y] * len(values)
            axes.scatter(values, heights, s=44, facecolors=face, edgecolors=color, zorder=2)
            mean = math.fsum(values) / len(values)
            axes.plot([mean, mean], (y - 0.12, y + 0.12), color=color, linewidth=2)
    names = [one.mode for one in rows]
    axes.set(yticks=range(len(rows)), yticklabels=names, ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
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
    for one in result.modes:
        # Of the shape (seeds, epochs); NaN where a run diverged.
        runs = np.array([history[name] for history in one.history], dtype=np.float64)
        epochs, color = range(1, runs.shape[1] + 1), _colors(result)[one.mode]
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, runs.T, color=color, linewidth=0.8, alpha=0.5, marker=marker)
        axes.plot(epochs, runs.mean(0), color=color, linewidth=2.4, label=one.mode, marker=marker)
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
