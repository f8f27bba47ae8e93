"""The tilted density itself: particles with Feynman-Kac weights draw p_worse^(1 - g)·p_better^g, which guidance only points to.

Write z = x/alpha and v = (sigma/alpha)², so that dp_v/dv = ½·laplacian(p_v) for both densities. For q_v = p_worse^(1 - g)·
p_better^g, not normalised, with the guided score S = (1 - g)·s_worse + g·s_better = grad log q_v, that gives

    dq_v/dv = ½·laplacian(q_v) - ½·g·(g - 1)·|s_better - s_worse|²·q_v

The first term alone would be noise that is added. So the reverse SDE with the score S, dz = S dtau + dw with dtau = -dv, draws
from q_v if each of its paths carries the weight

    d log w = ½·g·(g - 1)·|s_better - s_worse|² dtau

Without the weight it draws from something else, too narrow where g > 1 (`extrapolation`). K particles come down the levels with
their weights and are resampled by them when their effective number falls below K/2. The start N(mean, data_std² + v) is not
quite q_v: its weight is a line integral of S from the mean, by Simpson's rule, exact for Gaussians.

A step is exact where S is that of a Gaussian of variance data_std², and elsewhere of order 2 in law, as Heun's method is. With
u = v + data_std² and e = z + u·S, at z and at a first try of z' with e in the place of their mean,

    z' = (u'/u)·z + (1 - u'/u)·(e + e*)/2 + sqrt((v - v')·u'/u)·noise
    log w' = log w + ½·g·(g - 1)·log(v/v')·(v·|ds|² + v'·|ds'|²)/2,    ds = s_better - s_worse: the trapezium rule in log v

The result is right in the limit of many particles and many levels. Above g = 3 or so, many is very many, because the weights
have heavy tails where the two fields disagree between modes: with tens of thousands of particles on overlapping mixtures, one
mode had the share 0.61 for 0.63 at g = 2 and 0.71 for 0.72 at g = 3, but 0.66 to 0.88 for 0.77 at g = 4, though the effective
number was never below a third. So compare several calls. The density is that of the fields that are given, with their errors.

References: Skreta et al. (2025), "Feynman-Kac correctors in diffusion: annealing, guidance, and product of experts", arXiv
2503.02819. Del Moral, Doucet, Jasra (2006), "Sequential Monte Carlo samplers", JRSS B 68(3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import NotFinite, ScorefieldError
from scorefield.guidance.extrapolation import Extrapolated
from scorefield.guidance.particles import effective, filters_of, systematic
from scorefield.levels import ladder_of
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.samplers.base import Step, steps_of
from scorefield.shapes import PerSample, Sample, check_rows, total


@dataclass(frozen=True, eq=False)
class Tilted:
    """Draws from a tilted density, and how far they can be trusted.

    Attributes:
        x: the draws, `(n, *shape)`, float64, equally likely; some may be copies of each other, as resampling makes them.
        effective: the smallest effective number of particles on any level, as a share of all in the filter of each draw,
            `(n,)`, in (0, 1].
        evaluations: of the worse and the better field together, for each draw.
    """

    x: Tensor
    effective: Tensor
    evaluations: int


def feynman_kac(
    guided: Extrapolated,
    *,
    rng: SampleRng,
    cond: Tensor | None = None,
    levels: int = 50,
    ladder: Tensor | None = None,
    progress: Progress = silent,
) -> Tilted:
    """Draw from the tilted density of a guided field.

        x0 ~ p_worse^(1 - g)·p_better^g, normalised, both smoothed by noise of sigma_min

    The draws of one call with the same `cond` are the particles of one filter. So a draw depends on how many others there are,
    unlike everywhere else in this package, and few draws are poor ones: ask for hundreds, and take some.

    Args:
        guided: `ClassifierFree`, `Autoguidance` or `Classified`, without an interval.
        rng: one seed for each draw.
        cond: conditioning of each draw, or None.
        levels: of the ladder that suits most fields, >= 2.
        ladder: descending times instead, `(levels,)`.
        progress: called after every level.

    Returns:
        The `Tilted`.

    Raises:
        ScorefieldError: no seeds, a batch that disagrees with them, a field that is guided in an interval only.
        NotFinite: a field that gives NaN, with the level named.

    Reference: Skreta et al. (2025), arXiv 2503.02819.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> from scorefield.guidance import Autoguidance
    >>> better, worse = (Gaussian([0.0], [[v]], VE(0.01, 50.0)) for v in (1.0, 2.0))
    >>> found = feynman_kac(Autoguidance(better, worse, 2.0), rng=SampleRng(range(4000)))
    >>> round(float(found.x.var()), 1), bool(found.effective.min() > 0.4)  # 2/(1 + g) = 0.67
    (0.7, True)
    """
    if guided.interval is not None:
        raise ScorefieldError(
            f"got a field that is guided from {guided.interval[0]:g} to {guided.interval[1]:g} only, whose samples have no "
            "density to be corrected to, expected one without an interval: leave it out"
        )
    if levels < 2:
        raise ScorefieldError(f"got levels = {levels}, expected at least 2: ask for more")
    if not len(rng):
        raise ScorefieldError("got an rng without seeds, expected one for each draw: for example SampleRng(range(500))")
    check_rows(len(rng), cond=cond)
    steps = steps_of(guided.process, ladder_of(guided, "log-cauchy", levels) if ladder is None else ladder)
    crowd = _Crowd(guided, rng, cond)
    z, here, log_w = crowd.start(steps[0])
    for j, (step, below) in enumerate(zip(steps[:-1], steps[1:], strict=True)):
        z, there = crowd.moved(z, here, step, below)
        rise = crowd.rate * math.log(_v(step) / _v(below)) / 2 * (_v(step) * here.gap + _v(below) * there.gap)
        z, here, log_w = crowd.resampled(z, there, log_w + rise)
        progress((j + 1) / (len(steps) - 1), f"level {j + 2} of {len(steps)}")
    z, here, _ = crowd.resampled(z, here, log_w, always=True)
    return Tilted(z + _v(steps[-1]) * here.score, crowd.least, crowd.evaluations)


def _v(step: Step) -> float:
    """Return the variance of the noise of a level in z = x/alpha."""
    return (step.sigma / step.alpha) ** 2


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the two fields say at some particles: the guided score S, `(n, *shape)`, and |s_better - s_worse|², `(n,)`."""

    score: Sample
    gap: PerSample

    def __getitem__(self, rows: Tensor) -> _Seen:
        return _Seen(self.score[rows], self.gap[rows])


class _Crowd:
    """The particles of one call: one filter for each different condition."""

    def __init__(self, guided: Extrapolated, rng: SampleRng, cond: Tensor | None) -> None:
        self.guided, self.rng, self.cond, self.evaluations = guided, rng, cond, 0
        self.rate, device = guided.strength * (guided.strength - 1) / 2, rng.seeds.device
        self.filters = [rows.to(device) for rows in filters_of(len(rng), cond)]
        self.least = torch.ones(len(rng), dtype=torch.float64, device=device)

    @torch.no_grad()
    def seen(self, z: Sample, step: Step) -> _Seen:
        """Ask the fields about particles on a level."""
        t = torch.full((len(z),), step.t, dtype=torch.float64, device=z.device)
        worse, better = (step.alpha * score for score in self.guided.scores(step.alpha * z, t, self.cond))
        self.evaluations += 2
        score = worse + self.guided.strength * (better - worse)
        if not bool(score.isfinite().all()):
            raise NotFinite(
                f"got NaN or infinity from the fields at t = {step.t:g}, expected finite numbers: inspect the model at this "
                "noise level, or guide less"
            )
        return _Seen(score, total((better - worse) ** 2))

    def start(self, step: Step) -> tuple[Sample, _Seen, PerSample]:
        """Return particles on the first level, what is seen there, and log-weights, `(n,)`."""
        white = self.rng.normal(self.guided.shape)
        mean = self.guided.data_mean.to(white).expand_as(white)
        away = math.sqrt(self.wide(step)) * white
        first, middle, last = (self.seen(mean + share * away, step) for share in (0.0, 0.5, 1.0))
        log_q = total((first.score + 4 * middle.score + last.score) * away) / 6
        return mean + away, last, log_q + total(white**2) / 2

    def wide(self, step: Step) -> float:
        """Return u, the variance of noised data."""
        return _v(step) + self.guided.data_std**2

    def moved(self, z: Sample, here: _Seen, step: Step, below: Step) -> tuple[Sample, _Seen]:
        """Return the particles on the next level, and what is seen there."""
        wide, narrow = self.wide(step), self.wide(below)
        keep, first = narrow / wide, z + wide * here.score
        fixed = keep * z + math.sqrt((_v(step) - _v(below)) * keep) * self.rng.normal(z.shape[1:])
        tried = fixed + (1 - keep) * first
        z = fixed + (1 - keep) / 2 * (first + tried + narrow * self.seen(tried, below).score)
        return z, self.seen(z, below)

    def resampled(self, z: Sample, here: _Seen, log_w: PerSample, always: bool = False) -> tuple[Sample, _Seen, PerSample]:
        """Return particles, what they see and log-weights: each filter drawn anew where too few of its particles count."""
        rows, log_w, u = torch.arange(len(z), device=z.device), log_w.clone(), self.rng.uniform()
        for own in self.filters:
            share = effective(log_w[own]) / len(own)
            self.least[own] = torch.minimum(self.least[own], share)
            if always or float(share) < 0.5:
                rows[own], log_w[own] = own[systematic(log_w[own], u[own[0]])], 0.0
        return z[rows], here[rows], log_w
