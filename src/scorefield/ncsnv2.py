"""NCSNv2's choices from the data: the largest noise level, the ratio of levels, and the step size of annealed Langevin.

For data of d coordinates

    sigma_max   as large as the largest pairwise distance, so that one level can carry a sample between any two modes
    gamma       ratio of neighbouring levels: in high dimension noise of level sigma lies on a shell of radius
                sqrt(d)·sigma and width sigma/sqrt(2); neighbouring shells overlap by half when
                Phi(sqrt(2d)(gamma - 1) + 3·gamma) - Phi(sqrt(2d)(gamma - 1) - 3·gamma) = 0.5
    eps         step size: k Langevin steps turn a sample of level sigma·gamma into one of variance sigma²·V, and eps makes
                V closest to 1:  V = (1 - eps/s²)^(2k)·(gamma² - q) + q,  q = 2·eps/(s² - s²(1 - eps/s²)²),  s = sigma_min

Reference: Song, Ermon (2020), "Improved techniques for training score-based generative models", arXiv 2006.09011.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.randomness import subsample
from scorefield.shapes import flat


def largest_distance(data: Tensor, *, at_most: int = 4096, seed: int = 0) -> float:
    """Return the largest Euclidean distance between two data points: NCSNv2's sigma_max.

    Args:
        data: `(n, *shape)`, n >= 2.
        at_most: of more points than this a random subset is taken.
        seed: of the subset.

    Raises:
        ScorefieldError: fewer than two different points.
    """
    rows = flat(data[subsample(len(data), at_most, seed)]).double()
    rows = rows - rows.mean(dim=0)  # cdist multiplies matrices and would lose its digits far from the origin
    lengths, order = rows.norm(dim=1).sort(descending=True)
    rows, largest = rows[order], 0.0
    for first in range(0, len(rows), 512):
        if 2 * float(lengths[first]) < largest:  # two points are at most as far from each other as their lengths together
            break
        batch, others = rows[first : first + 512], rows[first:]
        i, j = divmod(int(torch.cdist(batch, others).argmax()), len(others))
        largest = max(largest, float((batch[i] - others[j]).norm()))
    if not largest > 0:
        raise ScorefieldError(f"got {len(rows)} data points without two different ones, expected a spread: check the data")
    return largest


def level_ratio(dimension: int) -> float:
    """Return gamma > 1, NCSNv2's ratio of neighbouring levels in `dimension` coordinates.

    In four dimensions and fewer there are no thin shells and every ratio overlaps by half; the ratio is therefore never
    larger than NCSN's 100^(1/9) = 1.668. For CIFAR-10 the equation gives 220 levels; the paper uses 232.

    >>> round(level_ratio(3 * 32 * 32), 4)
    1.0398
    """

    def overlap(gamma: float) -> float:
        shift = math.sqrt(2 * dimension) * (gamma - 1)
        normal = [0.5 * math.erfc(-z / math.sqrt(2)) for z in (shift + 3 * gamma, shift - 3 * gamma)]
        return normal[0] - normal[1]

    low, high = 1.0, 100 ** (1 / 9)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle) > 0.5 else (low, middle)
    return low


def number_of_levels(sigma_min: float, sigma_max: float, gamma: float) -> int:
    """Return how many levels a geometric ladder from sigma_max to sigma_min needs for a ratio of at most gamma.

    >>> number_of_levels(0.01, 50.0, level_ratio(3072))
    220
    """
    return max(2, 1 + math.ceil(math.log(sigma_max / sigma_min) / math.log(gamma) - 1e-9))


def variance_ratio(eps: float, gamma: float, steps: int, sigma_min: float = 1.0) -> float:
    """Return V: after `steps` Langevin steps of size eps a level, the sample's variance over the level's (wanted: 1)."""
    shrink = (1 - eps / sigma_min**2) ** 2
    q = 2 * eps / (sigma_min**2 * (1 - shrink))
    return shrink**steps * (gamma**2 - q) + q


@functools.lru_cache(maxsize=4)
def _step_grid(steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return eps on a dense log grid at sigma_min = 1, (1 - eps)^(2·steps) and q, each `(200_001,)`: the costly part of V."""
    grid = torch.logspace(-6, math.log10(1.999), 200_001, dtype=torch.float64)
    shrink = (1 - grid) ** 2
    return grid, shrink**steps, 2 * grid / (1 - shrink)


def closest_variance(gamma: float, steps: int) -> tuple[float, float]:
    """Return (eps, V) at sigma_min = 1: the step size whose variance ratio V after `steps` steps is closest to 1, and V."""
    # A dense grid, because |V - 1| has several minima and the smallest eps may not win.
    grid, shrunk, q = _step_grid(steps)
    ratio = shrunk * (gamma**2 - q) + q
    best = int((ratio - 1).abs().argmin())
    return float(grid[best]), float(ratio[best])


def step_size(gamma: float, steps: int, sigma_min: float = 1.0) -> float:
    """Return NCSNv2's eps: the one whose variance ratio after `steps` steps a level is closest to 1.

    Args:
        gamma: ratio of neighbouring levels, > 1.
        steps: Langevin steps a level, k >= 1.
        sigma_min: smallest level, where tau = eps.

    Returns:
        eps in (0, 2·sigma_min²), in the convention x <- x + tau·score + sqrt(2·tau)·z with tau = eps·sigma²/sigma_min².

    >>> f"{step_size((50 / 0.01) ** (1 / 231), steps=5, sigma_min=0.01):.1e}"  # the paper's CIFAR-10 value is 6.2e-06
    '6.2e-06'
    """
    return closest_variance(gamma, steps)[0] * sigma_min**2


@functools.cache
def reachable_ratio(steps: int, variance: float = 1.1) -> float:
    """Return the largest gamma that `steps` Langevin steps a level can follow: V <= `variance` at the best eps.

    NCSNv2's ratio asks only that neighbouring levels overlap, which in few dimensions lets them lie so far apart that no step
    size keeps up: at its ratio of 1.36 for 64 dimensions, five steps leave 18 % too much noise variance on every level. For
    CIFAR-10 the paper's own ratio gives V = 1.06, so this bound binds below about 600 dimensions only.

    >>> 1.05 < reachable_ratio(5) < reachable_ratio(10) < reachable_ratio(100)
    True
    """
    low, high = 1.0 + 1e-4, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if closest_variance(middle, steps)[1] <= variance else (low, middle)
    return low
