"""Transforms: the monotone map of one coordinate after which its tails are no heavier than a network can learn.

A network sees numbers in units of their standard deviation. Of a log-normal law, of an income, that unit is made by a few large
values, and all others lie within a small part of it, below what noise lets a network see. After a map g they do not:

    log      g(x) = side·l(side·(x - origin)/unit)       l(v) = log v from v = 1 on, and its tangent v - 1 below
    asinh    g(x) = asinh((x - origin)/unit)             a straight line near the origin, a logarithm far from it on both sides

Both are defined for all numbers, strictly increasing with a continuous derivative, and exactly invertible. A density in the
data's own units is that of g(x) times g'(x):

    log p(x) = log p_g(g(x)) + log g'(x)

References: Box, Cox (1964), "An analysis of transformations", JRSS B 26(2). Johnson (1949), "Systems of frequency curves",
Biometrika 36, for asinh.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

LARGEST = 700.0  # of an exponent: e^700 is a float64


@dataclass(frozen=True)
class Transform:
    """A monotone map g of one coordinate.

    Attributes:
        kind: "log" or "asinh".
        origin: where the logarithm has its pole, or the inverse hyperbolic sine its middle.
        unit: the distance from the origin up to which g is, for "asinh" nearly, a straight line; above 0.
        side: 1 for a logarithm of what is above the origin, -1 of what is below it.

    >>> g = Transform("log", origin=0.0, unit=0.5)
    >>> x = torch.tensor([-1.0, 0.5, 50.0], dtype=torch.float64)
    >>> g(x).round(decimals=3).tolist(), g.inverse(g(x)).round(decimals=9).tolist()
    ([-3.0, 0.0, 4.605], [-1.0, 0.5, 50.0])
    """

    kind: Literal["log", "asinh"]
    origin: Annotated[float, Bound(allow_inf_nan=False)]
    unit: Annotated[float, Bound(gt=0, allow_inf_nan=False)]
    side: Literal[-1, 1] = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Return g(x), float64; NaN stays NaN."""
        v = self._scaled(x)
        if self.kind == "asinh":
            return v.asinh()
        return self.side * torch.where(v < 1, v - 1, v.clamp(min=1).log())

    def inverse(self, y: Tensor) -> Tensor:
        """Return the x of which y is the transform, float64; infinite where no float64 is as large."""
        y = y.double()
        if self.kind == "asinh":
            return self.origin + self.unit * y.clamp(-LARGEST, LARGEST).sinh()
        y = self.side * y
        return self.origin + self.side * self.unit * torch.where(y < 0, 1 + y, y.clamp(0, LARGEST).exp())

    def log_slope(self, x: Tensor) -> Tensor:
        """Return log g'(x), float64."""
        v = self._scaled(x)
        bend = v.square().log1p() / 2 if self.kind == "asinh" else v.clamp(min=1).log()
        return -bend - math.log(self.unit)

    def _scaled(self, x: Tensor) -> Tensor:
        return self.side * (x.double() - self.origin) / self.unit

    @property
    def plain(self) -> bool:
        """Whether it is log x, or log(-x)."""
        return self.kind == "log" and self.origin == 0

    @property
    def name(self) -> str:
        """The map in words."""
        if self.kind == "asinh":
            return f"asinh((x - {self.origin:.4g})/{self.unit:.4g})"
        inner = "x" if self.side > 0 else "-x"
        if self.origin:
            inner += f" {'-' if self.side * self.origin > 0 else '+'} {abs(self.origin):.4g}"
        return f"log({inner})"


def bent(rows: Tensor, transforms: tuple[tuple[int, Transform], ...]) -> Tensor:
    """Return rows `(..., d)`, float64, with each transform of a pair (coordinate, transform) applied."""
    found = rows.double().clone()
    for place, transform in transforms:
        found[..., place] = transform(found[..., place])
    return found


def unbent(rows: Tensor, transforms: tuple[tuple[int, Transform], ...]) -> Tensor:
    """Return the rows `(..., d)`, float64, that `bent` makes these of."""
    found = rows.double().clone()
    for place, transform in transforms:
        found[..., place] = transform.inverse(found[..., place])
    return found
