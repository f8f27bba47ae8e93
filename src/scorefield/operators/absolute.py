"""Absolute: the sign is lost, and noise comes after.

    y = |u| + noise

With u ~ N(m, v), noise of variance s² and t = v + s², the evidence of one number is the sum over the two signs,

    N(y; m, t)·Phi(( m·s² + y·v)/sqrt(t·v·s²)) + N(y; -m, t)·Phi((-m·s² + y·v)/sqrt(t·v·s²))

A y that is impossible, as -1 without noise, has a very negative logarithm instead of minus infinity. Where v = s = 0, the only
one that is possible has a large number, of a density at a point.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.operators.axes import Shape
from scorefield.operators.base import NoiseStd, Operator
from scorefield.operators.identity import Identity
from scorefield.operators.normal import log_below, log_density
from scorefield.registry import register
from scorefield.shapes import PerSample, Sample, total

TINY = 1e-30  # a variance of 0, in units of the other


@register("operator", "absolute")
class Absolute(Operator):
    """y = |x|, before the noise.

    >>> Absolute()(torch.tensor([[-2.0, 0.5]]))
    tensor([[2.0000, 0.5000]])
    """

    linear = False

    def shape_out(self, shape: Shape) -> Shape:
        return shape

    def __call__(self, x: Sample) -> Tensor:
        return x.abs()

    @property
    def inner(self) -> Operator:
        return Identity()

    def log_evidence(self, mean: Tensor, variance: Tensor, y: Tensor, noise_std: NoiseStd) -> PerSample:
        mean, variance, y = mean.double(), variance.double(), y.to(mean.device, torch.float64)
        s = torch.as_tensor(noise_std, dtype=mean.dtype, device=mean.device) ** 2
        v, s = variance + TINY * s + TINY**3, s + TINY * variance + TINY**3
        t = v + s
        spread = (t * (v / t) * (s / t)).sqrt()
        signs = [log_density(y, m, t) + log_below((m * (s / t) + y * (v / t)) / spread) for m in (mean, -mean)]
        return total(torch.stack(signs).logsumexp(dim=0).expand_as(mean))
