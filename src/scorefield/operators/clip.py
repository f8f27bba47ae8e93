"""Clip: values beyond a bound are cut to it, and noise comes after.

    y = min(max(u, low), high) + noise

With u ~ N(m, v), noise of variance s² and t = v + s², the evidence of one number has three parts, u below, above and between:

    N(y; low, s²)·P(u < low) + N(y; high, s²)·P(u > high) + N(y; m, t)·P(low < u < high | y as if it were not cut)

where u given such a y is N((m·s² + y·v)/t, v·s²/t). For s = 0 a y at a bound, or beyond it, has the probability of that side,
and another the density N(y; m, v). Where v = 0 too, a y that is impossible has a very negative logarithm instead of minus
infinity, and one between the bounds that is u itself a large number, of a density at a point.
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
from scorefield.operators.normal import FAR, log_below, log_between, log_density
from scorefield.registry import register
from scorefield.shapes import PerSample, Sample, total

TINY = 1e-15  # a standard deviation of 0, in units of the range


@register("operator", "clip")
class Clip(Operator):
    """y = min(max(x, low), high), before the noise.

    >>> Clip(0.0, 1.0)(torch.tensor([[-2.0, 0.5, 3.0]]))
    tensor([[0.0000, 0.5000, 1.0000]])
    """

    linear = False

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        """Take the bounds, None for none; raises `ScorefieldError` for none at all, or low >= high."""
        self.low, self.high = (-math.inf if low is None else low), (math.inf if high is None else high)
        if not self.low < self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise ScorefieldError(
                f"got bounds {low} and {high} for clip, expected low < high, one of them at least: correct them"
            )

    def __repr__(self) -> str:
        return f"Clip({self.low:g}, {self.high:g})"

    def shape_out(self, shape: Shape) -> Shape:
        return shape

    def __call__(self, x: Sample) -> Tensor:
        return x.clamp(self.low, self.high)

    def holds_noise(self, y: Tensor) -> Tensor:
        """Return which numbers lie at no bound: noise that came after the cut would have moved them away from it."""
        return (y != self.low) & (y != self.high)

    @property
    def inner(self) -> Operator:
        return Identity()

    def log_evidence(self, mean: Tensor, variance: Tensor, y: Tensor, noise_std: NoiseStd) -> PerSample:
        mean, variance, y = mean.double(), variance.double(), y.to(mean.device, torch.float64)
        low, high = (mean.new_tensor(min(max(bound, -FAR), FAR)) for bound in (self.low, self.high))
        width = self.high - self.low
        unit = width if math.isfinite(width) else max(min(abs(self.low), abs(self.high)), 1.0)
        v = variance + (TINY * unit) ** 2
        given = torch.as_tensor(noise_std, dtype=mean.dtype, device=mean.device) ** 2
        below, above = log_below((low - mean) / v.sqrt()), log_below((mean - high) / v.sqrt())
        exact = torch.where(y <= low, below, torch.where(y >= high, above, log_density(y, mean, v)))
        s = torch.where(given > 0, given, unit**2)  # where it is 0 the other formula holds
        t = v + s
        inside = log_between(low, high, mean * (s / t) + y * (v / t), (v * (s / t)).sqrt())
        parts = log_density(y, low, s) + below, log_density(y, high, s) + above, log_density(y, mean, t) + inside
        noisy = torch.stack([part.expand_as(mean) for part in parts]).logsumexp(dim=0)
        return total(torch.where(given > 0, noisy, exact).expand_as(mean))

    @classmethod
    def of_text(cls, text: str, *, seed: int = 0) -> Operator:
        """Return `clip:LOW:HIGH`, `clip:LOW:` or `clip::HIGH`."""
        low, colon, high = text.partition(":")
        example = "clip:0:255, clip::255 or clip:0:"
        if not colon:
            raise ScorefieldError(f"got {text!r} for clip, expected two bounds with a colon between: for example {example}")
        return cls(*(texts.number(bound, "a bound of clip", example) if bound else None for bound in (low, high)))
