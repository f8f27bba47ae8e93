"""Stochastic Adams: the multistep method of `multistep.py` with noise on the way, of order 2 in law for one evaluation a step.

Every eta >= 0 gives a reverse equation whose marginals are those of the forward process: eta = 0 is the probability flow, 1 the
reverse SDE. Noise on the way forgets the errors that a network made earlier, where the flow carries them to the end; in a few
steps it costs errors of its own. In the angle u = arctan(lambda/sd), with y = (x/alpha - m)/r, r = sqrt(sd² + lambda²), m and
sd the data's mean and standard deviation and F the output of EDM's preconditioning (see `multistep.py`), the family reads

    dy = -(1 + eta²)·F du + eta²·tan(u)·y du + eta·sqrt(2·tan(u)) dw,        u from near pi/2 down to 0

Without F this is an Ornstein-Uhlenbeck process that keeps N(0, I), with the exact solution over a step

    y_s = k·y_t + sqrt(1 - k²)·z,        k = (r_s/r_t)^(eta²)

so that on N(m, sd²), where F = 0, a step of any length is exact in law, whatever eta. (DPM-Solver++ splits its equation so that
a step is exact on one point, and puts too little noise on anything wider: its spread is lambda_s·sqrt(1 - (lambda_s/lambda_t)²)
for eta = 1, that of N(m, sd²) is larger by r_s·lambda_t/(lambda_s·r_t).) What is left is the integral of F, which is taken over
the polynomial through its last values, with the weight (r_s/r)^(eta²):

    y_s = k·y_t + sum_i c_i·F_i + sqrt(1 - k²)·z,        c_i = (1 + eta²)·integral from u_s to u_t of (r_s/r)^(eta²)·L_i du

The method of Adams and Bashforth through two values has order 2 in law, although a step does not see how F answers to its own
noise: the next step makes up for it. Where the true response to a unit of noise after 0, 1, 2, ... steps is h·(1/2, 1, 1, ...),
here it is h·(0, 3/2, 1, ...), with the same sum, and what differs is the last step. (With one value it is order 1.) A corrector
(Adams and Moulton, the step repeated with the F found at its end and the same z) leaves the order: through three values it
makes the error on a Gaussian up to thirty times smaller, but in a few long steps of a network it makes samples worse.

References: Xue, Yi, Luo, Zhang, Sun, Li, Ma (2023), "SA-Solver: stochastic Adams solver for fast sampling of diffusion models",
arXiv 2309.05019, for a predictor and corrector with noise, in log lambda. Lu et al. (2022), arXiv 2211.01095. Karras et al.
(2022), arXiv 2206.00364.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar, Literal

import numpy
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.randomness import SampleRng
from scorefield.registry import register
from scorefield.samplers.base import NOTHING, CountedField, Info, Sampler, Step
from scorefield.shapes import Sample

_NODES, _WEIGHTS = numpy.polynomial.legendre.leggauss(32)


@plain_dataclass(frozen=True)
class _Move:
    """y_s = keep·y_t + sum_i weights[i]·F_i + spread·z; F_0 is the newest."""

    keep: float
    weights: list[float]
    spread: float

    def of(self, y: Tensor, values: tuple[Tensor, ...], z: Tensor | None) -> Tensor:
        """Take the step from y."""
        out = self.keep * y
        for weight, value in zip(self.weights, values, strict=False):
            out = out.add(value, alpha=weight)
        return out if z is None else out.add(z, alpha=self.spread)


@plain_dataclass(frozen=True)
class _Plan:
    """The coefficients of a ladder.

    Attributes:
        scales: r of every level.
        sd: the data's standard deviation.
        moves: the prediction from every level to the next.
        corrections: of the step that led to each level; None where there is none.
    """

    scales: list[float]
    sd: float
    moves: list[_Move]
    corrections: list[_Move | None]


@plain_dataclass(frozen=True, eq=False)
class Past:
    """What is carried from step to step.

    Attributes:
        plan: of the whole ladder.
        values: F of the last levels, the newest first.
        before: y at the level before, and the noise of the step from there.
    """

    plan: _Plan
    values: tuple[Tensor, ...] = ()
    before: tuple[Tensor, Tensor | None] | None = None


def _move(nodes: list[float], u: float, u_s: float, eta: float) -> _Move:
    """Return the step from the angle u to u_s with F known at some angles."""
    at = 0.5 * (u - u_s) * (_NODES + 1) + u_s
    weight = 0.5 * (u - u_s) * _WEIGHTS * (1 + eta**2) * (numpy.cos(at) / math.cos(u_s)) ** eta**2
    weights = []
    for i, here in enumerate(nodes):
        polynomial = numpy.ones_like(at)
        for k, there in enumerate(nodes):
            if k != i:
                polynomial = polynomial * (at - there) / (here - there)
        weights.append(float((weight * polynomial).sum()))
    kept = eta**2 * math.log(math.cos(u) / math.cos(u_s))
    return _Move(math.exp(kept), weights, math.sqrt(-math.expm1(2 * kept)))


@register("sampler", "stochastic-abm")
@dataclass(frozen=True)
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
        lams = [step.sigma / step.alpha for step in steps]
        sd = max(field.field.data_std, 1e-8 * lams[-1])  # data that are one point have no spread
        us = [math.atan2(lam, sd) for lam in lams]
        moves, corrections = list[_Move](), list[_Move | None]([None])
        for j in range(len(us) - 1):
            moves.append(_move(us[j::-1][: max(1, self.past - self.corrector)], us[j], us[j + 1], self.eta))
            again = _move(us[j + 1 :: -1][: self.past], us[j], us[j + 1], self.eta)
            corrections.append(again if self.corrector and self.past > 1 else None)
        return Past(_Plan([math.hypot(sd, lam) for lam in lams], sd, moves, corrections))

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        """Evaluate once, correct the step that led here, and take the next."""
        if step.s is None:
            return x, state, NOTHING
        plan, mean, j = state.plan, field.data_mean(x), step.index
        sd, r, lam = plan.sd, plan.scales[j], step.sigma / step.alpha
        y = (x / step.alpha - mean) / r
        # F from the predicted noise: noise_hat = lambda/r·y - sd/r·F.
        value = (lam / sd) * y - (r / sd) * field(x, step.t).noise
        values = (value, *state.values[: self.past - 1])
        correction, move = plan.corrections[j], plan.moves[j]
        if correction is not None and state.before is not None:
            y = correction.of(state.before[0], values, state.before[1])
        z = rng.normal(x.shape[1:]) if move.spread else None
        x = step.alpha_s * (mean + plan.scales[j + 1] * move.of(y, values, z))
        return x, Past(plan, values, (y, z)), NOTHING
