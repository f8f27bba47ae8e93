"""The axes of a sample: which of them are places, and matrices along them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scorefield.shapes import Sample

Shape = tuple[int, ...]
LARGE = 1 << 22  # entries of a matrix; beyond, only those that are not 0 are stored


def axes_of(shape: Shape) -> tuple[int, ...]:
    """Return the axes of places of a batch of samples: all behind that of the channels; of vectors the only one.

    >>> axes_of((3, 8, 8)), axes_of((100,))
    ((2, 3), (1,))
    """
    return tuple(range(min(2, len(shape)), len(shape) + 1))


def places_of(shape: Shape) -> Shape:
    """Return how many places a sample has along each of those axes.

    >>> places_of((3, 8, 9)), places_of((100,))
    ((8, 9), (100,))
    """
    return shape[min(1, len(shape) - 1) :]


def with_places(shape: Shape, places: Shape) -> Shape:
    """Return the shape of a sample with other places.

    >>> with_places((3, 8, 9), (4, 4))
    (3, 4, 4)
    """
    return (*shape[: len(shape) - len(places)], *places)


def along(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return M·x in one axis of x; M is stored in full or by its entries."""
    front = x.movedim(axis, 0)
    made = matrix @ front.reshape(len(front), -1)
    return made.reshape(len(made), *front.shape[1:]).movedim(0, axis)


def matrix_of(columns: Tensor, weights: Tensor, n: int) -> Tensor:
    """Return the matrix with these entries in its rows, `(m, n)`; a large one is stored by them alone.

    Args:
        columns: where they stand, `(m, k)`, in 0..n-1; those of one place are added.
        weights: their values, `(m, k)`.
        n: number of columns.

    >>> matrix_of(torch.tensor([[0, 0], [1, 2]]), torch.ones(2, 2), 3)
    tensor([[2., 0., 0.],
            [0., 1., 1.]])
    """
    row, entry = torch.nonzero(weights, as_tuple=True)
    places, values = torch.stack([row, columns[row, entry]]), weights[row, entry]
    matrix = torch.sparse_coo_tensor(places, values, (len(columns), n), check_invariants=False).coalesce()
    return matrix.to_dense() if len(columns) * n <= LARGE else matrix


class PerAxis:
    """A linear map that is one matrix along every axis of places: A is their Kronecker product, and A⁺ that of their own."""

    def __init__(self, build: Callable[[int], Tensor]) -> None:
        """Take the function from the length n of an axis to its matrix, `(m, n)`, float64."""
        self._build = build
        self._made: dict[tuple[Any, ...], Tensor] = {}

    def __call__(self, x: Sample) -> Tensor:
        for axis in axes_of(tuple(x.shape[1:])):
            x = along(self.matrix(x.shape[axis], x), x, axis)
        return x

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        """Return Aᵀy, `(batch, *shape)`."""
        for axis in axes_of(shape):
            y = along(self.matrix(shape[axis - 1], y).mT, y, axis)
        return y

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample | None:
        """Return A⁺y, `(batch, *shape)`; None where a matrix is too large for it."""
        for axis in axes_of(shape):
            if self.matrix(shape[axis - 1], y).is_sparse:
                return None
            y = along(self.matrix(shape[axis - 1], y, inverse=True), y, axis)
        return y

    def matrix(self, n: int, like: Tensor, *, inverse: bool = False) -> Tensor:
        """Return the matrix of an axis of n places, or its pseudo-inverse, with the dtype and on the device of `like`."""
        key = (n, inverse, like.dtype, like.device)
        if key not in self._made:
            matrix = self._build(n)
            self._made[key] = (torch.linalg.pinv(matrix) if inverse else matrix).to(like)
        return self._made[key]
