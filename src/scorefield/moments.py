"""Moments: the mean and the covariance S of data, in a form in which every function of S costs two thin products.

    S = U·diag(v - r)·Uᵀ + r·I        U: (d, rank), orthonormal columns;  v: (rank,), variances along them;  r: that of the rest

so f(S) = U·diag(f(v) - f(r))·Uᵀ + f(r)·I for every function f of a number, as are the covariances of the data given a noisy
state, C = (S⁻¹ + I/lambda²)⁻¹. With rank d the form is exact; below, it is probabilistic principal components: the rest is the
mean variance of what U leaves out.

Reference: Tipping, Bishop (1999), "Probabilistic principal component analysis", JRSS B 61(3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from scorefield import files
from scorefield.errors import ScorefieldError
from scorefield.randomness import SampleRng
from scorefield.shapes import flat

MOMENTS = "moments.safetensors"
EXACT = 1024  # numbers or examples, up to which all directions are computed


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
    def of_data(cls, data: Tensor, rank: int = 256) -> Moments:
        """Return those of examples, `(n, *shape)`, along at most `rank` directions.

        Of many examples of many numbers the directions are found by a randomised range finder, to far below what a finite
        number of examples says of them.

        Reference: Halko, Martinsson, Tropp (2011), "Finding structure with randomness", SIAM Review 53(2).

        Raises:
            ScorefieldError: fewer than two examples.
        """
        rows = flat(data).double()
        n, d = rows.shape
        if n < 2:
            raise ScorefieldError(f"got {n} examples for a covariance, expected at least 2: give more")
        mean = rows.mean(dim=0)
        rows = rows - mean
        if min(n, d) > EXACT:  # the range of S is that of S²·(random rows), but for directions of little variance
            width = min(n, d, rank + 32)
            basis = SampleRng(range(width)).normal((d,)).mT
            for _ in range(2):
                basis = torch.linalg.qr(rows.mT @ (rows @ basis)).Q
            values, turn = torch.linalg.eigh((rows @ basis).mT @ (rows @ basis) / n)
            vectors = basis @ turn
        elif d <= n:
            values, vectors = torch.linalg.eigh(rows.mT @ rows / n)
        else:
            values, left = torch.linalg.eigh(rows @ rows.mT / n)
            vectors = rows.mT @ left / (values * n).clamp(min=1e-300).sqrt()
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        kept = min(rank, int((values > 1e-12 * values[0]).sum()))
        rest = float((rows**2).sum() / n - values[:kept].sum()) / max(d - kept, 1)
        return cls(mean, vectors[:, :kept].contiguous(), values[:kept], max(rest, 0.0))

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Moments:
        """Return those that `to_tensors` gave."""
        mean, vectors, variances = (tensors[name].double() for name in ("mean", "vectors", "variances"))
        return cls(mean, vectors, variances[:-1], float(variances[-1]))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return them as tensors to store, the directions in float32, and the variance of the rest at the end of the others."""
        variances = torch.cat([self.variances, self.variances.new_tensor([self.rest])])
        return {"mean": self.mean, "vectors": self.vectors.float(), "variances": variances}

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

    def given(self, lam: float) -> tuple[Tensor, Tensor]:
        """Return the variances of C = (S⁻¹ + I/lambda²)⁻¹, of x0 given x0 + lambda·noise, along U and of the rest."""
        return self.both(lambda v: v * lam**2 / (v + lam**2))

    def weighted(self, along: Tensor, rest: Tensor, rows: Tensor) -> Tensor:
        """Return (U·diag(along - rest)·Uᵀ + rest·I)·x of rows, `(batch, d)`; both numbers may differ from row to row."""
        return torch.addmm(rest * rows, rows @ self.vectors * (along - rest), self.vectors.mT)  # one pass less over the rows

    def to(self, device: torch.device) -> Moments:
        """Return them on a device."""
        return Moments(self.mean.to(device), self.vectors.to(device), self.variances.to(device), self.rest)

    def scaled(self, factor: float) -> Moments:
        """Return them with every variance times a factor."""
        return Moments(self.mean, self.vectors, factor * self.variances, factor * self.rest)

    def floored(self, least: float) -> Moments:
        """Return them with no variance below `least`."""
        return Moments(self.mean, self.vectors, self.variances.clamp(min=least), max(self.rest, least))


def save_moments(folder: Path, moments: Moments, fingerprint: str) -> None:
    """Write the moments of data into a run's folder, with the fingerprint of the data."""
    data = torch.tensor(list(fingerprint.encode()), dtype=torch.uint8)
    tensors = {name: value.cpu().contiguous() for name, value in moments.to_tensors().items()}
    files.write(folder / MOMENTS, save_tensors({**tensors, "data": data}))


def read_moments(folder: Path, fingerprint: str) -> Moments | None:
    """Return the moments in a run's folder; None where there are none, or those of other data."""
    try:
        named = load_tensors((folder / MOMENTS).read_bytes())
        is_own = bytes(named.pop("data").tolist()).decode() == fingerprint
        return Moments.of_tensors(named) if is_own else None
    except (OSError, SafetensorError, KeyError, UnicodeDecodeError):
        return None
