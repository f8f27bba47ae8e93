"""Langevin dynamics: steps along the score, with noise, that leave the density unchanged.

    x <- x + tau·score(x) + sqrt(2·tau)·z,    z ~ N(0, I)

leaves p unchanged in the limit tau -> 0. For a finite step it does not: on N(0, v) the stationary variance is
v/(1 - tau/(2v)) exactly. (Two conventions are in print, (tau, sqrt(2·tau)) and (eps/2, sqrt(eps)) with eps = 2·tau; this is
the first, which NCSN's code uses too. If a network predicts noise, the drift is -(tau/sigma)·noise_hat.)

Between distant modes plain Langevin does not mix in any practical time, and its samples have the weights of the modes from the
start, not from the density. Annealed through levels of decreasing noise, samples choose a mode while the modes still overlap.

References: Song, Ermon (2019), "Generative modeling by estimating gradients of the data distribution", arXiv 1907.05600,
algorithm 1. Jolicoeur-Martineau, Piche-Taillefer, Tachet des Combes, Mitliagkas (2021), "Adversarial score matching and
improved sampling for image generation", arXiv 2009.05475, algorithm 1 (consistent annealed sampling).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.errors import ScorefieldError
from scorefield.ncsnv2 import step_size
from scorefield.process import Positive
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers.base import NOTHING, CountedField, Info, Sampler, Step
from scorefield.shapes import Sample

Steps = Annotated[int, Bound(ge=1)]


def langevin_step(field: CountedField, x: Sample, t: float, tau: float, rng: SampleRng) -> Sample:
    """Return x + tau·score + sqrt(2·tau)·z."""
    return x + tau * field(x, t).score + math.sqrt(2 * tau) * rng.normal(x.shape[1:])


@register("sampler", "langevin")
@dataclass(frozen=True, config=COMPONENT)
class Langevin(Sampler):
    """Unadjusted Langevin at every level with one fixed step tau: biased by v/(1 - tau/(2v)), and slow between modes.

    Attributes:
        tau: step size, in units of x²; None takes sigma²/10 of each level: a score of slope 1/sigma² needs tau < 2·sigma².
        steps: steps a level; usually the ladder has one level.
    """

    tau: Positive | None = None
    steps: Steps = 1000
    order: ClassVar[int | None] = None
    dwells: ClassVar[bool] = True
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int] = 1
    ladder: ClassVar[str] = "lowest"
    levels: ClassVar[int] = 1

    @property
    def steps_per_level(self) -> int:
        return self.steps

    def within(self, steps: int) -> tuple[Sampler, int]:
        return replace(self, steps=steps), 1

    def start(self, field: CountedField, steps: list[Step]) -> None:
        if self.tau is None and any(step.sigma == 0 for step in steps):
            raise ScorefieldError(
                "got sigma = 0 on a level, where a step in units of sigma² vanishes, expected a stated one: set its tau"
            )

    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        return langevin_step(field, x, step.t, self.tau or 0.1 * step.sigma**2, rng), state, NOTHING


@register("sampler", "annealed")
@dataclass(frozen=True, config=COMPONENT)
class Annealed(Sampler):
    """Annealed Langevin dynamics: k steps on every level with tau_j = eps·sigma_j²/sigma_min².

    The signal-to-noise ratio of a step is then the same at every level. (For alpha != 1 this holds with eps in units of
    (x/alpha)² and sigma_min the last level's sigma/alpha.) The samples lag behind the levels: of a mixture of 0.8 and 0.2, the
    0.8 becomes 0.78 in 1,000 evaluations, and 0.79 in 4,000.

    Attributes:
        steps_per_level: k.
        eps: the step on the last level, in units of x²; None chooses NCSNv2's, which keeps the variance of a sample closest
            to its level's after k steps, from the ratio of the ladder's levels and k.
    """

    steps_per_level: Steps = 5
    eps: Positive | None = None
    order: ClassVar[int | None] = None
    dwells: ClassVar[bool] = True
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int] = 1
    ladder: ClassVar[str] = "geometric"
    levels: ClassVar[int] = 50

    def within(self, steps: int) -> tuple[Sampler, int]:
        """Return fewer steps a level where there would be fewer than ten levels: samples follow close levels only."""
        hold = max(1, min(self.steps_per_level, steps // 10))
        return replace(self, steps_per_level=hold), max(2, round(steps / hold))

    @classmethod
    def from_ncsn(cls, step_lr: float = 2e-5, steps: int = 100) -> Annealed:
        """Return the published setting: the code's `step_lr` (2e-5) is eps here; the paper's text prints alpha/2 for it."""
        return cls(steps_per_level=steps, eps=step_lr)

    def start(self, field: CountedField, steps: list[Step]) -> list[float]:
        """Return tau of every level."""
        low, high = steps[-1].sigma / steps[-1].alpha, steps[0].sigma / steps[0].alpha
        if low == 0:
            raise ScorefieldError("got a ladder that ends at sigma = 0, expected sigma > 0: end it at the process's t_min")
        gamma = (high / low) ** (1 / max(len(steps) - 1, 1))
        eps = self.eps or step_size(max(gamma, 1 + 1e-6), self.steps_per_level, low)
        return [eps * (step.sigma / low) ** 2 for step in steps]

    def step(self, field: CountedField, x: Sample, step: Step, state: list[float], rng: SampleRng) -> tuple[Sample, Any, Info]:
        return langevin_step(field, x, step.t, state[step.index], rng), state, NOTHING


@register("sampler", "consistent")
@dataclass(frozen=True, config=COMPONENT)
class Consistent(Sampler):
    """Consistent annealed sampling: each step adds just the noise that puts x on the next level exactly.

    In z = x/alpha with noise level lambda = sigma/alpha, which makes every process variance exploding:

        z <- z + eta·(denoised - z) + lambda_s·sqrt(1 - ((1 - eta)/gamma)²)·noise,    gamma = lambda_s/lambda

    where denoised - z = lambda²·(score of z). If the noise in z has level lambda before the step, it has level lambda_s after
    it, which annealed Langevin only approaches. It needs 1 - gamma <= eta <= 1 + gamma, and takes one step a level.

    Attributes:
        eta: fraction of the way to the denoised sample, in (0, 2); None chooses 1 - gamma² of each pair of levels, for which a
            step draws from the posterior of the next level given the denoised sample (DDPM's ancestral step with the smaller
            of its two variances); it always lies inside the bounds.
    """

    eta: Positive | None = None
    order: ClassVar[int | None] = 1
    dwells: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int] = 1
    ladder: ClassVar[str] = "geometric"
    levels: ClassVar[int] = 100

    def start(self, field: CountedField, steps: list[Step]) -> list[tuple[float, float]]:
        """Return eta and the noise's coefficient of every level but the last."""
        coefficients = []
        for step in steps[:-1]:
            below = step.sigma_s / step.alpha_s
            gamma = below / (step.sigma / step.alpha)
            eta = 1 - gamma**2 if self.eta is None else self.eta
            if not 1 - gamma <= eta <= 1 + gamma:
                raise ScorefieldError(
                    f"got eta = {eta:g} for neighbouring levels of ratio {gamma:.4g}, expected {1 - gamma:.4g} to "
                    f"{1 + gamma:.4g}: use more levels or leave eta unset"
                )
            coefficients.append((eta, below * math.sqrt(max(0.0, 1 - ((1 - eta) / gamma) ** 2))))
        return coefficients

    def step(
        self, field: CountedField, x: Sample, step: Step, state: list[tuple[float, float]], rng: SampleRng
    ) -> tuple[Sample, Any, Info]:
        eta, spread = state[step.index]
        mean = (step.alpha_s / step.alpha * (1 - eta) * x).add(field(x, step.t).denoised, alpha=step.alpha_s * eta)
        return mean.add(rng.normal(x.shape[1:]), alpha=step.alpha_s * spread), state, NOTHING
