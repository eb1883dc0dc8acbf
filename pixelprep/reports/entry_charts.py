"""Draw the charts of a report: balance of the classes, histograms."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from pixelprep.reports import html
from pixelprep.reports.profile import Bins, EntryProfile, PixelProfile, Summary

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

MAX_BARS = 24  # classes with a bar
MAX_LINES = 4  # channels with a histogram
MAX_NAME = 40  # characters of a class name


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the style of the page."""
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context({**html.DRAWN, "font.size": 9}):
        warnings.filterwarnings("ignore", "Glyph")  # the page's reader may have them
        yield


def balance(profile: EntryProfile) -> Markup:
    """Draw the share of each class in each split: bars by name, or a line of too many."""
    splits, names = profile.splits, []
    for name in profile.class_names:
        shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in name)
        names.append(shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 1]}…")
    has_bars = len(names) <= MAX_BARS
    figure = html.figure(5.4, 1.2 + 0.13 * len(splits) * len(names) if has_bars else 2.6)
    axes = figure.subplots()
    offsets, thickness = np.arange(len(names)), 0.8 / len(splits)
    for number, (name, split) in enumerate(splits.items()):
        share = split.classes / split.rows
        if has_bars:
            axes.barh(offsets + number * thickness, share, thickness, label=name, align="edge")
        else:
            axes.stairs(share, np.arange(len(names) + 1) - 0.5, label=name)
    if has_bars:
        axes.set(xlabel="share of the split", yticks=offsets + 0.4, yticklabels=names)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(_percent)
    else:
        axes.set(xlabel="class", ylabel="share", ylim=(0, None))
        axes.yaxis.set_major_formatter(_percent)
    figure.legend(loc="outside upper right", ncols=len(splits))
    return html.svg(figure, "The share of each class in each split")


def _percent(share: float, _: float) -> str:
    return f"{100 * share:.4g}%"


def histograms(profile: EntryProfile) -> list[dict[str, str]]:
    """Draw each split before and after, with mean and deviation in words."""
    drawn = []
    for name, split in profile.splits.items():
        for when, stats in (("before", split.raw), ("after", split.stored)):
            figure = html.figure(4.6, 2.6)
            _draw_histogram(figure.subplots(), stats, f"{name}, {when}")
            picture = html.svg(figure, f"Histogram of the pixels of {name} {when} scaling")
            shown = [one for _, _, one in _shown_channels(stats)]
            means = ", ".join(f"{one.mean:.6g}" for one in shown)
            stds = ", ".join(f"{one.std:.6g}" for one in shown)
            drawn.append({"picture": picture, "caption": f"mean {means}; deviation {stds}"})
    return drawn


def _draw_histogram(axes: Axes, stats: PixelProfile, title: str) -> None:

    drawn = _shown_channels(stats)
    alone = len(drawn) == 1
    for color, one, summary in drawn:
        seen = np.flatnonzero(one.counts)
        inside = slice(seen[0], seen[-1] + 1)
        share = one.counts[inside] / one.counts.sum()
        edges = one.edges[inside.start : inside.stop + 1]
        axes.stairs(share, edges, fill=alone, color=color, alpha=0.75 if alone else 1.0)
        low, high = summary.mean - summary.std, summary.mean + summary.std
        axes.axvspan(low, high, color=color, alpha=0.12, linewidth=0)
        axes.axvline(summary.mean, color=html.INK if alone else color, linewidth=1, ls="--")
    axes.set(yscale="log", title=title, xlabel="pixel", ylabel="share of the pixels")
    axes.yaxis.set_major_formatter(_percent)


def _shown_channels(stats: PixelProfile) -> list[tuple[str, Bins, Summary]]:
    """Return the channels that are drawn, each in its colour."""
    channels = len(stats.histograms)
    shown = stats.histograms if channels <= MAX_LINES else stats.histograms[:1]
    colors = ("#d64545", "#2e9d6a", "#2f7dd1") if len(shown) == 3 else html.COLORS
    return list(zip(colors, shown, stats.channels, strict=False))
