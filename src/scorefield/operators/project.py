"""Random projections: a few linear combinations of all numbers of a sample."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError, unknown
from scorefield.operators import text as texts
from scorefield.operators.axes import Shape
from scorefield.operators.base import Operator
from scorefield.operators.matrix import Matrix
from scorefield.randomness import SampleRng, stream_of
from scorefield.registry import register
from scorefield.shapes import Sample, flat

Rows = Literal["orthonormal", "gaussian"]


@register("operator", "project")
class Project(Operator):
    """y = A·x with random rows: orthonormal, in a direction as likely as any other, or of independent N(0, 1/d).

    Both follow from the seed alone. Reference: Mezzadri (2007), "How to generate random matrices from the classical compact
    groups", Notices of the AMS 54(5).

    >>> Project(3).shape_out((1, 8, 8))
    (3,)
    """

    def __init__(self, count: int, rows: Rows = "orthonormal", *, seed: int = 0) -> None:
        """Take how many rows, of which kind, and their seed; raises `ScorefieldError` for fewer than one or an unknown kind."""
        if count < 1:
            raise ScorefieldError(f"got {count} rows for a projection, expected at least 1: for example project:16")
        if rows not in get_args(Rows):
            raise unknown("kind of rows", rows, get_args(Rows))
        self.count, self.rows, self.seed = count, rows, seed
        self._matrices: dict[int, Tensor] = {}

    def __repr__(self) -> str:
        return f"Project({self.count}, {self.rows}, seed {self.seed})"

    def shape_out(self, shape: Shape) -> Shape:
        if self.rows == "orthonormal" and self.count > math.prod(shape):
            raise ScorefieldError(
                f"got {self} for samples of {math.prod(shape)} numbers, expected at most as many orthonormal rows: take fewer, "
                f"or project:{self.count}:gaussian"
            )
        return (self.count,)

    def matrix(self, d: int) -> Tensor:
        """Return A for samples of d numbers, `(count, d)`, float64."""
        if d not in self._matrices:
            self.shape_out((d,))
            rows = SampleRng([self.seed], stream=stream_of("project")).normal((self.count, d))[0]
            if self.rows == "gaussian":
                self._matrices[d] = rows / math.sqrt(d)
            else:
                q, r = torch.linalg.qr(rows.mT)
                self._matrices[d] = (q * r.diagonal().sign()).mT.contiguous()  # the one decomposition with a positive diagonal
        return self._matrices[d]

    def __call__(self, x: Sample) -> Tensor:
        rows = flat(x)
        return rows @ self.matrix(rows.shape[1]).to(x).mT

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        return (y @ self.matrix(math.prod(shape)).to(y)).reshape(-1, *shape)

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        if self.rows == "orthonormal":
            return self.adjoint(y, shape)
        return Matrix(self.matrix(math.prod(shape))).pseudo_inverse(y, shape)

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `project:ROWS`, `project:ROWS:gaussian`, or `project:FILE` with a given matrix."""
        if text.lower().endswith(texts.ARRAYS):
            return Matrix.of_text(text)
        count, _, rows = text.partition(":")
        example = "project:16, project:16:gaussian or project:A.npy"
        return cls(texts.whole(count, "the rows of project", example), rows or "orthonormal", seed=seed)  # type: ignore[arg-type]
