"""Noise level: the standard deviation s of the noise in a measurement y = A·x0 + noise, from y alone.

`noise_level` takes the data for Gaussian with their own mean and covariance S. Then y ~ N(A·mean, A·S·Aᵀ + s²·I), and the most
likely s solves

    max over s of  -1/2·sum_i [log(e_i + s²) + p_i/(e_i + s²)]        e_i: eigenvalues of A·S·Aᵀ
                                                                       p_i: squares of the residual along their vectors

One image has more or less contrast than the mean one, which this takes for noise or for the lack of it: of noiseless digits cut
to 20x20 pixels it found 7 to 20 grey levels. `refined_noise_level` takes the field at its word, by expectation maximisation:

    s² <- the mean of |y - A·x0|²/m over draws of x0 given y and s        m: numbers of y

whose fixed points are those of the likelihood of s under the field. It starts from a large s, from which it falls fast; from
a small one it would rise slowly, as draws that follow y closely leave no residual but s. Of digits with noise of 25, 8 and 0.3
grey levels, cut, half hidden, or with every other pixel missing, it finds 23 to 27, 6.3 to 8.5, and 1.5 to 5.3.

References: Tipping, Bishop (1999), "Probabilistic principal component analysis", JRSS B 61(3), for A = I. Dempster, Laird,
Rubin (1977), "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 39.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import Field, moments_of
from scorefield.guidance.posterior import Method, Twisted, posterior_sample
from scorefield.moments import Moments
from scorefield.operators import Operator
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng

MOST = 2048  # numbers of y that are looked at, neighbours in the middle: the eigenvectors of so many take seconds
LARGE = 0.25  # of the root mean square of y around the mean: a noise to start from
ROUNDS, DRAWS, SETTLED = 5, 2, 0.05  # of expectation maximisation; for each; a change that is none
AT_A_TIME = 256  # rows of A
LEAST, POINTS, HALVINGS = 1e-12, 200, 60  # of the variances; of the grid; of the interval around its best point


def noise_level(moments: Moments, operator: Operator, y: Tensor, shape: tuple[int, ...]) -> float:
    """Return the most likely standard deviation of the noise in a measurement, in its own units.

    Args:
        moments: of the data.
        operator: A.
        y: the measurement, without a batch.
        shape: of a sample.

    Raises:
        ScorefieldError: an operator that is not linear.

    >>> from scorefield.operators import Identity
    >>> flat = Moments.isotropic(torch.zeros(4), 1e-9)
    >>> round(noise_level(flat, Identity(), torch.tensor([1.0, -1.0, 2.0, -2.0]), (4,)), 6)
    1.581139
    """
    if not operator.linear:
        raise ScorefieldError(
            f"got {operator}, which is not linear, for an estimate of the noise, expected a linear operator: give a number"
        )
    rows = _middle_rows(operator, y, shape)
    start = max(0, (y.numel() - MOST) // 2)
    residual = y.double().reshape(-1)[start : start + len(rows)] - rows @ moments.mean
    seen = rows @ moments.vectors
    covariance = (seen * (moments.variances - moments.rest)) @ seen.mT + moments.rest * (rows @ rows.mT)
    values, vectors = torch.linalg.eigh(covariance)
    return _most_likely(values.clamp(min=0), (residual @ vectors).square())


def refined_noise_level(
    field: Field,
    operator: Operator,
    y: Tensor,
    *,
    rng: SampleRng,
    method: Method | None = None,
    cond: Tensor | None = None,
    least: float = 0.0,
    progress: Progress = silent,
) -> float:
    """Return the most likely standard deviation of the noise in a measurement under a field, in the field's units.

    Args:
        field: the prior, any field.
        operator: A.
        y: the measurement, without a batch.
        rng: a seed for each draw of a round.
        method: of posterior sampling; None for a short one, 2 particles at 12 levels for each draw.
        cond: conditioning of each draw, or None.
        least: what the noise is at least, such as that of rounding.
        progress: called after every round.

    Raises:
        ScorefieldError: an operator that is not linear.

    >>> from scorefield import VE, Gaussian, SampleRng
    >>> from scorefield.operators import Identity
    >>> field = Gaussian(torch.zeros(900), 1e-4 * torch.eye(900), VE(0.01, 10.0))
    >>> y = 0.5 * SampleRng([0]).normal((900,))[0]
    >>> round(refined_noise_level(field, Identity(), y, rng=SampleRng(range(2))) / float(y.square().mean().sqrt()), 2)
    1.0
    """
    first = noise_level(moments_of(field).to(y.device), operator, y, field.shape)
    away = y.double() - operator(field.data_mean.to(y.device).double().unsqueeze(0))[0]
    s = max(first, LARGE * float(away.square().mean().sqrt()), least)
    chosen = method or Twisted(particles=2, together=False, levels=12)
    for k in range(ROUNDS if s > least else 0):
        found = posterior_sample(field, operator, y, s, rng=rng, method=chosen, cond=cond)
        before, s = s, max(least, s * float(found.residual.square().mean().sqrt()))
        progress((k + 1) / ROUNDS, "level of the noise")
        if abs(s / before - 1) < SETTLED or s == least:
            break
    return s


def _middle_rows(operator: Operator, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the rows of A of the middle numbers of y, `(m, d)`: Aᵀ of unit vectors."""
    m = y.numel()
    first, last = max(0, (m - MOST) // 2), min(m, max(0, (m - MOST) // 2) + MOST)
    parts = []
    for at in range(first, last, AT_A_TIME):
        count = min(AT_A_TIME, last - at)
        units = torch.zeros(count, m, dtype=torch.float64)
        units[torch.arange(count), at + torch.arange(count)] = 1.0
        parts.append(operator.adjoint(units.reshape(count, *y.shape), shape).flatten(1))
    return torch.cat(parts)


def _most_likely(values: Tensor, squares: Tensor) -> float:
    """Return the s with the largest likelihood: the best of a grid in log s², then halving where the slope changes its sign."""
    largest = float(torch.maximum(values.max(), squares.max()))
    if largest <= 0:
        return 0.0
    grid = largest * torch.logspace(torch.log10(torch.tensor(LEAST)).item(), 0, POINTS, dtype=torch.float64)
    spread = values + grid.unsqueeze(1)
    best = int((spread.log() + squares / spread).sum(dim=1).argmin())
    if best == 0:
        return 0.0
    low, high = float(grid[best - 1]), float(grid[min(best + 1, POINTS - 1)])
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        spread = values + middle
        rising = float((1 / spread - squares / spread**2).sum()) > 0
        low, high = (low, middle) if rising else (middle, high)
    return float(((low * high) ** 0.5) ** 0.5)
