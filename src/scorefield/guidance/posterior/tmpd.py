"""Tweedie moment projected diffusion (TMPD): the covariance of p(y | z) is projected to a diagonal, by its row sums.

    rise = Jᵀ·Aᵀ·(y - A·D)/(s² + c),    c_i = lambda²·|a_i|·(A·Jᵀ·Aᵀ·w)_i,    w_k = 1/|a_k|,    a_i the rows of A

Two backward passes a level and no system to solve. The row sums are the matrix where it is diagonal; they may be negative where
it is not, and are then taken as 0. Each number of y is taken in units in which its row has length 1: sums in the units of y, as
published, would change with them. Where the rows have one length, both are the same.

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
from scorefield.guidance.posterior.rows import weights
from scorefield.registry import COMPONENT, register
from scorefield.samplers import Sampler, StochasticABM
from scorefield.shapes import PerSample, Sample, over

LEAST = 1e-6  # of the variance of a number of A·x0 given z, below which none is trusted where the noise is zero


class TmpdField(Guided):
    """A field guided by TMPD; for a Gaussian prior and a y of one number, the score of the posterior."""

    def rise(self, denoised: Sample, lam: PerSample, transposed: Product) -> Sample:
        operator, residual = self.measured.operator, self.residual(denoised)
        s = torch.as_tensor(self.measured.noise_std, dtype=residual.dtype, device=residual.device)
        sizes, square = self.sizes.to(residual), over(lam**2, residual)
        ones = weights(sizes).expand_as(residual)  # of one in the units of each number
        sums = sizes.sqrt() * operator(transposed(operator.adjoint(ones, self.shape)))
        weight = weights(torch.maximum(s**2 + square * sums.clamp(min=0), LEAST * self.size(lam, residual)))
        return transposed(operator.adjoint(weight**2 * residual, self.shape))


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
