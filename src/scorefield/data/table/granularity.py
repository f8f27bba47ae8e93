"""Granularity: which values the numbers of a column take: atoms, a grid, a few levels, or all of an interval.

    atoms     single values that hold a share of the rows which no density gives them: exact zeros, a minimum wage, a last
              date 9999-12-31
    step      all other values lie at equal distances: prices on 0.01, marks on 0.5, times on five minutes
    levels    they are only ever one of a few, which do not fill their grid: doses of 0.1, 0.25, 1 and 2.5

A network that learns a score sees through noise of about a hundredth of the spread, so a sampler gives 0.003 for 0 and 3.48
for 3.5. Rounding alone separates values that are far enough from each other for it, in the right proportions; likewise those
of a fine grid that are about as frequent as their neighbours. What rounding cannot preserve is the share of one value among
close ones, and the others beside one that is far from all of them: those are atoms, and become a category of their own in
`columns.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
SHARE = 0.05  # of the rows, from which on one value may be an atom
TIMES = 5  # that it must occur at least
PEAK = 2.0  # one value of a grid has at most a share of step/spread, the peak of an exponential law; twice that is an atom
RARE, RARE_PEAK, MANY = 0.01, 20.0, 8  # a smaller share counts where no law has such a peak, for at most so many values
OTHERS = 4.0  # times as often as another value of a row: values that all repeat are rounded, on a grid of no decimal step
AWAY = 5.0  # spreads of the rest, from which on a frequent value is far from it
GAP = 20.0  # times the least distance of two values, likewise, where all values are frequent
FEW = 50  # levels, at most
OFTEN = 10  # times that a level occurs, on average, at least
PLACES = 6  # decimals of the spread that are looked at
EXACT = 12  # decimals of the largest value that are looked at: float64 has 15
LIMITS = (1.6e308, 3.4028234663852886e38)  # the ends of float64 and float32, which map makers write for no data


@dataclass(frozen=True)
class Granularity:
    """Which values numbers take.

    Attributes:
        atoms: values with a share of their own.
        levels: all other values, where there are few; else empty.
        step: distance of a grid that all other values lie on; 0 for none.
        digits: decimals that values are rounded to: of the grid, else six of the spread.
    """

    atoms: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    step: float = 0.0
    digits: int = 0


def mean_and_spread(values: Numbers) -> tuple[float, float]:
    """Return mean and standard deviation of numbers of any size: they are divided by a power of two before they are squared.

    >>> mean_and_spread(np.array([1e200, 3e200]))
    (2e+200, 1e+200)
    """
    largest = float(np.abs(values).max())
    unit = math.ldexp(1.0, min(max(math.frexp(largest)[1], -1000), 1000)) if largest > 0 else 1.0
    scaled = values / unit
    return float(scaled.mean()) * unit, float(scaled.std()) * unit


def no_data(values: Numbers) -> NDArray[np.bool_]:
    """Return where numbers are the end of the range of floats, a million times as large as all others; NaN is not."""
    size = np.abs(values)
    marks: NDArray[np.bool_] = (size >= LIMITS[0]) | np.isclose(size, LIMITS[1], rtol=1e-4, atol=0)
    others = size[~marks & np.isfinite(size)]
    if not len(others) or (marks.any() and others.max() > 1e-6 * size[marks].min()):
        return np.zeros(len(values), dtype=bool)
    return marks


def granularity_of(values: Numbers, *, whole: bool) -> Granularity:
    """Return the granularity of numbers.

    Args:
        values: `(n,)`, finite.
        whole: whether they are whole by their type.

    >>> granularity_of(np.array([0.0] * 50 + [0.5, 1.25, 3.75] * 20), whole=False).atoms
    ()
    >>> rest = np.random.default_rng(0).exponential(size=60)
    >>> granularity_of(np.concatenate([np.zeros(50), rest]), whole=False).atoms
    (0.0,)
    """
    atoms, rest = np.empty(0), values
    # Extremes are looked for again at the end: without the frequent values, the spread by which they are far is another.
    for find in (_isolated_extremes, lambda numbers: _frequent(numbers, whole), _isolated_extremes):
        found = find(rest)
        atoms, rest = np.union1d(atoms, found), rest[~np.isin(rest, found)]
    left, spread = np.unique(rest), mean_and_spread(rest)[1]
    step, digits = _grid(left, spread, whole)
    if step == 0 and spread > 0:
        digits = PLACES - math.floor(math.log10(spread))
    levels: Numbers = np.empty(0)
    sparse = step == 0 or (left[-1] / step - left[0] / step) + 1 > 2 * len(left)
    if 2 <= len(left) <= FEW and len(rest) >= OFTEN * len(left) and sparse:
        levels, step = left, 0.0
    return Granularity(tuple(atoms.tolist()), tuple(levels.tolist()), step, digits)


def _frequent(values: Numbers, whole: bool) -> Numbers:
    """Return the frequent values that are atoms."""
    distinct, counts = np.unique(values, return_counts=True)
    found, rare = (_point_masses(distinct, counts, *how, whole) for how in ((SHARE, PEAK), (RARE, RARE_PEAK)))
    return np.union1d(found, rare) if len(rare) <= MANY else found


def _point_masses(distinct: Numbers, counts: NDArray[np.int64], least: float, peak: float, whole: bool) -> Numbers:
    """Return values of at least a share that no density of the others explains, or that lie far from all others."""
    share = counts / counts.sum()
    often = (share >= least) & (counts >= TIMES)
    gaps = np.diff(distinct)
    distance = np.minimum(np.append(gaps, math.inf), np.insert(gaps, 0, math.inf))  # from the nearest other value
    rest = distinct[~often]
    if len(rest) < 3:  # few values, all of them frequent
        return distinct[often & (distance > GAP * gaps.min())] if len(gaps) > 1 else np.empty(0)
    spread = mean_and_spread(np.repeat(rest, counts[~often]))[1]
    step = _grid(rest, spread, whole)[0]
    others = counts[~often]
    usual = 0.0
    if step == 0:  # then the mean distance of the values of the middle half stands for it
        usual = OTHERS * float((others**2).sum() / others.sum())
        step = float(np.subtract(*np.quantile(rest, [0.75, 0.25]))) / (len(rest) / 2)
    found: Numbers = distinct[often & (((share > peak * step / spread) & (counts > usual)) | (distance > AWAY * spread))]
    return found


def _isolated_extremes(values: Numbers) -> Numbers:
    """Return extreme values that repeat, and lie far from all others by the spread of the middle half: 9999-12-31, say."""
    lower, upper = np.quantile(values, [0.25, 0.75])
    distinct, counts = np.unique(values, return_counts=True)
    found, first, last = list[float](), 0, len(distinct) - 1
    while last - first >= 3:
        for end, other in ((first, first + 1), (last, last - 1)):
            if counts[end] >= TIMES and abs(distinct[end] - distinct[other]) > AWAY * (upper - lower) > 0:
                found.append(float(distinct[end]))
                first, last = (first + 1, last) if end == first else (first, last - 1)
                break
        else:
            break
    return np.array(found)


def _grid(distinct: Numbers, spread: float, whole: bool) -> tuple[float, int]:
    """Return the step of the coarsest grid that different values lie on, and its decimals; 0 for none."""
    if len(distinct) < 2 or spread == 0:
        return 0.0, 0
    digits = 0 if whole else digits_of(distinct, spread)
    if abs(digits) > 300:
        return 0.0, 0
    units = _times(distinct, digits)
    places = np.rint(units)
    if not bool((np.abs(units - places) < 0.01).all()) or np.abs(places).max() >= 2**53:
        return 0.0, 0
    steps = places.astype(np.int64)
    unit, first = int(np.gcd.reduce(steps - steps[0])), int(steps[0])
    while unit % 10 == 0 and first % 10 == 0:
        unit, first, digits = unit // 10, first // 10, digits - 1
    return float(_times(np.array([float(unit)]), -digits)[0]), digits


def digits_of(values: Numbers, spread: float) -> int:
    """Return how many decimals numbers of this spread are distinguished by, at most as many as float64 has."""
    largest = float(np.abs(values).max())
    return min(PLACES - math.floor(math.log10(spread)), EXACT - math.floor(math.log10(largest)))


def _times(values: Numbers, digits: int) -> Numbers:
    """Return values·10^digits, by one operation with an exact power where float64 has it."""
    return values * 10.0**digits if digits >= 0 else values / 10.0**-digits
