"""Frechet distance: the Wasserstein-2 distance (squared) between the two Gaussians with the moments of the two sets.

    FD = |m1 - m2|² + tr(C1 + C2 - 2·(C1^½ C2 C1^½)^½)

It is biased upwards for few samples (the covariances are noisy), so it means something only beside the floor that two sets of
real data of the same sizes give. On Inception features it is called FID; on other features it must not be.

Reference: Dowson, Landau (1982), "The Frechet distance between multivariate normal distributions". Heusel et al. (2017),
"GANs trained by a two time-scale update rule", arXiv 1706.08500.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from scorefield.metrics.base import Estimate, Metric, check
from scorefield.randomness import Noise, stream_of
from scorefield.registry import register


def frechet_of_moments(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Return the squared Wasserstein-2 distance of N(mean1, cov1) and N(mean2, cov2).

    >>> eye = torch.eye(2, dtype=torch.float64)
    >>> frechet_of_moments(torch.zeros(2), eye, torch.ones(2), 4 * eye)  # |m|² = 2, and (2 - 1)² for each of two axes
    4.0
    """
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    return float(((mean1 - mean2) ** 2).sum() + cov1.trace() + cov2.trace() - 2 * cross)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(dim=0), features.mT.cov().reshape(features.shape[1], -1)  # cov() of one column is a scalar


@register("metric", "frechet")
class Frechet(Metric):
    """Frechet distance of two sets of features, with a bootstrap standard error over the samples (20 resamplings)."""

    better: ClassVar[Literal["lower", "higher"]] = "lower"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, least=2)
        real = _moments(reference)
        again = []
        for resampling in range(20):
            rows = Noise(range(len(samples)), stream=stream_of("frechet", resampling)).choose(torch.ones(len(samples)))
            again.append(frechet_of_moments(*_moments(samples[rows]), *real))
        return Estimate(frechet_of_moments(*_moments(samples), *real), float(torch.tensor(again, dtype=torch.float64).std()))
