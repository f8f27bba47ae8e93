"""Noise level: the standard deviation s of the noise in a measurement y = A·x0 + noise, from y alone.

Take the data for Gaussian with their own mean and covariance S. Then y ~ N(A·mean, A·S·Aᵀ + s²·I), and the most likely s solves

    max over s of  -1/2·sum_i [log(e_i + s²) + p_i/(e_i + s²)]        e_i: eigenvalues of A·S·Aᵀ
                                                                       p_i: squares of the residual along their vectors

What tells s from the data are the directions in which these hardly vary: the finest details of images, and the edges of those
in which a thing stands on an empty ground. An intact measurement gives 0.

Reference: Tipping, Bishop (1999), "Probabilistic principal component analysis", JRSS B 61(3), for A = I.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.moments import Moments
from scorefield.operators import Operator

MOST = 2048  # numbers of y that are looked at, neighbours in the middle: the eigenvectors of so many take seconds
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
