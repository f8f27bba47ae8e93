"""Latents: the point of N(0, I) from which the probability flow leads to a sample, and the way back.

With lambda = sigma/alpha, u the level lambda = s·sinh u, and r = s·cosh u, the flow of `flow.py` reads

    w = (z - mean)/r        dw/du = noise_hat - tanh(u)·w        z = x/alpha

It is a smooth map with an inverse: `encode` follows it up from lambda_min, `decode` down. There is no noise and no denoising on
the way, so decode(encode(x0)) is x0 but for the error of the solver. For Gaussian data whose covariance is s²·I the map is the
identity in w; for all others w is N(0, I) in the limit of a high lambda_max.

Latents that are mixed linearly have too small a variance: halfway between two independent ones it is a half. On the great
circle between them (slerp)

    w = (sin((1 - v)·angle)·a + sin(v·angle)·b)/sin(angle)        0 <= v <= 1, angle between a and b

the norm stays where |a| = |b|, and frames of independent ends a, b ~ N(0, I) have the mean 0 and the covariance I, but for a
part of order 1/d² in d coordinates.

References: Song et al. (2021), "Score-based generative modeling through stochastic differential equations", arXiv 2011.13456,
section 4.3. Shoemake (1985), "Animating rotation with quaternion curves", SIGGRAPH 85. White (2016), "Sampling generative
networks", arXiv 1609.04468.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.levels import data_scale
from scorefield.progress import Progress, silent
from scorefield.runge_kutta import solve
from scorefield.shapes import PerSample, Sample, check_rows, flat, over

NEARLY = 1e-6  # of pi: between latents with such an angle, or opposite ones, there is no one great circle


@dataclass(frozen=True, eq=False)
class Carried:
    """Where the flow led.

    Attributes:
        x: latents, or samples in the units of the field, `(batch, *shape)`, float64.
        evaluations: of the field for each example, `(batch,)`, int64.
    """

    x: Sample
    evaluations: Tensor


def encode(
    field: Field, x0: Sample, cond: Tensor | None = None, *, tolerance: float = 1e-5, progress: Progress = silent
) -> Carried:
    """Return the latents of samples: N(0, I) for samples of the field's own data at its lowest noise level.

    Args:
        field: any field whose process has noise at t_min.
        x0: samples, `(batch, *shape)`.
        cond: conditioning, one row per sample, or None.
        tolerance: of the solver, absolute and relative, in coordinates of unit size.
        progress: called with the fraction of the way done.

    Raises:
        ScorefieldError: samples of another shape, or a process without noise.
        NotFinite: a field that cannot be followed.

    >>> from scorefield import VE, Gaussian
    >>> field = Gaussian([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], VE(0.01, 100.0))
    >>> latents = encode(field, torch.tensor([[2.0, 1.0]]))
    >>> [round(v, 4) for v in latents.x[0].tolist()], [round(v, 4) for v in decode(field, latents.x).x[0].tolist()]
    ([1.0, 1.0], [2.0, 1.0])
    """
    return _carry(field, x0, cond, tolerance, progress, up=True)


def decode(
    field: Field, latents: Sample, cond: Tensor | None = None, *, tolerance: float = 1e-5, progress: Progress = silent
) -> Carried:
    """Return the samples of latents; arguments and errors as of `encode`, whose inverse it is."""
    return _carry(field, latents, cond, tolerance, progress, up=False)


def _carry(field: Field, x: Sample, cond: Tensor | None, tolerance: float, progress: Progress, *, up: bool) -> Carried:
    if tuple(x.shape[1:]) != tuple(field.shape):
        raise ScorefieldError(f"got points of shape {tuple(x.shape)}, expected {('batch', *field.shape)}: reshape them")
    check_rows(len(x), cond=cond)
    process = field.process
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    lams = process.sigma(ends) / process.alpha(ends)
    if not 0 < float(lams[0]) < float(lams[1]):
        raise ScorefieldError(f"got {process}, which has no noise, expected one with noise: choose another process")
    std = data_scale(field, 1e-8 * float(lams[0]))
    mean = field.data_mean.to(x.device, torch.float64)
    low, high = torch.asinh(lams / std).tolist()

    def slope(u: PerSample, w: Sample, rows: Tensor) -> Tensor:
        at = process.time_of_sigma(std * u.sinh())
        alpha = process.alpha(at)
        there = over(alpha, w) * (mean + over(std * u.cosh(), w) * w)
        noise = field(there, at, None if cond is None else cond[rows]).noise
        return noise - over(u.tanh(), w) * w

    spread = std * torch.tensor(low, dtype=torch.float64).cosh()
    w = (x.double() - mean) / spread if up else x.double()
    start, end = (low, high) if up else (high, low)
    found = solve(slope, w, start, end, rtol=tolerance, atol=tolerance, progress=progress)
    return Carried(found.y if up else mean + spread * found.y, found.evaluations)


def great_circle(a: Tensor, b: Tensor, fractions: Tensor) -> Tensor:
    """Return points between two latents on the great circle through them, `(len(fractions), *shape)`.

    Args:
        a, b: latents, `shape`, not 0.
        fractions: 0 for a, 1 for b.

    Raises:
        ScorefieldError: latents that are 0 or opposite, between which there is no one way.

    >>> great_circle(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0])).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    sizes = a.double().norm(), b.double().norm()
    if not min(map(float, sizes)) > 0:
        raise ScorefieldError("got a latent of 0, which has no direction, expected others: choose other ends")
    cosine = (a.double() * b.double()).sum() / (sizes[0] * sizes[1])
    angle = torch.arccos(cosine.clamp(-1, 1))
    v = fractions.double()
    if float(angle) < NEARLY:  # the limit of the weights below
        weights = torch.stack([1 - v, v], dim=1)
    elif float(angle) > (1 - NEARLY) * torch.pi:
        raise ScorefieldError(
            "got two opposite latents, between which all ways are as short, expected others: choose other ends"
        )
    else:
        weights = torch.stack([torch.sin((1 - v) * angle), torch.sin(v * angle)], dim=1) / torch.sin(angle)
    ends = flat(torch.stack([a, b]).double())
    return (weights @ ends).reshape(len(v), *a.shape)
