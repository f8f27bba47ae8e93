"""Two-sample distances: how different two sets of samples are in their own coordinates, without a feature extractor.

    sliced Wasserstein-2    root of the mean over directions v of W2²(v·x, v·y); in one dimension W2² is the integral over
                            u in (0, 1) of the squared difference of the quantile functions, which are steps
    energy distance         2·E|x - y| - E|x - x'| - E|y - y'|: MMD² of the kernel -|x - y|, unbiased, 0 only for equal
                            distributions; in the units of the data (its root is a metric)
    MMD²                    E k(x, x') + E k(y, y') - 2·E k(x, y), without the diagonal: unbiased, so it may be negative

The standard error of W2² is that of its influence: more mass at x_i changes W2² in proportion to the potential

    psi(x_{i+1}) - psi(x_i) = (x_{i+1} - x_i)·(x_{i+1} + x_i - 2·Q(i/n)),        x sorted, Q the quantile function of the y

so Var W2² = Var psi / n, and the error of the root is that over 2·W2. Near 0 it is an upper bound: noise in psi adds to it.

References: Bonneel, Rabin, Peyre, Pfister (2015), "Sliced and Radon Wasserstein barycenters of measures". Szekely, Rizzo
(2013), "Energy statistics: a class of statistics based on distances". del Barrio, Loubes (2019), "Central limit theorems for
empirical transportation cost in general dimension", arXiv 1705.01299. Gretton, Borgwardt, Rasch, Scholkopf, Smola (2012), "A
kernel two-sample test", JMLR 13.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.metrics.base import Estimate, Metric, check
from scorefield.metrics.kernel import LEAST, discrepancy
from scorefield.randomness import SampleRng
from scorefield.registry import register
from scorefield.shapes import flat


def directions(dimension: int, count: int = 128, seed: int = 0) -> Tensor:
    """Return unit vectors as columns, `(d, count)`, float64: equal angles in the plane, random ones elsewhere."""
    if dimension == 2:
        angle = torch.arange(count, dtype=torch.float64) * math.pi / count
        return torch.stack([angle.cos(), angle.sin()])
    columns = SampleRng(range(count), stream=seed).normal((dimension,)).mT
    unit: Tensor = columns / columns.norm(dim=0)
    return unit


def squared_wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """Return W2² of each column of sorted numbers, `(count,)`; the sets may differ in size.

    Both quantile functions are steps; between two neighbours of the merged set of their jumps both are constant.

    Args:
        x: `(n, count)`, each column ascending.
        y: `(m, count)`, likewise.

    >>> squared_wasserstein(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [0.0], [3.0]]))  # 0, 0, 2² x a third, 1² / 6
    tensor([1.5000])
    """
    n, m = len(x), len(y)
    jumps = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n])  # in units of 1/(n·m): exact
    jumps = torch.unique(jumps)
    starts, widths = jumps[:-1], jumps.diff()
    difference = x[starts // m] - y[starts // n]
    squares: Tensor = widths.to(x.dtype) @ difference.square() / (n * m)
    return squares


def sliced_wasserstein(x: Tensor, y: Tensor, v: Tensor | None = None) -> float:
    """Return the sliced Wasserstein-2 distance of two sets of equal size.

    Args:
        x, y: samples, `(n, *shape)`, in the same units, in which the distance is.
        v: unit vectors as columns, `(d, count)`; None for `directions(d)`.

    Raises:
        ScorefieldError: sets of different sizes.

    >>> x = torch.zeros(10, 2, dtype=torch.float64)
    >>> round(sliced_wasserstein(x, x + 2.0), 6)  # a shift by w costs |w|/sqrt(d)
    2.0
    """
    if len(x) != len(y):
        raise ScorefieldError(f"got {len(x)} and {len(y)} samples, expected equally many: take a subset of the larger set")
    v = directions(flat(x).shape[1]) if v is None else v
    first, second = ((flat(rows).double() @ v).sort(dim=0).values for rows in (x, y))
    return float((first - second).square().mean().sqrt())


def mmd(x: Tensor, y: Tensor, bandwidth: float) -> float:
    """Return the unbiased MMD² for the kernel exp(-|x - y|²/(2·bandwidth²))."""
    return discrepancy(
        flat(x).double(), flat(y).double(), lambda a, b: torch.cdist(a, b).square_().div_(-2 * bandwidth**2).exp_()
    ).value


@register("metric", "sliced-wasserstein")
class SlicedWasserstein(Metric):
    """Sliced Wasserstein-2 distance along 128 fixed directions, in the units of the data.

    Its standard error is over draws of the samples, the reference and the directions being fixed. Like the Frechet distance it
    is biased upwards for few samples: read it beside the floor.
    """

    better: ClassVar[Literal["lower", "higher"]] = "lower"
    space: ClassVar[Literal["features", "data"]] = "data"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, self.least)
        v, n, m = directions(samples.shape[1]), len(samples), len(reference)
        (x, order), y = (samples @ v).sort(dim=0), (reference @ v).sort(dim=0).values
        value = float(squared_wasserstein(x, y).mean().sqrt())
        level = torch.arange(1, n) * m  # the jump of Q at i/n, if there is one, counts by half
        middle = (y[level // n] + y[(level - 1) // n]) / 2
        steps = (x.diff(dim=0) * (x[1:] + x[:-1] - 2 * middle)).cumsum(dim=0)
        psi = torch.zeros_like(x).scatter_(0, order, torch.cat([torch.zeros_like(x[:1]), steps])).mean(dim=1)
        return Estimate(value, float(psi.std()) / math.sqrt(n) / (2 * value) if value > 0 else 0.0)


@register("metric", "energy")
class EnergyDistance(Metric):
    """Energy distance 2·E|x - y| - E|x - x'| - E|y - y'|, unbiased, in the units of the data; 0 for equal distributions.

    Its standard error is over draws of the samples, the reference being fixed.
    """

    better: ClassVar[Literal["lower", "higher"]] = "lower"
    space: ClassVar[Literal["features", "data"]] = "data"
    least: ClassVar[int] = LEAST

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, self.least)
        centre = reference.mean(dim=0)  # distances by matrix products lose digits far from the origin
        return discrepancy(samples - centre, reference - centre, lambda x, y: torch.cdist(x, y).neg_())
