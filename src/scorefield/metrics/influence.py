"""R² and AUROC with the influence of every row: means, differences and their standard errors follow by adding.

    R²       1 - sum (y - f)²/sum (y - mean y)², of numbers y and predictions f: 1 is perfect, 0 no better than the mean
    AUROC    the chance that a row of a class gets a larger f than one that is not, ties by half: 1 is perfect, 1/2 guessing

A value that is a smooth function of averages over m rows differs from its limit by the mean of its influences, so its
variance is the variance of these over m. Influences of two values on the same rows may be subtracted first: the error of a
difference. Those of AUROC are the placements of DeLong: of a row of the class, the share of the others below it; of another,
the share of the class above it.

References: DeLong, DeLong, Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver operating
characteristic curves". Hampel (1974), "The influence curve and its role in robust estimation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorefield.metrics.base import Estimate

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Influenced:
    """A value, and how far each row moves it.

    Attributes:
        value: of all rows.
        rows: the influence of each, `(m,)`, with mean 0.
    """

    value: float
    rows: Numbers

    def __add__(self, other: Influenced) -> Influenced:
        """Return the sum of two values on the same rows."""
        return Influenced(self.value + other.value, self.rows + other.rows)

    def __mul__(self, factor: float) -> Influenced:
        """Return a multiple of the value."""
        return Influenced(self.value * factor, self.rows * factor)

    def estimate(self, more: float = 0.0) -> Estimate:
        """Return the value with its standard error over draws of the rows, and `more`, an error of another origin."""
        return Estimate(self.value, math.hypot(float(self.rows.std()) / math.sqrt(len(self.rows)), more))


def mean_of(parts: list[Influenced]) -> Influenced:
    """Return the mean of values on the same rows.

    >>> mean_of([determination(np.array([0.0, 2.0]), np.array(f)) for f in ([0.0, 2.0], [1.0, 1.0])]).value
    0.5
    """
    return sum(parts[1:], start=parts[0]) * (1 / len(parts))


def determination(truth: Numbers, predicted: Numbers) -> Influenced:
    """Return R² of predictions, `(m,)`, of numbers that vary, `(m,)`; rows where the truth is NaN do not count."""
    known = ~np.isnan(truth)
    lost, spread = ((truth - middle)[known] ** 2 for middle in (predicted, truth[known].mean()))
    value = 1 - lost.sum() / spread.sum()
    rows = np.zeros(len(truth))
    rows[known] = ((1 - value) * spread - lost) / spread.mean() * (len(truth) / known.sum())
    return Influenced(float(value), rows)


def auroc(scores: Numbers, positive: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> Influenced:
    """Return the area under the curve of scores, `(m,)`, for the rows of a class, `(m,)`.

    Args:
        scores: larger where a row is thought to be of the class.
        positive: whether it is.
        known: rows that count, `(m,)`; None for all. Some of them must be of the class, and some not.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])).value
    0.875
    """
    known = np.ones(len(scores), dtype=bool) if known is None else known
    yes, no = known & positive, known & ~positive
    rows = np.zeros(len(scores))
    rows[yes] = _share_below(scores[yes], scores[no])
    rows[no] = 1 - _share_below(scores[no], scores[yes])
    value = float(rows[yes].mean())
    for side in (yes, no):
        rows[side] = (rows[side] - value) * (len(scores) / side.sum())
    return Influenced(value, rows)


def _share_below(x: Numbers, y: Numbers) -> Numbers:
    """Return the share of y, `(m,)`, below each x, `(n,)`; equal ones count by half."""
    ordered = np.sort(y)
    found: Numbers = (np.searchsorted(ordered, x, side="left") + np.searchsorted(ordered, x, side="right")) / (2 * len(y))
    return found
