"""The page of a comparison of scalings, and its picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelprep.numerics import significance
from pixelprep.reports import html

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes


Result = Mapping[str, Any]  # what `compare` found

CURVES = {
    "val_accuracy": "validation accuracy",
    "accuracy": "training accuracy",
    "val_loss": "validation loss",
    "loss": "training loss",
}
WIDTH, HEIGHT = 4.8, 3.0  # inches: still legible when as wide as a telephone


def page_of(result: Result) -> str:
    """The page: the verdict, the ranking, what it rests on, and how to do it again."""
    import matplotlib

    with matplotlib.rc_context(html.DRAWN):
        pictures = {
            "dots": _svg(result, _dots, "Accuracy of each run"),
            "intervals": _svg(result, _intervals, "Differences from the best mode"),
            "curves": [_curve(result, name) for name in CURVES],
        }
    by_name = {one["mode"]: one for one in result["modes"]}
    return html.render(
        "compare.html",
        result=result,
        ranked=[by_name[mode] for mode in result["ranking"]],
        settings=_settings(result),
        seeds=", ".join(map(str, result["seeds"])),
        share=significance.format_accuracy,
        told=significance.format_difference,
        **pictures,
    )


def picture(result: Result) -> bytes:
    """A PNG on white of every run's accuracy, and of the differences."""
    import matplotlib

    with matplotlib.rc_context(html.DRAWN):
        drawn = html.figure(9, _tall(result))
        left, right = drawn.subplots(1, 2, width_ratios=(3, 2))
        _dots(left, result)
        _intervals(right, result)
        return html.png(drawn, 100)


def _tall(result: Result) -> float:
    """Inches of height for a row a mode."""
    return 1.2 + 0.5 * len(result["modes"])


def _svg(result: Result, draw: Callable[[Axes, Result], None], label: str) -> Markup:
    drawn = html.figure(WIDTH, _tall(result))
    draw(drawn.subplots(), result)
    return html.svg(drawn, label)


def _colors(result: Result) -> dict[str, str]:
    """Each mode's own, the same in every picture."""
    names = [one["mode"] for one in result["modes"]]
    return {name: html.COLORS[i % len(html.COLORS)] for i, name in enumerate(names)}


def _dots(axes: Axes, result: Result) -> None:
    """Each run's validation (full) and test accuracy (hollow); a line of dots a mode."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    colors = _colors(result)
    modes = {one["mode"]: one for one in result["modes"]}
    rows = list(reversed(result["ranking"]))
    for row, mode in enumerate(rows):
        for name, above, face in (("val", 0.14, colors[mode]), ("test", -0.14, "none")):
            values = modes[mode][f"{name}_accuracy"]
            where = [row + above] * len(values)
            axes.scatter(values, where, s=44, facecolors=face, edgecolors=colors[mode], zorder=2)
            middle = math.fsum(values) / len(values)
            span = (row + above - 0.12, row + above + 0.12)
            axes.plot([middle, middle], span, color=colors[mode], linewidth=2)
    axes.set(yticks=range(len(rows)), yticklabels=rows, ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    _explain(axes)


def _explain(axes: Axes) -> None:
    """What the signs mean, above what is drawn."""
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"marker": "o", "linestyle": "none", "color": html.INK}
    signs = [
        Line2D([], [], label="validation", **dot),
        Line2D([], [], label="test", markerfacecolor="none", **dot),
        Line2D([], [], label="mean", color=html.INK, marker="|", markersize=11, linestyle="none"),
    ]
    axes.legend(handles=signs, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1)


def _intervals(axes: Axes, result: Result) -> None:
    """Each difference of the best from another mode, in points, with its interval."""
    colors = _colors(result)
    rows = list(reversed(result["differences"]))
    axes.axvline(0, color=html.INK, linewidth=1, linestyle=":")
    for row, one in enumerate(rows):
        color = colors[one["pair"][1]]
        if one["low"] is not None:
            ends = [100 * one["low"], 100 * one["high"]]
            axes.plot(ends, [row, row], color=color, linewidth=3, alpha=0.5)
        axes.scatter([100 * each for each in one["each"]], [row] * len(one["each"]), s=12, c=color)
        axes.scatter([100 * one["mean"]], [row], s=60, marker="D", c=color, zorder=3)
    names = ["\n− ".join(one["pair"]) for one in rows]
    axes.set(yticks=range(len(rows)), yticklabels=names, ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("difference, points")


def _curve(result: Result, name: str) -> Markup:
    """One figure over the epochs: a colour a mode, a thin line a seed, a thick one the mean."""
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


def _histories(result: Result, name: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Of each mode its name, colour and figures (seeds, epochs); NaN where one diverged."""
    colors = _colors(result)
    for one in result["modes"]:
        runs = np.array([history[name] for history in one["history"]], dtype=np.float64)
        yield one["mode"], colors[one["mode"]], runs


def _settings(result: Result) -> list[tuple[str, Any]]:
    """Names and values as a page shows them."""
    found = {**result["settings"], "model": result["settings"]["model"] or "the reference CNN"}
    entries = [
        (f"entry of {one['mode']}", f"per {one['per']}, key {one['key']}")
        for one in result["modes"]
    ]
    return [(name.replace("_", " "), value) for name, value in found.items()] + entries
