"""Multistep samplers: one evaluation a step, the past remembered. `quadrature.py` has what they share.

    sampler          basis         past    corrector                     reference
    ABM              Angle         3       yes                           here
    StochasticABM    NoisyAngle    2       no                            here; SA-Solver for the idea
    DPMSolver        Denoised      2       no                            DPM-Solver++ (data prediction)
    UniPC            Denoised      3       yes                           UniPC
    DEIS             Noise         3       no                            DEIS (Adams-Bashforth in rho)

The angle arctan(lambda/sd) begins near pi/2 and ends at 0, and has no singularity at either end, where the variables of the
other two bases have one. On N(m, sd²) its value F is zero, so that the flow of a Gaussian is exact in one step however long. It
is the basis of the default sampler.

Every eta >= 0 gives a reverse equation whose marginals are those of the forward process: eta = 0 is the probability flow, 1 the
reverse SDE. Noise on the way forgets the errors that a network made earlier, where the flow carries them to the end; in a few
steps it costs errors of its own. In the angle, with w = (x/alpha - m)/r of unit variance, the family reads

    dw = -(1 + eta²)·F du + eta²·tan(u)·w du + eta·sqrt(2·tan(u)) dB,        u from near pi/2 down to 0

Without F this is an Ornstein-Uhlenbeck process that keeps N(0, I), with the exact solution over a step

    w_s = k·w + sqrt(1 - k²)·noise,        k = (r_s/r)^(eta²)

so that on N(m, sd²), where F = 0, a step of any length is exact in law, whatever eta. (DPM-Solver++ splits its equation so that
a step is exact on one point, and puts too little noise on anything wider: its spread is lambda_s·sqrt(1 - (lambda_s/lambda)²)
for eta = 1, that of N(m, sd²) is larger by r_s·lambda/(lambda_s·r).) What is left is the integral of F, which is taken over the
polynomial through its last values, with the weight (r_s/r)^(eta²):

    w_s = k·w + sum_i c_i·F_i + sqrt(1 - k²)·noise,      c_i = (1 + eta²)·integral from u_s to u of (r_s/r)^(eta²)·L_i du

The method of Adams and Bashforth through two values has order 2 in law, although a step does not see how F answers to its own
noise: the next step makes up for it. Where the true response to a unit of noise after 0, 1, 2, ... steps is h·(1/2, 1, 1, ...),
here it is h·(0, 3/2, 1, ...), with the same sum, and what differs is the last step. (With one value it is order 1.) A corrector
(the step repeated with the F found at its end and the same noise) leaves the order: through three values it makes the error on
a Gaussian up to thirty times smaller, but in a few long steps of a network it makes samples worse.

In DPM-Solver++ with eta > 0 the mean keeps the method's order, but the extrapolation does not see the noise that enters within
a step, and the covariance has order one.

References: Lu, Zhou, Bao, Chen, Li, Zhu (2022), "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic
models", arXiv 2211.01095. Zhang, Chen (2023), "Fast sampling of diffusion models with exponential integrator", arXiv
2204.13902. Zhao, Bai, Rao, Zhou, Lu (2023), "UniPC: a unified predictor-corrector framework for fast sampling of diffusion
models", arXiv 2302.04867. Xue, Yi, Luo, Zhang, Sun, Li, Ma (2023), "SA-Solver: stochastic Adams solver for fast sampling of
diffusion models", arXiv 2309.05019. Karras et al. (2022), arXiv 2206.00364.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field as Bound
from pydantic.dataclasses import dataclass

from scorefield.levels import data_scale
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers.base import CountedField, Info, Sampler, Step
from scorefield.samplers.quadrature import Angle, Denoised, Noise, NoisyAngle, Past, advance, planned
from scorefield.shapes import Sample


def _scale(field: CountedField, steps: list[Step]) -> float:
    """Return the data's standard deviation, at least a hundred-millionth of the last level's noise."""
    return data_scale(field.field, 1e-8 * (steps[-1].sigma / steps[-1].alpha))


@register("sampler", "abm")
@dataclass(frozen=True, config=COMPONENT)
class ABM(Sampler):
    """Adams' method on the unit-variance output, in the angle arctan(lambda/sd): the best in few evaluations.

    Exact in one step on N(m, sd²), and without a singularity at either end.

    Attributes:
        past: how many values the polynomial passes through, which is the order.
        corrector: repeat each step with the value found at its end, one of the `past`.
    """

    past: Literal[1, 2, 3] = 3
    corrector: bool = True
    dwells: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "log-cauchy"
    levels: ClassVar[int] = 20

    @property
    def order(self) -> int:
        return self.past

    @property
    def remembers(self) -> bool:
        return self.past > 1

    def start(self, field: CountedField, steps: list[Step]) -> Past:
        return planned(steps, Angle(_scale(field, steps)), self.past, corrector=self.corrector, repeat_first=self.past == 3)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return advance(field, x, step, state, rng)


@register("sampler", "stochastic-abm")
@dataclass(frozen=True, config=COMPONENT)
class StochasticABM(Sampler):
    """Adams' method with noise on the way: order 2 in law, one evaluation a step, exact on N(m, sd²) in one step.

    Attributes:
        eta: noise, 1 for the reverse SDE, 0 for the probability flow.
        past: how many values the polynomial passes through.
        corrector: repeat each step with the value found at its end, one of the `past`.
    """

    eta: Annotated[float, Bound(ge=0, allow_inf_nan=False)] = 1.0
    past: Literal[1, 2, 3] = 2
    corrector: bool = False
    dwells: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 20

    @property
    def order(self) -> int:
        return min(self.past, 2)

    @property
    def remembers(self) -> bool:
        return self.past > 1

    def start(self, field: CountedField, steps: list[Step]) -> Past:
        return planned(steps, NoisyAngle(_scale(field, steps), self.eta), self.past, corrector=self.corrector)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return advance(field, x, step, state, rng)


@register("sampler", "dpm-solver++")
@dataclass(frozen=True, config=COMPONENT)
class DPMSolver(Sampler):
    """DPM-Solver++ in its multistep form: exponential integration with the denoised sample extrapolated in log lambda.

    `past` 1, 2 and 3 are DDIM, 2M and 3M; with eta = 1 they are the ancestral sampler, SDE-2M and SDE-3M.

    Attributes:
        past: how many values the polynomial passes through, which is the order where eta = 0.
        eta: noise, 0 for the probability flow, 1 for the reverse SDE, whose samples have order 1 in law.
    """

    past: Literal[1, 2, 3] = 2
    eta: Annotated[float, Bound(ge=0, allow_inf_nan=False)] = 0.0
    dwells: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 20

    @property
    def order(self) -> int:
        return 1 if self.eta else self.past

    @property
    def remembers(self) -> bool:
        return self.past > 1

    def start(self, field: CountedField, steps: list[Step]) -> Past:
        repeat = self.past == 3 and self.eta == 0
        return planned(steps, Denoised(self.eta), self.past, corrector=False, repeat_first=repeat)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return advance(field, x, step, state, rng)


@register("sampler", "unipc")
@dataclass(frozen=True, config=COMPONENT)
class UniPC(Sampler):
    """UniPC: the prediction of DPM-Solver++ corrected with the value found at the end of the step.

    Attributes:
        past: how many values the corrector's polynomial passes through, which is the order.
    """

    past: Literal[2, 3] = 3
    dwells: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 20

    @property
    def order(self) -> int:
        return self.past

    @property
    def remembers(self) -> bool:
        return self.past > 1

    def start(self, field: CountedField, steps: list[Step]) -> Past:
        return planned(steps, Denoised(), self.past, corrector=True)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return advance(field, x, step, state, rng)


@register("sampler", "deis")
@dataclass(frozen=True, config=COMPONENT)
class DEIS(Sampler):
    """DEIS: the predicted noise extrapolated in lambda (Adams-Bashforth in rho).

    Attributes:
        past: how many values the polynomial passes through, which is the order.
    """

    past: Literal[1, 2, 3] = 3
    dwells: ClassVar[bool] = False
    evaluations_per_step: ClassVar[int | None] = 1
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 20

    @property
    def order(self) -> int:
        return self.past

    @property
    def remembers(self) -> bool:
        return self.past > 1

    def start(self, field: CountedField, steps: list[Step]) -> Past:
        return planned(steps, Noise(), self.past, corrector=False, repeat_first=self.past == 3)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return advance(field, x, step, state, rng)
