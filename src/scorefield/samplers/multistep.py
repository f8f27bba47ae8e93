"""Multistep samplers: one evaluation a step, the past remembered.

In z = x/alpha and lambda = sigma/alpha every process has the probability flow dz/dlambda = (z - D)/lambda with D = E[x0 | x]. A
multistep method splits off the part of it that can be solved exactly and extrapolates what is left, q, by the polynomial
through its last values in a variable u. Three splittings are known, and all end in the same update,

    z_s = m + A·(z_t - m) + sum_i c_i·q_i + spread·noise,        c_i = weight·integral of the i-th Lagrange polynomial

    basis      u                      q                            A                     reference
    denoised   -log lambda            D - m                        (l_s/l_t)^(1+eta²)    DPM-Solver++ (data prediction)
    noise      lambda                 (z - D)/lambda               1                     DEIS (Adams-Bashforth in rho)
    unit       arctan(lambda/sd)      F                            r_s/r_t               here

with m and sd the data's mean and standard deviation and r = sqrt(sd² + lambda²). The third is the network's output in EDM's
preconditioning, F = (lambda/sd·(D - m) - sd·noise_hat)/r: on N(m, sd²) it is zero, so the flow of a Gaussian is exact in one
step however long, and y = (z - m)/r turns by dy/du = -F through an angle that begins near pi/2 and ends at 0: a stretch without
singularities at either end, where the other two have one. It is the basis of the default sampler.

A corrector (Adams-Moulton, in the manner of UniPC) repeats the last step with the value of q that the present evaluation has
just given: one order more for no evaluation. The first step has no past, and its error, of second order, would be the order of
the whole; where three values are asked for without a corrector, that one step is repeated in the same way.

With noise (eta > 0) the update draws from the reverse SDE: its mean keeps the method's order, but the noise that enters within
a step is not seen by the extrapolation, and the covariance has order one.

References: Lu, Zhou, Bao, Chen, Li, Zhu (2022), "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic
models", arXiv 2211.01095. Zhang, Chen (2023), "Fast sampling of diffusion models with exponential integrator", arXiv
2204.13902. Zhao, Bai, Rao, Zhou, Lu (2023), "UniPC: a unified predictor-corrector framework for fast sampling of diffusion
models", arXiv 2302.04867. Karras et al. (2022), arXiv 2206.00364.
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

Basis = Literal["denoised", "noise", "unit"]
_NODES, _WEIGHTS = numpy.polynomial.legendre.leggauss(32)


@plain_dataclass(frozen=True)
class _Move:
    """z_s = m + keep·(z_t - m) + sum_i weights[i]·q_i + spread·noise; q_0 is the newest."""

    keep: float
    weights: list[float]
    spread: float = 0.0


@plain_dataclass(frozen=True)
class _Plan:
    """The coefficients of a ladder.

    Attributes:
        mixing: (a, b, c) of q = a·(D - m) + b·noise_hat + c·(z - m), for every level but the last.
        moves: from every level to the next.
        corrections: the move that led to each level, repeated with the value found there; None where it is not.
    """

    mixing: list[tuple[float, float, float]]
    moves: list[_Move]
    corrections: list[_Move | None]


@plain_dataclass(frozen=True, eq=False)
class Past:
    """What a multistep sampler carries: the plan, and what the last levels gave.

    Attributes:
        plan: of the whole ladder.
        values: q of the last levels, the newest first.
        before: z - m at the level before.
    """

    plan: _Plan
    values: tuple[Tensor, ...] = ()
    before: Tensor | None = None


def _variable(basis: Basis, lam: float, sd: float) -> float:
    return {"denoised": -math.log(lam), "noise": lam, "unit": math.atan2(lam, sd)}[basis]


def _move(basis: Basis, nodes: list[float], lam: float, lam_s: float, sd: float, eta: float) -> _Move:
    """Return the move from lambda to lambda_s that uses q at the given lambdas."""
    us, start, end = [_variable(basis, v, sd) for v in nodes], _variable(basis, lam, sd), _variable(basis, lam_s, sd)
    u = 0.5 * (end - start) * (_NODES + 1) + start
    weight = 0.5 * (end - start) * _WEIGHTS
    keep, spread = 1.0, 0.0
    if basis == "denoised":
        power = 1 + eta**2
        keep = (lam_s / lam) ** power
        weight = weight * power * numpy.exp(-power * (end - u))
        spread = lam_s * math.sqrt(max(0.0, -math.expm1(-2 * eta**2 * (end - start))))
    elif basis == "unit":
        keep = math.hypot(sd, lam_s) / math.hypot(sd, lam)
        weight = -weight * math.hypot(sd, lam_s)
    weights = []
    for i, here in enumerate(us):
        polynomial = numpy.ones_like(u)
        for k, there in enumerate(us):
            if k != i:
                polynomial = polynomial * (u - there) / (here - there)
        weights.append(float((weight * polynomial).sum()))
    return _Move(keep, weights, spread)


def _plan(steps: list[Step], basis: Basis, past: int, corrector: bool, sd: float, eta: float = 0.0) -> Past:
    """Compute every coefficient of a ladder.

    Without a corrector three values of the past still need one correction, that of the first step, which had no past: the
    error it leaves, of second order, would otherwise be the order of the whole.
    """
    lams = [step.sigma / step.alpha for step in steps]
    mixing, moves = [], list[_Move]()
    corrections: list[_Move | None] = [None]
    for j, lam in enumerate(lams[:-1]):
        r = math.hypot(sd, lam)
        # With noise_hat = (z - D)/lambda, F asks for one view of the prediction only.
        unit = (r / (lam * sd), 0.0, -sd / (lam * r))
        mixing.append({"denoised": (1.0, 0.0, 0.0), "noise": (0.0, 1.0, 0.0), "unit": unit}[basis])
        nodes = lams[j::-1][: max(1, past - corrector)]
        moves.append(_move(basis, nodes, lam, lams[j + 1], sd, eta))
        repeated = corrector or (j == 0 and past == 3 and eta == 0)
        nodes = lams[j + 1 :: -1][: past if corrector else 2]
        corrections.append(_move(basis, nodes, lam, lams[j + 1], sd, eta) if repeated and past > 1 else None)
    return Past(_Plan(mixing, moves, corrections))


def _advance(field: CountedField, x: Sample, step: Step, past: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
    """Evaluate once, correct the step that led here, and take the next."""
    if step.s is None:
        return x, past, NOTHING
    mean, j, plan = field.data_mean(x), step.index, past.plan
    seen = field(x, step.t)
    a, b, c = plan.mixing[j]
    z = x / step.alpha - mean
    q = b * seen.noise if b else a * (seen.denoised - mean)
    if c:
        q = q.add(z, alpha=c)
    values = (q, *past.values[:2])
    again, move = plan.corrections[j], plan.moves[j]
    if again is not None and past.before is not None:
        z = _moved(again, past.before, values)
    moved = _moved(move, z, values)
    if move.spread:
        moved = moved.add(rng.normal(x.shape[1:]), alpha=move.spread)
    return step.alpha_s * (mean + moved), Past(plan, values, z), NOTHING


def _moved(move: _Move, z: Tensor, values: tuple[Tensor, ...]) -> Tensor:
    out = move.keep * z
    for weight, q in zip(move.weights, values, strict=False):
        out = out.add(q, alpha=weight)
    return out


@register("sampler", "abm")
@dataclass(frozen=True)
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
        smallest = steps[-1].sigma / steps[-1].alpha
        # Data that are one point have no spread: the limit is exact on them too.
        sd = max(field.field.data_std, 1e-8 * smallest)
        return _plan(steps, "unit", self.past, self.corrector, sd)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return _advance(field, x, step, state, rng)


@register("sampler", "dpm-solver++")
@dataclass(frozen=True)
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
        return _plan(steps, "denoised", self.past, False, 1.0, self.eta)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return _advance(field, x, step, state, rng)


@register("sampler", "unipc")
@dataclass(frozen=True)
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
        return _plan(steps, "denoised", self.past, True, 1.0)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return _advance(field, x, step, state, rng)


@register("sampler", "deis")
@dataclass(frozen=True)
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
        return _plan(steps, "noise", self.past, False, 1.0)

    def step(self, field: CountedField, x: Sample, step: Step, state: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
        return _advance(field, x, step, state, rng)
