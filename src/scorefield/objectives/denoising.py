"""Denoising score matching: regress the score on the gradient of the known noising density.

    x_t = alpha·x0 + sigma·noise,    grad log p(x_t | x0) = -(x_t - alpha·x0)/sigma² = -noise/sigma    (mind the minus)
    loss = 1/2·lambda(t)·‖s(x_t, t) + noise/sigma‖²

The target is an unbiased guess of the score of the *smoothed* density at any sigma, so the minimum is grad log p_t, and
loss(s) - loss(grad log p_t) is lambda/2 times the Fisher divergence between them. With lambda = sigma² it equals
1/2·‖noise_hat - noise‖²: weighting that by sigma² once more would weigh the score by sigma⁴.

References: Vincent (2011), "A connection between score matching and denoising autoencoders". Song, Ermon (2019),
arXiv 1907.05600. Karras et al. (2022), arXiv 2206.00364.
"""

from __future__ import annotations

from dataclasses import field as default

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.field import Field
from scorefield.levels import Density, Levels
from scorefield.objectives.base import Objective, Terms
from scorefield.objectives.weightings import SigmaSquared, Weighting
from scorefield.randomness import Noise
from scorefield.registry import register
from scorefield.shapes import PerSample, Sample, over, total


@register("objective", "denoising")
@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Denoising(Objective):
    """Denoising score matching, one random noise level per example, or all levels of a ladder summed.

    Attributes:
        density: where t is drawn.
        weighting: lambda, on the score.
        every_level: with a `Levels` density, sum over all its levels (mean weight 1/L each) instead of drawing one: the same
            expectation, less variance, L times the cost.

    >>> from scorefield import VE, Gaussian, Noise
    >>> field = Gaussian([0.0], [[1.0]], VE(0.1, 10.0))
    >>> Denoising()(field, field.sample(Noise(range(4))), noise=Noise(range(4), stream=1)).shape
    torch.Size([4])
    """

    density: Density = default(default_factory=Levels)
    weighting: Weighting = default(default_factory=SigmaSquared)
    every_level: bool = False

    def terms(self, field: Field, x0: Sample, cond: Tensor | None = None, *, noise: Noise) -> Terms:
        if not (self.every_level and isinstance(self.density, Levels)):
            t = self.density.quantile(field.process, noise.uniform(())).to(x0.device)
            return Terms(self.at(field, x0, t, cond, noise=noise), t)
        rungs = (torch.arange(self.density.levels, dtype=torch.float64) + 0.5) / self.density.levels
        times = self.density.quantile(field.process, rungs).to(x0.device)
        return Terms(torch.stack([self.at(field, x0, t.expand(len(x0)), cond, noise=noise) for t in times]).mean(dim=0), None)

    def at(self, field: Field, x0: Sample, t: PerSample, cond: Tensor | None = None, *, noise: Noise) -> PerSample:
        """Return the losses at given times, `(batch,)`."""
        alpha, sigma = field.process.alpha(t), field.process.sigma(t)
        eps = noise.normal(x0.shape[1:]).to(x0)
        x_t = over(alpha, x0) * x0 + over(sigma, x0) * eps
        error = field(x_t, t, cond).score + eps / over(sigma, x0)
        # sqrt(lambda) inside the square: at sigma = 0.01 the bare square would be 10^4 larger before lambda shrinks it.
        return 0.5 * total((over(self.weighting(alpha, sigma).sqrt(), x0) * error) ** 2)
