"""The size of each number of a measurement: |a_i|² of the rows a_i of A.

A y may have numbers in different units, as a temperature beside a pressure. Nothing that a method does may depend on them: on
D·A, D·y and D·s with any positive diagonal D it has the answer that it has on A, y and s. What is small, as the least variance
of a noise or the error that is left in a solution, is therefore small beside the size of its own row.

    |a_i|² = the mean of (A·v)_i² over v with independent signs

It is exact where A is applied to every unit vector, or Aᵀ, as is done for few numbers. For many it is the mean over `PROBES`
signs, exact where a row has one number, and with a standard deviation of at most sqrt(2/PROBES) of it else. What scatters by
chance is then rounded to powers of 16 of the median, so that rows of one size stay rows of one size: a size is meant as one of
units, and within a factor of about 8 it is right.

Reference: Bekas, Kokiopoulou, Saad (2007), "An estimator for the diagonal of a matrix".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.guidance.posterior.base import Measured
from scorefield.operators.axes import Shape
from scorefield.randomness import SampleRng

FEW, PROBES, HELD = 1024, 64, 2**22  # unit vectors that are tried one by one; signs else; numbers that are held at a time
ROUNDING = 1e-13  # of the largest row: what is smaller is an error of the arithmetic, and counts as 0


def row_sizes(measured: Measured, shape: Shape) -> Tensor:
    """Return |a_i|² of every row of A, the shape of y, float64: of a large A within a factor of about 8.

    Args:
        measured: gives A, which is linear.
        shape: of a sample.

    >>> from scorefield.operators import Matrix
    >>> row_sizes(Measured(Matrix([[3e6, 4e6], [0.0, 1e-3]]), torch.zeros(2), 0.0), (2,))
    tensor([2.5000e+13, 1.0000e-06], dtype=torch.float64)
    """
    operator, y, d = measured.operator, measured.y, math.prod(shape)
    count, few = y.numel(), min(y.numel(), d) <= FEW
    sizes, held = torch.zeros(y.shape, dtype=torch.float64, device=y.device), max(1, HELD // max(d, count, 1))
    for first in range(0, min(count, d) if few else PROBES, held):
        if not few:
            seeds = torch.arange(first, min(first + held, PROBES), device=y.device)
            sizes += operator(SampleRng(seeds).normal(shape).sign()).square().sum(dim=0) / PROBES
        elif d < count:
            sizes += operator(_units(first, held, d, y).reshape(-1, *shape)).square().sum(dim=0)
        else:
            rows = operator.adjoint(_units(first, held, count, y).reshape(-1, *y.shape), shape)
            sizes.view(-1)[first : first + held] = rows.square().flatten(1).sum(dim=1)
    sizes = sizes if few else _rounded(sizes)
    return torch.where(sizes > ROUNDING**2 * sizes.max(), sizes, 0.0)


def _units(first: int, held: int, size: int, like: Tensor) -> Tensor:
    """Return unit vectors, `held` of them or those that are left."""
    units = torch.zeros(min(held, size - first), size, dtype=torch.float64, device=like.device)
    units[:, first : first + held].fill_diagonal_(1.0)
    return units


def _rounded(sizes: Tensor) -> Tensor:
    """Return sizes > 0 as powers of 16 of their median."""
    some = sizes > 0
    if not bool(some.any()):
        return sizes
    median = sizes[some].median()
    return torch.where(some, median * 16 ** torch.where(some, sizes / median, 1.0).log2().div(4).round(), 0.0)


def weights(variance: Tensor) -> Tensor:
    """Return 1/sqrt(variance) of each number of y: the units in which it counts; 0 where the variance is 0: it says nothing."""
    return torch.where(variance > 0, variance, math.inf).rsqrt()
