"""Blind sigma: the noise level at which a noisy sample is most probable under the field.

z = x0 + sigma·noise has the density p_sigma(z), and its derivative is in the score alone (the heat equation):

    g = d log p_sigma(z)/d log sigma = sigma²·(|s|² + div s) = |z - D|²/sigma² - (d - tr J),     D = denoised, J = dD/dz

It is 0 where what the denoiser takes away, |z - D|², is as large as noise of that level would make it: sigma²·(d - tr J), as
tr J of the d numbers are explained by the signal. g is integrated down a ladder of levels, which gives the log evidence of
every level up to one constant. The best is refined to the root of g beside it. Where the evidence still grows at the lowest
level of the field the sample is clean, and sigma is 0.

Where z is seen in part (`cuts.py`), the evidence is that of the intervals, and Fisher's identity gives its derivative:

    d log p_sigma(intervals)/d log sigma = E[g | intervals]

the mean over draws of what is not seen. g is a sum over pixels, and each kind of pixel has its own form, with the same mean:

    seen        (z_i - D_i)²/sigma² - (1 - J_ii)
    cut         d log P(z_i is cut | x0_i)/d log sigma, x0 a draw given z
    missing     0

The first form would do for cut pixels too. But a trained network's J_ii is too large at its lowest levels, where a cut pixel
has the variance sigma² of its draw all the same, so that a clean picture with many would be taken for noise. The second suffers
from draws of x0 that are approximate, which shows at large noise. As both have the same mean, so has any mixture: the first
counts as sigma²/(sigma² + sd²) there, with the standard deviation sd of the data.

The trace is estimated by Hutchinson's probes. On a Gaussian g falls with log sigma by 2·|I - J|², the information of z, so that
sigma has the standard error sigma/sqrt(2·|I - J|²), however exact the field. The mean of m probes has the error
sqrt(2/m)·|J without its diagonal|, which is at most sqrt(2/m)·|I - J|. So the probes add at most 1/sqrt(m) of that standard
error. Eight probes find the best level and nearly its root, and 112 new ones correct it (`_settled`), to a tenth of the
standard error or less. The exact trace of a digit would cost 784 evaluations for each step.

References: Robbins (1956); Stein (1981), "Estimation of the mean of a multivariate normal distribution", Ann. Stat. 9. MacKay
(1992), "Bayesian interpolation", Neural Computation 4. Louis (1982), "Finding the observed information matrix when using the EM
algorithm", JRSS B 44. Delyon, Lavielle, Moulines (1999), "Convergence of a stochastic approximation version of the EM
algorithm", Ann. Stat. 27.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.denoising.cuts import RATIO, Chains, Seen, largest_noise
from scorefield.denoising.level import lambda_range
from scorefield.field import Field
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, check_rows

SWEEPS = 3  # at each level, of which the last ones count
REFINED = 8  # evaluations of g in the bracket of the best level
ROUNDS = 3  # of new probes there, each with twice as many as the one before
POLISHED = 30  # sweeps at the end, where z is not wholly seen


@dataclass(frozen=True, eq=False)
class SigmaEstimate:
    """The most probable noise level of every sample.

    Attributes:
        sigma: `(batch,)`, in the units of the field; 0 for a clean sample.
        standard_error: `(batch,)`, what chance in the noise and in the probes makes of it; NaN where sigma is 0.
        known: share of the pixels that show their value, `(batch,)`.
        levels: of the ladder, falling, `(levels,)`.
        evidence: log p at every level up to a constant, `(batch, levels)`.
        evaluations: of the field for a sample, each with its gradient.
    """

    sigma: PerSample
    standard_error: PerSample
    known: PerSample
    levels: Tensor
    evidence: Tensor
    evaluations: int


def _ladder(field: Field, seen: Seen) -> Tensor:
    """Return levels from above what any sample's values allow down to the field's lowest."""
    lowest, highest = lambda_range(field)
    top = min(max(largest_noise(field, seen), lowest * RATIO**2), highest)
    count = 1 + max(2, math.ceil(math.log(top / lowest) / math.log(RATIO)))
    return torch.logspace(math.log10(top), math.log10(lowest), count, dtype=torch.float64)


def estimate_sigma(
    field: Field,
    seen: Seen,
    *,
    rng: SampleRng,
    chains: int | None = None,
    cond: Tensor | None = None,
    progress: Progress = silent,
) -> SigmaEstimate:
    """Estimate the noise of samples z = x0 + sigma·noise from the field alone.

    Args:
        field: any field.
        seen: what is seen of the samples, in the units of the field; `Seen.all_of(z)` for z itself.
        rng: one seed for each sample.
        chains: probes of a sample at a level, each with its own draws of what is not seen; None for 8, or 4 if not all is seen.
        cond: what the field is conditioned on, or None.
        progress: called after every level.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> field = Gaussian(torch.zeros(400), torch.eye(400), VE(0.01, 10.0))
    >>> z = 1.5 * SampleRng([1]).normal((400,))  # variance 1 + sigma²
    >>> most_likely = (z.square().mean() - 1).sqrt()
    >>> bool((estimate_sigma(field, Seen.all_of(z), rng=SampleRng([2])).sigma / most_likely - 1).abs() < 1e-3)
    True
    """
    check_rows(len(seen.low), cond=cond, seeds=len(rng))
    levels, n, whole = _ladder(field, seen), len(seen.low), seen.whole
    chains = chains or (8 if whole else 4)
    at = Chains(field, seen, levels[0].expand(n), rng=rng, count=chains, cond=cond)
    offs, frees, states, draws = list[Tensor](), list[Tensor](), list[Tensor](), rng.draws
    for k, level in enumerate(levels):
        if whole:  # the same probes at every level, so that g is one smooth function
            rng.draws = draws
        states.append(at.z)
        every, before = level.expand(n), levels[max(k - 1, 0)].expand(n)
        found = [_g(at, *at.anneal(every, before))]
        found += [_g(at, *at.visit(every)) for _ in range(0 if whole else SWEEPS - 1)]
        g, free, _ = (torch.stack(part[len(found) // 2 :]).mean(dim=0) for part in zip(*found, strict=True))
        offs.append(g + free)
        frees.append(free)
        progress((k + 1) / (len(levels) + REFINED), f"noise level {k + 1} of {len(levels)}")
    evidence = _integrated(levels, torch.stack(offs, dim=1), torch.stack(frees, dim=1))
    best = evidence.argmax(dim=1)
    last = len(levels) - 1
    low, high = (levels[(best + step).clamp(0, last)] for step in (1, -1))
    index = best.repeat_interleave(chains)
    at.z = torch.stack(states)[index, torch.arange(n * chains)]
    if whole:
        sigma, error = _settled(at, _root(at, low, high, draws))
    else:
        sigma, error = _polished(at, levels[best], low, high)
    known = seen.known.double().flatten(1).mean(dim=1)
    clean = (best == last) | (known == 0)
    return SigmaEstimate(
        sigma=torch.where(clean, 0.0, sigma),
        standard_error=torch.where(clean, torch.nan, error),
        known=known,
        levels=levels,
        evidence=evidence,
        evaluations=at.evaluations,
    )


def _g(at: Chains, off: Tensor, free: Tensor, stiff: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return g, d - tr J and |I - J|² of each sample, means over its chains, `(batch,)`."""
    g, free, stiff = (part.reshape(-1, at.count).mean(dim=1) for part in (off - free, free, stiff))
    return g, free, stiff


def _integrated(levels: Tensor, off: Tensor, free: Tensor) -> Tensor:
    """Return the integral of g = off - free over log sigma, from the first level down to each, `(batch, levels)`.

    Between two levels off = |z - D|²/sigma² is taken for a power of sigma, whose mean is the logarithmic one, and free,
    which is d - tr J, for a line. The first is near sigma^-2 for what is seen, and constant for what is drawn.
    """
    off = off.clamp(min=1e-12)
    ratio = (off[:, 1:] / off[:, :-1]).log()
    even = ratio.abs() < 1e-6
    mean = torch.where(even, off[:, 1:], off.diff(dim=1) / torch.where(even, 1.0, ratio))
    steps = ((free[:, 1:] + free[:, :-1]) / 2 - mean) * (levels[:-1] / levels[1:]).log()
    return torch.cat([torch.zeros_like(free[:, :1]), steps.cumsum(dim=1)], dim=1)


def _root(at: Chains, low: Tensor, high: Tensor, draws: int) -> Tensor:
    """Return the root of g, which falls, between two levels: the Illinois rule on log sigma."""

    def g_of(log_sigma: Tensor) -> Tensor:
        at.rng.draws = draws
        return _g(at, *at.visit(log_sigma.exp()))[0]

    a, b = low.log(), high.log()
    ga, gb = g_of(a), g_of(b)
    held = torch.zeros_like(a)  # which end stayed: 1 the lower, -1 the upper
    middle = (a + b) / 2
    for _ in range(REFINED - 2):
        between = (ga * b - gb * a) / torch.where(ga > gb, ga - gb, 1.0)
        inside = (ga > gb) & (between > a) & (between < b)
        middle = torch.where(inside, between, (a + b) / 2)
        g = g_of(middle)
        up = g > 0
        gb, ga = torch.where(up & (held == -1), gb / 2, gb), torch.where(~up & (held == 1), ga / 2, ga)
        a, ga = torch.where(up, middle, a), torch.where(up, g, ga)
        b, gb = torch.where(up, b, middle), torch.where(up, gb, g)
        held = torch.where(up, -1.0, 1.0)
    return middle.exp()


def _settled(at: Chains, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root of g, and its standard error, from rounds of ever more probes, all of them new.

    Each round makes one step of Newton's method from the mean of the rounds before it. The mean over all rounds, weighed by
    their probes, has the error of all probes together.
    """
    lowest, highest = lambda_range(at.field)
    log_sigma, stiffness, probes = sigma.log(), torch.zeros_like(sigma), 0
    for count in (at.count * 2**k for k in range(1, ROUNDS + 1)):
        g, stiff = at.probed(log_sigma.exp(), count)
        share = count / (probes + count)
        stiffness, probes = stiffness + share * (stiff - stiffness), probes + count
        log_sigma = log_sigma + share * (g / _information(stiffness)).clamp(-0.3, 0.3)
        log_sigma = log_sigma.clamp(math.log(lowest), math.log(highest))
    sigma = log_sigma.exp()
    return sigma, sigma * ((1 + 1 / probes) / _information(stiffness)).sqrt()


def _information(stiff: Tensor) -> Tensor:
    """Return what z says of log sigma, 2·|I - J|², or 2 if that is less."""
    return 2 * stiff.clamp(min=1)


def _polished(at: Chains, start: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root of E[g | intervals], and its error, by stochastic approximation with averaging over its second half."""
    log_sigma, sums, stiffness, count = start.log(), torch.zeros_like(start), torch.zeros_like(start), 0
    for k in range(POLISHED):
        g, free, stiff = _g(at, *at.visit(log_sigma.exp()))
        step = g / (2 * free.clamp(min=1)) * max(k - 5, 1) ** -0.6
        log_sigma = torch.minimum(torch.maximum(log_sigma + step.clamp(-0.3, 0.3), low.log()), high.log())
        if k >= POLISHED // 2:
            sums, stiffness, count = sums + log_sigma, stiffness + stiff, count + 1
    sigma = (sums / count).exp()
    return sigma, sigma * ((1 + 1 / (count * at.count)) / _information(stiffness / count)).sqrt()
