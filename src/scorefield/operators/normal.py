"""Logarithms of Gaussian densities and probabilities, exact in the tails, with finite gradients.

    log_density(y, mean, variance)        log N(y; mean, variance)
    log_below(x)                          log Phi(x)
    log_between(low, high, mean, std)     log of the probability that N(mean, std²) lies in [low, high]

A bound at infinity is written as FAR, whose square is a number, so that no gradient is NaN.

Reference: the scaled complementary error function, Cody (1969), "Rational Chebyshev approximations for the error function".
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

FAR = 1e60
_NODES, _WEIGHTS = (array.tolist() for array in np.polynomial.legendre.leggauss(10))


def log_density(y: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return log N(y; mean, variance), variance > 0."""
    return -0.5 * ((y - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi))


def log_below(x: Tensor) -> Tensor:
    """Return log Phi(x), as `torch.special.log_ndtr`, whose gradient is wrong far in the tail: by a factor of 2 at -1e8.

    >>> log_below(torch.tensor([0.0, -1e8], dtype=torch.float64))
    tensor([-6.9315e-01, -5.0000e+15], dtype=torch.float64)
    """
    tail = x < -1
    far, near = torch.where(tail, x, -1.0), torch.where(tail, 0.0, x)
    below = (torch.special.erfcx(-far * math.sqrt(0.5)) / 2).log() - far**2 / 2
    return torch.where(tail, below, torch.log1p(-torch.special.erfc(near * math.sqrt(0.5)) / 2))


def log_between(low: Tensor, high: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return log(Phi((high - mean)/std) - Phi((low - mean)/std)), low < high, std > 0.

    Where the density hardly changes between the bounds the difference would be of equal numbers: there it is integrated by
    Gauss and Legendre's rule. Elsewhere it is the difference of two tails on the side where both are small.
    """
    half, middle = (high - low) / 2 / std, ((low + high) / 2 - mean) / std
    narrow = half * middle.abs().clamp(min=1) < 1
    h, m = torch.where(narrow, half, 0.5), torch.where(narrow, middle, 0.0)
    mass = sum(w * (-(m + h * node / 2) * h * node).exp() for node, w in zip(_NODES, _WEIGHTS, strict=True))
    assert isinstance(mass, Tensor)
    within = mass.log() + h.log() - m**2 / 2 - math.log(2 * math.pi) / 2
    a, b = (low - mean) / std, (high - mean) / std
    turned = middle > 0
    small, large = (
        torch.where(narrow, x, y) for x, y in ((-1.0, torch.where(turned, -b, a)), (1.0, torch.where(turned, -a, b)))
    )
    upper = log_below(large)
    return torch.where(narrow, within, upper + torch.log1p(-(log_below(small) - upper).exp()))
