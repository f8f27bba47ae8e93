"""Diffusion posterior sampling (DPS): after every step of DDPM, a step of fixed length that brings H(D) nearer to y.

    x <- x - step·grad ‖y - H(D(x))‖        once for each of DDPM's 1,000 steps

The rule is made for one ladder. Here it is the field whose ancestral steps on DDPM's ladder are those steps. On that ladder a
step at noise lambda has the variance beta (VP, beta(t) from 0.1 to 20, t in thousandths),

    beta(lambda)² = (0.1² + 2·(20 - 0.1)·log(1 + lambda²))/1000²

and a score g moves x by beta·g there. So in z = x/alpha, with sd, the data's standard deviation, as the unit of lengths,

    rise = -(zeta·sqrt(m)/(sd·beta(lambda/sd)))·grad_z ‖y - H(D(z))‖,        step = zeta·sqrt(m)·sd

on any process, with any sampler and number of levels. The norm of m numbers grows like sqrt(m), and so does the step: the
published steps of 0.3 to 1, for images of 256x256 in colour with an sd of about 0.5, are zeta = 0.0014 to 0.0045. The norm is
that of one sample alone, so that the draws do not depend on the batch.

The norm adds the numbers of y in the units that they have, and its gradient is as long as A is large. So DPS depends on these
units by its definition: A and y times c are as zeta times c, and of numbers in different units the small ones hardly count.

Reference: Chung, Kim, McCann, Klasky, Ye (2023), "Diffusion posterior sampling for general noisy inverse problems", arXiv
2209.14687, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import field as default
from typing import Annotated, ClassVar

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.field import Field
from scorefield.guidance.posterior.base import Measured
from scorefield.guidance.posterior.guided import Guided, GuidedMethod, Product
from scorefield.levels import data_scale
from scorefield.process import Positive
from scorefield.registry import COMPONENT, register
from scorefield.samplers import Ancestral, Sampler
from scorefield.shapes import PerSample, Sample, over, total

STEPS, FIRST, LAST = 1000, 0.1, 20.0  # of DDPM's chain: how many, and beta at both ends


class DpsField(Guided):
    """A field guided by DPS, with any operator that has a gradient."""

    def __init__(self, field: Field, measured: Measured, zeta: float) -> None:
        """Wrap a field; take zeta."""
        super().__init__(field, measured)
        self.zeta = zeta

    def rise(self, denoised: Sample, lam: PerSample, transposed: Product) -> Sample:
        scale = data_scale(self.field, 1e-12)
        with torch.enable_grad():
            clean = denoised.requires_grad_(True)
            residual = self.residual(clean)
            (pull,) = torch.autograd.grad(residual, clean, -residual.detach())
        norm = total(residual.detach() ** 2).sqrt()
        beta = (FIRST**2 + 2 * (LAST - FIRST) * torch.log1p((lam / scale) ** 2)).sqrt() / STEPS
        length = self.zeta * math.sqrt(residual[0].numel()) / (scale * beta)
        strength = torch.where(norm > 0, length / norm.clamp(min=1e-300), 0.0)
        return over(strength, denoised) * transposed(pull)


@register("posterior", "dps")
@dataclass(frozen=True, config=COMPONENT)
class Dps(GuidedMethod):
    """Diffusion posterior sampling: of any operator with a gradient, and biased on every prior; the noise s is not used.

    On N(0, [[1, 0.8], [0.8, 1]]) with the first coordinate measured as 1.5, noise 0.3, its variances are 0.065 and 0.514 where
    0.083 and 0.413 are right, and the same whatever the noise. With zeta = 0.03 the first is 0.0005. With 0.003 it is 0.66, and
    the means are 0.65 and 0.40 where 1.38 and 1.10 are right: the spread of its draws says nothing about the doubt in y.

    Its draws depend on the units of y, and zeta is meant for an A whose rows have about length 1: divide each number of y, and
    its row of A, by the length of that row.

    Attributes:
        zeta: length of a step of DDPM towards y, in standard deviations of the data, for each number of y.
        sampler: any sampler.
        levels: of its ladder; as published 1,000; with them the first variance above is 0.054.
    """

    zeta: Positive = 0.01
    sampler: Sampler = default(default_factory=Ancestral)
    levels: Annotated[int, Bound(ge=2)] = 200
    linear_only: ClassVar[bool] = False

    def guided(self, field: Field, measured: Measured) -> Guided:
        return DpsField(field, measured, self.zeta)
