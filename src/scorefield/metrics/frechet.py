"""Frechet distance: the Wasserstein-2 distance (squared) between the two Gaussians with the moments of the two sets.

    FD = |m1 - m2|² + tr(C1 + C2 - 2·(C1^½ C2 C1^½)^½)

It is biased upwards for few samples (the covariances are noisy), so it means something only beside the floor that two sets of
real data of the same sizes give. On Inception features it is called FID; on other features it must not be.

Its standard error is that of its influence: to first order, one more sample x moves FD in proportion to

    phi(x) = 2·(m1 - m2)·z + z·(I - T)·z,        z = x - m1,    T = C1^-½ (C1^½ C2 C1^½)^½ C1^-½

(T is the map that carries the one Gaussian to the other), so Var FD = Var phi / n, the reference being fixed. Near 0, where the
noise in T and m1 adds to it, that is a little more than the variance; resampling (a bootstrap) gives more still.

Where there are more features than examples the same is found from the examples' products, without any d x d matrix: with the
deviations from the mean over sqrt(n - 1) as the rows of A1 and A2, C = A^T·A and P = A1·A2^T,

    tr (C1^½ C2 C1^½)^½ = the sum of the singular values of P          z·T·z = (n - 1)·diag((P·P^T)^½)

Reference: Dowson, Landau (1982), "The Frechet distance between multivariate normal distributions". Heusel et al. (2017),
"GANs trained by a two time-scale update rule", arXiv 1706.08500. Rippl, Munk, Sturm (2016), "Limit laws of the empirical
Wasserstein distance: Gaussian distributions", arXiv 1507.04090.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from scorefield.metrics.base import Estimate, Metric, check
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


def _influence(samples: Tensor, mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """Return phi of every sample, `(n,)`, up to a constant; directions without samples play no part."""
    values, vectors = torch.linalg.eigh(cov1)
    values = values.clamp(min=0)
    held = values > len(values) * torch.finfo(values.dtype).eps * values.max()
    root = (vectors * values.sqrt()) @ vectors.mT
    back = (vectors * torch.where(held, values, 1.0).rsqrt() * held) @ vectors.mT
    cross, axes = torch.linalg.eigh(root @ cov2 @ root)
    z = samples - mean1
    carried = (z @ back @ axes).square() @ cross.clamp(min=0).sqrt()  # z·T·z
    phi: Tensor = 2 * z @ (mean1 - mean2) + z.square().sum(dim=1) - carried
    return phi


def _of_products(samples: Tensor, reference: Tensor) -> Estimate:
    """Return the distance of sets with more features than examples."""
    means = samples.mean(dim=0), reference.mean(dim=0)
    z, rest = samples - means[0], reference - means[1]
    n, shift = len(samples), means[0] - means[1]
    left, singular, _ = torch.linalg.svd(z @ rest.mT / math.sqrt((n - 1) * (len(reference) - 1)), full_matrices=False)
    phi = 2 * z @ shift + z.square().sum(dim=1) - (n - 1) * left.square() @ singular
    spread = z.square().sum() / (n - 1) + rest.square().sum() / (len(reference) - 1)
    return Estimate(float(shift.square().sum() + spread - 2 * singular.sum()), float(phi.std()) / math.sqrt(n))


@register("metric", "frechet")
class Frechet(Metric):
    """Frechet distance of two sets of features; its standard error is over draws of the samples, the reference being fixed."""

    better: ClassVar[Literal["lower", "higher"]] = "lower"

    def __call__(self, samples: Tensor, reference: Tensor) -> Estimate:
        samples, reference = check(samples, reference, self.least)
        if samples.shape[1] > max(len(samples), len(reference)):
            return _of_products(samples, reference)
        moments = *_moments(samples), *_moments(reference)
        phi = _influence(samples, *moments)
        return Estimate(frechet_of_moments(*moments), float(phi.std()) / math.sqrt(len(phi)))
