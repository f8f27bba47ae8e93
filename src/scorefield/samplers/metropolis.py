"""Metropolis' test: Langevin steps that leave the density exactly as it is, whatever their size.

A Langevin step proposes x' = x + tau·s(x) + sqrt(2·tau)·z, a draw from q(x'|x) = N(x', x + tau·s(x), 2·tau·I), and the test
accepts it with probability min(1, r),

    log r = log p(x') - log p(x)  +  log q(x|x') - log q(x'|x)

else the sample stays where it is. With both proposal densities the step is reversible, p(x)·k(x -> x') = p(x')·k(x' -> x), so p
is stationary for every tau, where the step alone has the variance v/(1 - tau/(2v)) on N(0, v).

The first difference is that of the energies where the field has them. A field that knows only its score gives it as a line
integral, which does not depend on the path if the score is a gradient; on the straight one, by Simpson's rule,

    log p(x') - log p(x) = ∫_0^1 s(x + u·(x' - x))·(x' - x) du = (s(x) + 4·s((x + x')/2) + s(x'))·(x' - x)/6 + O(|x' - x|^5)

at one more evaluation a step, exact where the score is a cubic of u, hence for every Gaussian. A learned score is not quite a
gradient; `curl` measures by how much.

The test and everything it uses belong to one sample, so the rest of the batch never matters. A proposal of density zero (energy
+inf) is refused. A NaN anywhere in the ratio, or an infinite score where the density is not zero, is a broken field: the sample
becomes NaN, and the loop stops and names it.

References: Besag (1994), in the discussion of Grenander and Miller, "Representations of knowledge in complex systems". Roberts,
Tweedie (1996), "Exponential convergence of Langevin distributions and their discrete approximations", Bernoulli 2(4). Sjöberg,
Lindqvist, Önnheim, Jirstrand, Svensson (2023), "MCMC-correction of score-based diffusion models for model composition",
arXiv 2307.14012.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield import renamed
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.process import Positive
from scorefield.randomness import SampleRng
from scorefield.registry import COMPONENT, register
from scorefield.samplers.base import CountedField, Info, Sampler, Step
from scorefield.shapes import PerSample, Sample, check_rows, flat, over, total

Steps = Annotated[int, Bound(ge=1)]
Difference = Literal["auto", "exact", "line"]


def line_integral(field: CountedField, x: Sample, there: Sample, t: float, score: Sample, score_there: Sample) -> PerSample:
    """Return log p_t(there) - log p_t(x) from the score alone: Simpson's rule on the straight line, one evaluation.

    Args:
        field: gives the score in the middle.
        x, there: the ends, `(batch, *shape)`.
        t: the time of both.
        score, score_there: the scores at the ends, in the shape of `x`.

    Returns:
        `(batch,)`; exact for a Gaussian, else wrong by O(|there - x|^5).
    """
    return total((score + 4 * field((x + there) / 2, t).score + score_there) * (there - x)) / 6


@renamed.arguments
def curl(
    field: Field, x: Sample, t: PerSample, rng: SampleRng, *, probes: int = 4, step: float = 1e-2, cond: Tensor | None = None
) -> PerSample:
    """Measure how far a score is from being a gradient: the share of its Jacobian J that is antisymmetric.

        ‖(J - Jᵀ)/2‖ / ‖J‖,   Frobenius norms, each squared and estimated from bilinear forms a = vᵀJu, b = uᵀJv:
        sum of (a - b)²/4 over sum of (a² + b²)/2

    A gradient's Jacobian is symmetric, so this is 0, and a line integral does not depend on its path; a rotation has 1.
    Where it is not small no density has this score, and the test with a line integral samples from no known density.

    Args:
        field: any field.
        x: where, `(batch, *shape)`.
        t: the times, `(batch,)`.
        rng: draws u and v of every probe, uniform on the sphere.
        probes: pairs (u, v), >= 1; each takes four evaluations. One number is an estimate: use many, or average over samples.
        step: of the central differences, in units of sigma (of the data's deviation where sigma = 0); their error is O(step²).
        cond: conditioning, or None.

    Returns:
        `(batch,)`, in [0, 1]; 0 where the score does not depend on x.

    Raises:
        ScorefieldError: fewer than one probe; seeds or conditioning that are not one per sample.

    >>> from scorefield import VE, GaussianMixture
    >>> mixture = GaussianMixture([.8, .2], [[-5., 0.], [5., 0.]], [1., 1.], VE(.01, 10.))
    >>> bool((curl(mixture, torch.randn(9, 2), torch.full((9,), 0.5), SampleRng(range(9))) < 1e-3).all())
    True
    """
    if probes < 1:
        raise ScorefieldError(f"got {probes} probes, expected at least 1: each is a pair of directions")
    check_rows(len(x), cond=cond, seeds=len(rng))
    x, sigma = x.double(), field.process.sigma(t.double())
    length = step * torch.where(sigma > 0, sigma, torch.full_like(sigma, field.data_std))
    split, whole = torch.zeros_like(length), torch.zeros_like(length)

    def direction() -> Sample:
        z = rng.normal(x.shape[1:])
        return z / over(total(z**2).sqrt(), x)

    def slope(u: Sample) -> Sample:
        ahead, behind = (field(x + sign * over(length, x) * u, t, cond).score for sign in (1, -1))
        return (ahead - behind) / (2 * over(length, x))

    with torch.no_grad():
        for _ in range(probes):
            u, v = direction(), direction()
            a, b = total(v * slope(u)), total(u * slope(v))
            split, whole = split + (a - b) ** 2 / 4, whole + (a**2 + b**2) / 2
        return (split / torch.where(whole > 0, whole, torch.ones_like(whole))).sqrt()


def optimal_step(dimension: int) -> float:
    """Return eps for which the best MALA step on N(0, v·I) in `dimension` coordinates is tau = eps·v.

    Roberts and Rosenthal (1998): 2·tau = l²·d^(-1/3)·v with acceptance 2·Phi(-l³/8), and the samples move farthest per step at
    l = 1.65, acceptance 0.574. "Optimal scaling of discrete approximations to Langevin diffusions", JRSS B 60(1).

    >>> round(optimal_step(1), 2), round(optimal_step(1000), 3)
    (1.36, 0.136)
    """
    return 0.5 * 1.65**2 * math.pow(dimension, -1 / 3)


@plain(frozen=True, eq=False)
class Chain:
    """What a run carries from step to step.

    Attributes:
        taus: the step size on every level.
        exact: whether log p is computed from energies; else from the line integral of the score.
        acceptance: the mean probability of acceptance on every level visited so far, over steps and samples.
        tests: how many steps the last of those means is of.
        step, x, score, log_p: where the last step ended, with the score and, if known, log p (plus a constant) there.
        slope: of the score along the last proposal, (s(x') - s(x))·(x' - x)/|x' - x|², `(batch,)`, if it was asked for.
    """

    taus: tuple[float, ...]
    exact: bool
    acceptance: tuple[float, ...] = ()
    tests: int = 0
    step: Step | None = None
    x: Tensor | None = None
    score: Tensor | None = None
    log_p: Tensor | None = None
    slope: Tensor | None = None

    @classmethod
    def starting(cls, field: CountedField, taus: list[float], energy: Difference) -> Chain:
        """Return the state at the start of a run: "exact" asks for energies, "auto" takes them where the field has them.

        Raises:
            ScorefieldError: "exact" for a field that has no energy, or a step size of 0.
        """
        if energy == "exact" and not field.has_energy:
            raise ScorefieldError("got energy = 'exact' and a field without one, expected an energy: use energy = 'line'")
        if min(taus) == 0:
            raise ScorefieldError(
                "got sigma = 0 on a level, where a step in units of sigma² vanishes, expected a stated one: set tau of 'mala'"
            )
        return cls(tuple(taus), field.has_energy and energy != "line")

    def counted(self, step: Step, probability: PerSample) -> tuple[tuple[float, ...], int]:
        """Return `acceptance` and `tests` with the probability of acceptance of one more step."""
        before, rate = self.acceptance, float(probability.mean())
        if len(before) <= step.index:
            return (*before, rate), 1
        return (*before[:-1], before[-1] + (rate - before[-1]) / (self.tests + 1)), self.tests + 1


def _slope(score: Sample, score_there: Sample, way: Sample) -> PerSample:
    """Return (s(x') - s(x))·(x' - x)/|x' - x|², `(batch,)`."""
    return total((score_there - score) * way) / total(way**2)


def _rows(chosen: Tensor, x: Sample) -> Tensor:
    """Return a truth value of each sample, `(batch,)`, for all its elements: `where` is slow where it broadcasts."""
    return (over(chosen.double(), x) > 0).expand_as(x).contiguous()


def metropolis_step(
    field: CountedField, x: Sample, step: Step, chain: Chain, rng: SampleRng, *, sloped: bool = False
) -> tuple[Sample, Chain, Info]:
    """Return the next state of Metropolis-adjusted Langevin: the proposal where it is accepted, x where it is not.

    Args:
        field: the density, p_t at t = step.t.
        x: the state, `(batch, *shape)`.
        step: the level.
        chain: gives the step size, and the score and log p of x if the last step ended there.
        rng: gives z, then the uniform number of the test.
        sloped: whether the chain is to have the slope of the score along the proposal.
    """
    t, tau, exact = step.t, chain.taus[step.index], chain.exact
    score, log_p = chain.score, chain.log_p
    if chain.x is not x or chain.step is not step or score is None:
        score, log_p = field(x, t).score, -field.energy(x, t) if exact else None
    z = rng.normal(x.shape[1:])
    there = torch.add(x, score, alpha=tau).add_(z, alpha=math.sqrt(2 * tau))
    score_there, log_p_there = field(there, t).score, -field.energy(there, t) if exact else None
    if log_p is None or log_p_there is None:
        gain = line_integral(field, x, there, t, score, score_there)
    else:
        gain = log_p_there - log_p
    back = torch.sub(x, there).sub_(score_there, alpha=tau)  # sqrt(2·tau) times the draw that would lead from x' to x
    log_r = torch.add(gain, total(z.square()), alpha=0.5).sub_(total(back.square_()), alpha=0.25 / tau)
    # One sum shows that all numbers are finite, as nearly always. Where one is not, a sample that is neither accepted nor
    # refused becomes NaN, at which the loop stops and names it.
    whole: Tensor | None = None
    if not math.isfinite(float(log_r.sum() + there.sum() + score_there.sum())):
        outside = torch.zeros_like(log_r, dtype=torch.bool) if log_p_there is None else log_p_there == -math.inf
        log_r = torch.where(outside, -math.inf, log_r)
        sound = flat(there).isfinite().all(dim=1) & (outside | flat(score_there).isfinite().all(dim=1)) & ~log_r.isnan()
        whole = _rows(sound, x)
    probability = log_r.clamp(max=0).exp_()
    slope = _slope(score, score_there, there - x) if sloped else None
    accepted = rng.uniform() < probability
    moved = _rows(accepted, x)
    x = torch.where(moved, there, x) if whole is None else torch.where(whole, torch.where(moved, there, x), math.nan)
    score = torch.where(moved, score_there, score)
    log_p = None if log_p is None or log_p_there is None else torch.where(accepted, log_p_there, log_p)
    acceptance, tests = chain.counted(step, probability)
    return x, Chain(chain.taus, exact, acceptance, tests, step, x, score, log_p, slope), Info(acceptance)


@register("sampler", "mala")
@dataclass(frozen=True, config=COMPONENT)
class Mala(Sampler):
    """Metropolis-adjusted Langevin at every level, with one step size on each: no bias at any step, still slow between modes.

    Attributes:
        tau: step size, in units of x²; None takes the best one for a density that is as narrow as the noise alone,
            `optimal_step(d)`·sigma² of each level.
        steps: steps a level; usually the ladder has one level.
        energy: "exact" asks for a field with an energy, "line" integrates the score, "auto" takes what the field has.
    """

    tau: Positive | None = None
    steps: Steps = 1000
    energy: Difference = "auto"
    order: ClassVar[int | None] = None
    dwells: ClassVar[bool] = True
    remembers: ClassVar[bool] = False  # the score at x is kept for x itself only: of another it is evaluated
    evaluations_per_step: ClassVar[int | None] = None  # 1, or 2 with the line integral, and 1 more at the start of a level
    ladder: ClassVar[str] = "lowest"
    levels: ClassVar[int] = 1

    @property
    def steps_per_level(self) -> int:
        return self.steps

    def within(self, steps: int) -> tuple[Sampler, int]:
        return replace(self, steps=steps), 1

    def start(self, field: CountedField, steps: list[Step]) -> Chain:
        eps = optimal_step(math.prod(field.field.shape))
        return Chain.starting(field, [self.tau or eps * step.sigma**2 for step in steps], self.energy)

    def step(self, field: CountedField, x: Sample, step: Step, state: Chain, rng: SampleRng) -> tuple[Sample, Chain, Info]:
        return metropolis_step(field, x, step, state, rng)


@register("sampler", "annealed-mala")
@dataclass(frozen=True, config=COMPONENT)
class AnnealedMala(Sampler):
    """Metropolis-adjusted annealed Langevin: each level is entered by a posterior step, then held by k unbiased MALA steps.

    From level to level, in z = x/alpha with noise lambda = sigma/alpha, gamma = lambda_s/lambda < 1 and eta = 1 - gamma²,

        z <- z + eta·(denoised - z) + lambda·sqrt(eta·(gamma² + eta·c))·noise,   c = Cov[x0 | x]/lambda² = 1 + sigma²·grad score

    has the mean and, if c is the same in all directions, the covariance of p(z_s | z) = ∫ p(z_s | z, x0)·p(x0 | z) dx0. It
    costs no evaluation: the last test has the score at x, and c, clamped to [0, 1], comes from the slope of the score along its
    proposal. On N(m, v·I), c = v/(v + lambda²) and every level is reached exactly, however far it is from the last one. For
    other data the MALA steps, with tau_j = eps·sigma_j², remove the remaining error on every level including the last.

    The variance is that of Bao, Li, Zhu, Zhang (2022), "Analytic-DPM: an analytic estimate of the optimal reverse variance in
    diffusion probabilistic models", arXiv 2201.06503, who average it over the data; here it is each sample's own.

    At a fixed number of evaluations more levels are better than more steps a level, and a Karras ladder than a geometric one.

    Attributes:
        steps_per_level: k.
        eps: step in units of sigma²; None takes `optimal_step(d)`.
        energy: as in `Mala`.
    """

    steps_per_level: Steps = 1
    eps: Positive | None = None
    energy: Difference = "auto"
    order: ClassVar[int | None] = None
    dwells: ClassVar[bool] = True  # the jump is the first thing that happens on the next level
    remembers: ClassVar[bool] = True  # the jump is made with the score of the level before
    evaluations_per_step: ClassVar[int | None] = None  # k + 1 a level, 2k + 1 with the line integral
    ladder: ClassVar[str] = "karras"
    levels: ClassVar[int] = 100

    def start(self, field: CountedField, steps: list[Step]) -> Chain:
        eps = self.eps or optimal_step(math.prod(field.field.shape))
        return Chain.starting(field, [eps * step.sigma**2 for step in steps], self.energy)

    def step(self, field: CountedField, x: Sample, step: Step, state: Chain, rng: SampleRng) -> tuple[Sample, Chain, Info]:
        above = state.step
        if above is not None and above is not step and state.score is not None and state.slope is not None:
            wide = above.sigma / above.alpha
            eta = 1 - (step.sigma / step.alpha / wide) ** 2
            c = (1 + above.sigma**2 * state.slope).nan_to_num(0.0).clamp(0, 1)  # NaN: the proposal had density 0
            pull = eta * above.sigma**2 / above.alpha * state.score
            spread = over(wide * (eta * (1 - eta + eta * c)).sqrt(), x)
            x = x + step.alpha * (pull + spread * rng.normal(x.shape[1:]))
        return metropolis_step(field, x, step, state, rng, sloped=True)
