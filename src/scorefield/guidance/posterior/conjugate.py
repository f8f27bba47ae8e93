"""The Gaussian algebra of one noise level: x0 ~ N(mean, C), y = A·x0 + noise, with C a function of the data's covariance S.

    R = N + A·C·Aᵀ          covariance of y - A·mean;  N: of the noise, diagonal
    gain = C·Aᵀ·R⁻¹         x0 given y is N(mean + gain·(y - A·mean), C - gain·A·C)

A draw of the second needs no root of its covariance (Matheron's rule): take e ~ N(0, C) and n ~ N(0, N), and subtract
gain·(A·e + n). All that a level needs is to solve R, and to draw from N(0, R). Three ways, by size:

    few measurements       Cholesky's factor of R, m x m
    S of low rank          R = diag + W·D·Wᵀ with W = A·U, by Woodbury's identity, rank x rank
    A too large to hold    conjugate gradients, preconditioned by Woodbury's inverse for the mean of the diagonal of A·Aᵀ

Where the noise is Gaussian, `whitened` turns the measurement first: it divides y and A by the noise, and rotates them by the
eigenvectors of A·Aᵀ, which is diagonal then. What is known about x0 stays the same.

References: Doucet (2010), "A note on efficient conditional simulation of Gaussian distributions". Woodbury (1950), "Inverting
modified matrices".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from scorefield.moments import Moments
from scorefield.operators import Operator
from scorefield.operators.base import conjugate_gradients
from scorefield.randomness import SampleRng

NUMBERS = 2**24  # of a matrix that is held: 128 MB
ROWS = 2048  # of a matrix whose A·Aᵀ is factored
NOTHING = 1e-6  # share of a variance, by which all that is left out of a measurement may change it
APART = 1e-7  # correlation, below which two numbers are not correlated
PIECE = 256  # vectors at a time


@dataclass(frozen=True, eq=False)
class Measurement:
    """A linear measurement of rows, prepared for the data's covariance.

    Attributes:
        moments: of the data.
        operator, shape: what was measured, and the shape of a sample.
        matrix: A as it is used, `(m, d)`, float64; None where it is too large to hold.
        least: variance of the noise over the largest of the data; what is far below it in A·Aᵀ is nothing.
    """

    moments: Moments
    operator: Operator
    shape: tuple[int, ...]
    matrix: Tensor | None
    least: float = 0.0

    @classmethod
    def of(cls, moments: Moments, operator: Operator, shape: tuple[int, ...]) -> Measurement:
        """Return the measurement by an operator, with its matrix if that is small enough."""
        d, m = moments.size, torch.Size(operator.shape_out(shape)).numel()
        if m * d > NUMBERS or m > ROWS:
            return cls(moments, operator, shape, None)
        eye = torch.eye(m, dtype=torch.float64, device=moments.mean.device).reshape(m, *operator.shape_out(shape))
        rows = [operator.adjoint(part, shape).flatten(1) for part in torch.split(eye, PIECE)]
        return cls(moments, operator, shape, torch.cat(rows))

    def whitened(self, y: Tensor, noise_std: Tensor) -> tuple[Measurement, Tensor, Tensor]:
        """Return a measurement with orthogonal rows that knows as much of x0, its y, and the variance of its noise, `(m,)`.

        Args:
            y: `(m,)`.
            noise_std: of its noise, `(m,)`, > 0.
        """
        if self.matrix is None:
            return self, y, noise_std**2
        rows, y = self.matrix / noise_std[:, None], y / noise_std
        turn = torch.linalg.eigh(rows @ rows.mT).eigenvectors
        rows, y, least = turn.mT @ rows, turn.mT @ y, 1 / self.moments.largest
        kept = (rows**2).sum(dim=1) * len(rows) > NOTHING * least
        kept[-1] = True  # the one that says most
        made = Measurement(self.moments, self.operator, self.shape, rows[kept], least)
        return made, y[kept], y.new_ones(int(kept.sum()))

    def measure(self, rows: Tensor) -> Tensor:
        """Return A·x of rows, `(batch, d)` -> `(batch, m)`."""
        if self.matrix is not None:
            return rows @ self.matrix.mT
        return self.operator(rows.reshape(-1, *self.shape)).flatten(1)

    def adjoint(self, r: Tensor) -> Tensor:
        """Return Aᵀ·r of rows, `(batch, m)` -> `(batch, d)`."""
        if self.matrix is not None:
            return r @ self.matrix
        return self.operator.adjoint(r.reshape(len(r), *self.operator.shape_out(self.shape)), self.shape).flatten(1)

    def seen(self, along: Tensor, rest: Tensor, rows: Tensor) -> Tensor:
        """Return A·f·x of rows, `(batch, d)` -> `(batch, m)`, with f = U·diag(along - rest)·Uᵀ + rest·I."""
        if self.matrix is not None and len(self.matrix) < len(rows):
            return rows @ self.moments.weighted(along, rest, self.matrix).mT
        return self.measure(self.moments.weighted(along, rest, rows))

    def spread(self, along: Tensor, rest: Tensor, r: Tensor) -> Tensor:
        """Return f·Aᵀ·r of rows, `(batch, m)` -> `(batch, d)`: the adjoint of `seen`."""
        if self.matrix is not None and len(self.matrix) < len(r):
            return r @ self.moments.weighted(along, rest, self.matrix)
        return self.moments.weighted(along, rest, self.adjoint(r))

    @cached_property
    def along(self) -> Tensor:
        """W = A·U, `(m, rank)`."""
        return torch.cat([self.measure(part) for part in torch.split(self.moments.vectors.mT, PIECE)]).mT.contiguous()

    @cached_property
    def gram(self) -> Tensor:
        """A·Aᵀ, `(m, m)`; its diagonal `(m,)` where it has no other entries; the mean of that, `(1,)`, of a large A."""
        if self.matrix is None:
            m = torch.Size(self.operator.shape_out(self.shape)).numel()
            probes = SampleRng(range(8), device=self.moments.mean.device).sign((m,))
            return (self.adjoint(probes) ** 2).sum(dim=1).mean().reshape(1) / m
        whole = self.matrix @ self.matrix.mT
        diagonal = whole.diagonal().clone()
        size = (diagonal + self.least).sqrt()
        apart = bool(((whole - torch.diag(diagonal)).abs() <= APART * size[:, None] * size).all())
        return diagonal if apart else whole

    @cached_property
    def squares(self) -> Tensor:
        """W², `(m, rank)`."""
        return self.along**2

    def variances(self, along: Tensor, rest: Tensor) -> Tensor:
        """Return the diagonal of A·C·Aᵀ, `(m,)`, of C = U·diag(along - rest)·Uᵀ + rest·I."""
        diagonal = self.gram.diagonal() if self.gram.ndim == 2 else self.gram
        return self.squares @ (along - rest) + rest * diagonal

    def level(self, along: Tensor, rest: Tensor, noise: Tensor) -> Level:
        """Return the algebra for C = U·diag(along - rest)·Uᵀ + rest·I and noise of variance `noise`, `(m,)`."""
        return Level(self, along, rest, noise)


@dataclass(frozen=True, eq=False)
class Level:
    """The algebra of one level; see the head of the file."""

    measurement: Measurement
    along: Tensor
    rest: Tensor
    noise: Tensor

    def solve(self, r: Tensor) -> Tensor:
        """Return R⁻¹·r of rows, `(batch, m)`."""
        if self.measurement.matrix is None:
            return conjugate_gradients(self.times, r, start=self._woodbury)
        if self.factor is not None:
            return torch.cholesky_solve(r.mT, self.factor).mT
        return self._woodbury(r)

    def log_density(self, r: Tensor) -> Tensor:
        """Return -r·R⁻¹·r/2 of rows, `(batch,)`: log N(r; 0, R) but for a constant of the level."""
        return -0.5 * (r * self.solve(r)).sum(dim=1)

    def gain(self, r: Tensor) -> Tensor:
        """Return C·Aᵀ·R⁻¹·r of rows, `(batch, m)` -> `(batch, d)`."""
        return self.measurement.spread(self.along, self.rest, self.solve(r))

    def times(self, r: Tensor) -> Tensor:
        """Return R·r of rows, `(batch, m)`."""
        measurement = self.measurement
        if measurement.matrix is None:
            return self.noise * r + measurement.measure(measurement.spread(self.along, self.rest, r))
        w, gram = measurement.along, measurement.gram
        own = self.noise * r + self.rest * (r @ gram if gram.ndim == 2 else gram * r)
        return own + (r @ w * (self.along - self.rest)) @ w.mT

    def draw(self, normal: Callable[[int], Tensor]) -> Tensor:
        """Return draws of N(0, R), `(batch, m)`, made of what `normal(size)` gives, standard normal numbers `(batch, size)`."""
        measurement, m = self.measurement, len(self.noise)
        if measurement.matrix is None:
            roots = self.along.sqrt(), self.rest.sqrt()
            whole = measurement.measure(measurement.moments.weighted(*roots, normal(measurement.moments.size)))
            return whole + self.noise.sqrt() * normal(m)
        if self.factor is not None:
            return normal(m) @ self.factor.mT
        w, _ = self._small
        return self._base.sqrt() * normal(m) + normal(w.shape[1]) @ w.mT

    @cached_property
    def factor(self) -> Tensor | None:
        """Cholesky's factor of R, where Woodbury's identity is of no use."""
        gram, w = self.measurement.gram, self.measurement.along
        if gram.ndim == 1 and w.shape[0] > w.shape[1] and bool((self._base > 0).all()):
            return None
        base = self.rest * (gram if gram.ndim == 2 else torch.diag(gram)) + torch.diag(self.noise)
        factor: Tensor = torch.linalg.cholesky(base + (w * (self.along - self.rest)) @ w.mT)
        return factor

    @cached_property
    def _base(self) -> Tensor:
        return self.noise + self.rest * self.measurement.gram

    @cached_property
    def _small(self) -> tuple[Tensor, Tensor]:
        """W·sqrt(D) and the factor of I + sqrt(D)·Wᵀ·base⁻¹·W·sqrt(D)."""
        w = self.measurement.along * (self.along - self.rest).clamp(min=0).sqrt()
        eye = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        return w, torch.linalg.cholesky(eye + w.mT @ (w / self._base[:, None]))

    def _woodbury(self, r: Tensor) -> Tensor:
        w, factor = self._small
        scaled = r / self._base
        return scaled - (torch.cholesky_solve((scaled @ w).mT, factor).mT @ w.mT) / self._base
