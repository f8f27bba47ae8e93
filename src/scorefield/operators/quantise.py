"""Quantise: values are rounded to a grid, and noise comes before.

    y = Q(u + noise),    Q = the nearest of low, low + step, low + 2·step, ..., high

so y says that u + noise lies within half a step of it; at the ends of the grid, on their far side as well. With u ~ N(m, v) its
evidence is a probability,

    Phi((y + step/2 - m)/sqrt(v + s²)) - Phi((y - step/2 - m)/sqrt(v + s²))

A y that is impossible, which needs v = s = 0, has a very negative logarithm instead of minus infinity.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.operators import text as texts
from scorefield.operators.axes import Shape
from scorefield.operators.base import NoiseStd, Operator
from scorefield.operators.identity import Identity
from scorefield.operators.normal import FAR, log_between
from scorefield.registry import register
from scorefield.shapes import PerSample, Sample, total

TINY = 1e-15  # a standard deviation of 0, in steps


@register("operator", "quantise")
class Quantise(Operator):
    """y = the nearest point of a grid, after the noise. Its gradient in x is 0; that of its likelihood is not.

    >>> Quantise(0.5)(torch.tensor([[0.2, 0.3, 1.9]]))
    tensor([[0.0000, 0.5000, 2.0000]])
    """

    linear, rounds = False, True

    def __init__(self, step: float, low: float | None = None, high: float | None = None) -> None:
        """Take the grid.

        Args:
            step: > 0, in the units of the data.
            low: its first point, None for none: then 0 is one of its points.
            high: its last point, a whole number of steps above low; None for none.

        Raises:
            ScorefieldError: a step <= 0, or high that is not above low, or not on the grid.
        """
        if not (math.isfinite(step) and step > 0):
            raise ScorefieldError(f"got a step of {step:g} for quantise, expected a number > 0: for example quantise:16")
        self.step, self.low, self.high, self.origin = step, low, high, low or 0.0
        if high is not None and (
            (low is not None and high <= low) or abs((high - self.origin) / step - round((high - self.origin) / step)) > 1e-6
        ):
            raise ScorefieldError(
                f"got the grid from {low} to {high} by {step:g} for quantise, expected high above low by a whole number of "
                "steps: correct it"
            )

    def __repr__(self) -> str:
        ends = "" if self.low is None and self.high is None else f" from {self.low} to {self.high}"
        return f"Quantise({self.step:g}{ends})"

    def shape_out(self, shape: Shape) -> Shape:
        return shape

    def __call__(self, x: Sample) -> Tensor:
        return ((self.unrounded(x) - self.origin) / self.step).round() * self.step + self.origin

    def noisy(self, x: Sample, noise: Tensor | float) -> Tensor:
        return self(x + noise)

    def unrounded(self, x: Sample) -> Tensor:
        return x if self.low is None and self.high is None else x.clamp(self.low, self.high)

    @property
    def inner(self) -> Operator:
        return Identity()

    def log_evidence(self, mean: Tensor, variance: Tensor, y: Tensor, noise_std: NoiseStd) -> PerSample:
        mean, variance, y = mean.double(), variance.double(), y.to(mean.device, torch.float64)
        step = mean.new_tensor(self.step)
        first = y < (-FAR if self.low is None else self.low + self.step / 2)
        last = y > (FAR if self.high is None else self.high - self.step / 2)
        return log_rounded(mean, variance, y, noise_std, step, (first, last))

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `quantise:STEP`, `quantise:STEP:LOW:HIGH`, or `quantise:8bit`, `4bit`, ..., 2^n points from 0 to 255."""
        if text.endswith("bit"):
            bits = texts.whole(text.removesuffix("bit"), "the bits of quantise", "quantise:8bit")
            if not 1 <= bits <= 8:
                raise ScorefieldError(f"got {bits} bits for quantise, expected 1 to 8: for example quantise:4bit")
            return cls(255 / (2**bits - 1), 0.0, 255.0)
        example = "quantise:16, quantise:16:0:240 or quantise:4bit"
        step, *ends = text.split(":")
        if len(ends) not in (0, 2):
            raise ScorefieldError(f"got {text!r} for quantise, expected a step, or a step and both ends: for example {example}")
        return cls(
            texts.number(step, "the step of quantise", example),
            *(texts.number(end, "an end of quantise", example) if end else None for end in ends),
        )


def log_rounded(
    mean: Tensor,
    variance: Tensor,
    y: Tensor,
    noise_std: NoiseStd,
    step: Tensor,
    ends: tuple[Tensor, Tensor] | None = None,
) -> PerSample:
    """Return the log-probability that u + noise, u ~ N(mean, variance), is rounded to y, summed over the numbers of y.

    Args:
        mean: of u, `(batch, *shape)`.
        variance: of u, >= 0, broadcasts with the mean, as y and the step do.
        y: points of the grid.
        noise_std: s >= 0.
        step: between points of the grid, > 0.
        ends: whether a y is the first point, and whether it is the last: all that lies beyond is rounded to it.
    """
    s = torch.as_tensor(noise_std, dtype=mean.dtype, device=mean.device)
    low, high = y - step / 2, y + step / 2
    if ends is not None:
        low, high = torch.where(ends[0], -FAR, low), torch.where(ends[1], FAR, high)
    return total(log_between(low, high, mean, (variance + s**2 + (TINY * step) ** 2).sqrt()).expand_as(mean))
