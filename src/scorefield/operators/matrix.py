"""Any matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators import text as texts
from scorefield.operators.base import Operator, Shape
from scorefield.registry import register
from scorefield.shapes import Sample, flat


@register("operator", "matrix")
class Matrix(Operator):
    """y = A·x of the numbers of x in a row.

    >>> Matrix([[1.0, 1.0, 0.0]])(torch.tensor([[1.0, 2.0, 5.0]]))
    tensor([[3.]])
    """

    def __init__(self, matrix: Tensor | list[list[float]]) -> None:
        """Take A, `(m, d)`; raises `ScorefieldError` for one that is no matrix of finite numbers."""
        self.matrix = torch.as_tensor(matrix, dtype=torch.float64)
        if self.matrix.ndim != 2 or not self.matrix.numel() or not bool(self.matrix.isfinite().all()):
            raise ScorefieldError(
                f"got an array of shape {tuple(self.matrix.shape)} for a matrix, expected finite numbers in rows and columns: "
                "give one row for each measurement"
            )

    def __repr__(self) -> str:
        return f"Matrix({self.matrix.shape[0]} x {self.matrix.shape[1]})"

    def shape_out(self, shape: Shape) -> Shape:
        if (d := torch.Size(shape).numel()) != self.matrix.shape[1]:
            raise ScorefieldError(
                f"got a matrix of {self.matrix.shape[1]} columns for samples of {d} numbers, expected {d}: transpose it?"
            )
        return (self.matrix.shape[0],)

    def __call__(self, x: Sample) -> Tensor:
        self.shape_out(tuple(x.shape[1:]))
        return flat(x) @ self.matrix.to(x).mT

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        inverse: Tensor = torch.linalg.pinv(self.matrix)
        return (y @ inverse.to(y).mT).reshape(-1, *shape)

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `matrix:FILE`, of an array of two axes."""
        if not text.lower().endswith(texts.ARRAYS):
            raise ScorefieldError(f"got {text!r} for a matrix, expected a file of an array: for example matrix:A.npy")
        return cls(texts.read_array(text, "a matrix, an array of two axes"))

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        return (y @ self.matrix.to(y)).reshape(-1, *shape)
