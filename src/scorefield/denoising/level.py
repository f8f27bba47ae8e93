"""A known noise level: the mean, the variance and draws of x0 given z = x0 + sigma·noise, from any field.

A field is of x_t = alpha·x0 + sigma_t·noise. At the time whose ratio sigma_t/alpha is sigma, x_t = alpha·z, so z is a noisy
state of the process itself, and what the field says of it holds without any approximation:

    mean        D = z + sigma²·s                                  Tweedie; s = score of z
    covariance  sigma²·(I + sigma²·ds/dz) = sigma²·J,             J = dD/dz
    draws       the reverse SDE, started at z itself

Below the lowest level of the field its score there is kept: D = z + sigma²·s, which is z at sigma = 0.

The diagonal of J is found by probing. A probe is 1 with a random sign on pixels of one colour and 0 elsewhere; pixels of one
colour lie `stride` apart along every axis, and all colours together cover every pixel once:

    J_ii is estimated by p_i·(pᵀJ)_i = J_ii + sum over the others j of the colour of p_i·p_j·J_ji

without bias, and with the error of far pixels alone. With a stride as long as the sides a colour is one pixel: J_ii itself.

References: Efron (2011), "Tweedie's formula and selection bias", JASA 106. Manor, Michaeli (2024), "On the posterior
distribution in denoising: application to uncertainty quantification", arXiv 2309.13598. Tang, Saad (2012), "A probing method
for computing the diagonal of a matrix inverse", Numer. Linear Algebra Appl. 19. Anderson (1982), "Reverse-time diffusion
equation models".
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.samplers import Sampler, StochasticABM, simulate
from scorefield.shapes import PerSample, Sample, check_rows, over, total

EXACT = 1024  # numbers of a sample, up to which the diagonal of J is computed exactly
STRIDE = 8  # pixels between those of one colour, where it is not
ROWS = 128  # samples of a field at a time
LEVELS = 32  # of a draw; each is one evaluation by the default sampler
RHO = 3.0  # of a draw's ladder: equal steps of sigma^(1/RHO)


def lambda_range(field: Field) -> tuple[float, float]:
    """Return the lowest and the highest noise level sigma/alpha that a field knows."""
    ends = torch.tensor([field.process.t_min, field.process.t_max], dtype=torch.float64)
    low, high = (field.process.sigma(ends) / field.process.alpha(ends)).tolist()
    return low, high


def check_sigma(field: Field, sigma: PerSample) -> PerSample:
    """Return noise levels in float64; raises `ScorefieldError` for one that is not above 0, or above the field's highest."""
    sigma, highest = sigma.double(), lambda_range(field)[1]
    if not bool((sigma > 0).all() and (sigma <= highest * (1 + 1e-9)).all()):
        raise ScorefieldError(
            f"got sigma = {float(sigma.min()):g} to {float(sigma.max()):g}, expected noise above 0 and at most {highest:g}, "
            "the highest level of the field: correct it"
        )
    return sigma


def denoised_at(field: Field, z: Sample, sigma: PerSample, cond: Tensor | None = None) -> Sample:
    """Return E[x0 | z] for z = x0 + sigma·noise, `(batch, *shape)`; differentiable in z.

        D(z) = z + sigma²·score of z

    Args:
        field: any field.
        z: noisy samples in the units of x0.
        sigma: their noise, `(batch,)`, 0 to the field's highest level.
        cond: what the field is conditioned on, or None.

    >>> from scorefield import VE, Gaussian
    >>> field = Gaussian([0.0], [[3.0]], VE(0.01, 10.0))
    >>> denoised_at(field, torch.tensor([[8.0]]), torch.tensor([1.0]))
    tensor([[6.]])
    """
    process = field.process
    t = process.time_of_sigma(sigma)
    alpha = process.alpha(t)
    share = (sigma / (process.sigma(t) / alpha)) ** 2  # below 1 only under the lowest level
    return torch.lerp(z, field(over(alpha, z) * z, t, cond).denoised, over(share.clamp(max=1), z))


@dataclass(frozen=True, eq=False)
class Jacobian:
    """The diagonal of J = dD/dz, and how it was found.

    Attributes:
        diagonal: `(batch, *shape)`; sigma²·diagonal is the posterior variance.
        standard_error: of the diagonal, root mean square over a sample, `(batch,)`; 0 where it is exact.
        evaluations: of the field for a sample, each with its gradient.
    """

    diagonal: Sample
    standard_error: PerSample
    evaluations: int

    def std(self, sigma: PerSample) -> Sample:
        """Return the posterior standard deviation sigma·sqrt(J_ii), with 0 for an estimate below 0."""
        return over(sigma, self.diagonal) * self.diagonal.clamp(min=0).sqrt()

    @property
    def negative(self) -> int:
        """Number of pixels whose estimate is below 0, which no posterior variance is."""
        return int((self.diagonal < 0).sum())


def pulled(field: Field, z: Sample, sigma: PerSample, probes: Sample, cond: Tensor | None = None) -> tuple[Sample, Sample]:
    """Return D(z) and pᵀ·dD/dz for a probe p of every sample, both `(batch, *shape)`."""
    with torch.enable_grad():
        inner = z.detach().requires_grad_(True)
        seen = denoised_at(field, inner, sigma, cond)
        (product,) = torch.autograd.grad(seen, inner, probes.to(seen), materialize_grads=True)
    return seen.detach(), product


def _colours(shape: tuple[int, ...], stride: int) -> Tensor:
    """Return the colours, `(colours, *shape)`, 0 and 1: pixels of one colour and channel are `stride` apart on every axis."""
    sides = shape[1:] if len(shape) > 1 else shape
    phases = torch.zeros(sides, dtype=torch.int64)
    for axis, side in enumerate(sides):
        phase = torch.arange(side) % min(stride, side)
        phases = phases * min(stride, side) + phase.reshape(-1, *(1,) * (len(sides) - axis - 1))
    count = int(phases.max()) + 1
    planes = torch.stack([phases == colour for colour in range(count)])
    if len(shape) == 1:
        return planes.double()
    kinds = itertools.product(range(shape[0]), range(count))
    colours = torch.zeros(shape[0] * count, *shape, dtype=torch.float64)
    for k, (channel, colour) in enumerate(kinds):
        colours[k, channel] = planes[colour]
    return colours


def jacobian_diagonal(
    field: Field,
    z: Sample,
    sigma: PerSample,
    *,
    rng: SampleRng,
    stride: int | None = None,
    cond: Tensor | None = None,
    progress: Progress = silent,
) -> Jacobian:
    """Return the diagonal of dD/dz, by probing.

    Args:
        field: any field.
        z: noisy samples in the units of x0.
        sigma: their noise, `(batch,)`.
        rng: one seed for each sample, of the signs.
        stride: pixels between those of one colour; None for one pixel a colour (exact) up to `EXACT` numbers, else `STRIDE`.
        cond: what the field is conditioned on, or None.
        progress: called after every part.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> field = Gaussian([0.0, 0.0], [[3.0, 0.0], [0.0, 1.0]], VE(0.01, 10.0))
    >>> jacobian_diagonal(field, torch.zeros(1, 2), torch.ones(1), rng=SampleRng([0])).diagonal
    tensor([[0.7500, 0.5000]])
    """
    check_rows(len(z), cond=cond, seeds=len(rng))
    sides = field.shape[1:] or field.shape
    chosen = stride or (max(sides) if math.prod(field.shape) <= EXACT else STRIDE)
    exact = chosen >= max(sides)
    colours = _colours(field.shape, chosen).to(z.device)
    rounds = [
        _probed(field, z, sigma, colours if exact else colours * rng.sign(field.shape).to(z)[:, None], cond, progress)
        for _ in range(1 if exact else 2)
    ]
    diagonal = torch.stack(rounds).mean(dim=0)
    error = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    if not exact:  # the variance of the mean of two is a quarter of their squared difference
        error = ((total((rounds[0] - rounds[1]) ** 2) / 4) / diagonal[0].numel()).sqrt().double()
    return Jacobian(diagonal, error, len(rounds) * len(colours))


def _probed(field: Field, z: Sample, sigma: PerSample, colours: Tensor, cond: Tensor | None, progress: Progress) -> Sample:
    """Return one estimate of the diagonal from probes `(colours, *shape)`, or `(batch, colours, *shape)`."""
    found, count = torch.zeros_like(z), colours.shape[-z.ndim]
    step = max(1, ROWS // len(z))
    for first in range(0, count, step):
        size = min(step, count - first)
        probes = colours.narrow(-z.ndim, first, size)
        probes = probes.expand(len(z), size, *z.shape[1:]).to(z)
        rows, levels = z.repeat_interleave(size, dim=0), sigma.repeat_interleave(size)
        labels = None if cond is None else cond.repeat_interleave(size, dim=0)
        _, product = pulled(field, rows, levels, probes.flatten(0, 1), labels)
        found += (probes * product.reshape(probes.shape)).sum(dim=1)
        progress(min(1.0, (first + size) / count), "posterior standard deviation")
    return found


def posterior_draws(
    field: Field,
    z: Sample,
    sigma: float,
    *,
    rng: SampleRng,
    sampler: Sampler | None = None,
    levels: int = LEVELS,
    cond: Tensor | None = None,
    progress: Progress = silent,
) -> Sample:
    """Draw x0 given z = x0 + sigma·noise, one for each row, `(batch, *shape)`, float64.

    A finite ladder has a bias. With 60,000 draws from three modes in four dimensions at sigma = 1.2, the shares are off by
    0.003 in total variation (0.010 on a geometric ladder of as many levels, 0.016 on one of 24). In a direction that is as
    wide as the noise of the lowest level, the variance is half of the right one.

    Args:
        field: any field.
        z: noisy samples in the units of x0; the same in several rows for several draws.
        sigma: their noise, above 0 and at most the field's highest level.
        rng: one seed for each draw.
        sampler: any sampler of the reverse SDE; None for `StochasticABM()`. The probability flow gives no posterior.
        levels: from sigma down to the lowest level of the field.
        cond: what the field is conditioned on, or None.
        progress: called after every level.

    Raises:
        ScorefieldError: a sigma out of range.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> field = Gaussian([0.0], [[3.0]], VE(0.01, 10.0))
    >>> draws = posterior_draws(field, torch.full((4000, 1), 8.0), 1.0, rng=SampleRng(range(4000)))
    >>> round(float(draws.mean())), round(float(draws.var()) / 0.75, 1)
    (6, 1.0)
    """
    check_rows(len(z), cond=cond, seeds=len(rng))
    check_sigma(field, torch.tensor([sigma]))
    process, (lowest, _) = field.process, lambda_range(field)
    if sigma <= lowest * (1 + 1e-9):  # no level lies between: the Gaussian with the score of the lowest
        level = torch.full((len(z),), sigma, dtype=torch.float64, device=z.device)
        return denoised_at(field, z.double(), level, cond) + sigma * rng.normal(field.shape)
    start = process.time_of_sigma(torch.tensor(sigma, dtype=torch.float64))
    roots = torch.linspace(sigma ** (1 / RHO), lowest ** (1 / RHO), levels, dtype=torch.float64)
    ladder = process.time_of_sigma(roots**RHO)
    ladder[0] = start
    x = float(process.alpha(start)) * z.double()
    for snapshot in simulate(field, sampler or StochasticABM(), ladder, x, rng=rng, cond=cond):
        progress(snapshot.step / snapshot.steps, f"posterior samples, step {snapshot.step} of {snapshot.steps}")
    return snapshot.x
