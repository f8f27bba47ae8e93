"""Nothing: the sample itself is measured."""

from __future__ import annotations

from torch import Tensor

from scorefield.operators.base import Operator, Shape
from scorefield.registry import register
from scorefield.shapes import Sample


@register("operator", "identity")
class Identity(Operator):
    """y = x: with noise, denoising is restoration by this operator.

    >>> Identity().shape_out((1, 8, 8))
    (1, 8, 8)
    """

    def shape_out(self, shape: Shape) -> Shape:
        return shape

    def __call__(self, x: Sample) -> Tensor:
        return x

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        return y

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        return y
