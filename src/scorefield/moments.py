"""Moments: the mean and the covariance S of data, in a form in which every function of S costs two thin products.

    S = U·diag(v - r)·Uᵀ + r·I        U: (d, rank), orthonormal columns;  v: (rank,), variances along them;  r: that of the rest

so f(S) = U·diag(f(v) - f(r))·Uᵀ + f(r)·I for every function f of a number, as are the covariances of the data given a noisy
state, C = (S⁻¹ + I/lambda²)⁻¹. With rank d the form is exact; below, it is probabilistic principal components: the rest is the
mean variance of what U leaves out.

Reference: Tipping, Bishop (1999), "Probabilistic principal component analysis", JRSS B 61(3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.shapes import flat


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of data.

    Attributes:
        mean: `(d,)`, float64.
        vectors: U, `(d, rank)`.
        variances: v, `(rank,)`, falling, >= 0.
        rest: r >= 0, the variance in every direction that U leaves out.
    """

    mean: Tensor
    vectors: Tensor
    variances: Tensor
    rest: float

    @classmethod
    def isotropic(cls, mean: Tensor, std: float) -> Moments:
        """Return those of data of which only the mean and one standard deviation are known."""
        centre = mean.double().reshape(-1)
        return cls(centre, centre.new_zeros(len(centre), 0), centre.new_zeros(0), std**2)

    @classmethod
    def of_covariance(cls, mean: Tensor, covariance: Tensor) -> Moments:
        """Return those of a mean, any shape, and a covariance `(d, d)`, exactly."""
        values, vectors = torch.linalg.eigh(covariance.double())
        return cls(mean.double().reshape(-1), vectors.flip(1), values.flip(0).clamp(min=0), 0.0)

    @classmethod
    def of_data(cls, data: Tensor, rank: int = 1024) -> Moments:
        """Return those of examples, `(n, *shape)`, along at most `rank` directions.

        Raises:
            ScorefieldError: fewer than two examples.
        """
        rows = flat(data).double()
        n, d = rows.shape
        if n < 2:
            raise ScorefieldError(f"got {n} examples for a covariance, expected at least 2: give more")
        mean = rows.mean(dim=0)
        rows = rows - mean
        if d <= n:
            values, vectors = torch.linalg.eigh(rows.mT @ rows / n)
        else:
            values, left = torch.linalg.eigh(rows @ rows.mT / n)
            vectors = rows.mT @ left / (values * n).clamp(min=1e-300).sqrt()
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        kept = min(rank, int((values > 1e-12 * values[0]).sum()))
        rest = float((rows**2).sum() / n - values[:kept].sum()) / max(d - kept, 1)
        return cls(mean, vectors[:, :kept].contiguous(), values[:kept], max(rest, 0.0))

    @property
    def size(self) -> int:
        """Number d of coordinates."""
        return len(self.mean)

    @cached_property
    def largest(self) -> float:
        """The largest variance in any direction."""
        return float(max([*self.variances[:1].tolist(), self.rest]))

    def map(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Return f(S)·rows, `(batch, d)`, for a function of a variance."""
        along, rest = self.both(function)
        return self.weighted(along, rest, rows)

    def both(self, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return f of the variances along U and of the rest."""
        return function(self.variances), function(torch.tensor(self.rest, dtype=self.variances.dtype))

    def weighted(self, along: Tensor, rest: Tensor, rows: Tensor) -> Tensor:
        """Return (U·diag(along - rest)·Uᵀ + rest·I)·rows."""
        return (rows @ self.vectors * (along - rest)) @ self.vectors.mT + rest * rows

    def to(self, device: torch.device) -> Moments:
        """Return them on a device."""
        return Moments(self.mean.to(device), self.vectors.to(device), self.variances.to(device), self.rest)

    def floored(self, least: float) -> Moments:
        """Return them with no variance below `least`."""
        return Moments(self.mean, self.vectors, self.variances.clamp(min=least), max(self.rest, least))
