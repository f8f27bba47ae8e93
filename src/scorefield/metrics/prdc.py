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
from typing import ClassVar, Literal

import torch
from torch import Tensor

from scorefield.metrics.base import Estimate, Metric, check
from scorefield.registry import register

NEIGHBOURS = 5  # k of both papers' code


def _radii(points: Tensor) -> Tensor:
    """Return the distance of each point to its k-th nearest other point, (n,)."""
    return torch.cdist(points, points).kthvalue(NEIGHBOURS + 1, dim=1).values  # the nearest is the point itself


def _mean(per_item: Tensor) -> Estimate:
    values = per_item.double()
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


@register("metric", "precision")
class Precision(Metric):
    """Share of samples that lie inside the support of the real data, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
        return _mean((torch.cdist(samples, reference) < _radii(reference)).any(dim=1))


@register("metric", "recall")
class Recall(Metric):
    """Share of real examples that lie inside the support of the samples, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
        return _mean((torch.cdist(reference, samples) < _radii(samples)).any(dim=1))


@register("metric", "density")
class PRDensity(Metric):
    """Mean number of real balls that hold a sample, over k; about 1 for real data."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
        return _mean((torch.cdist(samples, reference) < _radii(reference)).double().sum(dim=1) / NEIGHBOURS)


@register("metric", "coverage")
class Coverage(Metric):
    """Share of real examples whose ball holds at least one sample, in [0, 1]."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=NEIGHBOURS + 1)
        return _mean((torch.cdist(reference, samples) < _radii(reference)[:, None]).any(dim=1))
