"""The named weightings.

A weighting lambda belongs to the objective and is written **on the score**,

    loss = 1/2·lambda·‖s(x_t, t) - target‖²,

whatever the network predicts: sigma² makes it the squared error of the predicted noise, and EDM's weight
(sigma² + sd²)/(sigma·sd)² on the denoised image is (sigma² + sd²)·sigma²/sd² here (for alpha = 1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield.process import Positive
from scorefield.registry import register
from scorefield.shapes import PerSample


class Weighting(ABC):
    """A positive weight on the squared error of the score."""

    @abstractmethod
    def __call__(self, alpha: PerSample, sigma: PerSample) -> PerSample:
        """Return lambda, `(batch,)`."""


@register("weighting", "sigma2")
@dataclass(frozen=True)
class SigmaSquared(Weighting):
    """lambda = sigma²: every level weighs the same, since sigma·score has unit size (Song, Ermon 2019)."""

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma**2


@register("weighting", "uniform")
@dataclass(frozen=True)
class Unweighted(Weighting):
    """lambda = 1: the plain Fisher divergence, which low noise dominates by 1/sigma²."""

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma * 0 + 1


@register("weighting", "edm")
@dataclass(frozen=True)
class EDMWeight(Weighting):
    """lambda = sigma²·(sigma² + alpha²·sd²)/(alpha·sd)²: unit weight on the unit-variance EDM output (Karras et al. 2022).

    Attributes:
        data_std: sd, the standard deviation of the data.
    """

    data_std: Positive = 0.5

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma**2 * (sigma**2 + (alpha * self.data_std) ** 2) / (alpha * self.data_std) ** 2


@register("weighting", "power")
@dataclass(frozen=True)
class Power(Weighting):
    """lambda = sigma^exponent, any positive weight of that family; 2 is `sigma2`, 0 is `uniform`."""

    exponent: float = 2.0

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma**self.exponent
