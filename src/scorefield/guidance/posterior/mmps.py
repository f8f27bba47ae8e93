"""Moment matching posterior sampling (MMPS): the covariance of p(x0 | z) is taken from the Jacobian of the denoiser.

    rise = Jᵀ·Aᵀ·(s²·I + lambda²·A·Jᵀ·Aᵀ)⁻¹·(y - A·D)

Cov[x0 | z] = lambda²·J is exact, so the first two moments of p(y | z) are right at every level. The system is solved by
conjugate gradients; each of their steps takes one product with Jᵀ, that is, one backward pass. J is symmetric for the denoiser
of a density; of a trained network it is nearly so, and where a step finds no positive curvature, the solution stays as it is.

Reference: Rozet, Andry, Lanusse, Louppe (2024), "Learning diffusion priors from observations by expectation maximization",
arXiv 2405.13712.
"""

from __future__ import annotations

from dataclasses import field as default
from typing import Annotated, ClassVar

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.field import Field
from scorefield.guidance.posterior.base import Measured
from scorefield.guidance.posterior.guided import Guided, GuidedMethod, Product
from scorefield.registry import COMPONENT, register
from scorefield.samplers import Sampler, StochasticABM
from scorefield.shapes import PerSample, Sample, over


class MmpsField(Guided):
    """A field guided by MMPS; for a Gaussian prior, and enough iterations, the score of the posterior, exactly."""

    def __init__(self, field: Field, measured: Measured, iterations: int) -> None:
        """Wrap a field; take the steps of conjugate gradients, at most."""
        super().__init__(field, measured)
        self.iterations = iterations

    def rise(self, denoised: Sample, lam: PerSample, transposed: Product) -> Sample:
        variance = over(lam**2, denoised)
        return transposed(
            self.explained(self.residual(denoised), lam, lambda rows: variance * transposed(rows), self.iterations)
        )


@register("posterior", "mmps")
@dataclass(frozen=True, config=COMPONENT)
class Mmps(GuidedMethod):
    """Moment matching posterior sampling: exact for Gaussian priors, the nearest of the guided fields for others.

    Its guided field is the score of the posterior for every Gaussian prior, at every level and on any process, so that only the
    sampler's own error is left. Of separate modes it gets the shares wrong: 0.45 where 0.49 is right, in `guided.py`.

    Attributes:
        iterations: of conjugate gradients at each level, one backward pass each. The system is solved exactly by as many as y
            has numbers; with fewer the draws follow y less than they should.
        sampler: any sampler.
        levels: of its ladder.
    """

    iterations: Annotated[int, Bound(ge=1)] = 5
    sampler: Sampler = default(default_factory=StochasticABM)
    levels: Annotated[int, Bound(ge=2)] = 100
    linear_only: ClassVar[bool] = True

    def guided(self, field: Field, measured: Measured) -> Guided:
        return MmpsField(field, measured, self.iterations)
