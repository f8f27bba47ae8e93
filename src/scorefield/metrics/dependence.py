"""Pairwise dependence of a table's columns, one measure in [-1, 1] or [0, 1] for each pair of kinds.

    number, number        Spearman's rank correlation: of the grades u = (rank - 1/2)/n, ties sharing the mean of their ranks
    category, category    Cramer's V = sqrt(phi²/min(k - 1, l - 1)), phi² = chi²/n of the k x l table of counts
    number, category      correlation ratio = sqrt(between/all), the share of the grades' variance that the classes explain

All are 0 for independent columns. V and the correlation ratio of n rows are not: the former is corrected as Bergsma does,
phi² by (k - 1)(l - 1)/(n - 1) and k by (k - 1)²/(n - 1), the latter as Kelley does, 1 - (1 - ratio²)·(n - 1)/(n - k), and
what falls below 0 is 0. For a category that a value is missing is one of its values; of numbers, rows count that have both.

    error of a pair       |measure of the samples - measure of real rows|

It is biased upwards for few rows, the largest of many most of all: read it beside what other real rows have. Standard errors
are over draws of the samples, the real rows being fixed: a jackknife that leaves out a twentieth of them in turn. Near 0 they
are upper bounds. V and the ratio do not see *which* classes go with which: that is seen by the correlations of
`marginals.py`.

References: Spearman (1904), "The proof and measurement of association between two things". Bergsma (2013), "A bias-correction
for Cramer's V and Tschuprow's T". Kelley (1935), "An unbiased correlation ratio measure". Efron, Stein (1981), "The jackknife
estimate of variance".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorefield.errors import ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.metrics.coded import Coded, Columns, Numbers, coded, height_of
from scorefield.randomness import subsample

LEAST = 20
MOST = 5000  # rows of each table: the error of a rank correlation is then 0.014
COLUMNS = 30  # that are compared: the first ones that vary
GROUPS = 20  # of the jackknife
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Dependence:
    """How the columns of samples and of real rows depend on each other.

    Attributes:
        columns: those that vary in the real rows, at most 30.
        samples, real: their measures, one row a column; 1 on the diagonal, 0 for a column that does not vary.
        mean: the mean error over all pairs.
        largest: the largest error of a pair.
        pair: the two columns of the largest.
    """

    columns: tuple[str, ...]
    samples: tuple[tuple[float, ...], ...]
    real: tuple[tuple[float, ...], ...]
    mean: Estimate
    largest: Estimate
    pair: tuple[str, str]


def dependence(samples: Columns, reference: Columns) -> Dependence | None:
    """Compare the pairwise dependence of two tables; None where fewer than two columns of the real one vary.

    Args:
        samples: name -> n values: numbers, dates, texts or booleans, None where one is missing; n at least 20.
        reference: the same columns of real rows, m values each; m at least 20.

    Raises:
        ScorefieldError: other columns, columns of unequal lengths, or too few rows.
        NotFinite: NaN or infinity among the values; what is missing is None.

    >>> real = {"a": [*range(100)], "b": [*range(100)]}
    >>> found = dependence({"a": [*range(100)], "b": [*reversed(range(100))]}, real)
    >>> found.samples[0][1], found.real[0][1], found.mean.value
    (-1.0, 1.0, 2.0)
    """
    n, m = height_of(samples, "samples"), height_of(reference, "real rows")
    if min(n, m) < LEAST:
        raise ScorefieldError(f"got {n} samples and {m} real examples, expected at least {LEAST} of each: draw more")
    columns = [column for column in coded(samples, reference) if column.varies(1)][:COLUMNS]
    if len(columns) < 2:
        return None
    rows, n = subsample(n, MOST).numpy(), min(n, MOST)
    pairs = np.tril_indices(len(columns), -1)
    truth = _measures(columns, 1, subsample(m, MOST).numpy())
    whole = _measures(columns, 0, rows)
    kept = [rows[np.arange(n) % GROUPS != group] for group in range(GROUPS)]
    replicates = [_measures(columns, 0, rows) for rows in kept]
    errors = np.abs(np.stack([found[pairs] - truth[pairs] for found in (whole, *replicates)]))
    worst = int(errors[0].argmax())

    def estimate(values: Numbers) -> Estimate:
        spread = math.sqrt((GROUPS - 1) ** 2 / GROUPS) * float(np.std(values[1:], ddof=1))
        return Estimate(float(values[0]), math.hypot(spread, 1 / n))

    return Dependence(
        columns=tuple(column.name for column in columns),
        samples=tuple(map(tuple, whole.tolist())),
        real=tuple(map(tuple, truth.tolist())),
        mean=estimate(errors.mean(axis=1)),
        largest=estimate(errors.max(axis=1)),
        pair=(columns[pairs[1][worst]].name, columns[pairs[0][worst]].name),
    )


def _measures(columns: list[Coded], table: int, rows: Codes) -> Numbers:
    """Return the measures of all pairs of columns, `(p, p)`, in these rows of a table."""
    found = np.eye(len(columns))
    prepared = [_prepared(column, column.tables[table][rows]) for column in columns]
    for i, first in enumerate(prepared):
        for j, second in enumerate(prepared[:i]):
            found[i, j] = found[j, i] = _measure(first, second)
    return found


def _prepared(column: Coded, values: Numbers) -> Numbers | Codes:
    """Return the grades of numbers, NaN where one is missing, or codes of a category from 0, a missing value last."""
    if column.is_category:
        return np.where(np.isnan(values), len(column.values), np.nan_to_num(values)).astype(np.int64)
    return _grades(values)


def _grades(values: Numbers) -> Numbers:
    """Return (rank - 1/2)/n of what is not NaN, equal values sharing the mean of their ranks."""
    grades = np.full(len(values), math.nan)
    present = ~np.isnan(values)
    _, place, counts = np.unique(values[present], return_inverse=True, return_counts=True)
    grades[present] = ((counts.cumsum() - counts / 2) / max(1, present.sum()))[place]
    return grades


def _measure(x: Numbers | Codes, y: Numbers | Codes) -> float:
    """Return the measure of two prepared columns: codes are whole numbers, grades are not."""
    kinds = x.dtype.kind, y.dtype.kind
    if kinds == ("i", "f"):
        x, y, kinds = y, x, ("f", "i")
    measures: dict[tuple[str, str], Callable[..., float]] = {
        ("f", "f"): _correlation,
        ("i", "i"): _cramer,
        ("f", "i"): _ratio,
    }
    known = ~(np.isnan(x) | np.isnan(y))
    return measures[kinds](x[known], y[known])


def _correlation(x: Numbers, y: Numbers) -> float:
    """Return the correlation of grades; 0 where one does not vary."""
    if len(x) < 3:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return max(-1.0, min(1.0, float(x @ y) / scale)) if scale > 1e-9 else 0.0


def _cramer(x: Codes, y: Codes) -> float:
    """Return Cramer's V of two columns of codes, corrected for the number of rows."""
    n, width = len(x), int(y.max()) + 1
    counts = np.bincount(x * width + y, minlength=(int(x.max()) + 1) * width).reshape(-1, width).astype(np.float64)
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    k, o = counts.shape
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / n
    surplus = float((counts**2 / expected).sum()) / n - 1 - (k - 1) * (o - 1) / (n - 1)
    most = min(size - (size - 1) ** 2 / (n - 1) for size in (k, o)) - 1
    return math.sqrt(min(1.0, max(0.0, surplus) / most)) if most > 0 else 0.0


def _ratio(grades: Numbers, codes: Codes) -> float:
    """Return the correlation ratio of grades and codes, corrected for the number of rows."""
    n = len(grades)
    counts = np.bincount(codes) if n else np.zeros(1)
    k = int((counts > 0).sum())
    every = float(((grades - grades.mean()) ** 2).sum()) if n else 0.0
    if k < 2 or n <= k or every < 1e-9:
        return 0.0
    means = np.bincount(codes, grades)[counts > 0] / counts[counts > 0]
    between = float((counts[counts > 0] * (means - grades.mean()) ** 2).sum())
    return math.sqrt(max(0.0, 1 - (1 - between / every) * (n - 1) / (n - k)))
