"""Tails: which columns are learned after a transform, and which one, by what their training rows are likeliest under.

Of a law whose tails are heavier than a normal one's (excess kurtosis above 1), the transform g is chosen after which a normal
law fits the n values best. Its log-likelihood a value, less what all g share, is

    L(g) = mean of log g'(x) - log std of g(x)

The value furthest from the median, and one more of every 5,000, are left out of this: a slip of a keyboard makes no law. A
column is transformed if that gains at least 0.05 nats a value on leaving it as it is: an exponential law gains 0.4, a
log-normal one of sigma = 1 gains 0.7, Student's with 3 degrees of freedom 0.15, a normal one nothing. The candidates are
logarithms with an origin from near the smallest value to far below it, and likewise from the largest, and inverse hyperbolic
sines around the median. A logarithm whose origin is 0 is taken when it is nearly the best: it is the one that people mean.

Values on a grid that the transform would pull apart, further than the least noise of a training, keep no density: candidates
that do so are not taken, and neither are columns of few values or of booleans, texts and days.

Reference: Box, Cox (1964), "An analysis of transformations", JRSS B 26(2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from scorefield.data.transforms import Transform

Numbers = NDArray[np.float64]
LOOKED = 20_000  # values that are looked at
FEWEST = 50  # values, from which on a law is seen
ODD = 5000  # values, of which one is not looked at
HEAVY = 1.0  # excess kurtosis, above which tails are heavy
GAIN = 0.05  # nats a value
NEARLY = 0.02  # nats a value, by which a logarithm with another origin must be better than log(x)
APART = 0.02  # standard deviations after a transform: two of the least noise, at which values of a grid are separate
SMALLEST = 1e-290  # reach of values, and its inverse, of which all steps have a float64
MOST = 0.99  # of the values must be nearer to each other than that


def transform_of(values: Numbers, step: float) -> tuple[Transform, float] | None:
    """Return the transform that a column's values ask for, and its gain in nats a value; None to leave them as they are.

    Args:
        values: of the training rows, `(n,)`, finite, those with a share of their own left out.
        step: distance of the grid that they lie on; 0 for none.

    >>> found = transform_of(np.exp(np.random.default_rng(0).normal(size=1000)), 0.0)
    >>> found is not None and found[0].name
    'log(x)'
    >>> transform_of(np.random.default_rng(0).normal(size=1000), 0.0) is None
    True
    """
    if len(values) < FEWEST:
        return None
    values = values[np.arange(min(len(values), LOOKED)) * len(values) // min(len(values), LOOKED)]
    away = np.abs(values - np.median(values))
    values = values[np.sort(away.argsort(kind="stable")[: -1 - len(values) // ODD])]
    size = float(np.abs(values - np.median(values)).max())
    if not SMALLEST < size < 1 / SMALLEST:
        return None
    deviations = (values - values.mean()) / size  # squared and more without an overflow, whatever the unit is
    variance = float(np.square(deviations).mean())
    if float((deviations**4).mean()) <= (3 + HEAVY) * variance**2:
        return None
    x, found = torch.from_numpy(values), list[tuple[float, Transform]]()
    for transform in _candidates(values):
        y, slope = transform(x), transform.log_slope(x)
        std = float(y.std(correction=0))
        if 0 < std < math.inf and step * math.exp(float(slope.quantile(MOST))) <= APART * std:
            found.append((float(slope.mean()) - math.log(std), transform))
    if not found:
        return None
    best = max(found, key=lambda one: one[0])
    best = next((one for one in found if one[1].plain and one[0] > best[0] - NEARLY), best)
    gain = best[0] + math.log(size) + math.log(variance) / 2
    return (best[1], gain) if gain >= GAIN else None


def _candidates(values: Numbers) -> Iterator[Transform]:
    """Yield transforms of different bend."""
    middle, ends = float(np.median(values)), (float(values.min()), float(values.max()))
    for side, end in zip((1, -1), ends, strict=True):
        reach = side * (middle - end)  # from the end to the middle
        distances = [reach * 10.0**power for power in np.linspace(-3, 1, 25)] if reach > 0 else []
        origins = [end - side * distance for distance in distances] + [0.0] * (side * end > 0)
        for origin in origins:
            if (nearest := side * (end - origin)) > 0:
                yield Transform("log", origin, nearest / 2, side)  # type: ignore[arg-type]  # 1 or -1
    spread = float(np.median(np.abs(values - middle)))
    for power in np.linspace(-1.5, 1, 16) if spread > 0 else ():
        yield Transform("asinh", middle, spread * 10.0**power)
