"""The public mixture benchmark: a prior, a measurement and its posterior, all in closed form.

    prior       25 components N(m_k, I) in d dimensions, m = (8i, 8j) repeated d/2 times, i, j in -2..2, weights ~ U[0, 1]
    measurement y = A·x0 + s·noise, A = U·diag(singular values)·Vᵀ of dy x d, U and V random, singular values sorted U[0, 1],
                s = U[0, 1] times the largest
    posterior   again 25 components: K = Aᵀ(AAᵀ + s²·I)⁻¹, means m_k + K(y - A·m_k), covariance I - K·A, and weights
                w_k·N(y; A·m_k, AAᵀ + s²·I)

Reference: Cardoso, Janati El Idrissi, Le Corff, Moulines (2023), "Monte Carlo guided diffusion for Bayesian linear inverse
problems", arXiv 2308.07983, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from scorefield.exact import GaussianMixture
from scorefield.metrics.two_sample import directions
from scorefield.process import VE, Process
from scorefield.randomness import SampleRng, stream_of

DIMENSIONS, MEASURED, PROJECTIONS = (8, 80, 800), (1, 2, 4), 1000
SMALLEST, RULE = 0.01, 10.0  # of the ladder: its last level, and its first over the largest principal standard deviation


@dataclass(frozen=True, eq=False)
class Problem:
    """A prior and a measurement: means `(25, d)`, weights `(25,)`, A `(dy, d)`, s and y `(dy,)`."""

    seed: int
    means: Tensor
    weights: Tensor
    matrix: Tensor
    noise_std: float
    y: Tensor

    @classmethod
    def make(cls, d: int, dy: int, seed: int) -> Problem:
        """Return the problem of a seed."""
        generator = torch.Generator().manual_seed(seed)

        def rand(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        def randn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        corners = torch.tensor([[8.0 * i, 8.0 * j] for i in range(-2, 3) for j in range(-2, 3)], dtype=torch.float64)
        means, weights = corners.repeat(1, d // 2), rand(25)
        weights = weights / weights.sum()
        u, _, v = torch.linalg.svd(randn(dy, d), full_matrices=False)
        singular = rand(dy).sort(descending=True).values
        matrix = u @ torch.diag(singular) @ v
        noise_std = float(rand(1) * singular.max())
        which = int(torch.multinomial(weights, 1, generator=generator))
        x0 = means[which] + randn(d)
        return cls(seed, means, weights, matrix, noise_std, matrix @ x0 + noise_std * randn(dy))

    @property
    def d(self) -> int:
        return self.means.shape[1]

    @cached_property
    def largest_std(self) -> float:
        """The largest principal standard deviation of the prior."""
        centred = (self.means - self.weights @ self.means) * self.weights.sqrt()[:, None]
        return float((1 + torch.linalg.matrix_norm(centred, 2) ** 2).sqrt())

    def field(self, process: Process | None = None) -> GaussianMixture:
        """Return the prior as an exact field."""
        process = process or VE(SMALLEST, RULE * self.largest_std)
        return GaussianMixture(self.weights, self.means, torch.ones(25), process)

    @cached_property
    def gain(self) -> Tensor:
        """K, `(d, dy)`."""
        evidence = self.matrix @ self.matrix.mT + self.noise_std**2 * torch.eye(len(self.y), dtype=torch.float64)
        gain: Tensor = torch.linalg.solve(evidence, self.matrix).mT
        return gain

    @cached_property
    def posterior_weights(self) -> Tensor:
        off = self.y - self.means @ self.matrix.mT
        evidence = self.matrix @ self.matrix.mT + self.noise_std**2 * torch.eye(len(self.y), dtype=torch.float64)
        log_weights = self.weights.log() - 0.5 * (off * torch.linalg.solve(evidence, off.mT).mT).sum(dim=1)
        weights: Tensor = log_weights.softmax(dim=0)
        return weights

    def exact(self, n: int, index: int) -> Tensor:
        """Return exact posterior draws, `(n, d)`: x - K(A·x + s·noise - y) is one where x ~ N(m_k, I), k ~ the posterior's."""
        rng = SampleRng(range(n), stream=stream_of("exact posterior", self.seed, self.d, len(self.y), index))
        x = self.means[rng.choose(self.posterior_weights)] + rng.normal((self.d,))
        measured = x @ self.matrix.mT + self.noise_std * rng.normal((len(self.y),))
        return x + (self.y - measured) @ self.gain.mT

    @cached_property
    def directions(self) -> Tensor:
        return directions(self.d, PROJECTIONS)

    def slices(self, x: Tensor) -> Tensor:
        """Return sorted projections, `(n, PROJECTIONS)`."""
        return (x @ self.directions).sort(dim=0).values

    def distance(self, sliced: Tensor, other: Tensor) -> float:
        """Return the sliced Wasserstein-2 distance of two sets of `slices`."""
        return float((sliced - other).square().mean().sqrt())

    def variation(self, x: Tensor) -> float:
        """Return the total variation between the shares of the nearest modes and the posterior's weights."""
        nearest = (x @ self.means.mT - 0.5 * (self.means**2).sum(dim=1)).argmax(dim=1)
        return 0.5 * float((nearest.bincount(minlength=25) / len(x) - self.posterior_weights).abs().sum())

    def expected_variation(self, n: int) -> float:
        """Return the mean of the same for n exact draws, by 200 sets."""
        rng = SampleRng(range(200 * n), stream=stream_of("variation", self.seed))
        shares = rng.choose(self.posterior_weights).reshape(200, n)
        counts = torch.zeros(200, 25, dtype=torch.float64).scatter_add_(1, shares, torch.ones(200, n, dtype=torch.float64))
        return float(0.5 * (counts / n - self.posterior_weights).abs().sum(dim=1).mean())
