"""Precision, recall, density, coverage: is each sample real, and is each real example sampled?

Around every point of a set draw the ball that reaches its k-th nearest neighbour in the same set; their union stands for the
set's support.

    precision   share of samples inside some real example's ball            (quality)
    recall      share of real examples inside some sample's ball            (variety)
    density     mean number of real balls that hold a sample, over k        (precision, but robust to outliers)
    coverage    share of real examples whose ball holds some sample         (recall, but robust to outliers)

A collapsed generator has high precision and low recall; never swap them. A copy of the training set scores like real data:
these numbers do not see memorisation.

References: Kynkaanniemi et al. (2019), "Improved precision and recall metric", arXiv 1904.06991. Naeem et al. (2020), "Reliable
fidelity and diversity metrics for generative models", arXiv 2002.09797.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from scorefield.metrics.base import Estimate, Metric, check
from scorefield.registry import register

NEIGHBOURS = 5  # k; Naeem et al. recommend 5, Kynkaanniemi et al. report 3
GROUPS = 20  # of the jackknife


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    """Return distances (points, centres) from differences: by matrix products they lose their digits far from the origin."""
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")


def _estimate(points: Tensor, centres: Tensor, summary: Callable[[Tensor], Tensor]) -> Estimate:
    """Summarise which points lie in which centres' balls, with a standard error.

    The balls are shared by all points, so the items are far from independent and std/sqrt(n) is two to three times too small;
    a jackknife that leaves out a twentieth of either set in turn is not.

    Args:
        points: `(n, d)`.
        centres: `(m, d)`; a ball reaches to the k-th nearest other centre.
        summary: of the boolean table (n, m) "point in ball".
    """
    apart, within = _distances(points, centres), _distances(centres, centres)

    def value(rows: Tensor, columns: Tensor) -> float:
        radii = within[columns][:, columns].kthvalue(NEIGHBOURS + 1, dim=1).values  # the nearest is the centre itself
        near = apart[rows][:, columns]
        return float(summary((near < radii) | (near == 0)))  # repeated centres have balls of radius 0 that hold themselves

    everyone = torch.arange(len(points)), torch.arange(len(centres))
    variance = 0.0
    for which, rows in enumerate(everyone):
        groups = min(GROUPS, len(rows))
        if len(rows) - math.ceil(len(rows) / groups) <= NEIGHBOURS:
            return Estimate(value(*everyone), math.inf)
        left = [rows[rows % groups != group] for group in range(groups)]
        values = torch.tensor([value(some, everyone[1]) if which == 0 else value(everyone[0], some) for some in left])
        variance += float((groups - 1) / groups * ((values.double() - values.double().mean()) ** 2).sum())
    return Estimate(value(*everyone), math.sqrt(variance))


@register("metric", "precision")
class Precision(Metric):
    """Share of samples that lie inside the support of the real data, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
        return _estimate(samples, reference, lambda inside: inside.any(dim=1).double().mean())


@register("metric", "recall")
class Recall(Metric):
    """Share of real examples that lie inside the support of the samples, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
        return _estimate(reference, samples, lambda inside: inside.any(dim=1).double().mean())


@register("metric", "density")
class PRDensity(Metric):
    """Mean number of real balls that hold a sample, over k; about 1 for real data."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
        return _estimate(samples, reference, lambda inside: inside.sum(dim=1).double().mean() / NEIGHBOURS)


@register("metric", "coverage")
class Coverage(Metric):
    """Share of real examples whose ball holds at least one sample, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
        return _estimate(samples, reference, lambda inside: inside.any(dim=0).double().mean())
