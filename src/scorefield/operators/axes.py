"""The axes of a sample: which of them are places, and a matrix along one of them."""

from __future__ import annotations

from torch import Tensor

Shape = tuple[int, ...]


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
