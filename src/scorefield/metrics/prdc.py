"""Precision, recall, density, coverage: is each sample real, and is each real example sampled?

Around every point of a set draw the ball that reaches its k-th nearest neighbour in the same set; their union stands for the
set's support.

    precision   share of samples inside some real example's ball            (quality)
    recall      share of real examples inside some sample's ball            (variety)
    density     mean number of real balls that hold a sample, over k        (precision, but robust to outliers)
    coverage    share of real examples whose ball holds some sample         (recall, but robust to outliers)

A collapsed generator has high precision and low recall; never swap them. A copy of the training set scores like real data:
these numbers do not see memorisation.

The standard errors are over draws of the samples, the real examples and so their balls being fixed. Precision and density are
then means of independent numbers. Coverage and recall are not: a jackknife leaves out a twentieth of the samples in turn, and
never says too little on average (Efron, Stein): 1.3 to 1.5 times too much for coverage, 1.5 to 3 times for recall. No share
is known better than to one in its count, even where all agree.

All four come from the same distances, by matrix products (2·d operations a pair) in blocks. Far from the origin those lose
digits, so what lies within their rounding of a ball's surface is measured again from differences.

References: Kynkaanniemi et al. (2019), "Improved precision and recall metric", arXiv 1904.06991. Naeem et al. (2020), "Reliable
fidelity and diversity metrics for generative models", arXiv 2002.09797. Efron, Stein (1981), "The jackknife estimate of
variance".
"""

from __future__ import annotations

import hashlib
import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from scorefield.metrics.base import Estimate, Metric, check
from scorefield.registry import register

NEIGHBOURS = 5  # k; Naeem et al. recommend 5, Kynkaanniemi et al. report 3
GROUPS = 20  # of the jackknife
NEAREST = 40  # points that are found for each: enough for k of them to stay when a group is left out
NUMBERS = 2**24  # of differences of points at a time: few of many features
BLOCK = 512  # rows at a time: 512 x 10,000 numbers are 40 MB
TINY = 5e-324  # a ball of radius 0 (a repeated row) still holds its centre

_last: dict[tuple[bytes, bytes], dict[str, Estimate]] = {}  # what was asked for last, since four metrics ask for it in turn
_radii: dict[bytes, Tensor] = {}  # of the last reference, which is compared with many sets


def prdc(samples: Tensor, reference: Tensor) -> dict[str, Estimate]:
    """Return precision, recall, density and coverage, all from the same distances.

    Args:
        samples: `(n, d)`, n at least 6.
        reference: real data, `(m, d)`, m at least 6.

    Returns:
        The estimates by name; those of the last pair of sets are remembered, by content.

    Raises:
        ScorefieldError: shapes that disagree, too few rows, or NaN.

    >>> points = torch.arange(40.0).reshape(20, 2)
    >>> {name: each.value for name, each in prdc(points, points).items()}
    {'precision': 1.0, 'recall': 1.0, 'density': 1.0, 'coverage': 1.0}
    """
    samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
    key = _digest(samples), _digest(reference)
    if key not in _last:
        found = _prdc(samples - reference[0], reference - reference[0], key[1])
        _last.clear()
        _last[key] = found
    return _last[key]


def _digest(rows: Tensor) -> bytes:
    return hashlib.blake2b(rows.contiguous().cpu().numpy().data, digest_size=16).digest() + repr(rows.shape).encode()


def _slack(rows: Tensor) -> Tensor:
    """Return each row's part in the rounding of a squared distance by matrix products, `(n,)`."""
    return (rows.shape[1] + 8) * torch.finfo(rows.dtype).eps * rows.square().sum(dim=1)


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """Return squared distances `(n, m)` by a matrix product."""
    norms = y.square().sum(dim=1)
    return torch.addmm(norms, x, y.mT, alpha=-2).add_(x.square().sum(dim=1, keepdim=True))


def _neighbours(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared distances of each point's nearest points, itself first, and which they are; both `(n, NEAREST)`.

    Where rounding could put the k-th neighbour after the last one taken, all distances are taken from differences.
    """
    squares, which = [], []
    for batch in torch.split(points, max(1, min(BLOCK, NUMBERS // (NEAREST * points.shape[1])))):
        rough, near = _squares(batch, points).topk(min(NEAREST, len(points)), dim=1, largest=False)
        exact, order = (batch[:, None] - points[near]).square().sum(dim=2).sort(dim=1)
        near = near.gather(1, order)
        hidden = (exact[:, NEIGHBOURS] > 0) & (rough[:, -1] - exact[:, NEIGHBOURS] <= 4 * _slack(batch))
        if near.shape[1] < len(points) and bool(hidden.any()):
            all_of_them = torch.cdist(batch[hidden], points, compute_mode="donot_use_mm_for_euclid_dist").square()
            exact[hidden], near[hidden] = all_of_them.topk(near.shape[1], dim=1, largest=False)
        squares.append(exact)
        which.append(near)
    return torch.cat(squares), torch.cat(which)


def _inside(squares: Tensor, radii: Tensor, x: Tensor, y: Tensor, slack: Tensor) -> Tensor:
    """Return where a squared distance is below a squared radius; those too near to decide are computed again, and corrected."""
    doubt = ((squares - radii).abs() <= slack).nonzero()
    for i, j in (pairs.unbind(dim=1) for pairs in torch.split(doubt, max(1, NUMBERS // x.shape[1]))):
        squares[i, j] = (x[i] - y[j]).square().sum(dim=1)
    return squares < radii


def _prdc(samples: Tensor, reference: Tensor, name: bytes) -> dict[str, Estimate]:
    n, m = len(samples), len(reference)
    if name not in _radii:
        radii = _neighbours(reference)[0][:, NEIGHBOURS].clamp(min=TINY)
        _radii.clear()
        _radii[name] = radii
    real = _radii[name]
    slack_of_real = _slack(reference)
    # With a group left out a sample's ball reaches further, or is gone; the last column leaves out none.
    groups = min(GROUPS, n)
    group = torch.arange(n) % groups
    squares, which = _neighbours(samples)
    fake = torch.stack([_radii_without(squares, group[which] == left) for left in range(groups + 1)], dim=1)
    fake[torch.arange(n), group] = 0.0
    held = torch.zeros(n, dtype=torch.float64)  # in how many real balls a sample lies
    holds = torch.zeros(m, groups, dtype=torch.float32)  # how many samples of each group lie in a real ball
    reached = torch.zeros(m, groups + 1, dtype=torch.bool)  # by a sample's ball, with each group left out
    for first in range(0, n, BLOCK):
        batch, rows = samples[first : first + BLOCK], slice(first, first + BLOCK)
        squared, slack = _squares(batch, reference), _slack(batch)[:, None] + slack_of_real
        whole = _inside(squared, fake[rows, -1:], batch, reference, slack).any(dim=0)
        inside = _inside(squared, real, batch, reference, slack).float()
        held[rows] = inside.sum(dim=1).double()
        holds += inside.mT @ torch.nn.functional.one_hot(group[rows], groups).float()
        reached[:, -1] |= whole
        still = (~reached[:, :-1].all(dim=1)).nonzero().squeeze(1)
        squared = squared[:, still]
        for left in range(groups):
            reached[still, left] |= (squared < fake[rows, left, None]).any(dim=0)
    rest = holds.sum(dim=1, keepdim=True) - holds
    return {
        "precision": _mean((held > 0).double()),
        "recall": _jackknife(reached[:, -1], reached[:, :-1]),
        "density": _mean(held / NEIGHBOURS),
        "coverage": _jackknife(holds.sum(dim=1) > 0, rest > 0),
    }


def _radii_without(squares: Tensor, left: Tensor) -> Tensor:
    """Return the squared radius of each ball, `(n,)`, if the neighbours with True in `left`, `(n, NEAREST)`, were not there."""
    order = (~left).cumsum(dim=1)
    place = (order < NEIGHBOURS + 1).sum(dim=1, keepdim=True).clamp(max=squares.shape[1] - 1)
    return squares.gather(1, place).squeeze(1).clamp(min=TINY)


def _mean(each: Tensor) -> Estimate:
    """Return the mean of independent numbers."""
    return Estimate(float(each.mean()), math.hypot(float(each.std()) / math.sqrt(len(each)), 1 / len(each)))


def _jackknife(yes: Tensor, without: Tensor) -> Estimate:
    """Return the share of `yes`, `(m,)`; `without`, `(m, groups)`, is the same with each group of samples left out."""
    shares, groups = without.double().mean(dim=0), without.shape[1]
    spread = math.sqrt((groups - 1) ** 2 / groups) * float(shares.std())
    return Estimate(float(yes.double().mean()), math.hypot(spread, 1 / len(yes)))


@register("metric", "precision")
class Precision(Metric):
    """Share of samples that lie inside the support of the real data, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"
    least: ClassVar[int] = NEIGHBOURS + 1

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        return prdc(samples, reference)["precision"]


@register("metric", "recall")
class Recall(Metric):
    """Share of real examples that lie inside the support of the samples, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"
    least: ClassVar[int] = NEIGHBOURS + 1

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        return prdc(samples, reference)["recall"]


@register("metric", "density")
class PRDensity(Metric):
    """Mean number of real balls that hold a sample, over k; about 1 for real data."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"
    least: ClassVar[int] = NEIGHBOURS + 1

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        return prdc(samples, reference)["density"]


@register("metric", "coverage")
class Coverage(Metric):
    """Share of real examples whose ball holds at least one sample, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"
    least: ClassVar[int] = NEIGHBOURS + 1

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        return prdc(samples, reference)["coverage"]
