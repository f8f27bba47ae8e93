"""What all multistep samplers share: a plan of coefficients made once, the values that are carried, and one step.

In z = x/alpha and lambda = sigma/alpha every process has the probability flow dz/dlambda = (z - D)/lambda with D = E[x0 | x]. A
multistep method solves one part of it exactly. The rest, q, it integrates over the polynomial through the last values of q, in
a variable u. With m and sd the data's mean and standard deviation and r = sqrt(sd² + lambda²), all of them make the same step,

    w_s = keep·w + sum_i c_i·q_i + spread·noise,        c_i = weighted integral of the i-th Lagrange polynomial of u

    basis        w          u                  q                   keep                   spread
    Denoised     z - m      -log lambda        D - m               (l_s/l)^(1+eta²)       l_s·sqrt(1 - (l_s/l)^(2·eta²))
    Noise        z - m      lambda             noise_hat           1                      0
    Angle        z - m      arctan(lambda/sd)  F                   r_s/r                  0
    NoisyAngle   (z - m)/r  arctan(lambda/sd)  F                   (r_s/r)^(eta²)         sqrt(1 - keep²)

where l stands for lambda, the index s for the end of the step, and F for the output of EDM's preconditioning,

    F = (lambda/sd·(D - m) - sd·noise_hat)/r

which is zero on N(m, sd²). There the flow is dw/du = 0 in the last basis, so a step of any length is exact.

A corrector (Adams and Moulton) repeats the step that led to a level with the value of q that is found there: one order more for
no evaluation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from torch import Tensor

from scorefield.prediction import Prediction
from scorefield.randomness import SampleRng
from scorefield.samplers.base import NOTHING, CountedField, Info, Step
from scorefield.shapes import Sample

_NODES, _WEIGHTS = numpy.polynomial.legendre.leggauss(32)
Row = NDArray[numpy.float64]


@dataclass(frozen=True)
class Update:
    """The coefficients of w_s = keep·w + sum_i weights[i]·q_i + spread·noise; q_0 is the newest value."""

    keep: float
    weights: list[float]
    spread: float = 0.0

    def of(self, w: Tensor, values: tuple[Tensor, ...], noise: Tensor | None) -> Tensor:
        """Return w_s."""
        out = self.keep * w
        for weight, q in zip(self.weights, values, strict=False):
            out = out.add(q, alpha=weight)
        return out if noise is None else out.add(noise, alpha=self.spread)


def _points(start: float, end: float) -> tuple[Row, Row]:
    """Return the nodes and the weights of Gauss and Legendre's rule on [start, end]."""
    return 0.5 * (end - start) * (_NODES + 1) + start, 0.5 * (end - start) * _WEIGHTS


def _integrals(nodes: list[float], u: Row, weight: Row) -> list[float]:
    """Return the integral of every Lagrange polynomial of the nodes, by a rule with points u."""
    integrals = []
    for i, here in enumerate(nodes):
        polynomial = numpy.ones_like(u)
        for k, there in enumerate(nodes):
            if k != i:
                polynomial = polynomial * (u - there) / (here - there)
        integrals.append(float((weight * polynomial).sum()))
    return integrals


class Basis(ABC):
    """How a step is split into the part that is solved exactly and the part that is integrated."""

    def unit(self, lam: float) -> float:
        """Return the length in which z - m is measured at noise level lambda: w = (z - m)/unit."""
        return 1.0

    @abstractmethod
    def update(self, nodes: list[float], lam: float, lam_s: float) -> Update:
        """Return the step from lambda to lambda_s that uses the values at the lambdas `nodes`, the newest first."""

    def mixing(self, lam: float) -> tuple[float, float]:
        """Return the two coefficients of `value` at lambda."""
        return 1.0, 0.0

    @abstractmethod
    def value(self, seen: Prediction, mean: Tensor, w: Sample, mixing: tuple[float, float]) -> Sample:
        """Return q from a prediction."""


@dataclass(frozen=True)
class Denoised(Basis):
    """The denoised sample over log lambda (DPM-Solver++); with eta > 0, of the reverse SDE with eta² times its noise."""

    eta: float = 0.0

    def update(self, nodes: list[float], lam: float, lam_s: float) -> Update:
        start, end, power = -math.log(lam), -math.log(lam_s), 1 + self.eta**2
        u, weight = _points(start, end)
        integrals = _integrals([-math.log(node) for node in nodes], u, weight * power * numpy.exp(-power * (end - u)))
        spread = lam_s * math.sqrt(max(0.0, -math.expm1(-2 * self.eta**2 * (end - start))))
        return Update((lam_s / lam) ** power, integrals, spread)

    def value(self, seen: Prediction, mean: Tensor, w: Sample, mixing: tuple[float, float]) -> Sample:
        return seen.denoised - mean


@dataclass(frozen=True)
class Noise(Basis):
    """The predicted noise over lambda (DEIS)."""

    def update(self, nodes: list[float], lam: float, lam_s: float) -> Update:
        return Update(1.0, _integrals(nodes, *_points(lam, lam_s)))

    def value(self, seen: Prediction, mean: Tensor, w: Sample, mixing: tuple[float, float]) -> Sample:
        return seen.noise


@dataclass(frozen=True)
class Angle(Basis):
    """The unit output F over the angle arctan(lambda/sd)."""

    sd: float

    def update(self, nodes: list[float], lam: float, lam_s: float) -> Update:
        u, weight = _points(math.atan2(lam, self.sd), math.atan2(lam_s, self.sd))
        r, r_s = math.hypot(self.sd, lam), math.hypot(self.sd, lam_s)
        return Update(r_s / r, _integrals([math.atan2(node, self.sd) for node in nodes], u, -weight * r_s))

    def mixing(self, lam: float) -> tuple[float, float]:
        """Return a and c of F = a·(D - m) + c·(z - m): with noise_hat = (z - D)/lambda it needs one view of the prediction."""
        r = math.hypot(self.sd, lam)
        return r / (lam * self.sd), -self.sd / (lam * r)

    def value(self, seen: Prediction, mean: Tensor, w: Sample, mixing: tuple[float, float]) -> Sample:
        return (mixing[0] * (seen.denoised - mean)).add(w, alpha=mixing[1])


@dataclass(frozen=True)
class NoisyAngle(Basis):
    """The unit output F over the angle, in w of unit variance, with eta² times the noise of the reverse SDE."""

    sd: float
    eta: float

    def unit(self, lam: float) -> float:
        return math.hypot(self.sd, lam)

    def update(self, nodes: list[float], lam: float, lam_s: float) -> Update:
        u, u_s = math.atan2(lam, self.sd), math.atan2(lam_s, self.sd)
        points, weight = _points(u_s, u)
        weight = weight * (1 + self.eta**2) * (numpy.cos(points) / math.cos(u_s)) ** self.eta**2
        log_keep = self.eta**2 * math.log(math.cos(u) / math.cos(u_s))
        integrals = _integrals([math.atan2(node, self.sd) for node in nodes], points, weight)
        return Update(math.exp(log_keep), integrals, math.sqrt(-math.expm1(2 * log_keep)))

    def mixing(self, lam: float) -> tuple[float, float]:
        """Return a and b of F = a·w - b·noise_hat."""
        return lam / self.sd, self.unit(lam) / self.sd

    def value(self, seen: Prediction, mean: Tensor, w: Sample, mixing: tuple[float, float]) -> Sample:
        return mixing[0] * w - mixing[1] * seen.noise


@dataclass(frozen=True)
class Coefficients:
    """The numbers of the step from one level to the next.

    Attributes:
        unit, unit_s: the length in which z - m is measured, here and at the end of the step.
        mixing: of `Basis.value` here.
        predictor: the step.
        corrector: the same step with the value at its end; None where it is not repeated.
    """

    unit: float
    unit_s: float
    mixing: tuple[float, float]
    predictor: Update
    corrector: Update | None


@dataclass(frozen=True)
class Plan:
    """The coefficients of every level of a ladder but the last, and how many values a step uses."""

    basis: Basis
    past: int
    levels: list[Coefficients]


@dataclass(frozen=True, eq=False)
class Past:
    """What a multistep sampler carries from step to step.

    Attributes:
        plan: of the whole ladder.
        values: q of the last levels, the newest first.
        pending: the corrector of the step that led here, with w and the noise that it started from; None where there is none.
    """

    plan: Plan
    values: tuple[Tensor, ...] = ()
    pending: tuple[Update, Tensor, Tensor | None] | None = None


def planned(steps: list[Step], basis: Basis, past: int, *, corrector: bool, repeat_first: bool = False) -> Past:
    """Return the state before the first step, with every coefficient of a ladder.

    Args:
        steps: the levels.
        basis: how a step is split.
        past: how many values the polynomial passes through.
        corrector: repeat every step with the value found at its end, one of the `past`.
        repeat_first: without a corrector, repeat the first step at least. It has no past, and the error that it would leave,
            of second order, would be the order of the whole where three values are used.
    """
    lams = [step.sigma / step.alpha for step in steps]
    levels = []
    for j, (lam, lam_s) in enumerate(zip(lams[:-1], lams[1:], strict=True)):
        predictor = basis.update(lams[j::-1][: max(1, past - corrector)], lam, lam_s)
        repeated = past > 1 and (corrector or (repeat_first and j == 0))
        again = basis.update(lams[j + 1 :: -1][: past if corrector else 2], lam, lam_s) if repeated else None
        levels.append(Coefficients(basis.unit(lam), basis.unit(lam_s), basis.mixing(lam), predictor, again))
    return Past(Plan(basis, past, levels))


def advance(field: CountedField, x: Sample, step: Step, past: Past, rng: SampleRng) -> tuple[Sample, Past, Info]:
    """Evaluate once, correct the step that led here, and take the next."""
    plan, here, mean = past.plan, past.plan.levels[step.index], field.means(x)
    seen = field(x, step.t)
    w = x / step.alpha - mean
    if here.unit != 1:
        w = w / here.unit
    values = (plan.basis.value(seen, mean, w, here.mixing), *past.values[: plan.past - 1])
    if past.pending is not None:
        corrector, before, drawn = past.pending
        w = corrector.of(before, values, drawn)
    noise = rng.normal(x.shape[1:]) if here.predictor.spread else None
    moved = here.predictor.of(w, values, noise)
    if here.unit_s != 1:
        moved = here.unit_s * moved
    pending = None if here.corrector is None else (here.corrector, w, noise)
    return step.alpha_s * (mean + moved), Past(plan, values, pending), NOTHING
