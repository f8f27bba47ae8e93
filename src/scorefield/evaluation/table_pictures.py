"""Pictures of a generated table beside the real one: every column, and the dependence of every pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
from PIL.Image import Image

from scorefield import pictures
from scorefield.metrics.coded import Columns, Numbers, is_number, numbers_of
from scorefield.metrics.dependence import Dependence

MOST = 12  # columns, and texts of one
BINS = 6, 40  # of a histogram, least and most: 2·n^(1/3) of n real rows (Rice's rule)
FAR = 10  # times the median, beyond which positive numbers are shown on an axis of their logarithms
EDGE = 0.01  # share of the real rows beyond each end of the axis, where the tails are longer than the middle
INK = 14  # columns up to which numbers are written into the squares


def histograms(samples: Columns, real: Columns) -> Image:
    """Plot the first 12 columns that are not the same in every row, real rows in grey and samples as a blue line.

    Args:
        samples: name -> values: numbers, dates, texts or booleans, None where one is missing.
        real: the same columns of real rows.
    """
    names = [name for name, column in real.items() if len({*column, *samples[name]}) > 1][:MOST]
    figure, axes = pictures.small_axes(len(names))
    for one, name in zip(axes, names, strict=True):
        values = samples[name], real[name]
        if all(is_number(value) for column in values for value in column):
            _numbers(one, name, *values)
        else:
            _texts(one, *values)
        gone = [sum(value is None for value in column) / len(column) for column in values]
        missing = f"\nmissing {gone[1]:.0%}, of samples {gone[0]:.0%}" if max(gone) > 0 else ""
        one.set_title(pictures.literal(f"{name[:24]}{missing}"), fontsize=8)
        one.tick_params(labelsize=6)
    return pictures.render(figure)


def _numbers(axes: Any, name: str, drawn: Sequence[Any], real: Sequence[Any]) -> None:
    """Draw shares of the values in bins that both have in common."""
    x, y = (column[~np.isnan(column)] for column in (numbers_of(drawn, name), numbers_of(real, name)))
    both = np.concatenate([x, y])
    if not len(both):
        return
    low, high = both.min(), both.max()
    if len(y):
        ends = np.quantile(y, (EDGE, 1 - EDGE))
        reach = ends[1] - ends[0]
        low, high = max(low, ends[0] - reach / 2), min(high, ends[1] + reach / 2)
    if len(y) and low > 0 and high > FAR * np.median(y):
        edges = np.geomspace(low, high, _bins(len(y)) + 1)
        axes.set_xscale("log")
    else:
        edges = _edges(both, float(low), float(high), _bins(len(y)))
    for values, style in ((y, {"fill": True, "color": "0.75"}), (x, {"fill": False, "color": "tab:blue", "lw": 1.2})):
        axes.stairs(np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / max(1, len(values)), edges, **style)
    first = next(value for value in (*real, *drawn) if value is not None)
    if isinstance(first, date):
        places = np.linspace(edges[0], edges[-1], 3)
        axes.set_xticks(places, [_day(place, first) for place in places])
    axes.set_yticks([])
    axes.set_ylim(bottom=0)


def _bins(rows: int) -> int:
    return max(BINS[0], min(BINS[1], math.ceil(2 * math.cbrt(rows))))


def _edges(values: Numbers, low: float, high: float, bins: int) -> Numbers:
    """Return the edges of bins from low to high, each with as many whole numbers as the others where all values are whole."""
    if not (values == np.round(values)).all():
        return np.linspace(low, high if high > low else low + 1, bins + 1)
    step = max(1, round((high - low) / bins))
    return np.arange(math.floor(low) - 0.5, math.ceil(high) + step, step)


def _day(place: float, like: date) -> str:
    """Return the day of a number of `numbers_of`."""
    if isinstance(like, datetime):
        return datetime.fromtimestamp(place, like.tzinfo).date().isoformat()
    return date.fromordinal(round(place)).isoformat()


def _texts(axes: Any, drawn: Sequence[Any], real: Sequence[Any]) -> None:
    """Draw the shares of the commonest texts of the real rows among the rows that have one, the commonest on top."""
    counts = dict[Any, int]()
    for value in (value for value in (*real, *drawn) if value is not None):
        counts.setdefault(value, 0)
    for value in real:
        if value is not None:
            counts[value] += 1
    shown = sorted(counts, key=lambda value: (-counts[value], str(value)))[:MOST]
    present = [[value for value in column if value is not None] for column in (real, drawn)]
    shares = [[column.count(value) / max(1, len(column)) for value in shown] for column in present]
    places = np.arange(len(shown))[::-1]
    axes.barh(places, shares[0], color="0.75", height=0.8)
    axes.barh(places, shares[1], facecolor="none", edgecolor="tab:blue", lw=1.2, height=0.8)
    axes.set_yticks(places, [pictures.literal(str(value)[:16]) for value in shown])
    axes.set_xlim(left=0)


def heat_map(found: Dependence) -> Image:
    """Plot the dependence of all pairs of columns: of real rows, of samples, and the difference."""
    real, samples = np.array(found.real), np.array(found.samples)
    p = len(found.columns)
    names = [pictures.literal(name[:16]) for name in found.columns]
    figure, first = pictures.new_figure(13, 4.9)
    first.remove()
    panels = figure.subplots(1, 3)
    colours = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
    for index, (axes, title, values) in enumerate(
        zip(panels, ("real rows", "samples", "samples - real rows"), (real, samples, samples - real), strict=True)
    ):
        shown = axes.imshow(np.where(np.eye(p, dtype=bool), math.nan, values), **colours)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(p), names, rotation=90, fontsize=max(4, min(8, 160 // p)))
        axes.set_yticks(range(p), names if index == 0 else [], fontsize=max(4, min(8, 160 // p)))
        if p <= INK:
            for i, j in zip(*np.nonzero(~np.eye(p, dtype=bool)), strict=True):
                colour = "white" if abs(values[i, j]) > 0.6 else "black"
                axes.text(
                    j,
                    i,
                    f"{round(values[i, j], 2) + 0.0:.2f}".replace("0.", "."),
                    ha="center",
                    va="center",
                    fontsize=6,
                    color=colour,
                )
    figure.colorbar(shown, ax=panels, shrink=0.8)
    return pictures.render(figure)
