"""Conditional draws of many rows at once: p(x0 | the numbers of it that are known), each row with a pattern of its own.

The twisted particles of `posterior/twisted.py`, where the measurement is y = M·x0 with a diagonal M, 1 where a number is known
and 0 where it is missing. With that the algebra of a level is one batch for all rows, whatever their patterns:

    R = N + M·C·M        N: the variance of the noise where a number is known, 1 where it is missing

is that of the known numbers, and 1 beside it, where every residual is 0. A row has K = particles·draws particles, and rows do
not depend on each other. `together`, all draws of a row are taken from one filter of K, which is right for most fields; apart,
each from its own of K/draws. Of a learned field of many numbers the weights of one filter may leave a single particle, and all
draws would be copies of it; those of filters of their own still differ.

In the limit of many particles and levels the draws are those of p(x0 | known) for any prior; of a Gaussian one they are so with
any number of either.

References: Wu et al. (2023), "Practical and asymptotically exact conditional sampling in diffusion models", arXiv 2306.17775;
for the particles of one row Trippe et al. (2023), arXiv 2206.04119.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import NotFinite, ScorefieldError
from scorefield.field import Field, moments_of
from scorefield.guidance.particles import effective, systematic
from scorefield.guidance.posterior.twisted import LEAST_NOISE, LEAST_VARIANCE
from scorefield.moments import Moments
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng
from scorefield.samplers.base import CountedField

PARTICLES, FEWEST = 8, 16  # for a draw, and for a row at least
CENTRE, WIDTH = 0.7, 0.7  # of the levels: where they are dense, in the data's standard deviation, and how wide, in log
TOP, BOTTOM = 10.0, 0.003  # the highest and the lowest level, likewise
BATCH, NUMBERS = 2**13, 2**22  # particles at a time, and numbers of their matrices; they change the memory, not the draws
PARTS = (("x", 1), ("mean", 0), ("effective", 0))  # of a batch, and the axis of its rows


@dataclass(frozen=True)
class Way:
    """How rows are drawn where a field was learned.

    Attributes:
        bottom: the lowest level of noise, in the data's standard deviation, or the lowest of the process if that is higher;
            what is below is taken for Gaussian.
        together: whether all draws of a row are from one filter.
        learned: whether a field that was trained with given columns is asked for p(missing | known) itself, without particles
            (`learned.py`).
    """

    bottom: float = BOTTOM
    together: bool = True
    learned: bool = False

    @property
    def name(self) -> str:
        """What reports call it."""
        return "learned conditional" if self.learned else "weighted particles"


EXACT, LEARNED = Way(), Way(learned=True)
WAYS = (EXACT, Way(together=False), Way(0.3, together=False), Way(0.8, together=False))  # one suits a learned field


@dataclass(frozen=True, eq=False)
class Conditional:
    """Draws given what is known.

    Attributes:
        x: `(draws, n, d)`, float64, equally likely; the known numbers as they were given.
        mean: estimate of E[x0 | known], `(n, d)`: the weighted mean over a row's particles.
        effective: the smallest effective number of particles on any level, as a share of a row's, `(n,)`, in (0, 1].
        evaluations: of the field for each particle.
    """

    x: Tensor
    mean: Tensor
    effective: Tensor
    evaluations: int


def conditional_draws(
    field: Field,
    known: Tensor,
    draws: int = 1,
    *,
    rng: SampleRng,
    particles: int = PARTICLES,
    levels: int = 20,
    way: Way = EXACT,
    progress: Progress = silent,
) -> Conditional:
    """Draw the missing numbers of rows given the known ones.

        x0 ~ p(x0 | x0 = known where that is a number)

    Args:
        field: of vectors, any.
        known: `(n, d)`, NaN where a number is missing; a row of NaN alone is drawn from p(x0).
        draws: for each row, >= 1.
        rng: one seed for each row, whose draws are the same whatever the other rows are.
        particles: for each draw, >= 1; a row has 16 at least.
        levels: of noise, >= 2.
        way: for an exact field the default, for a learned one `best_way`.
        progress: called with the share of the work that is done.

    Returns:
        The `Conditional`.

    Raises:
        ScorefieldError: rows of another shape, infinite numbers, too few draws, particles or levels.
        NotFinite: a field that gives NaN, with the level named.

    References: see the head of the file.

    >>> from scorefield import VE, Gaussian
    >>> field = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], VE(0.01, 20.0))
    >>> known = torch.tensor([[1.5, torch.nan], [torch.nan, 0.0]], dtype=torch.float64)
    >>> found = conditional_draws(field, known, 1000, rng=SampleRng(range(2)), particles=1)
    >>> [round(abs(float(one)), 1) for one in found.x.mean(dim=0).flatten()]
    [1.5, 1.2, 0.0, 0.0]
    """
    for name, value, least in (("draws", draws, 1), ("particles", particles, 1), ("levels", levels, 2)):
        if value < least:
            raise ScorefieldError(f"got {name} = {value}, expected at least {least}: ask for more")
    if known.ndim != 2 or tuple(known.shape[1:]) != field.shape or len(known) != len(rng) or bool(known.isinf().any()):
        raise ScorefieldError(
            f"got known numbers of shape {tuple(known.shape)}, expected finite ones of shape {(len(rng), *field.shape)}, NaN "
            "where one is missing: one row for each seed"
        )
    k = max(particles * draws, draws * math.ceil(FEWEST / draws))
    moments = moments_of(field)
    moments = moments.floored(LEAST_VARIANCE * moments.largest).to(rng.seeds.device)
    times = _times(field, moments, levels, way.bottom)
    size, parts = max(1, min(BATCH // k, NUMBERS // known.shape[1] ** 2)), list[Conditional]()
    for first in range(0, len(known), size):
        rows, count = slice(first, first + size), min(size, len(known) - first)
        crowd = _Rows(
            CountedField(field, None),
            moments,
            known[rows].to(rng.seeds.device).double(),
            rng[rows],
            (k, 1 if way.together else draws),
        )
        with torch.no_grad():
            crowd.go_down(times, portion(progress, first / len(known), count / len(known)))
        parts.append(crowd.drawn(draws))
    if not parts:
        empty = known.double()
        return Conditional(empty.expand(draws, *empty.shape), empty, empty.new_zeros(0), 0)
    x, mean, share = (torch.cat([getattr(one, name) for one in parts], dim=axis) for name, axis in PARTS)
    return Conditional(x, mean, share, parts[0].evaluations)


def crps(draws: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score of draws, `(D, ...)`, without the bias of few: lower is better.

    >>> crps(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0])).item()
    0.0
    """
    count, ordered = len(draws), draws.sort(dim=0).values
    weights = (2 * torch.arange(1, count + 1, device=draws.device) - count - 1).to(draws.dtype)
    spread = torch.einsum("k,k...->...", weights, ordered) / (count * max(count - 1, 1))
    return (draws - truth).abs().mean(dim=0) - spread


def _times(field: Field, moments: Moments, levels: int, bottom: float) -> list[float]:
    """Return the times of the levels, descending: dense where the noise decides what a draw becomes.

    Their log(lambda) are quantiles of a Cauchy density, as those of the ladder log-cauchy, but narrower: at as many levels the
    error of the steps' Gaussians, which the weights do not know, is a third of that of a geometric ladder.
    """
    process, std = field.process, field.data_std
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    high, low = (process.sigma(ends) / process.alpha(ends)).tolist()
    high = min(high, TOP * math.sqrt(moments.largest))
    low = min(max(low, bottom * std), 0.5 * high)
    first, last = (math.atan((math.log(end / std) - math.log(CENTRE)) / WIDTH) for end in (high, low))
    angle = torch.linspace(first, last, levels, dtype=torch.float64)
    lams = CENTRE * std * (WIDTH * angle.tan()).exp()
    return sorted(set(process.time_of_sigma(lams).tolist()), reverse=True)


class _Level:
    """The algebra of one level for a batch of rows: R = N + M·C·M."""

    def __init__(self, c: Tensor, mask: Tensor, noise: Tensor) -> None:
        """Take C, `(d, d)`, M and the variances N, each `(n, d)`."""
        self.matrix = mask.unsqueeze(2) * c * mask.unsqueeze(1) + torch.diag_embed(noise)
        self.factor = torch.linalg.cholesky(self.matrix)

    def solve(self, r: Tensor) -> Tensor:
        """Return R⁻¹·r, `(n, k, d)`."""
        return torch.cholesky_solve(r.mT, self.factor).mT

    def times(self, r: Tensor) -> Tensor:
        """Return R·r, `(n, k, d)`."""
        return r @ self.matrix

    def draw(self, white: Tensor) -> Tensor:
        """Return draws of N(0, R), `(n, k, d)`."""
        drawn: Tensor = white @ self.factor.mT
        return drawn

    def log_density(self, r: Tensor) -> Tensor:
        """Return log N(r; 0, R) but for a constant, `(n, k)`."""
        return -0.5 * (r * self.solve(r)).sum(dim=2)


class _Rows:
    """K particles for each of n rows, `(n, K, d)`; the letters are those of `posterior/twisted.py`."""

    def __init__(self, field: CountedField, moments: Moments, known: Tensor, rng: SampleRng, size: tuple[int, int]) -> None:
        """Take the parts, K, and in how many filters the particles of a row are."""
        self.field, self.moments, self.rng, (self.k, self.filters) = field, moments, rng, size
        self.mask, self.y = (~known.isnan()).double(), known.nan_to_num(0.0)
        self.noise = torch.where(self.mask > 0, LEAST_NOISE**2 * self.dense(lambda v: v).diagonal(), 1.0)
        self.log_w = torch.zeros(len(known), self.k, dtype=torch.float64, device=known.device)
        self.log_h = self.log_w  # of the twist that the weights hold
        self.z = self.moments.mean.expand(*self.log_w.shape, -1)
        self.least = self.log_w.new_ones(len(known))

    def dense(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return f(S), `(d, d)`."""
        return self.moments.map(function, torch.eye(self.moments.size, dtype=torch.float64, device=self.moments.mean.device))

    def residual(self, denoised: Tensor) -> Tensor:
        """Return y - D where y is known, 0 elsewhere."""
        return self.mask.unsqueeze(1) * (self.y.unsqueeze(1) - denoised)

    def go_down(self, times: list[float], progress: Progress) -> None:
        """Move all particles from infinite noise, where D is the mean and C is S, down to none."""
        process, at = self.field.field.process, torch.tensor(times, dtype=torch.float64)
        lams = (process.sigma(at) / process.alpha(at)).tolist()
        self.move(self.residual(self.z), self.z, math.inf, lams[0])
        for j, (t, lam, following) in enumerate(zip(times, lams, [*lams[1:], 0.0], strict=True)):
            alpha = self.field.alpha(t)
            denoised = self.field((alpha * self.z).flatten(0, 1), t).denoised.reshape(self.z.shape)
            if not bool(denoised.isfinite().all()):
                raise NotFinite(
                    f"got NaN or infinity from the field at t = {t:g} while filling in, expected finite numbers: inspect the "
                    "model at this noise level, or look for known values far outside the data"
                )
            residual = self.residual(denoised)
            log_h = _Level(self.dense(_given(lam)), self.mask, self.noise).log_density(residual)
            self.log_w, self.log_h = self.log_w + log_h - self.log_h, log_h
            rows = self.chosen().unsqueeze(2).expand(self.z.shape)
            self.z, denoised, residual = (part.gather(1, rows) for part in (self.z, denoised, residual))
            self.log_h = self.log_h.gather(1, rows[:, :, 0])
            g = 1 - (following / lam) ** 2
            self.move(residual, self.z + g * (denoised - self.z), lam, following)
            progress((j + 1) / len(times), f"level {j + 1} of {len(times)}")

    def move(self, residual: Tensor, centre: Tensor, lam: float, following: float) -> None:
        """Draw z' around m = `centre` with y in view, and weigh it; see `twisted.py`."""
        g, given = 1 - (following / lam) ** 2, _given(lam)

        def variance(v: Tensor) -> Tensor:  # of Q
            return g * following**2 + g**2 * given(v)

        level = _Level(self.dense(given), self.mask, self.noise)
        left = _Level(self.dense(lambda v: given(v) * g * following**2 / variance(v)), self.mask, self.noise)
        mask = self.mask.unsqueeze(1)
        free = self.normal() @ self.dense(lambda v: variance(v).sqrt())
        n = left.draw(self.normal())
        q = level.solve(residual)
        p = level.solve(mask * (free @ self.dense(lambda v: g * given(v) / variance(v))) + n)
        self.z = centre + free + (mask * (q - p)) @ (g * self.dense(given))
        if following > 0:  # the last step is explained exactly
            shift, off = residual - left.times(q), left.times(p) - n
            self.log_w = self.log_w - (q * (off + 0.5 * shift)).sum(dim=2) - left.log_density(off)

    def normal(self) -> Tensor:
        """Draw standard normal numbers for every particle."""
        return self.rng.normal((self.k, self.y.shape[1]))

    def by_filter(self) -> Tensor:
        """Return the log-weights by filter, `(n, filters, K/filters)`."""
        return self.log_w.reshape(len(self.y), self.filters, -1)

    def counted(self) -> Tensor:
        """Return the effective number of particles of each filter, `(n, filters)`, and remember the smallest share."""
        count = effective(self.by_filter())
        self.least = torch.minimum(self.least, count.mean(dim=1) * self.filters / self.k)
        return count

    def taken(self) -> Tensor:
        """Return particles by weight, from each filter as many as it has, `(n, filters, K/filters)`, numbered in their row."""
        size = self.k // self.filters
        found = systematic(self.by_filter(), self.rng.uniform((self.filters,)))
        return found + size * torch.arange(self.filters, device=found.device).unsqueeze(1)

    def chosen(self) -> Tensor:
        """Return which particles of each row go on, `(n, K)`, after resampling where fewer than half of a filter's count."""
        uneven = (self.counted() < 0.5 * self.k / self.filters).unsqueeze(2).expand(self.by_filter().shape).flatten(1)
        itself = torch.arange(self.k, device=uneven.device).expand_as(self.log_w)
        taken = torch.where(uneven, self.taken().flatten(1), itself)
        self.log_w = torch.where(uneven, 0.0, self.log_w)
        return taken

    def drawn(self, draws: int) -> Conditional:
        """Return `draws` particles of each row by weight, and their weighted mean."""
        self.counted()
        share = self.k // draws
        first = (self.rng.uniform() * share).long().unsqueeze(1).unsqueeze(2)  # of neighbours in the order of the weights
        every = first + share * torch.arange(draws // self.filters, device=first.device)
        taken = self.taken().gather(2, every.expand(-1, self.filters, -1)).flatten(1)
        x = self.z.gather(1, taken.unsqueeze(2).expand(-1, -1, self.z.shape[2])).transpose(0, 1)
        mean = torch.einsum("nk,nkd->nd", self.by_filter().softmax(dim=2).flatten(1) / self.filters, self.z)
        x, mean = (torch.where(self.mask > 0, self.y, part) for part in (x, mean))
        return Conditional(x, mean, self.least, self.field.evaluations)


def _given(lam: float) -> Callable[[Tensor], Tensor]:
    """Return v -> v·lambda²/(v + lambda²), the variance of x0 given x0 + lambda·noise; v itself without a bound on lambda."""
    return (lambda v: v) if math.isinf(lam) else (lambda v: v * lam**2 / (v + lam**2))
