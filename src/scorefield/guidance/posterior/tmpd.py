"""Tweedie moment projected diffusion (TMPD): the covariance of p(y | z) is projected to a diagonal, by its row sums.

    rise = Jᵀ·Aᵀ·(y - A·D)/(s² + c),    c = lambda²·A·Jᵀ·Aᵀ·1

Two backward passes a level and no system to solve. The row sums are the matrix where it is diagonal; they may be negative where
it is not, and are then taken as 0.

Reference: Boys, Girolami, Pidstrigach, Reich, Mosca, Akyildiz (2023), "Tweedie moment projected diffusions for inverse
problems", arXiv 2310.06721.
"""

from __future__ import annotations

from dataclasses import field as default
from typing import Annotated, ClassVar

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.field import Field
from scorefield.guidance.posterior.base import Measured
from scorefield.guidance.posterior.guided import Guided, GuidedMethod, Product
from scorefield.registry import COMPONENT, register
from scorefield.samplers import Sampler, StochasticABM
from scorefield.shapes import PerSample, Sample, over

LEAST = 1e-6  # of lambda², below which no variance of y is trusted where the noise is zero


class TmpdField(Guided):
    """A field guided by TMPD; for a Gaussian prior and a y of one number, the score of the posterior."""

    def rise(self, denoised: Sample, lam: PerSample, transposed: Product) -> Sample:
        operator, residual = self.measured.operator, self.residual(denoised)
        s = torch.as_tensor(self.measured.noise_std, dtype=residual.dtype, device=residual.device)
        sums = operator(transposed(operator.adjoint(torch.ones_like(residual), self.shape)))
        square = over(lam**2, residual)
        variance = (s**2 + square * sums.clamp(min=0)).clamp(min=LEAST * square)
        return transposed(operator.adjoint(residual / variance, self.shape))


@register("posterior", "tmpd")
@dataclass(frozen=True, config=COMPONENT)
class Tmpd(GuidedMethod):
    """Tweedie moment projected diffusion: MMPS where the covariance of y given z is diagonal, and biased else.

    Exact for a Gaussian prior where y is one number, or numbers that do not depend on each other given z.

    Attributes:
        sampler: any sampler.
        levels: of its ladder.
    """

    sampler: Sampler = default(default_factory=StochasticABM)
    levels: Annotated[int, Bound(ge=2)] = 100
    linear_only: ClassVar[bool] = True

    def guided(self, field: Field, measured: Measured) -> Guided:
        return TmpdField(field, measured)
