"""The evidence lower bound of a chain over any ladder of times, t_0 > t_1 > ... > t_{L-1}, of any process.

The chain draws x at t_0 from the prior, walks down with the posterior's own variance, and decodes at t_{L-1}:

    log p(x0) >= - KL(q(x_{t_0} | x0) ‖ N(alpha·mean, alpha²·std² + sigma²))
                 - sum over steps t -> s of 1/2·(SNR_s - SNR_t)·E‖x0 - denoised(x_t, t)‖²          SNR = alpha²/sigma²
                 + E log p(x0 | x_{t_{L-1}})

With ever more steps the sum becomes 1/2·integral of SNR·E‖x0 - denoised‖² dlog SNR: the bound of the stochastic differential
equation. It needs no fine ladder, since one random level in each step, drawn uniformly in log SNR, estimates it unbiased.

The decoder is N(denoised, lambda²·I) with lambda = sigma/alpha of the last level, or, for data on a grid, the mass that this
Gaussian puts on the bin of each value, the first and last bins being open. The first gives a density of real data, the second
a probability of integers. The model is the *chain*, not the density that the probability flow has at t_min, so the two figures
are of two models with one network; neither bounds the other. For data that have a
density p, no model is better than the truth on average: E[bound] <= E[log p].

`scorefield.bound` has the same bound on equally spaced times with the choices of DDPM: other variances, one term at a time.

References: Ho, Jain, Abbeel (2020), arXiv 2006.11239. Kingma, Salimans, Poole, Ho (2021), "Variational diffusion models", arXiv
2107.00630, equation 13 (the sum by differences of SNR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield import renamed
from scorefield.bound import log_mass, prior_kl
from scorefield.data import Normaliser
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.randomness import SampleRng
from scorefield.samplers.base import times_of
from scorefield.shapes import PerSample, Sample, check_rows, total


@dataclass(frozen=True, eq=False)
class Elbo:
    """An unbiased estimate of the lower bound on log p(x0), per example, and its parts.

    Attributes:
        value: decoder - diffusion - prior, `(batch,)`, nats, float64.
        prior: KL of the top of the chain from its prior, `(batch,)`.
        diffusion: sum of the KLs of the steps, `(batch,)`.
        decoder: log p(x0 | x at the last level), `(batch,)`.
        evaluations: of the field, for each example.
    """

    value: PerSample
    prior: PerSample
    diffusion: PerSample
    decoder: PerSample
    evaluations: int


def _decoded(x0: Sample, denoised: Sample, std: float, grid: Normaliser | None, cells: Tensor | None) -> PerSample:
    """Return log p(x0 | x) of the decoder N(denoised, std²), `(batch,)`: a density, or a probability on a grid or in cells."""
    if cells is not None:
        off = (x0 - denoised) / std
        density = -0.5 * (off**2 + math.log(2 * math.pi * std**2))
        wide = torch.where(cells > 0, cells, 1.0) / std
        return total(torch.where(cells > 0, log_mass(off - wide, off + wide), density))
    if grid is None or grid.low is None or grid.high is None:
        return -0.5 * total(((x0 - denoised) / std) ** 2 + math.log(2 * math.pi * std**2))
    scale: float | Tensor = grid.scale[0]
    shift: float | Tensor = grid.shift[0]
    if grid.per_channel:
        scale, shift = grid.scales(x0.shape[1:]).to(x0.device), grid.shifts(x0.shape[1:]).to(x0.device)
    raw, half = (x0 * scale + shift).round(), 0.5 / scale
    below = torch.where(raw <= grid.low, -torch.inf, (x0 - half - denoised) / std)
    above = torch.where(raw >= grid.high, torch.inf, (x0 + half - denoised) / std)
    return total(log_mass(below, above))


@torch.no_grad()
@renamed.arguments
def elbo(
    field: Field,
    x0: Sample,
    ladder: Tensor,
    cond: Tensor | None = None,
    *,
    rng: SampleRng,
    grid: Normaliser | None = None,
    cells: Tensor | None = None,
    continuous: bool = False,
) -> Elbo:
    """Estimate the evidence lower bound of x0 with one draw for every step of a ladder.

    Args:
        field: any field.
        x0: clean points, `(batch, *shape)`.
        ladder: times, descending, `(levels,)`; finer is tighter, by O(1/levels).
        cond: conditioning, one row per example, or None.
        rng: one seed per example.
        grid: None for real-valued data; for integers, the map (one scale, a legal range) that brought them to model space.
        cells: half the widths of the cells of separate values, in model space, `(batch, *shape)`, where some coordinates are
            continuous (0: a density) and some are not (a probability; of infinity, 1), as `Support.cells` gives them.
        continuous: bound the chain of infinitely many steps, with one random level inside each step.

    Returns:
        The `Elbo`.

    Raises:
        ScorefieldError: a ladder that does not descend or leaves the process's range; points of the wrong shape, seeds or
            conditioning that are not one per example.

    >>> from scorefield import VE, Gaussian, geometric
    >>> field = Gaussian([0.0], [[1.0]], VE(0.01, 50.0))
    >>> x0 = field.sample(SampleRng(range(1000)))
    >>> ladder, entropy = geometric(field.process, 100), 0.5 * math.log(2 * math.pi * math.e)
    >>> for continuous in (False, True):
    ...     gap = -entropy - elbo(field, x0, ladder, rng=SampleRng(range(1000), stream=1), continuous=continuous).value.mean()
    ...     print(round(float(gap), 1))
    0.4
    0.0
    """
    process = field.process
    times = times_of(process, ladder).to(x0.device)
    if x0.shape != (len(rng), *field.shape):
        raise ScorefieldError(f"got points of shape {tuple(x0.shape)}, expected {(len(rng), *field.shape)}: one seed per point")
    check_rows(len(x0), cond=cond)
    x0 = x0.double()
    prior = prior_kl(field, x0, float(times[0]))
    log_snr = process.log_snr(times)
    snr = log_snr.exp()
    diffusion, decoder = torch.zeros_like(prior), torch.zeros_like(prior)
    for j in range(len(times)):
        t, last = times[j].expand(len(x0)), j + 1 == len(times)
        weight = torch.zeros_like(t) if last else (snr[j + 1] - snr[j]).expand(len(x0))
        if continuous and not last:
            span = log_snr[j + 1] - log_snr[j]
            t = process.time_of_sigma(torch.exp(-0.5 * (log_snr[j] + span * rng.uniform().to(t))))
            weight = span * process.log_snr(t).exp()
        denoised = field(process.perturb(x0, t, rng.normal(field.shape).to(x0)), t, cond).denoised
        diffusion = diffusion + 0.5 * weight * total((x0 - denoised) ** 2)
        if last:
            decoder = _decoded(x0, denoised, float(snr[j]) ** -0.5, grid, cells)
    return Elbo(decoder - diffusion - prior, prior, diffusion, decoder, len(times))
