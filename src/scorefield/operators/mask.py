"""Masks: only some numbers of a sample are measured."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators.base import Operator, Shape
from scorefield.registry import register
from scorefield.shapes import Sample


@register("operator", "mask")
class Mask(Operator):
    """y = the numbers of x that are kept, in a row.

    >>> Mask([True, False, True])(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 3.]])
    """

    linear: ClassVar[bool] = True

    def __init__(self, keep: Tensor | list[bool]) -> None:
        """Take what is kept: True or False for each number of a sample, or for each place of it, in all channels alike.

        Raises:
            ScorefieldError: a mask that keeps nothing.
        """
        self.keep = torch.as_tensor(keep).bool()
        if not bool(self.keep.any()):
            raise ScorefieldError("got a mask that keeps nothing, expected at least one number that is measured: turn it round")

    def __repr__(self) -> str:
        return f"Mask({int(self.keep.sum())} of {self.keep.numel()})"

    def _kept(self, shape: Shape) -> Tensor:
        if self.keep.ndim > len(shape) or tuple(shape[len(shape) - self.keep.ndim :]) != tuple(self.keep.shape):
            raise ScorefieldError(
                f"got a mask of shape {tuple(self.keep.shape)} for samples of shape {shape}, expected the same size: resize it"
            )
        return self.keep.expand(shape).reshape(-1)

    def shape_out(self, shape: Shape) -> Shape:
        return (int(self._kept(shape).sum()),)

    def __call__(self, x: Sample) -> Tensor:
        return x.flatten(1)[:, self._kept(tuple(x.shape[1:])).to(x.device)]

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        rows = y.new_zeros(len(y), torch.Size(shape).numel())
        rows[:, self._kept(shape).to(y.device)] = y
        return rows.reshape(-1, *shape)
