"""Reverse diffusion: the noising run backwards in time, with fresh noise at every step.

    dx = (f·x - g²·score) dt + g dw,    t from t_max down

has the marginals p_t of the forward process. Its discretisations differ in what they keep constant within a step:

    Euler-Maruyama      f, g and the score, in time
    reverse diffusion   the forward step x_t = k·x_s + std·z, reversed: the score's weight is that step's own variance
    ancestral           the denoised sample: x_s is drawn from q(x_s | x_t, x0 = denoised), DDPM's step
    DDIM                the denoised sample too, with eta times the ancestral noise and the rest kept from x_t

All have order 1 in law. In z = x/alpha, lambda = sigma/alpha and with ratio = lambda_s/lambda the ancestral step reads
z_s = ratio²·z + (1 - ratio²)·denoised + spread·noise. Its spread is a choice between two bounds: beta~, lambda_s·sqrt(1 -
ratio²), right if x0 is a point, and beta, the variance of the forward step, right if x0 is N(0, 1) in a VP process.

References: Song et al. (2021), "Score-based generative modeling through stochastic differential equations", arXiv 2011.13456,
appendices D and E. Ho, Jain, Abbeel (2020), arXiv 2006.11239. Song, Meng, Ermon (2021), arXiv 2010.02502, equation 12.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers.base import NOTHING, CountedField, Info, Sampler, Step
from scorefield.shapes import Sample


@register("sampler", "euler-maruyama")
@dataclass(frozen=True, config=COMPONENT)
class EulerMaruyama(Sampler):
    """Euler and Maruyama's method on the reverse SDE: x_s = x - (f·x - g²·score)·h + g·sqrt(h)·z with h = t - s."""

    order: ClassVar[int | None] = 1
    dwells: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "uniform"
    levels: ClassVar[int] = 1000

    def start(self, field: CountedField, steps: list[Step]) -> list[tuple[float, float]]:
        """Return the drift f and the diffusion g of every level."""
        t = torch.tensor([step.t for step in steps], dtype=torch.float64)
        return list(zip(field.process.drift(t).tolist(), field.process.diffusion(t).tolist(), strict=True))

    def step(
        self, field: CountedField, x: Sample, step: Step, state: list[tuple[float, float]], rng: SampleRng
    ) -> tuple[Sample, Any, Info]:
        assert step.s is not None  # on the last level the loop calls no sampler that jumps
        (f, g), h = state[step.index], step.t - step.s
        drifted = ((1 - f * h) * x).add(field(x, step.t).score, alpha=g**2 * h)
        return drifted.add(rng.normal(x.shape[1:]), alpha=g * math.sqrt(h)), state, NOTHING


@register("sampler", "reverse-diffusion")
@dataclass(frozen=True, config=COMPONENT)
class ReverseDiffusion(Sampler):
    """The forward step reversed: x_s = (2 - k)·x + std²·score + std·z where x_t = k·x_s + std·z is the noising.

    Reference: Song et al. (2021), equation 46; for VE it is their predictor, for VP (k = sqrt(1 - beta)) as well.
    """

    order: ClassVar[int | None] = 1
    dwells: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "uniform"
    levels: ClassVar[int] = 1000

    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        k = step.alpha / step.alpha_s
        variance = step.sigma**2 - (k * step.sigma_s) ** 2
        mean = ((2 - k) * x).add(field(x, step.t).score, alpha=variance)
        return mean.add(rng.normal(x.shape[1:]), alpha=math.sqrt(variance)), state, NOTHING


@register("sampler", "ancestral")
@dataclass(frozen=True, config=COMPONENT)
class Ancestral(Sampler):
    """DDPM's ancestral sampling: x_s from q(x_s | x_t, x0 = denoised), on any process.

    Attributes:
        variance: "posterior" (beta~, the variance of that posterior) or "transition" (beta, of the forward step).
    """

    variance: Literal["posterior", "transition"] = "posterior"
    order: ClassVar[int | None] = 1
    dwells: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "geometric"
    levels: ClassVar[int] = 1000

    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        above, below = step.sigma / step.alpha, step.sigma_s / step.alpha_s
        ratio = (below / above) ** 2
        spread = below * math.sqrt(1 - ratio)
        if self.variance == "transition":
            spread = step.alpha / step.alpha_s * math.sqrt(above**2 - below**2)
        mean = (ratio * step.alpha_s / step.alpha * x).add(field(x, step.t).denoised, alpha=step.alpha_s * (1 - ratio))
        return mean.add(rng.normal(x.shape[1:]), alpha=step.alpha_s * spread), state, NOTHING


@register("sampler", "ddim")
@dataclass(frozen=True, config=COMPONENT)
class DDIM(Sampler):
    """DDIM: x_s = alpha_s·denoised + sqrt(sigma_s² - std²)·noise_hat + std·z with std = eta times the ancestral one.

    Attributes:
        eta: 0 is deterministic (Euler's method on the probability flow), 1 is the ancestral sampler.
    """

    eta: Annotated[float, Bound(ge=0, le=1)] = 0.0
    order: ClassVar[int | None] = 1
    dwells: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 50

    def step(self, field: CountedField, x: Sample, step: Step, state: Any, rng: SampleRng) -> tuple[Sample, Any, Info]:
        ratio = step.sigma_s * step.alpha / (step.alpha_s * step.sigma)
        std = self.eta * step.sigma_s * math.sqrt(1 - ratio**2)
        kept = math.sqrt(step.sigma_s**2 - std**2) / step.sigma  # of x, for sigma·noise_hat = x - alpha·denoised
        x = (kept * x).add(field(x, step.t).denoised, alpha=step.alpha_s - kept * step.alpha)
        return (x.add(rng.normal(x.shape[1:]), alpha=std) if std else x), state, NOTHING
