"""Predictor-corrector sampling: after every step of a sampler that jumps, Langevin steps at the new noise level.

The predictor leaves x near p_s. The corrector, which leaves p_s unchanged, brings x nearer to it. Its step is

    tau = strength·h·sigma_s²,    h = log(lambda/lambda_s), the length of the predictor's step, at most sigma_s²/2,

so that the Langevin time in a range of noise levels does not depend on the number of levels there, and the corrector's own
bias, tau/(2·sigma²), decreases with the steps. The published corrector has tau = 2·(0.16·sigma)² on any ladder: a bias
that more levels do not reduce. On its 1,000 levels of VE that is a strength of 6. It computes sigma from the norms ‖z‖/‖score‖
averaged over the batch, which would make a sample depend on the rest of its batch; here it is sigma itself.

Reference: Song et al. (2021), "Score-based generative modeling through stochastic differential equations", arXiv 2011.13456,
algorithms 4 and 5.
"""

from __future__ import annotations

import math
from dataclasses import field as default
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.errors import ScorefieldError
from scorefield.process import Positive
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers.base import CountedField, Info, Sampler, Step
from scorefield.samplers.langevin import langevin_step
from scorefield.samplers.sde import ReverseDiffusion
from scorefield.shapes import Sample


@register("sampler", "predictor-corrector")
@dataclass(frozen=True, config=COMPONENT)
class PredictorCorrector(Sampler):
    """A predictor followed by Langevin corrections at the level it reached.

    Attributes:
        sampler: the predictor, any that jumps from level to level.
        corrections: Langevin steps a level.
        strength: Langevin time per unit of log-noise, in units of sigma².
    """

    sampler: Sampler = default(default_factory=ReverseDiffusion)
    corrections: Annotated[int, Bound(ge=1)] = 1
    strength: Positive = 1.0
    ladder: ClassVar[str] = "geometric"
    levels: ClassVar[int] = 500
    evaluations_per_step: ClassVar[int | None] = None  # the predictor's and one for every correction

    @property
    def order(self) -> int | None:
        return 1

    @property
    def dwells(self) -> bool:
        return self.sampler.dwells

    @property
    def remembers(self) -> bool:
        return self.sampler.remembers

    def within(self, steps: int) -> tuple[Sampler, int]:
        return replace(self), max(2, steps)

    def at_fixed_steps(self) -> Sampler:
        return replace(self, sampler=self.sampler.at_fixed_steps())

    def start(self, field: CountedField, steps: list[Step]) -> Any:
        """Return the predictor's own state; raises `ScorefieldError` for one that dwells, which leads to no other level."""
        if self.dwells:
            raise ScorefieldError(
                f"got the predictor {self.sampler}, which stays on its level, expected one that jumps to the next: "
                "reverse-diffusion"
            )
        return self.sampler.start(field, steps)

    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        assert step.s is not None  # on the last level the loop calls no sampler that jumps
        x, state, info = self.sampler.step(field, x, step, state, rng)
        h = math.log(step.sigma * step.alpha_s / (step.alpha * step.sigma_s))
        for _ in range(self.corrections):
            x = langevin_step(field, x, step.s, min(self.strength * h / self.corrections, 0.5) * step.sigma_s**2, rng)
        return x, state, info
