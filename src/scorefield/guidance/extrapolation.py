"""Extrapolation: away from a worse field, through a better one, and beyond.

    s = s_worse + g·(s_better - s_worse) = (1 - g)·s_worse + g·s_better,    g >= 0

g = 1 is the better field as it is, and 0 the worse one. Papers that write s_better + w·(s_better - s_worse) have w = g - 1.
Without noise s is the score of the tilted density

    p_worse^(1 - g)·p_better^g,    normalised

but with noise it is not the score of that density noised, for g other than 0 and 1. So the result depends on the sampler. On
Gaussians it is known: with sigma² = t from T down to 0, p_better = N(0, 1) and p_worse = N(0, 2), samples that start from
N(0, V) end with the variance

    V·2^(1 - g)/((2 + T)^(1 - g)·(1 + T)^g)      probability flow (abm, heun, ddim, ...), -> 2^(1 - g) for T -> infinity
    (2 - 2^(2 - 2·g))/(2·g - 1)                  the reverse SDE (ancestral and its like), T -> infinity
    2/(1 + g)                                    the tilted density, and Langevin steps at the last level
                                                 for g = 2: 0.5, 0.583 and 0.667

The flow and the SDE overshoot. `feynman_kac` draws from the tilted density itself.

An interval of noise levels limits it: outside, g = 1, and the worse field is not evaluated. Most of what guidance adds comes
from the middle levels; at high noise it takes away variety, and at low noise it does nothing (Kynkäänniemi et al. 2024).

References: Ho, Salimans (2022), "Classifier-free diffusion guidance", arXiv 2207.12598, who write w = g - 1. Karras et al.
(2024), "Guiding a diffusion model with a bad version of itself", arXiv 2406.02507. Kynkäänniemi et al. (2024), "Applying
guidance in a limited interval improves sample and distribution quality in diffusion models", arXiv 2404.07724.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.field import EnergyField, Field, moments_of
from scorefield.moments import Moments
from scorefield.prediction import Prediction
from scorefield.shapes import PerSample, Sample, over


class Extrapolated:
    """A field whose score is (1 - g)·s_worse + g·s_better inside an interval of levels, and s_better outside.

    If both fields know their energies, it knows its own, (1 - g)·E_worse + g·E_better, so that a Metropolis test works.

    Attributes:
        better, worse: the two fields.
        strength: g.
        interval: (low, high) in sigma/alpha, or None.
    """

    energy: Callable[..., PerSample]

    def __init__(self, better: Field, worse: Field, strength: float, interval: tuple[float, float] | None = None) -> None:
        """Take the fields.

        Args:
            better, worse: of one process and one shape.
            strength: g >= 0; 1 is `better` as it is.
            interval: (low, high), the levels sigma/alpha from low to high where it is guided, 0 <= low < high; None for all.

        Raises:
            ScorefieldError: a strength below 0, an interval that is empty, fields that do not belong together.
        """
        check_guidance(strength, interval)
        if better.process != worse.process or tuple(better.shape) != tuple(worse.shape):
            raise ScorefieldError(
                f"got a worse field of {worse.process} and shape {tuple(worse.shape)}, expected those of the better one, "
                f"{better.process} and {tuple(better.shape)}: take two fields of the same data and process"
            )
        self.better, self.worse, self.strength, self.interval = better, worse, float(strength), interval
        self.process, self.shape = better.process, better.shape
        self.data_mean, self.data_std = better.data_mean, better.data_std
        if isinstance(better, EnergyField) and isinstance(worse, EnergyField):
            # An attribute of the instance: without it this is no EnergyField.

            def energy(x: Sample, t: PerSample, cond: Tensor | None = None) -> PerSample:
                g = self.strengths(t).to(x.dtype)
                return (1 - g) * worse.energy(x, t, cond) + g * better.energy(x, t, cond)

            self.energy = energy

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the data, as the better field knows them."""
        return moments_of(self.better)

    def guided(self, t: PerSample) -> Tensor:
        """Return where g is not 1, `(batch,)`, bool."""
        if self.strength == 1 or self.interval is None:
            return torch.full(t.shape, self.strength != 1, device=t.device)
        ratio = self.process.sigma(t.double()) / self.process.alpha(t.double())
        return (ratio >= self.interval[0]) & (ratio <= self.interval[1])

    def strengths(self, t: PerSample) -> PerSample:
        """Return g of each sample, `(batch,)`, float64: 1 outside the interval."""
        outside = torch.ones(t.shape, dtype=torch.float64, device=t.device)
        return torch.where(self.guided(t), self.strength * outside, outside)

    def scores(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> tuple[Sample, Sample]:
        """Return s_worse and s_better."""
        return self.worse(x, t, cond).score, self.better(x, t, cond).score

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        better, rows = self.better(x, t, cond), self.guided(t)
        if not bool(rows.any()):
            return better
        if bool(rows.all()):
            worse = self.worse(x, t, cond).score
        else:  # a batch may hold several times; the other rows cost nothing
            worse = better.score.clone()
            worse[rows] = self.worse(x[rows], t[rows], None if cond is None else cond[rows]).score
        guided = worse + over(self.strengths(t), x) * (better.score - worse)
        return Prediction.of_score(self.process, x, t.double(), guided)


def check_guidance(strength: float, interval: tuple[float, float] | None) -> None:
    """Raise `ScorefieldError` for a strength below 0 or without a value, or for an interval that holds no level."""
    if not 0 <= strength < math.inf:
        raise ScorefieldError(f"got a guidance of {strength:g}, expected a number >= 0, where 1 is no guidance: try 1.5 or 2")
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ScorefieldError(
            f"got a guidance interval from {interval[0]:g} to {interval[1]:g}, expected noise levels low < high, at least 0: "
            "write the lower one first"
        )
