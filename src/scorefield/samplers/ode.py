"""Probability flow: the deterministic path with the same marginals, dx/dt = f·x - g²·score/2.

Integrated in lambda = sigma/alpha and z = x/alpha, where the equation loses its linear part and reads

    dz/dlambda = noise_hat(x, t) = -sigma·score(x, t)

for every process: one integrator, no coefficient of drift or diffusion, and straight lines wherever noise_hat is constant.

References: Song et al. (2021), arXiv 2011.13456, equation 13. Song, Meng, Ermon (2021), "Denoising diffusion implicit models",
arXiv 2010.02502, section 4.3. Karras et al. (2022), arXiv 2206.00364, algorithm 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from scorefield.randomness import Noise
from scorefield.registry import register
from scorefield.samplers.base import Counted, Rung, Sampler
from scorefield.shapes import Sample


@register("sampler", "euler")
@dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method on the probability flow, order 1; the same update as DDIM with eta = 0."""

    order: ClassVar[int | None] = 1
    evaluations_per_step: ClassVar[int] = 1
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 50

    def step(self, field: Counted, x: Sample, rung: Rung, state: Any, noise: Noise) -> Sample:
        if rung.s is None:
            return x
        z, span = x / rung.alpha, rung.sigma_s / rung.alpha_s - rung.sigma / rung.alpha
        return rung.alpha_s * (z + span * field(x, rung.t).noise)


@register("sampler", "heun")
@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method on the probability flow, order 2, two evaluations a step; EDM's deterministic sampler."""

    order: ClassVar[int | None] = 2
    evaluations_per_step: ClassVar[int] = 2
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 20

    def step(self, field: Counted, x: Sample, rung: Rung, state: Any, noise: Noise) -> Sample:
        if rung.s is None:
            return x
        z, span = x / rung.alpha, rung.sigma_s / rung.alpha_s - rung.sigma / rung.alpha
        here = field(x, rung.t).noise
        there = field(rung.alpha_s * (z + span * here), rung.s).noise
        return rung.alpha_s * (z + span * 0.5 * (here + there))
