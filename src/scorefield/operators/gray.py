"""Gray: the colours of each pixel are added up to one brightness."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators import text as texts
from scorefield.operators.base import Operator, Shape
from scorefield.registry import register
from scorefield.shapes import Sample

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow's "L" and JPEG's Y


@register("operator", "gray")
class Gray(Operator):
    """y = sum over the channels c of w_c·x_c, one channel.

    Reference: the weights are ITU-R BT.601's, section 2.5.1.

    >>> Gray()(torch.tensor([[[[1.0]], [[0.0]], [[0.0]]]])).shape
    torch.Size([1, 1, 1, 1])
    """

    def __init__(self, weights: Sequence[float] = LUMA) -> None:
        """Take w, one number for each channel; raises `ScorefieldError` for fewer than two or none but 0."""
        self.weights = torch.tensor(tuple(weights), dtype=torch.float64)
        if len(self.weights) < 2 or not bool(self.weights.isfinite().all()) or not bool(self.weights.any()):
            raise ScorefieldError(
                f"got weights {tuple(weights)} for gray, expected one number for each of several channels, not all 0: "
                "for example 0.299, 0.587, 0.114"
            )

    def __repr__(self) -> str:
        return f"Gray({', '.join(f'{w:g}' for w in self.weights.tolist())})"

    def shape_out(self, shape: Shape) -> Shape:
        if len(shape) < 2 or shape[0] != len(self.weights):
            got = f"{shape[0]} channel{'s' if shape[0] != 1 else ''}" if len(shape) > 1 else "no channels"
            raise ScorefieldError(
                f"got samples with {got} (shape {shape}) for {self}, expected {len(self.weights)} channels: "
                "leave gray out, or give a weight for each channel"
            )
        return (1, *shape[1:])

    def __call__(self, x: Sample) -> Tensor:
        self.shape_out(tuple(x.shape[1:]))
        return (x * self._column(x)).sum(dim=1, keepdim=True)

    def adjoint(self, y: Tensor, shape: Shape) -> Sample:
        return y * self._column(y)

    def pseudo_inverse(self, y: Tensor, shape: Shape) -> Sample:
        return self.adjoint(y, shape) / float(self.weights.square().sum())

    def _column(self, x: Tensor) -> Tensor:
        return self.weights.to(x).reshape(-1, *(1,) * (x.ndim - 2))

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `gray`, or `gray:W:W:W` with other weights."""
        return (
            cls([texts.number(part, "a weight of gray", "gray:0.2126:0.7152:0.0722") for part in text.split(":")])
            if text
            else cls()
        )
