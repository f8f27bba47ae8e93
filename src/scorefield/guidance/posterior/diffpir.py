"""DiffPIR: at every level the denoised sample is moved to a point that also explains y, as if the prior were flat around it.

    D' = argmin over v of |y - A·v|²/s² + strength·|v - D|²/lambda²
       = D + C·Aᵀ·(s²·I + A·C·Aᵀ)⁻¹·(y - A·D),    C = lambda²/strength·I

and the step is made as if D' were the denoised sample. As a field that is the score plus (D' - D)/lambda². No gradient of the
denoiser is taken. It is the cheapest of the guided fields.

Reference: Zhu, Zhang, Liang, Cao, Wen, Timofte, Van Gool (2023), "Denoising diffusion models for plug-and-play image
restoration", arXiv 2305.08995.
"""

from __future__ import annotations

from dataclasses import field as default
from typing import Annotated, ClassVar

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.field import Field
from scorefield.guidance.posterior.base import Measured
from scorefield.guidance.posterior.guided import Guided, GuidedMethod, Product
from scorefield.process import Positive
from scorefield.registry import COMPONENT, register
from scorefield.samplers import DDIM, Sampler
from scorefield.shapes import PerSample, Sample, over


class DiffpirField(Guided):
    """A field guided by DiffPIR; in the limit of a flat prior, and strength 1, the score of the posterior."""

    differentiates: ClassVar[bool] = False

    def __init__(self, field: Field, measured: Measured, strength: float) -> None:
        """Wrap a field; take the weight of the denoised sample against y."""
        super().__init__(field, measured)
        self.strength = strength

    def rise(self, denoised: Sample, lam: PerSample, transposed: Product) -> Sample:
        variance = over(lam**2, denoised) / self.strength
        return self.explained(self.residual(denoised), lam, lambda rows: variance * rows) / self.strength


@register("posterior", "diffpir")
@dataclass(frozen=True, config=COMPONENT)
class Diffpir(GuidedMethod):
    """Plug-and-play restoration by denoising diffusion: cheap, and biased even for Gaussians; see the table in `guided.py`.

    What was not measured follows y too little: on N(0, [[1, 0.8], [0.8, 1]]) with the first coordinate measured as 1.5, noise
    0.3, the second gets the mean 0.69 where 1.10 is right. Exact for a flat prior. With a larger strength y counts less:
    at 8 the measured coordinate itself gets 0.96 where 1.38 is right.

    Attributes:
        strength: weight of the denoised sample against y; as published between 1 and 25.
        sampler: any sampler.
        levels: of its ladder.
    """

    strength: Positive = 1.0
    sampler: Sampler = default(default_factory=lambda: DDIM(eta=1.0))
    levels: Annotated[int, Bound(ge=2)] = 100
    linear_only: ClassVar[bool] = True

    def guided(self, field: Field, measured: Measured) -> Guided:
        return DiffpirField(field, measured, self.strength)
