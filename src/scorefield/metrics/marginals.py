"""Columns of a table: is the distribution of each column right, and is their dependence?

    numbers       Kolmogorov-Smirnov distance, the largest |F(x) - G(x)| of the two distribution functions
    categories    total variation, half the sum over values of |p - q|; that a value is missing is one of the values
    missing       difference of the shares of missing values, of columns of numbers
    dependence    differences |r - r'| of the correlations of all pairs of columns, where both values are there; a category
                  counts as one 0/1 column for each of its commonest values

All lie in [0, 1] (differences of correlations in [0, 2]), 0 is best. All are biased upwards for few rows, the largest of many
differences most of all: read them beside what real rows score. Standard errors are over draws of the samples, the real rows
being fixed. Those of distances are of their influence: F·(1 - F)/n is the variance of F at the x of the largest difference, and
that of sign(p - q) over the samples, over 4·n, that of the total variation. Correlations have a jackknife that leaves out a
twentieth of the samples in turn. Near 0 all are upper bounds.

References: Kolmogorov (1933), "Sulla determinazione empirica di una legge di distribuzione". Smirnov (1948), "Table for
estimating the goodness of fit of empirical distributions". Efron, Stein (1981), "The jackknife estimate of variance".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scorefield.errors import ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.metrics.coded import Columns, Numbers, height_of, is_number, numbers_of

Sums = Sequence[Numbers]

LEAST = 20
GROUPS = 20  # of the jackknife
NUMBERS = 2**22  # that are held at a time
COMMON = 20  # values of a category that take part in correlations
VARIES = 1e-12  # of a column's mean square: what varies less is constant


@dataclass(frozen=True)
class Marginal:
    """How far one column of the samples is from the real one.

    Attributes:
        kind: what its values are; dates count as numbers, booleans as categories.
        distance: Kolmogorov-Smirnov for numbers, total variation for categories, in [0, 1].
        missing: difference of the shares of missing values, in [0, 1].
    """

    kind: Literal["number", "category"]
    distance: Estimate
    missing: Estimate


@dataclass(frozen=True)
class Comparison:
    """How far a table of samples is from a real one.

    Attributes:
        columns: name -> how far that column is.
        largest: the largest difference of two correlations, in [0, 2]; None where fewer than two columns vary.
        mean: the mean difference over all pairs of columns.
        pair: the two columns of the largest.
    """

    columns: dict[str, Marginal]
    largest: Estimate | None
    mean: Estimate | None
    pair: tuple[str, str] | None


def compare(samples: Columns, reference: Columns) -> Comparison:
    """Compare the columns of two tables one by one, and their correlations.

    Args:
        samples: name -> n values: numbers, dates, texts or booleans, None where one is missing; n at least 20.
        reference: the same columns of real data, m values each; m at least 20.

    Raises:
        ScorefieldError: other columns, columns of unequal lengths, or too few rows.
        NotFinite: NaN or infinity among the values; what is missing is None.

    >>> real = {"a": [*range(100)], "b": ["x", "y"] * 50}
    >>> compare({"a": [*range(50, 150)], "b": ["x"] * 100}, real).columns["a"].distance.value
    0.5
    """
    n, m = height_of(samples, "samples"), height_of(reference, "real rows")
    if list(samples) != list(reference):
        raise ScorefieldError(f"got the columns {list(samples)}, expected {list(reference)}: compare tables of one run")
    if min(n, m) < LEAST:
        raise ScorefieldError(f"got {n} samples and {m} real examples, expected at least {LEAST} of each: draw more")
    columns: dict[str, Marginal] = {}
    drawn, real, owners = list[Numbers](), list[Numbers](), list[str]()
    for name in reference:
        values, truth = samples[name], reference[name]
        if all(is_number(value) for value in (*values, *truth)):
            x, y = numbers_of(values, name), numbers_of(truth, name)
            columns[name] = Marginal("number", _kolmogorov(x, y), _variation(np.isnan(x).tolist(), np.isnan(y).tolist()))
            parts = [(x, y)]
        else:
            gone = [value is None for value in values], [value is None for value in truth]
            columns[name] = Marginal("category", _variation(values, truth), _variation(*gone))
            common = [value for value, _ in Counter(truth).most_common(COMMON)]
            parts = [(_indicator(values, one), _indicator(truth, one)) for one in common]
        for x, y in parts:
            if np.isfinite(y).any():
                middle, scale = np.nanmean(y), np.nanstd(y)
                if scale > VARIES * (abs(middle) + scale):
                    drawn.append((x - middle) / scale)
                    real.append((y - middle) / scale)
                    owners.append(name)
    return Comparison(columns, *_dependence(drawn, real, owners, n))


def _indicator(values: Sequence[Any], one: Any) -> Numbers:
    return np.array([value == one for value in values], dtype=np.float64)


def _kolmogorov(x: Numbers, y: Numbers) -> Estimate:
    """Return the largest difference of two distribution functions, of what is not missing; 1 if only one has anything."""
    x, y = np.sort(x[~np.isnan(x)]), np.sort(y[~np.isnan(y)])
    if not len(x) or not len(y):
        return Estimate(float(len(x) != len(y)), 1.0 / max(len(x), 1))
    places = np.concatenate([x, y])
    below, truth = (np.searchsorted(values, places, side="right") / len(values) for values in (x, y))
    worst = int(np.abs(below - truth).argmax())
    f = below[worst]
    return Estimate(float(abs(f - truth[worst])), math.hypot(math.sqrt(f * (1 - f) / len(x)), 1 / len(x)))


def _variation(values: Sequence[Any], truth: Sequence[Any]) -> Estimate:
    """Return half the sum of differences of shares."""
    p, q, n, m = Counter(values), Counter(truth), len(values), len(truth)
    surplus = {value: p[value] / n - q[value] / m for value in p | q}
    signs = np.array([np.sign(surplus[value]) * count for value, count in p.items()]) / n
    squares = sum(np.sign(surplus[value]) ** 2 * count for value, count in p.items()) / n
    variance = max(0.0, float(squares - signs.sum() ** 2)) / (4 * n)
    return Estimate(sum(map(abs, surplus.values())) / 2, math.hypot(math.sqrt(variance), 1 / n))


def _correlations(sums: Sums) -> Numbers:
    """Return correlations of columns a with columns b, `(p, q)`, 0 where one is constant."""
    count, a, b, aa, bb, ab = sums
    count = np.maximum(count, 1)
    mean_a, mean_b = a / count, b / count
    var_a, var_b = aa / count - mean_a**2, bb / count - mean_b**2
    safe = (var_a > VARIES) & (var_b > VARIES) & (count > 2)
    scale = np.where(safe, np.sqrt(np.maximum(var_a, VARIES)) * np.sqrt(np.maximum(var_b, VARIES)), np.inf)
    found: Numbers = (ab / count - mean_a * mean_b) / scale
    return found


def _sums(x: Numbers, y: Numbers) -> Sums:
    """Return what correlations of columns x `(n, p)` with y `(n, q)` are made of; NaN is missing.

    Returns:
        Sums over the rows that have both, each with axes for p and q: how many, of a, of b, of a², of b², of a·b. Where nothing
        is missing those of one column are the same for all others, and their other axis has length 1.
    """
    if not (np.isnan(x).any() or np.isnan(y).any()):
        count = np.full((1, 1), float(len(x)))
        a, aa = (values.sum(axis=0)[:, None] for values in (x, x**2))
        b, bb = (values.sum(axis=0)[None] for values in (y, y**2))
        return count, a, b, aa, bb, x.T @ y
    (here, z), (there, w) = ((~np.isnan(values), np.nan_to_num(values)) for values in (x, y))
    p, q = here.astype(float), there.astype(float)
    return p.T @ q, z.T @ q, p.T @ w, (z**2).T @ q, p.T @ w**2, z.T @ w


def _dependence(
    drawn: list[Numbers], real: list[Numbers], owners: list[str], n: int
) -> tuple[Estimate | None, Estimate | None, tuple[str, str] | None]:
    """Return the largest and the mean difference of correlations, and the pair of columns of the largest.

    All pairs are compared, a block of columns with all before them at a time, so that memory grows with the number of columns
    and not with its square.
    """
    if len(set(owners)) < 2:
        return None, None, None
    rows, truth = np.stack(drawn, axis=1), np.stack(real, axis=1)
    number = {name: i for i, name in enumerate(dict.fromkeys(owners))}
    owner = np.array([number[name] for name in owners])
    step = max(1, NUMBERS // (6 * (GROUPS + 2) * len(owners)))
    largest, total, count = np.full(GROUPS + 1, -1.0), np.zeros(GROUPS + 1), 0
    worst = (0, 0)
    for first in range(0, len(owners), step):
        block, before = slice(first, first + step), slice(0, min(first + step, len(owners)))
        pairs = (owner[block, None] != owner[before]) & (np.arange(len(owners))[block, None] > np.arange(len(owners))[before])
        if not pairs.any():
            continue
        parts = [_sums(rows[group::GROUPS, block], rows[group::GROUPS, before]) for group in range(GROUPS)]
        whole = [sum(each[1:], start=each[0]) for each in zip(*parts, strict=True)]
        real_ones = _correlations(_sums(truth[:, block], truth[:, before]))
        for place in range(GROUPS + 1):
            sums = whole if place == 0 else [all_ - one for all_, one in zip(whole, parts[place - 1], strict=True)]
            differences = np.abs(_correlations(sums) - real_ones)
            total[place] += differences.sum(where=pairs)
            differences[~pairs] = -1.0
            if differences.max() > largest[place]:
                largest[place] = differences.max()
                if place == 0:
                    above, left = np.unravel_index(int(differences.argmax()), differences.shape)
                    worst = first + int(above), int(left)
        count += int(pairs.sum())

    def estimate(values: Numbers) -> Estimate:
        spread = math.sqrt((GROUPS - 1) ** 2 / GROUPS) * float(np.std(values[1:], ddof=1))
        return Estimate(float(values[0]), math.hypot(spread, 1 / n))

    return estimate(largest), estimate(total / count), (owners[worst[1]], owners[worst[0]])
