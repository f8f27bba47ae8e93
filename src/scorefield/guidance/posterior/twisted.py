"""The twisted particle sampler: draws from the posterior of a measurement, with the weights that make them right.

Write z = x/alpha and lambda = sigma/alpha, so z = x0 + lambda·noise, and go down levels lambda_K > ... > lambda_0 > 0. At each
level the denoised image is D(z) and the covariance of x0 around it is taken to be that of Gaussian data with the covariance S,

    C = (S⁻¹ + I/lambda²)⁻¹                     of the level
    h(z) = N(y; A·D(z), s²·I + A·C·Aᵀ)          the twist: how well z explains y
    g = 1 - lambda'²/lambda²                    lambda' is the next level

A step of the reverse process draws z' around m = z + g·(D - z) with the covariance Q = g·lambda'²·I + g²·C. It is proposed with
y in view: x0 is drawn from N(D, C) given y, and noised to the next level as if it were known,

    z' = z + g·(x0 - z) + lambda'·sqrt(g)·noise

and the particle takes the weight

    w <- w·N(z'; m, Q)/proposal(z')·h'(z')/h(z)

so that what the proposal and the twists have in excess is divided out. Particles are resampled when the effective number falls
below half. The last step goes to lambda' = 0, where h' is the likelihood itself. The answer is the posterior in the limit of
many particles and many levels, for any prior. For a Gaussian prior all of this is exact: every weight is constant, and one
particle and any number of levels give the posterior. The usual covariance g·lambda'²·I in place of Q is right in the limit of
many levels only.

A nonlinear measurement y = g(B·x0) + noise has h(z) = its evidence with B·x0 ~ N(B·D, diag(B·C·Bᵀ)). The proposal takes the
Gaussian that has this evidence's slope at the particle, and its curvature at y.

The covariance S is that of the data (`Moments`). With S = data_std²·I in its place (isotropic) weights are uneven, and more
particles are needed. The start takes p at the highest level for N(mean, S + lambda²·I), which is not weighed: where S is not
known, and the data vary far more along some direction than data_std, `top` must be raised as well.

References: Wu et al. (2023), "Practical and asymptotically exact conditional sampling in diffusion models", arXiv 2306.17775.
Cardoso et al. (2023), arXiv 2308.07983. Trippe et al. (2023), arXiv 2206.04119. Rozet et al. (2024), "Learning diffusion priors
from observations by expectation maximization", arXiv 2405.13712, for the twist with a covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.errors import NotFinite, ScorefieldError
from scorefield.field import Field, moments_of
from scorefield.guidance.particles import effective, filters_of, systematic
from scorefield.guidance.posterior.base import Measured, Method, Posterior
from scorefield.guidance.posterior.conjugate import Level, Measurement
from scorefield.moments import Moments
from scorefield.process import Positive, Process
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers.base import CountedField

LEAST_NOISE = 1e-5  # of the standard deviation of the number that is measured: a noise of 0 has no density
LEAST_VARIANCE = 1e-12  # of the largest


@register("posterior", "twisted")
@dataclass(frozen=True, config=COMPONENT)
class Twisted(Method):
    """Twisted particles, which keep their weights.

    Attributes:
        particles: K for each draw.
        together: whether all draws are from one filter of K particles for each, which suits many draws of few numbers; else
            every draw has a filter of its own, does not depend on the others, and is picked by weight at the end.
        levels: of noise, >= 2.
        top: the highest level, in units of the largest principal standard deviation of the data.
        bottom: the lowest level but for 0, in units of the data's standard deviation. Both stay in the range of the process.
        moments: of the data; None for those that the field knows.
    """

    particles: Annotated[int, Bound(ge=1)] = 3
    together: bool = True
    levels: Annotated[int, Bound(ge=2)] = 100
    top: Positive = 10.0
    bottom: Positive = 1e-3
    moments: Moments | None = None
    linear_only: ClassVar[bool] = False
    keeps_weights: ClassVar[bool] = True

    def draw(
        self, field: Field, measured: Measured, *, rng: SampleRng, cond: Tensor | None = None, progress: Progress = silent
    ) -> Posterior:
        """Return one draw for each seed; see `posterior_sample`. Draws of different conditions are in different filters."""
        groups = filters_of(len(rng), cond)
        if cond is not None and self.together and len(groups) > 1:
            share, parts = 1 / len(groups), list[Posterior]()
            for k, rows in enumerate(groups):
                part = portion(progress, k * share, share)
                parts.append(self.draw(field, measured, rng=rng[rows], cond=cond[rows], progress=part))
            order = torch.cat(groups).argsort()
            x, least, off = (torch.cat([getattr(p, name) for p in parts])[order] for name in ("x", "effective", "residual"))
            return replace(parts[0], x=x, effective=least, residual=off)
        device = rng.seeds.device
        moments = (self.moments or moments_of(field)).to(device)
        moments = moments.floored(LEAST_VARIANCE * moments.largest)
        k = self.particles
        counted = CountedField(field, None if cond is None else cond.repeat_interleave(k, dim=0))
        crowd = _Particles(counted, _problem_of(field, moments, measured), rng, k, 1 if self.together else len(rng))
        times = self.times(field.process, moments, field.data_std)
        with torch.no_grad():
            lams = [_ratio(field.process, t) for t in times]
            crowd.start(lams[0])
            for j, (t, lam, following) in enumerate(zip(times, lams, [*lams[1:], 0.0], strict=True)):
                crowd.step(t, lam, following)
                progress((j + 1) / len(times), f"level {j + 1} of {len(times)}")
            x = crowd.picked().reshape(-1, *field.shape)
        return Posterior(x, crowd.least, counted.evaluations, k, measured.residual(x), "twisted")

    def times(self, process: Process, moments: Moments, data_std: float) -> list[float]:
        """Return the times of the levels, descending."""
        low, high = (_ratio(process, t) for t in (process.t_min, process.t_max))
        high = min(high, self.top * math.sqrt(moments.largest))
        low = min(max(low, self.bottom * data_std), 0.5 * high)
        lams = torch.exp(torch.linspace(math.log(high), math.log(low), self.levels, dtype=torch.float64))
        return sorted(set(process.time_of_sigma(lams).tolist()), reverse=True)


def _ratio(process: Process, t: float) -> float:
    time = torch.tensor(t, dtype=torch.float64)
    return float(process.sigma(time) / process.alpha(time))


@plain_dataclass(frozen=True, eq=False)
class _Problem:
    """What particles are weighed by: the linear part of the measurement, and the evidence of y.

    Attributes:
        measured: as it was given, where it is not linear; None where it is, and y and noise say all.
        measurement: B, as it is used.
        y: `(m,)`.
        noise: variance of the noise, `(m,)`.
    """

    measured: Measured | None
    measurement: Measurement
    y: Tensor
    noise: Tensor

    def noise_at(self, along: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variance of the noise of a Gaussian that stands for the measurement, and that of B·x0 around B·D."""
        if self.measured is None:
            return self.noise, self.noise
        variances = self.measurement.variances(along, rest).clamp(min=1e-300)
        return self._curvature(variances), variances

    def evidence(self, level: Level, u: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
        """Return log h of particles with B·D = u, but for a constant, and the residuals that their proposals take."""
        if self.measured is None:
            residual = self.y - u
            return level.log_density(residual), residual
        value, slope = self._slope(u, variances)
        return value, slope * (variances + level.noise)

    def _slope(self, u: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
        assert self.measured is not None
        with torch.enable_grad():
            inner = u.detach().requires_grad_(True)
            shape = (-1, *self.measured.y.shape)
            value = self.measured.operator.log_evidence(
                inner.reshape(shape), variances.reshape(self.measured.y.shape), self.measured.y, self.measured.noise_std
            )
            (slope,) = torch.autograd.grad(value.sum(), inner)
        return value.detach(), slope

    def _curvature(self, variances: Tensor) -> Tensor:
        """Return the variance of the Gaussian noise that stands for the measurement: 1/curvature - variance, at u = y."""
        step = 1e-3 * variances.sqrt().clamp(min=1e-12)
        ends = [self._slope((self.y + sign * step)[None], variances)[1][0] for sign in (1, -1)]
        curve = (ends[1] - ends[0]) / (2 * step)
        return (1 / curve.clamp(min=1e-6 / variances.clamp(min=1e-24)) - variances).clamp(min=0) + 1e-6 * variances


def _problem_of(field: Field, moments: Moments, measured: Measured) -> _Problem:
    device, y = moments.mean.device, measured.y.reshape(-1).to(moments.mean.device)
    measurement = Measurement.of(moments, measured.operator.inner, field.shape)
    varying = measurement.variances(*moments.both(lambda v: v)).expand_as(y)
    if not bool((varying > 0).any()):
        raise ScorefieldError(
            f"got {measured.operator}, of which every number is 0 whatever the sample is, expected one that measures "
            "something: correct it"
        )
    given = torch.as_tensor(measured.noise_std, dtype=torch.float64, device=device).reshape(-1).expand_as(y)
    # numbers may differ in their units, so each has a least noise of its own
    noise = torch.maximum(given, LEAST_NOISE * torch.where(varying > 0, varying, varying.max()).sqrt())
    if not measured.operator.linear:
        # what is rounded, or cut to a bound, has a probability without noise, too
        dense = measured.operator.holds_noise(measured.y).reshape(-1).to(device) & (not measured.operator.rounds)
        raised = torch.where(dense, noise, given).reshape(measured.y.shape)
        return _Problem(replace(measured, noise_std=raised), measurement, y, torch.zeros_like(y))
    return _Problem(None, *measurement.whitened(y, noise))


class _Particles:
    """K particles for each of n draws, as rows i·K to i·K + K - 1, in one filter or in one for each draw."""

    def __init__(self, field: CountedField, problem: _Problem, rng: SampleRng, k: int, filters: int) -> None:
        self.field, self.problem, self.rng, self.k, self.filters = field, problem, rng, k, filters
        device = rng.seeds.device
        self.log_w = torch.zeros(filters, k * len(rng) // filters, dtype=torch.float64, device=device)
        self.log_h = self.log_w.flatten()  # of the twist that the weights hold
        self.z = torch.empty(0, dtype=torch.float64, device=device)
        self.least = torch.ones(len(rng), dtype=torch.float64, device=device)

    def normal(self, size: int) -> Tensor:
        """Draw standard normal numbers for every particle, `(n·K, size)`."""
        return self.rng.normal((self.k, size)).flatten(0, 1)

    def start(self, lam: float) -> None:
        """Draw the first state, as a step from infinite noise: N(mean, S + lambda²·I), which p is at a high level, given y."""
        problem, moments = self.problem, self.problem.measurement.moments
        along, rest = moments.both(lambda v: v)
        noise, variances = problem.noise_at(along, rest)
        level = problem.measurement.level(along, rest, noise)
        residual = problem.evidence(level, problem.measurement.measure(moments.mean[None]), variances)[1]
        mean = moments.mean.repeat(self.log_w.numel(), 1)
        self._move(level, mean, residual, 1.0, lam)  # from infinite noise, where D is the mean and C is S

    def step(self, t: float, lam: float, following: float) -> None:
        """Weigh the particles at a level, resample them where they are uneven, and move them to the next one."""
        problem, moments, g = self.problem, self.problem.measurement.moments, 1 - (following / lam) ** 2
        along, rest = moments.given(lam)
        noise, variances = problem.noise_at(along, rest)
        level = problem.measurement.level(along, rest, noise)
        alpha = self.field.alpha(t)
        denoised = self.field((alpha * self.z).reshape(-1, *self.field.field.shape), t).denoised.flatten(1)
        if not bool(denoised.isfinite().all()):
            raise NotFinite(
                f"got NaN or infinity from the field at t = {t:g} while sampling a posterior, expected finite numbers: "
                "inspect the model at this noise level, or look for measured values far outside the data"
            )
        log_h, residual = problem.evidence(level, problem.measurement.measure(denoised), variances)
        self._weigh(log_h - self.log_h)
        self.log_h = log_h
        rows = self._chosen()
        z, denoised, residual, self.log_h = self.z[rows], denoised[rows], residual[rows], self.log_h[rows]
        self._move(level, z + g * (denoised - z), residual, g, following)

    def _move(self, level: Level, centre: Tensor, residual: Tensor, g: float, following: float) -> None:
        """Draw z' around m = `centre` with y in view, and weigh it by N(z'; m, Q)/proposal(z').

        The proposal is N(m + shift, P), P = Q - g²·C·Aᵀ·R⁻¹·A·C, whose inverse is Q⁻¹ + Hᵀ·M⁻¹·H with H = g·A·C·Q⁻¹, which
        makes of z' - m what it says of A·x0, and M = N + A·C'·Aᵀ, where C' = C - g²·C·Q⁻¹·C is the covariance of x0 given z'.
        A draw is shift + off, shift = g·C·Aᵀ·q and off = free - g·C·Aᵀ·p, with q = R⁻¹·r of the residual r, free ~ N(0, Q),
        n ~ N(0, M) and p = R⁻¹·(H·free + n). As g·H·C·Aᵀ = R - M, the weight needs numbers of the measurement alone:

            H·shift = r - M·q,    H·off = M·p - n,    log N(z'; m, Q)/P = -q·H·(off + shift/2) + H·off·M⁻¹·H·off/2
        """
        measurement, c, rest = level.measurement, level.along, level.rest
        moments, variance, variance_rest = measurement.moments, g * following**2 + g**2 * c, g * following**2 + g**2 * rest
        along_left, rest_left = (v * following**2 / (following**2 + g * v) for v in (c, rest))
        left = measurement.level(along_left, rest_left, level.noise)
        free = moments.weighted(variance.sqrt(), variance_rest.sqrt(), self.normal(moments.size))
        n = left.draw(self.normal)
        q = level.solve(residual)
        p = level.solve(measurement.seen(g * c / variance, g * rest / variance_rest, free) + n)
        self.z = centre.add_(free).add_(measurement.spread(c, rest, q - p), alpha=g)
        if following > 0 or self.problem.measured is not None:  # a linear measurement explains its last step exactly
            shift, off = residual - left.times(q), left.times(p) - n
            self._weigh(-(q * (off + 0.5 * shift)).sum(dim=1) - left.log_density(off))

    def _weigh(self, log_w: Tensor) -> None:
        self.log_w = self.log_w + log_w.reshape(self.log_w.shape)

    def _chosen(self) -> Tensor:
        """Return the rows of the particles that go on, after resampling where fewer than half count."""
        size = self.log_w.shape[1]
        count = effective(self.log_w)
        self.least = torch.minimum(self.least, (count / size).expand_as(self.least))
        itself = torch.arange(size, device=count.device).expand_as(self.log_w)
        uneven = (count < 0.5 * size).unsqueeze(1)
        taken = torch.where(uneven, systematic(self.log_w, self.rng.uniform(())[: self.filters]), itself)
        self.log_w = torch.where(uneven, 0.0, self.log_w)
        return (taken + size * torch.arange(self.filters, device=count.device).unsqueeze(1)).flatten()

    def picked(self) -> Tensor:
        """Return one particle for each draw, by weight, as `(n, d)`."""
        problem, n, size = self.problem, len(self.rng), self.log_w.shape[1]
        if problem.measured is not None:
            x = self.z.reshape(-1, *self.field.field.shape)
            self._weigh(problem.measured.log_likelihood(x) - self.log_h)
        self.least = torch.minimum(self.least, (effective(self.log_w) / size).expand_as(self.least))
        if size == 1:
            self.least = torch.full_like(self.least, math.nan)  # one particle has no other to be compared with
        taken = systematic(self.log_w, self.rng.uniform(())[: self.filters])
        first = (self.rng.uniform(()) * self.k).long()  # of K neighbours in the order of the weights
        if self.filters == 1:
            return self.z[taken[0, int(first[0]) :: self.k]]
        rows = torch.arange(n, device=taken.device)
        return self.z[size * rows + taken[rows, first]]
