"""The checks of `scorefield verify`: a fact that a method declares, what was measured, and whether they agree.

Every list comes from the registry, so a component that a plugin registers is measured by the same table. Bounds are five
standard errors of the measurement where it is random, and rounding where it is not. A check without a verdict only informs: of
a Langevin sampler without Metropolis' test it says how large the bias is that such a sampler declares.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefield import registry, runge_kutta
from scorefield.errors import ScorefieldError
from scorefield.exact import Box, Gaussian, GaussianMixture
from scorefield.levels import geometric
from scorefield.likelihood import elbo, log_prob
from scorefield.objectives.base import Objective
from scorefield.objectives.weightings import SigmaSquared
from scorefield.prediction import Parametrisation, Prediction
from scorefield.process import VE, VP, Process, RectifiedFlow, Tabulated
from scorefield.progress import Progress
from scorefield.randomness import SampleRng
from scorefield.samplers import Langevin, Sampler, simulate
from scorefield.samplers.metropolis import Mala
from scorefield.verification.affine import affine_map, measured_order
from scorefield.verification.bench import Bench, Score, ring, spread, within_evaluations
from scorefield.verification.facts import dwells, remembers


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        kind: which part of the table.
        name: of the component.
        declared: the fact.
        measured: what came out.
        passed: the verdict; None where the line only informs.
        values: the numbers behind it, for JSON.
    """

    kind: str
    name: str
    declared: str
    measured: str
    passed: bool | None
    values: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def _five(values: Tensor) -> tuple[float, bool]:
    """Return how many standard errors a mean is from zero, and whether that is at most five."""
    deviation = float(values.mean() / (values.std() / math.sqrt(len(values))))
    return deviation, abs(deviation) <= 5


# --- processes and parametrisations -----------------------------------------------------------------------------------


def processes() -> Iterator[Check]:
    """Drift and diffusion, integrated as m' = f·m and v' = 2·f·v + g², return alpha and sigma²."""
    for name, kind in registry.every("process").items():
        process: Process = kind.example()
        if process.t_min == process.t_max:
            continue
        low, high = (process.t_min + share * (process.t_max - process.t_min) for share in (0.2, 0.8))
        if process.discrete:  # drift and diffusion jump at whole times: one smooth stretch
            low = float(math.floor(high))
        ends = torch.tensor([low, high], dtype=torch.float64)
        alphas, variances = process.alpha(ends), process.sigma(ends) ** 2
        start = torch.stack([alphas[0], variances[0]])[None]

        def slope(t: Tensor, y: Tensor, rows: Tensor, process: Process = process) -> Tensor:
            f, g = process.drift(t)[:, None], process.diffusion(t)[:, None]
            return torch.cat([f * y[:, :1], 2 * f * y[:, 1:] + g**2], dim=1)

        y = runge_kutta.solve(slope, start, low, high, rtol=1e-9, atol=1e-12).y[0]
        error = max(abs(float(y[0] / alphas[1]) - 1), abs(float(y[1] / variances[1]) - 1))
        yield Check("process", name, "SDE has marginals alpha, sigma", f"error {error:.0e}", error < 1e-6, {"error": error})


def parametrisations() -> Iterator[Check]:
    """The output that a perfect network would give returns score and denoised sample."""
    field = GaussianMixture([0.7, 0.3], [[-1.0, 0.5], [1.5, 0.0]], [0.5, 0.8], VP())
    x0 = field.sample(SampleRng(range(200)))
    t = field.process.t_min + SampleRng(range(200), stream=1).uniform() * (field.process.t_max - field.process.t_min)
    x = field.process.perturb(x0, t, SampleRng(range(200), stream=2).normal((2,)))
    true, alpha, sigma = field(x, t), field.process.alpha(t), field.process.sigma(t)
    for name, kind in registry.every("parametrisation").items():
        parametrisation: Parametrisation = kind()
        a, c = parametrisation.pair(alpha, sigma)
        seen = Prediction(field.process, x, t, a[:, None] * true.denoised + c[:, None] * true.score, a, c)
        errors = [(v - w).abs().max() / w.abs().max() for v, w in ((seen.score, true.score), (seen.denoised, true.denoised))]
        error = float(max(errors))
        yield Check("parametrisation", name, "output <-> (x0, score)", f"error {error:.0e}", error < 1e-9, {"error": error})


# --- samplers ---------------------------------------------------------------------------------------------------------


def facts() -> Iterator[Check]:
    """Whether a sampler dwells on its level, and whether it remembers the x before: what it declares against what it does."""

    def words(dwells: bool, remembers: bool) -> str:
        return f"{'dwells' if dwells else 'jumps'}, {'remembers' if remembers else 'does not remember'}"

    for name, kind in registry.every("sampler").items():
        sampler: Sampler = kind()
        declared, measured = words(sampler.dwells, sampler.remembers), words(dwells(sampler), remembers(sampler))
        yield Check("sampler: facts", name, declared, measured, declared == measured, {})


def orders() -> Iterator[Check]:
    """The error of mean and covariance on a Gaussian as steps are halved, by affine maps, without Monte Carlo."""
    for name, kind in registry.every("sampler").items():
        sampler: Sampler = kind()
        if sampler.dwells:
            continue
        declared = sampler.order or 1
        steps = (80, 160) if declared <= 3 else (16, 32)
        worst, mean, covariance = math.inf, 0.0, 0.0
        for process in (VE(0.05, 8.0), VP()):
            order, *errors = measured_order(sampler, process, steps)
            worst, mean, covariance = min(worst, order), max(mean, errors[0]), max(covariance, errors[1])
        passed = worst >= declared - 0.1
        shown = f"order {worst:.2f}; {steps[1]} steps: mean {mean:.0e}, covariance {covariance:.0e}"
        values = {"order": worst, "mean_error": mean, "covariance_error": covariance}
        yield Check("sampler: order", name, f"order {declared}", shown, passed, values)


def langevin(samples: int) -> Iterator[Check]:
    """The stationary variance of a step that is not small: v/(1 - tau/(2·v)) unadjusted, v with Metropolis' test."""
    v, tau = 1.0, 0.9
    field = Gaussian([0.0], [[v - 0.25]], VE(0.5, 1.0))
    a, b, _ = affine_map(field, Langevin(tau=tau, steps=1), torch.tensor([0.0], dtype=torch.float64))
    found, theory = float(b @ b.mT) / (1 - float(a) ** 2), v / (1 - tau / (2 * v))
    error = abs(found / theory - 1)
    values = {"variance": found, "theory": theory}
    shown = f"variance {found:.4f}, theory {theory:.4f}"
    yield Check("sampler: bias", "langevin", "v/(1 - tau/(2v)), tau = 0.9·v", shown, error < 1e-9, values)
    rng = SampleRng(range(samples))
    *_, last = simulate(
        field, Mala(tau=tau, steps=30), torch.tensor([0.0]), rng.normal((1,)) * math.sqrt(v), rng=rng, denoise=False
    )
    deviation, fits = _five(last.x[:, 0] ** 2 - v)
    found = float(last.x.var())
    shown = f"variance {found:.4f} ({deviation:+.1f} SE)"
    yield Check(
        "sampler: bias", "mala", "v exactly, tau = 0.9·v", shown, fits, {"variance": found, "standard_errors": deviation}
    )


def benches(samples: int, sets: int) -> tuple[Bench, Bench]:
    """Return the 2-D and the 32-D mixture."""
    process = VE(0.01, 80.0)
    return Bench("ring, 2-D", ring(process), samples, sets), Bench("spread, 32-D", spread(process), samples, sets)


LIMITS = {("abm", 10): 1.5, ("abm", 20): 1.1}  # the default sampler, on both mixtures


def verdict(name: str, sampler: Sampler, budget: int, score: Score) -> bool | None:
    """Return whether a score holds what the sampler promises at this number of evaluations; None where it promises nothing.

    A ratio is over its limit where it is so by two standard errors.
    """
    ratio = score.ratio - 2 * score.error
    if (name, budget) in LIMITS:
        return ratio <= LIMITS[name, budget]
    if budget < 1000:
        return None
    if name == "langevin":  # it must fail: a bench on which it passes could not see wrong weights
        return score.weights > 5
    unbiased = not sampler.dwells or name == "annealed-mala"
    return ratio <= 1.5 and score.weights <= 5 if unbiased else None


def bench_rows(
    bench: Bench, budgets: tuple[int, ...], progress: Progress, samplers: dict[str, Any] | None = None
) -> Iterator[tuple[str, Sampler, int, Score]]:
    """Score samplers (None: every one) on a mixture at every budget of evaluations; at most two sets for a thousand."""
    samplers = registry.every("sampler") if samplers is None else samplers
    for place, (name, kind) in enumerate(samplers.items()):
        sampler: Sampler = kind()
        for budget in budgets:
            progress(place / len(samplers), f"{bench.name}: {name}, {budget} evaluations")
            adaptive = sampler.at_fixed_steps() != sampler
            if adaptive and budget != budgets[-1]:
                continue  # it takes what its tolerance needs
            chosen, levels = (sampler, sampler.levels) if adaptive else within_evaluations(sampler, budget)
            yield name, sampler, budget, bench.score(chosen, levels, min(bench.sets, 2) if budget >= 1000 else None)


# --- objectives -------------------------------------------------------------------------------------------------------


class _Wrong:
    """The true score plus c·h, h a smooth field that is no gradient."""

    def __init__(self, true: Any, c: float) -> None:
        self.true, self.c = true, c
        self.process, self.shape, self.data_mean, self.data_std = true.process, true.shape, true.data_mean, true.data_std

    @staticmethod
    def h(x: Tensor) -> Tensor:
        return torch.sin(x) + x.roll(1, dims=1).cos()

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        return Prediction.of_score(self.process, x, t, self.true(x, t).score + self.c * self.h(x))


def objectives(samples: int) -> Iterator[Check]:
    """The excess loss of a wrong score is the weighted Fisher divergence; the slope at the true score is zero."""
    for name, kind in registry.every("objective").items():
        if kind.divergence == "none":
            yield Check("objective", name, "no divergence", "measured by its own tests", None, {})
            continue
        objective: Objective = kind()
        if "step" in kind.divergence:
            objective = replace(objective, step=1e-3)  # type: ignore[type-var]  # components are dataclasses
        process: Process = VE(0.3, 3.0)
        with contextlib.suppress(ScorefieldError):
            objective.check(GaussianMixture([1.0], [[0.0, 0.0]], [1.0], Tabulated.linear(50)))
            process = Tabulated.linear(50)
        with contextlib.suppress(ScorefieldError):
            objective.check(GaussianMixture([1.0], [[0.0, 0.0]], [1.0], VE(0.3, 3.0)))
            process = VE(0.3, 3.0)
        true = GaussianMixture([0.7, 0.3], [[-1.0, 0.5], [1.5, 0.0]], [0.5, 0.8], process)
        x0 = true.sample(SampleRng(range(samples)))

        def loss(c: float, objective: Objective = objective, true: Any = true, x0: Tensor = x0) -> Tensor:
            return objective(_Wrong(true, c), x0, rng=SampleRng(range(len(x0)), stream=1)).detach()

        base = loss(0.0)
        excess, slope = loss(1.0) - base, (loss(1e-3) - loss(-1e-3)) / 2e-3
        other = SampleRng(range(samples), stream=2)
        t = objective.noise_distribution.quantile(process, other.uniform())  # type: ignore[attr-defined]  # see `Objective`
        x = process.perturb(true.sample(other), t, other.normal((2,)))
        weighting = getattr(objective, "weighting", SigmaSquared())
        fisher = 0.5 * weighting(process, t) * _Wrong.h(x).square().sum(dim=1)
        deviation = float((excess.mean() - fisher.mean()) / ((excess.var() + fisher.var()) / samples).sqrt())
        flat, at_truth = _five(slope)
        ratio = float(excess.mean() / fisher.mean())
        shown = f"excess/Fisher {ratio:.3f} ({deviation:+.1f} SE), slope at the truth {flat:+.1f} SE"
        values = {"ratio": ratio, "standard_errors": deviation, "slope_standard_errors": flat}
        yield Check("objective", name, f"excess = {kind.divergence}", shown, abs(deviation) <= 5 and at_truth, values)


# --- likelihood -------------------------------------------------------------------------------------------------------


def likelihoods(points: int) -> Iterator[Check]:
    """Log-densities by the probability flow against closed forms, a uniform's bits, and the bound's side."""
    process: Process = VE(0.05, 1000.0)
    for shape in ((2,), (32,), (1, 4, 4)):
        means = SampleRng(range(3), stream=7).normal(shape)
        field = GaussianMixture([0.5, 0.3, 0.2], 2 * means, [0.5, 0.8, 1.0], process)
        x = field.sample(SampleRng(range(points)))
        found = log_prob(field, x, rng=SampleRng(range(points)), tolerance=1e-6, within=None).value
        error = float((found - field.log_prob(x, torch.full((points,), process.t_min))).abs().max())
        name = f"mixture {' x '.join(map(str, shape))}"
        yield Check("likelihood", name, "log p to 1e-4", f"error {error:.0e} nats", error <= 1e-4, {"error": error})
    box = Box((4,), 0.0, 256.0, VE(0.02, 1e5))
    x = 1 + 254 * SampleRng(range(points)).uniform((4,))
    bits = -log_prob(box, x, rng=SampleRng(range(points)), tolerance=1e-6, within=None).value / (4 * math.log(2))
    worst = float(bits[(bits - 8).abs().argmax()])
    passed = abs(worst - 8) < 5e-4
    yield Check("likelihood", "uniform on [0, 256)", "8.000 bits/dim", f"{worst:.4f} bits/dim", passed, {"bits": worst})
    for process in (VE(0.05, 50.0), RectifiedFlow()):
        field = GaussianMixture([0.6, 0.4], [[-2.0, 0.0], [2.0, 1.0]], [0.6, 0.9], process)
        x0 = field.sample(SampleRng(range(2000)))
        bound = elbo(field, x0, geometric(process, 50), rng=SampleRng(range(2000), stream=1)).value
        gap = field.log_prob(x0, torch.full((2000,), process.t_min)) - bound
        above = float(gap.mean() / (gap.std() / math.sqrt(2000)))
        name, shown = f"ELBO, {type(process).__name__}", f"{float(gap.mean()):.3f} nats below ({above:.0f} SE)"
        yield Check(
            "likelihood", name, "ELBO <= log p", shown, above > -5, {"gap": float(gap.mean()), "standard_errors": above}
        )


__all__ = [
    "Check",
    "bench_rows",
    "benches",
    "facts",
    "langevin",
    "likelihoods",
    "objectives",
    "orders",
    "parametrisations",
    "processes",
]
