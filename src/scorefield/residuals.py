"""Residuals: how far draws lie from what was measured, beside how far right draws would lie.

    residual² = mean over draws x and numbers i of (c(x)_i - y_i)²/s²        c(x) = H(x), without its rounding
    expected² = mean over draws x and numbers i of e(x)_i/s²                 e(x)_i = E over the noise of (c(x)_i - y'_i)²

where y' is measured of x with new noise. x0 and a right draw of p(x0 | y) have one distribution given y, so the two means are
one on average. Where the noise comes last, e = s², and 1 is expected. Where it is rounded with what is measured (quantise,
jpeg), e is an average over quantiles of the noise. Where a number was cut to a bound (clip) it has no noise: e = 0.

By chance residual² scatters around expected² like 1/m times chi-square of m degrees of freedom, m = (sum of e)²/(sum of e²):
all numbers where the noise comes last. For k standard deviations, with probability at most exp(-k²/2) on either side,

    chi-square/m > 1 + k·sqrt(2/m) + k²/m        chi-square/m < 1 - k·sqrt(2/m)

Reference: Laurent, Massart (2000), "Adaptive estimation of a quadratic functional by model selection", Annals of Statistics 28,
lemma 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield.operators import Operator
from scorefield.shapes import Sample

QUANTILES = 32  # of the noise
CHANCE = 5  # standard deviations of chance


@dataclass(frozen=True)
class Fit:
    """How draws fit a measurement, in units of the noise, or where there is none in those of the measurement.

    Attributes:
        residual: root mean square of c(x) - y.
        expected: what it is of right draws.
        least: what is expected if noise was cut off at the ends of the range of a file, and nothing says so.
        numbers: m, how many numbers have noise.
    """

    residual: float
    expected: float
    least: float
    numbers: float

    def is_above(self, factor: float) -> bool:
        """Whether the residual is above this many times the expected one, and by more than chance."""
        return self.residual > self.expected * max(factor, math.sqrt(1 + self._chance + self._chance**2 / 2))

    def is_below(self, factor: float) -> bool:
        """Whether the residual is below this many times the least one, and by more than chance."""
        return self.residual < self.least * min(factor, math.sqrt(max(1 - self._chance, 0.0)))

    @property
    def _chance(self) -> float:
        return CHANCE * math.sqrt(2 / max(self.numbers, 1.0))


def fit_of(operator: Operator, x: Sample, y: Tensor, s: float, ends: tuple[float, float] | None = None) -> Fit:
    """Return how draws fit what was measured.

    Args:
        operator: H.
        x: draws, `(n, *shape)`.
        y: what was measured, `operator.shape_out(shape)`.
        s: standard deviation of the noise, >= 0.
        ends: of the range of the file: a y there may have had its noise cut off.

    >>> from scorefield.operators import Identity
    >>> fit_of(Identity(), torch.zeros(1, 4), torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.5)
    Fit(residual=2.0, expected=1.0, least=1.0, numbers=4.0)
    """
    x, unit = x.double(), s or 1.0
    centre = operator.unrounded(x)
    off = ((centre - y.to(x)) / unit).square().mean(dim=0)
    if operator.rounds:
        chances = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
        quantiles = torch.special.ndtri(chances)
        quantiles = quantiles / quantiles.square().mean().sqrt()
        each = sum((operator.noisy(x, s * float(z)) - centre).square().mean(dim=0) for z in quantiles)
        expected = torch.as_tensor(each) / (QUANTILES * unit**2)
    else:
        expected = torch.full_like(off, 1.0 if s > 0 else 0.0)
    expected = torch.where(operator.holds_noise(y.to(x)), expected, 0.0)
    least = expected if ends is None else torch.where((y == ends[0]) | (y == ends[1]), 0.0, expected)
    squares = float(expected.square().sum())
    return Fit(
        residual=float(off.mean().sqrt()),
        expected=float(expected.mean().sqrt()),
        least=float(least.mean().sqrt()),
        numbers=float(expected.sum()) ** 2 / squares if squares else 0.0,
    )
