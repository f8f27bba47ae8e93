"""Downsampling: f pixels in every axis become one, which stands in their middle.

    y[k] = sum over j of w[k, j]·x[j],        sum of w[k, j]·j = f·k + (f - 1)/2

"area" is the mean of the f pixels. "bicubic" is the cubic kernel (a = -1/2) stretched by f, cut at the edge and divided by its
sum: what torch and Pillow call antialiased resizing. Both keep the middle of the f pixels. Other conventions of the same name
move the picture by up to (f - 1)/2 pixels, after which a restored image cannot fit the measured one.

An axis is multiplied by its own matrix, so A is their Kronecker product, and A⁺ that of their pseudo-inverses.

Reference: Keys (1981), "Cubic convolution interpolation for digital image processing", IEEE TASSP 29(6).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError, unknown
from scorefield.operators import text as texts
from scorefield.operators.axes import PerAxis, Shape, matrix_of, places_of, with_places
from scorefield.operators.base import Operator
from scorefield.registry import register
from scorefield.shapes import Sample

Way = Literal["area", "bicubic"]


@register("operator", "downsample")
class Downsample(Operator):
    """y has one pixel for f in every axis; those that are left over at the end are not measured.

    >>> Downsample(2)(torch.tensor([[1.0, 3.0, 5.0, 9.0]]))
    tensor([[2., 7.]])
    """

    def __init__(self, factor: int, way: Way = "area") -> None:
        """Take f and how its pixels are joined.

        Args:
            factor: f, a whole number >= 2.
            way: "area" or "bicubic".

        Raises:
            ScorefieldError: a factor below 2, or an unknown way.
        """
        if factor != int(factor) or factor < 2:
            raise ScorefieldError(f"got {factor} for the factor of downsample, expected a whole number >= 2: for example 4")
        if way not in get_args(Way):
            raise unknown("way of downsampling", way, get_args(Way))
        self.factor, self.way = int(factor), way
        self._axes = PerAxis(lambda n: _weights(n, self.factor, self.way))

    def __repr__(self) -> str:
        return f"Downsample({self.factor}, {self.way})"

    def shape_out(self, shape: Shape) -> Shape:
        places = places_of(shape)
        if min(places) < self.factor:
            raise ScorefieldError(
                f"got samples of shape {shape} for {self}, expected at least {self.factor} pixels in every axis, for else "
                "nothing is left: choose a smaller factor"
            )
        return with_places(shape, tuple(n // self.factor for n in places))

    def __call__(self, x: Sample) -> Tensor:
        self.shape_out(tuple(x.shape[1:]))
        return self._axes(x)

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        return self._axes.adjoint(y, shape)

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        x = self._axes.pseudo_inverse(y, shape)
        return super().pseudo_inverse(y, shape) if x is None else x

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `downsample:FACTOR` or `downsample:FACTOR:bicubic`."""
        factor, _, way = text.partition(":")
        return cls(texts.whole(factor, "the factor of downsample", "downsample:4 or downsample:4:bicubic"), way or "area")  # type: ignore[arg-type]


def _weights(n: int, factor: int, way: Way) -> Tensor:
    """Return the matrix of one axis of n pixels, `(n // factor, n)`."""
    count = n // factor
    middle = factor * torch.arange(count, dtype=torch.float64) + (factor - 1) / 2
    reach = 2 * factor if way == "bicubic" else (factor - 1) // 2
    place = middle.floor().long().unsqueeze(1) + torch.arange(-reach - 1, reach + 3)
    distance = (place - middle.unsqueeze(1)).abs() / factor
    weight = _cubic(distance) if way == "bicubic" else (distance < 0.5).double()
    weight = torch.where((place >= 0) & (place < n), weight, 0.0)
    weight = weight / weight.sum(dim=1, keepdim=True)
    return matrix_of(place.clamp(0, n - 1), weight, n)


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' cubic kernel with a = -1/2 of distances >= 0."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
