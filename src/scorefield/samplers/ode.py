"""Probability flow: the deterministic path with the same marginals, dx/dt = f·x - g²·score/2.

Integrated in lambda = sigma/alpha and z = x/alpha, where the equation loses its linear part and reads

    dz/dlambda = noise_hat(x, t) = -sigma·score(x, t)

for every process: one integrator, no coefficient of drift or diffusion, and straight lines wherever noise_hat is constant.

References: Song et al. (2021), arXiv 2011.13456, equation 13. Song, Meng, Ermon (2021), "Denoising diffusion implicit models",
arXiv 2010.02502, section 4.3. Karras et al. (2022), arXiv 2206.00364, algorithm 1.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.process import Positive
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers.base import NOTHING, CountedField, Info, Sampler, Step
from scorefield.shapes import Sample


@register("sampler", "euler")
@dataclass(frozen=True, config=COMPONENT)
class Euler(Sampler):
    """Euler's method on the probability flow, order 1; the same update as DDIM with eta = 0."""

    order: ClassVar[int | None] = 1
    dwells: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 50

    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        span = step.sigma_s / step.alpha_s - step.sigma / step.alpha
        x = (step.alpha_s / step.alpha * x).add(field(x, step.t).noise, alpha=step.alpha_s * span)
        return x, state, NOTHING


@register("sampler", "heun")
@dataclass(frozen=True, config=COMPONENT)
class Heun(Sampler):
    """Heun's method on the probability flow, order 2, two evaluations a step; EDM's sampler, with its churn.

    Churn adds noise before a step, lambda -> lambda·(1 + gamma) with gamma = min(churn/steps, sqrt(2) - 1): exact in law, so
    that the order stays, while the fresh noise forgets earlier errors.

    Attributes:
        churn: S_churn, 0 for a deterministic path.
        churn_from, churn_to: the range of sigma/alpha in which noise is added (S_tmin, S_tmax); None for no upper end.
        noise_scale: S_noise, 1 for the exact law; a little more makes up for a network's loss of detail.
    """

    churn: Annotated[float, Bound(ge=0, allow_inf_nan=False)] = 0.0
    churn_from: Annotated[float, Bound(ge=0)] = 0.0
    churn_to: Positive | None = None
    noise_scale: Positive = 1.0
    order: ClassVar[int | None] = 2
    dwells: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 2
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 20

    def within(self, steps: int) -> tuple[Sampler, int]:
        return self, max(2, steps)

    def start(self, field: CountedField, steps: list[Step]) -> list[tuple[float, float, float]]:
        """Return the time, alpha and lambda from which each step starts, after churning; at most the process's own t_max."""
        lams = torch.tensor([step.sigma / step.alpha for step in steps], dtype=torch.float64)
        times = torch.tensor([step.t for step in steps], dtype=torch.float64)
        gamma = min(self.churn / max(len(steps) - 1, 1), math.sqrt(2) - 1)
        if gamma > 0:
            churned = (lams >= self.churn_from) & (lams <= (self.churn_to or math.inf))
            times = torch.where(churned, field.process.time_of_sigma(lams * (1 + gamma)), times)
            lams = torch.maximum(lams, field.process.sigma(times) / field.process.alpha(times))
        return list(zip(times.tolist(), field.process.alpha(times).tolist(), lams.tolist(), strict=True))

    def step(
        self, field: CountedField, x: Sample, step: Step, state: list[tuple[float, float, float]], rng: SampleRng
    ) -> tuple[Sample, Any, Info]:
        assert step.s is not None  # on the last level the loop calls no sampler that jumps
        (t, alpha, lam), z, below = state[step.index], x / step.alpha, step.sigma_s / step.alpha_s
        if t != step.t:
            spread = math.sqrt(lam**2 - (step.sigma / step.alpha) ** 2)
            z = z + self.noise_scale * spread * rng.normal(x.shape[1:])
        here = field(alpha * z, t).noise
        there = field(step.alpha_s * (z + (below - lam) * here), step.s).noise
        return step.alpha_s * (z + (below - lam) * 0.5 * (here + there)), state, NOTHING
