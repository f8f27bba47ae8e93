"""Pseudo-inverse guidance (PiGDM): the data given z are taken to be Gaussian with a stated covariance.

    rise = Jᵀ·Aᵀ·(s²·I + A·C·Aᵀ)⁻¹·(y - A·D),    C = (S⁻¹ + I/lambda²)⁻¹

with S the covariance of the data. As published, S = data_std²·I, so that C = r²·I with 1/r² = 1/data_std² + 1/lambda². Without
noise the matrix before the residual is then the pseudo-inverse of A over r², whence the name.

Reference: Song, Vahdat, Mardani, Kautz (2023), "Pseudoinverse-guided diffusion models for inverse problems", ICLR.
"""

from __future__ import annotations

from dataclasses import field as default
from typing import Annotated, ClassVar, Literal

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.field import Field, moments_of
from scorefield.guidance.posterior.base import Measured
from scorefield.guidance.posterior.guided import Guided, GuidedMethod, Product
from scorefield.moments import Moments
from scorefield.registry import COMPONENT, register
from scorefield.samplers import Sampler, StochasticABM
from scorefield.shapes import PerSample, Sample, flat, over


class PigdmField(Guided):
    """A field guided by PiGDM; for a Gaussian prior with the covariance S that it is given, the score of the posterior."""

    def __init__(self, field: Field, measured: Measured, moments: Moments | None = None) -> None:
        """Wrap a field; take S, or None for data_std²·I."""
        super().__init__(field, measured)
        self.moments = Moments.isotropic(field.data_mean, field.data_std) if moments is None else moments

    def rise(self, denoised: Sample, lam: PerSample, transposed: Product) -> Sample:
        moments = self.moments.to(denoised.device)
        square = over(lam**2, flat(denoised))

        def covariance(rows: Sample) -> Sample:
            return moments.map(lambda v: v * square / (v + square), flat(rows)).reshape(rows.shape)

        return transposed(self.explained(self.residual(denoised), lam, covariance))


@register("posterior", "pigdm")
@dataclass(frozen=True, config=COMPONENT)
class Pigdm(GuidedMethod):
    """Pseudo-inverse guided diffusion: exact for a Gaussian prior of the covariance that it is given, biased else.

    As published it is given data_std²·I. On N(0, [[1, 0.8], [0.8, 1]]) with the first coordinate measured as 1.5, noise 0.3,
    its means are 1.34 and 1.05 where 1.38 and 1.10 are right, its variances 0.091 and 0.434 where 0.083 and 0.413 are.

    Attributes:
        covariance: "isotropic" for data_std²·I, as published, or "data" for what the field knows of its data's covariance.
        sampler: any sampler.
        levels: of its ladder.
    """

    covariance: Literal["isotropic", "data"] = "isotropic"
    sampler: Sampler = default(default_factory=StochasticABM)
    levels: Annotated[int, Bound(ge=2)] = 100
    linear_only: ClassVar[bool] = True

    def guided(self, field: Field, measured: Measured) -> Guided:
        return PigdmField(field, measured, moments_of(field) if self.covariance == "data" else None)
